# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session from its first tcpdump to its final figures: when it begins, and when and why the session and each tcpdump end.

A session ends when all its tcpdumps have ended (by packet_count, or with their container or interface), after its duration,
when the disk is full, or when a task asks for it (SIGTERM).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan, _session, _storage, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Assignment, Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._disk import Disk
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._restart import Restarts
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._ring import Rings
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._running import Running
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, StorageError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp

START_TIMEOUT = 30.0  # seconds for all tcpdumps to open their sockets


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
        self.running: list[Running] = []
        self.ending: str | None = None
        self.begun = False
        self.loop = Loop()
        self.rings = Rings(self.directory, self.request, lambda: [running.segment for running in self.running])
        self.restarts = Restarts(self.loop, self.session, self._gone, self._returned, lambda: self.begun and self.ending is None)

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
        self.rings.watch(self.loop)
        _storage.reserve(self.directory, len(self.session.segments))
        _storage.save(self.directory, self.session)
        if self.start_at is not None and self.start_at > time.time():
            self.tell_task(None)
            self._begin_at(self.start_at)
        else:
            self._begin()
        while not self._over():
            self.loop.step()
        error = self.session.error
        for segment in self.session.segments:
            if segment.status == "running":  # its tcpdump was never started
                _session.finish(self.directory, segment, self.ending or "container_gone")
        _session.conclude(self.session, error)
        _storage.save(self.directory, self.session)
        self.tell_task(error or "The capture ended before it had begun.")

    def _over(self) -> bool:
        if self.running or self.ready >= 0 and self.ending is None:
            return False
        return self.ending is not None or self.begun and not any(container.gone_at is not None for container in self.containers.values())

    def tell_task(self, error: str | None) -> None:
        """Answer the task, once: the capture has begun or will begin (None), or why it cannot.

        The task may have ended by then, with its connection: the session goes on.
        """
        if self.ready >= 0:
            with contextlib.suppress(OSError):
                os.write(self.ready, json.dumps(error).encode())
            os.close(self.ready)
            self.ready = -1

    def _save(self) -> None:
        """Save the session if the disk has room. Only the end is sure to be recorded on a full disk; until then this process holds the state."""
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
        for segment in self.session.segments:
            try:
                self._spawn(segment, self.containers[segment.id])
            except (NettapError, OSError) as error:
                self._fail(segment, str(error))
                return
        self._await_ready(time.monotonic() + START_TIMEOUT)

    def _await_ready(self, deadline: float) -> None:
        """Wait until every tcpdump has reported that it listens. Then record the start, answer the task, and start duration and disk check.

        The logs are files, which send no event: look at them again and again, for the few milliseconds that it takes.
        """
        if self.ending is not None:
            return
        waiting = [running for running in self.running if not running.ready]
        for running in waiting:
            report = running.report()
            running.ready = report.ready
            running.segment.link_type = report.link_type
        if any(not running.ready for running in waiting):
            if time.monotonic() > deadline:
                late = next(running for running in waiting if not running.ready)
                self._fail(late.segment, f"tcpdump did not open its socket within {START_TIMEOUT:.0f} s")
            else:
                self.loop.after(0.005, lambda: self._await_ready(deadline))
            return
        now = time.time()
        self.session.started_at = timestamp(self.start_at if self.start_at is not None and now - self.start_at < START_TIMEOUT else now)
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
        self.running.remove(running)
        segment, report = running.segment, running.report()
        reason, error = running.reason, None
        if reason is None and report.interface_gone:
            reason = "container_gone" if running.container.ended() else "interface_gone"
        elif reason is None and code == 0 and self.request.packet_count:
            reason = "packet_count"
        elif reason is None or reason == "error":
            ending = f"tcpdump was ended by {signal.Signals(-code).name}" if code < 0 else f"tcpdump ended with code {code}"
            reason, error = "error", report.complaint or ending
        with contextlib.suppress(NettapError):  # adds the interfaces that appeared after the start
            segment.links = {**segment.links, **running.links()}
        segment.link_type = report.link_type
        self.rings.trim(segment)
        if self.ready >= 0 and self.ending is None and not report.ready:
            self._fail(segment, error or f"tcpdump ended at once ({reason})")
        elif segment.status != "failed":
            _session.finish(self.directory, segment, reason, error)
        running.close()
        self._save()

    def _gone(self, container: Watched) -> None:
        """Stop the tcpdumps of a container that has ended, unless others of the session still use its network namespace: then those are theirs."""
        heir = next((one for one in self.containers.values() if one.lives_in(container.namespace)), None)
        for running in self.running:
            if running.container is container and heir:
                running.container = heir
            elif running.container is container:
                running.stop("container_gone")

    def _returned(self, container: Watched, places: t.Sequence[_plan.Tap]) -> None:
        """Capture a container that is back: each place becomes a new segment. Where it shares a namespace that is captured already, name it there."""
        there = [running.segment for running in self.running if running.reason is None and running.container.namespace == container.namespace]
        for segment in there:
            segment.containers = list(dict.fromkeys([*segment.containers, container.name]))
        places = [] if there else places
        for tap in places:
            segment = self._segment(container, tap)
            try:
                self._spawn(segment, container)
            except (NettapError, OSError) as error:
                segment.fail(str(error))
        self._save()

    def _segment(self, container: Watched, tap: _plan.Tap) -> Segment:
        argv_of = functools.partial(_tcpdump.command, self.program, self.request, buffer_size=self.session.buffer_size, link_type=tap.link_type,
                                    left_out=container.left_out)
        segment = _plan.segment(len(self.session.segments), container, tap, argv_of, self.directory)
        self.session.segments.append(segment)
        return segment
