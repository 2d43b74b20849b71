# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session from its first tcpdump to its final figures: when it begins, and when and why the session and each tcpdump end.

A session ends after its duration, when the disk is full, or when a task asks for it (SIGTERM). It also ends when all its tcpdumps
have ended and nothing is left that can come: each by packet_count or an error, or with a container that its runtime does not know any more.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arrivals._watcher import Watcher
from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan, _session, _storage, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Assignment, Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._disk import Disk, is_full
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._places import Places
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._restart import Restarts
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._ring import Rings
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._running import STOP_TIMEOUT, Running
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, StorageError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp

PROMPT = 30.0  # seconds after start_at within which a start counts as one at that instant


class Supervisor:
    """One session. ending is the reason why it ends, None while it goes on."""

    def __init__(self, assignment: Assignment) -> None:
        self.directory = assignment.directory
        self.session = assignment.session
        self.request = self.session.request
        self.program = assignment.tcpdump
        self.start_at = assignment.start_at
        self.containers = {container.id: container for container in assignment.containers}
        self.host_fd = os.open(_netns.host_path(), os.O_RDONLY | os.O_CLOEXEC)
        self.ready = assignment.ready
        self.ended: set[str] = set()  # IDs of the containers that will not run again
        self.numbers = itertools.count(len(self.session.segments))
        self.running: list[Running] = []
        self.ending: str | None = None
        self.begun = False
        self.loop = Loop()
        self.rings = Rings(self.loop, self.directory, self.request, lambda: [running.segment for running in self.running])
        self.follow = self.request.on_restart == "follow"
        self.places = Places(self.loop, self.request, self.host_fd, self._listen)
        self.restarts = Restarts(self.loop, self.follow, self._gone, self._returned, lambda: self.ending is None)
        self.numbers = itertools.count(len(self.session.segments))
        self.arrivals = assignment.arrivals and Watcher(assignment.watch, assignment.arrivals, f"{self.directory}/arrivals.log")

    def run(self) -> None:
        """Run the session until it has ended and session.json holds how."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_arguments: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.loop.watch(woken, lambda: self._asked_to_stop(woken))
        for container in self.containers.values():
            self.restarts.watch(container)
        self.rings.watch()
        if self.arrivals:
            self.loop.watch(self.arrivals.fd, self._come)
        _storage.reserve(self.directory, len(self.session.segments))
        _storage.save(self.directory, self.session)
        if self.start_at is not None and self.start_at > time.time():
            self.tell_task(None)
            self._begin_at(self.start_at)
        else:
            self.start_at = None
            self._begin()
        while not self._over():
            self.loop.step()
        if self.arrivals:
            self.arrivals.stop()
        error = self.session.error or self._went_away()
        self._tell_absent()
        for segment in self.session.segments:
            if segment.status == "running":  # its tcpdump was never started
                _session.finish(self.directory, segment, self.ending or "container_gone", whole=True)
                if self.ending is None:
                    segment.status, segment.error = "failed", f"{segment.container} ended before the capture began"
        self.session.waiting = []
        _session.conclude(self.session, error)
        _storage.save(self.directory, self.session)
        self.tell_task(error or "The capture ended before it had begun.")

    def _over(self) -> bool:
        if self.running or self.ready >= 0 and self.ending is None:
            return False
        if self.ending is not None:
            return True
        if not self.begun:  # for the instant nobody waits whose containers have all ended for good
            return not self.arrivals and self.ended == set(self.containers)
        # A tcpdump may end before it is told that its container has, and only then is it known whether that may come back.
        told = all(container.id in self.ended or not container.lost() for container in self.containers.values())
        return told and not self.arrivals and not self._awaited()

    def _awaited(self) -> list[str]:
        """Return what can still come and is waited for, in words."""
        if self.ending is not None:
            return []
        found = [f"{'pod' if one.whole_pod else 'container'} {one.name} is waited for, gone since {one.gone_since}" if one.pod and one.gone_since
                 else f"{one.name} waits for its start" for one in self.containers.values() if one.away] + self.places.missing()
        return found or (["no container that matches has come yet"] if self.arrivals and not self.running else [])

    def tell_task(self, error: str | None) -> None:
        """Answer the task, once: the capture has begun or will begin (None), or why it cannot.

        The task may have ended by then, with its connection: the session goes on.
        """
        if self.ready >= 0:
            with contextlib.suppress(OSError):
                os.write(self.ready, json.dumps(error).encode())
            os.close(self.ready)
            self.ready = -1

    def _went_away(self) -> str | None:
        """Return the error of a session at whose end pods are gone; None if none is. A container may end: that is what it was captured for."""
        gone = [container for container in self.containers.values() if container.whole_pod and container.away]
        last = {(name, segment.interface, segment.vantage): segment.stop_reason for segment in self.session.segments for name in segment.containers}
        ended = {name for (name, _interface, _vantage), reason in last.items() if reason in ("container_gone", "interface_gone")}
        pods = [f"{container.pod} (at {container.gone_since})" for container in gone if container.name in ended]
        return (f"These pods went away, and did not come back to this host until the capture ended: {', '.join(sorted(pods))}. What was captured until then "
                "can be fetched. Look where they run now (kubectl get pods -o wide), or set on_restart: stop where a pod's end is to end its capture."
                if pods else None)

    def _save(self) -> None:
        """Save the session if the disk has room. Only the end is sure to be recorded on a full disk; until then this process holds the state."""
        self.session.waiting = self._awaited()
        if not self.arrivals:
            self.session.targets = sorted(f"{container.runtime}:{container.id}" for container in self.containers.values())
        with contextlib.suppress(StorageError):
            _storage.save(self.directory, self.session)

    # --- beginning

    def _begin_at(self, instant: float) -> None:
        """Wait for start_at by the wall clock, which may be set meanwhile."""
        left = instant - time.time()
        if left > 0:
            self.loop.after(min(left, 1.0), lambda: self._begin_at(instant))
        elif self.ending is None:
            self._begin()

    def _begin(self) -> None:
        self.begun = True
        planned: dict[str, list[Segment]] = {}
        for segment in list(self.session.segments):
            if self.containers[segment.id].away or self.containers[segment.id].returns:  # it has ended meanwhile: its next start makes segments anew
                self.session.segments.remove(segment)
                continue
            planned.setdefault(self.containers[segment.id].id, []).append(segment)  # a pod may have been made anew meanwhile
            try:
                self._spawn(segment, self.containers[segment.id])
            except (NettapError, OSError) as error:
                self._fail(segment, str(error))
                return
        for container in sorted(self.containers.values(), key=lambda one: one.id not in planned):
            if container.fd >= 0 and not container.away:
                self._take_up(container, planned.get(container.id, []))
        self._await_ready()

    def _await_ready(self, pause: float = 0.005) -> None:
        """Wait until every tcpdump has reported that it listens, or has ended. Then record the start, answer the task, and start duration and disk check.

        On a busy host the kernel may take long to find the memory of its buffers. The logs are files of many processes: look at them again
        and again, for the few milliseconds that it takes as a rule.
        """
        if self.ending is not None:
            return
        waiting = [running for running in self.running if not running.ready]
        for running in waiting:
            report = running.report()
            running.ready = report.ready
            running.segment.link_type = report.link_type
        if any(not running.ready for running in waiting):
            self.loop.after(pause, lambda: self._await_ready(min(0.1, 1.1 * pause)))
            return
        now = time.time()
        self.session.started_at = timestamp(self.start_at if self.start_at is not None and now - self.start_at < PROMPT else now)
        self.session.waiting = self._awaited()
        _storage.save(self.directory, self.session)
        self.tell_task(None)
        if self.request.duration:
            self.loop.after(self.request.duration, lambda: self._end("duration"))
        Disk(self.loop, self.directory, self.session.least_free, lambda: self._end("disk")).guard()

    def _fail(self, segment: Segment, words: str) -> None:
        """End the session because one segment could not start: a session starts whole or not at all."""
        place = f"{segment.named} ({segment.device}, vantage {segment.vantage})"
        self.session.error = f"The capture of {place} could not start: {words.rstrip('.')}."
        segment.fail(words)
        self._end("error")

    def _spawn(self, segment: Segment, container: Watched) -> None:
        self.rings.begin(segment)
        running = Running(self.loop, self.directory, segment, container, self.host_fd)
        self.running.append(running)
        running.when_ended(lambda: self._ended(running))

    # --- ending

    def _asked_to_stop(self, woken: int) -> None:
        os.read(woken, 64)
        self._end("user")

    def _end(self, reason: str) -> None:
        """End the session. The first reason stays."""
        if self.ending is None:
            self.ending = reason
            for running in self.running:
                running.stop(reason)

    def _ended(self, running: Running) -> None:
        """Record the end of a tcpdump, whether it was asked to end or not."""
        code = running.wait()
        self.rings.end(running.segment)
        self.running.remove(running)
        segment, report, container = running.segment, running.report(), running.container
        reason, error = running.reason, None
        if reason is None and (report.interface_gone or not report.ready and self._has_left(container, segment)):
            reason = "container_gone" if container.ended() else "interface_gone"
        elif reason is None and code == 0 and self.request.packet_count:
            reason = "packet_count"
        elif reason is None or reason == "error":
            ending = f"tcpdump was ended by {signal.Signals(-code).name}" if code < 0 else f"tcpdump ended with code {code}"
            reason, error = "error", report.complaint or ending
        with contextlib.suppress(NettapError):  # adds the interfaces that appeared after the start
            segment.links = {**segment.links, **running.links()}
        segment.link_type = report.link_type
        whole = code >= 0 and not is_full(self.directory)
        if code == -signal.SIGKILL and error is None:
            error = f"tcpdump did not end within {STOP_TIMEOUT:.0f} s and was killed; its last packets are lost"
        if self.ready >= 0 and self.ending is None and not report.ready and not container.away:
            self._fail(segment, error or f"tcpdump ended at once ({reason})")
        elif segment.status != "failed":
            _session.finish(self.directory, segment, reason, error, whole)
        running.close()
        if reason == "interface_gone" and self.follow and self.ending is None:
            self.places.left(container, (segment.interface, segment.vantage))
        self._save()

    def _has_left(self, container: Watched, segment: Segment) -> bool:
        """Return whether a tcpdump that never listened came too late: its container or interface is gone."""
        if container.ended():
            return True
        with contextlib.suppress(NettapError):
            return self.begun and self.ready < 0 and not self.places.there(container, (segment.interface, segment.vantage))
        return False

    def _gone(self, container: Watched) -> None:
        """Stop the tcpdumps of a container that has ended, unless others of the session still use its network namespace: then those are theirs."""
        heir = next(iter(self._sharing(container)), None)
        if heir:
            self.places.hand_over(container, heir)
        self.places.forget(container)
        if not container.away:
            self.ended.add(container.id)
        for running in self.running:
            if running.container is container and heir:
                running.container = heir
            elif running.container is container:
                running.stop("container_gone")
        if self.begun:
            self._save()

    def _returned(self, container: Watched) -> None:
        """Capture a container that runs again, where its interfaces are there; the others are waited for."""
        if self.begun:
            self._take_up(container, [])
            self._save()

    def _take_up(self, container: Watched, segments: t.Sequence[Segment]) -> None:
        """Look after the places of a container, of which segments are being captured. Where they are another's of the same namespace, join that one."""
        holder = next((one for one in self._sharing(container) if self.places.serve(one)), None)
        if holder is None:
            self.places.begin(container, [(segment.interface, segment.vantage) for segment in segments])
            return
        for segment in [running.segment for running in self.running if running.container is holder and running.reason is None]:
            segment.containers = list(dict.fromkeys([*segment.containers, container.name]))

    def _sharing(self, container: Watched) -> list[Watched]:
        """Return the other containers of the session that run in the network namespace of this one."""
        return [one for one in self.containers.values() if one is not container and one.id not in self.ended and one.lives_in(container.namespace)]

    def _come(self) -> None:
        """Take in containers that have come."""
        found = self.arrivals.read() if self.arrivals else []
        if found is None and self.arrivals:
            self.loop.forget(self.arrivals.fd)
            self.arrivals.stop()
            self.arrivals = None
            self.session.error = f"New containers are not seen any more, because the watch for them has ended: see {self.directory}/arrivals.log."
        for told in found or []:
            if told["id"] not in self.containers:
                container = Watched.of(told)
                self.containers[container.id] = container
                self.restarts.watch(container)
        self._save()

    def _tell_absent(self) -> None:
        """Record the containers that were waited for to the end, and of which nothing was captured."""
        for container in [one for one in self.containers.values() if one.away]:
            if all(segment.id != container.id and container.name not in segment.containers for segment in self.session.segments):
                for interface in self.request.interface:
                    segment = self._segment(container, _plan.Tap(interface, "host" if self.request.vantage == "host" else "container", interface))
                    _session.finish(self.directory, segment, self.ending or "container_gone", "it was not started meanwhile")
                    segment.status = "failed"  # its packets were wanted, and there are none

    def _listen(self, container: Watched, taps: t.Sequence[_plan.Tap]) -> None:
        """Capture at places that have come: each becomes a new segment."""
        for tap in taps:
            segment = self._segment(container, tap)
            try:
                self._spawn(segment, container)
            except (NettapError, OSError) as error:
                segment.fail(str(error))
        self._save()

    def _segment(self, container: Watched, tap: _plan.Tap) -> Segment:
        # With each that comes, less of the memory is left.
        buffer_size = min(self.session.buffer_size, self.request.buffer(len(self.running) + 1))
        argv_of = functools.partial(_tcpdump.command, self.program, self.request, buffer_size=buffer_size, link_type=tap.link_type,
                                    left_out=container.left_out)
        names = [container.name, *(one.name for one in self._sharing(container))]
        segment = _plan.segment(next(self.numbers), container, tap, argv_of, self.directory, names)
        self.session.segments.append(segment)
        return segment
