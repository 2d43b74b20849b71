# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that outlives the task: starts the tcpdumps of a session, ends them on time, and records how they ended.

It is started by _launch.py in an interpreter of its own with nothing of Ansible in it, waits on descriptors and timers
only, and holds the namespaces open that the task has verified.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import heapq
import itertools
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import traceback
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan, _session, _storage, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Assignment, Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request, timestamp
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NamespaceError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _inotify, _netns, _process

PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_TIMEOUT = 30.0  # seconds for all tcpdumps to open their sockets
STOP_TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL: what tcpdump still buffers is written out in far less
# Seconds to read what the kernel's ring still holds: it hands over a block that is not full only after tcpdump's read
# timeout of 1 s, and a tcpdump that is ended before loses it.
DRAIN_TIMEOUT = 1.5
DRAIN_GRACE = 3.0  # more seconds, for a tcpdump that has not come to run, or that is still reading
DRAIN_INTERVAL = 0.02
DISK_INTERVAL = 1.0  # seconds; file systems send no event when they fill up
RETURN_INTERVAL = 0.1  # seconds between looks for a restarted container; neither do cgroups when they appear
SETTLE_INTERVAL = 0.05  # seconds for which a process must have been there to be the restarted container's
RETURN_GRACE = 60.0  # seconds to wait for a container of which no record tells whether its engine still knows it
INTERFACE_GRACE = 10.0  # seconds for a restarted container's interface to appear
MOST_RETURNS = 100  # a container that crashes in a loop must not fill the disk with segments
_LIBC = ctypes.CDLL(None, use_errno=True)


class Running:
    """A tcpdump with the segment it writes."""

    def __init__(self, segment: Segment, container: Watched, process: subprocess.Popen[bytes], pidfd: int, fd: int) -> None:
        self.segment = segment
        self.container = container
        self.process = process
        self.pidfd = pidfd
        self.fd = fd
        self.ready = False
        self.reason: str | None = None


class Supervisor:
    """One session, from its first tcpdump to its final figures."""

    def __init__(self, assignment: Assignment) -> None:
        self.directory = assignment.directory
        self.session = assignment.session
        self.request = self.session.request
        self.program = assignment.tcpdump
        self.start_at = assignment.start_at
        self.containers = {container.id: container for container in assignment.containers}
        self.host_fd = os.open(_netns.host_path(), os.O_RDONLY | os.O_CLOEXEC)
        self.ready = assignment.ready
        self.running: dict[int, Running] = {}
        self.selector = selectors.DefaultSelector()
        self.timers: list[tuple[float, int, t.Callable[[], None]]] = []
        self.order = itertools.count()
        self.ending: str | None = None
        self.begun = False

    # --- the loop

    def run(self) -> None:
        """Returns when the session has ended and session.json says how."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_arguments: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.selector.register(woken, selectors.EVENT_READ, lambda: self._asked_to_stop(woken))
        for container in self.containers.values():
            self._watch(container)
        self._watch_rings()
        _storage.reserve(self.directory, len(self.session.segments))
        _storage.save(self.directory, self.session)
        if self.start_at is not None and self.start_at > time.time():
            self.tell_task(None)
            self._begin_at(self.start_at)
        else:
            self._begin()
        while not self._over():
            self._step()
        error = self.session.error
        for segment in self.session.segments:
            if segment.status == "running":  # never begun
                _session.finish(self.directory, segment, self.ending or "container_gone")
        _session.conclude(self.session, error)
        _storage.save(self.directory, self.session)
        self.tell_task(error or "The capture ended before it had begun.")

    def _step(self) -> None:
        delay = max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else None
        for key, _mask in self.selector.select(delay):
            key.data()
        while self.timers and self.timers[0][0] <= time.monotonic():
            heapq.heappop(self.timers)[2]()

    def _over(self) -> bool:
        if self.running or self.ready >= 0 and self.ending is None:
            return False
        return self.ending is not None or self.begun and not any(container.gone_at is not None for container in self.containers.values())

    def _after(self, delay: float, action: t.Callable[[], None]) -> None:
        heapq.heappush(self.timers, (time.monotonic() + delay, next(self.order), action))

    def tell_task(self, error: str | None) -> None:
        """Answers it, once, that the capture has begun or will, or why it cannot.

        The task may be gone by then, and its connection with it: the session goes on.
        """
        if self.ready >= 0:
            with contextlib.suppress(OSError):
                os.write(self.ready, json.dumps(error).encode())
            os.close(self.ready)
            self.ready = -1

    def _save(self) -> None:
        """On a full disk only the end is sure to be recorded; until then this process knows."""
        with contextlib.suppress(OSError):
            _storage.save(self.directory, self.session)

    def _asked_to_stop(self, woken: int) -> None:
        os.read(woken, 64)
        self._end("user")

    # --- beginning

    def _begin_at(self, instant: float) -> None:
        """Waits for start_at by the wall clock, which may be set meanwhile."""
        left = instant - time.time()
        if left > 0:
            self._after(min(left, 1.0), lambda: self._begin_at(instant))
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
        """Ready means that every tcpdump has said that it listens. Their logs are files, so this looks again and again,
        for the few milliseconds that it takes."""
        if self.ending is not None:
            return
        waiting = [running for running in self.running.values() if not running.ready]
        for running in waiting:
            report = _tcpdump.read(_session.log(self.directory, running.segment))
            running.ready = report.ready
            running.segment.link_type = report.link_type
        if any(not running.ready for running in waiting):
            if time.monotonic() > deadline:
                late = next(running for running in waiting if not running.ready)
                self._fail(late.segment, f"tcpdump did not open its socket within {START_TIMEOUT:.0f} s")
            else:
                self._after(0.005, lambda: self._await_ready(deadline))
            return
        now = time.time()
        self.session.started_at = timestamp(self.start_at if self.start_at is not None and now - self.start_at < START_TIMEOUT else now)
        _storage.save(self.directory, self.session)
        self.tell_task(None)
        if self.request.duration:
            self._after(self.request.duration, lambda: self._end("duration"))
        self._guard_disk()

    def _fail(self, segment: Segment, words: str) -> None:
        """A session starts whole or not at all."""
        place = f"{segment.container} ({segment.device}, vantage {segment.vantage})"
        self.session.error = f"The capture of {place} could not start: {words.rstrip('.')}."
        segment.fail(words)
        self._end("error")

    def _spawn(self, segment: Segment, container: Watched) -> None:
        fd = os.dup(self.host_fd if segment.vantage == "host" else container.fd)
        parent = os.getpid()

        def die_with_parent() -> None:
            # Nothing else would end a capture of a killed supervisor, nor guard its disk. tcpdump then writes out what it has.
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        log = os.open(_session.log(self.directory, segment), flags, 0o600)
        try:
            segment.links = _plan.link_names(fd)
            with _netns.entered(fd):
                process = subprocess.Popen(  # pylint: disable=subprocess-popen-preexec-fn,consider-using-with,ansible-bad-function
                    segment.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd="/", preexec_fn=die_with_parent
                )
        except BaseException:
            os.close(fd)
            raise
        finally:
            os.close(log)
        running = Running(segment, container, process, _process.pidfd_open(process.pid), fd)
        segment.pid, segment.started = process.pid, _process.start_time(process.pid)
        self.running[running.pidfd] = running
        self.selector.register(running.pidfd, selectors.EVENT_READ, lambda: self._ended(running))

    # --- ending

    def _end(self, reason: str) -> None:
        """Ends the session; the first reason stays."""
        if self.ending is None:
            self.ending = reason
            for running in self.running.values():
                self._stop(running, reason)

    def _stop(self, running: Running, reason: str) -> None:
        if running.reason is not None:
            return
        running.reason = reason
        if reason in ("disk", "error"):
            self._terminate(running)
        else:
            self._drain(running, time.monotonic() + DRAIN_TIMEOUT)

    def _drain(self, running: Running, deadline: float, goal: int | None = None, answers: int = -1, before: int = -1) -> None:
        """Ends a tcpdump once it has read all the packets (goal) that its socket had taken in when it was to end.

        After the deadline also when it has read none since it last answered (before): where the kernel counts packets that it
        does not hand over, as those that loop back, the goal is never reached.
        """
        if running.pidfd not in self.running:
            return
        report = _tcpdump.read(_session.log(self.directory, running.segment))
        if answers >= 0 and report.answers > answers:
            goal = report.arrived if goal is None else goal
            captured, late = report.captured, time.monotonic() > deadline
            if captured >= goal or late and captured == before:
                self._terminate(running)
                return
            before = captured if late else -1
        if time.monotonic() > deadline + DRAIN_GRACE or not report.ready:
            self._terminate(running)
            return
        if report.answers > answers:
            running.process.send_signal(signal.SIGUSR1)  # prints the counts
        self._after(DRAIN_INTERVAL, lambda: self._drain(running, deadline, goal, report.answers, before))

    def _terminate(self, running: Running) -> None:
        running.process.terminate()

        def kill() -> None:
            if running.pidfd in self.running:
                running.process.kill()

        self._after(STOP_TIMEOUT, kill)

    def _ended(self, running: Running) -> None:
        """A tcpdump has ended, asked to or not."""
        self.selector.unregister(running.pidfd)
        del self.running[running.pidfd]
        code = running.process.wait()
        segment = running.segment
        report = _tcpdump.read(_session.log(self.directory, segment))
        reason, error = running.reason, None
        if reason is None and report.interface_gone:
            reason = "container_gone" if running.container.ended() else "interface_gone"
        elif reason is None and code == 0 and self.request.packet_count:
            reason = "packet_count"
        elif reason is None or reason == "error":
            ending = f"tcpdump was ended by {signal.Signals(-code).name}" if code < 0 else f"tcpdump ended with code {code}"
            reason, error = "error", report.complaint or ending
        with contextlib.suppress(NettapError):  # interfaces that came later
            segment.links = {**segment.links, **_plan.link_names(running.fd)}
        segment.link_type = report.link_type
        if self.ready >= 0 and self.ending is None and not report.ready:
            self._fail(segment, error or f"tcpdump ended at once ({reason})")
        elif segment.status != "failed":
            _session.finish(self.directory, segment, reason, error)
        os.close(running.pidfd)
        os.close(running.fd)
        self._save()

    def _guard_disk(self) -> None:
        if self.ending is None:
            figures = os.statvfs(self.directory)
            # Not <: with min_free 0 a full disk has to end it too, for tcpdump itself does not notice that its writes fail.
            if figures.f_bavail * figures.f_frsize <= self.session.least_free:
                self._end("disk")
            else:
                self._after(DISK_INTERVAL, self._guard_disk)

    # --- rings

    def _watch_rings(self) -> None:
        """A ring's oldest file is removed when tcpdump begins its newest, so that it never has to empty one.

        ext4 writes a file that was emptied and filled anew to the disk when it is closed (auto_da_alloc, ext4(5)): tcpdump
        would wait for the disk at each turn, and drop packets meanwhile.
        """
        if self.request.file_size:
            with contextlib.suppress(OSError):  # without, tcpdump empties them itself
                made = _inotify.NewFiles(self.directory)
                self.selector.register(made.fd, selectors.EVENT_READ, lambda: self._remove_oldest(made.names()))

    def _remove_oldest(self, names: list[str]) -> None:
        for running in self.running.values():
            file = running.segment.file
            number = next((name[len(file):] for name in reversed(names) if name.startswith(file)), "")
            if number.isdigit():
                count = self.request.file_count
                oldest = _session.output(self.directory, running.segment) + str((int(number) + _tcpdump.SPARE) % (count + _tcpdump.SPARE)).zfill(len(number))
                with contextlib.suppress(FileNotFoundError):
                    # If it is not full, we are so late that tcpdump has come to it and is writing it.
                    if os.stat(oldest).st_size >= self.request.file_size * 1_000_000:
                        os.unlink(oldest)

    # --- containers that stop and come back

    def _watch(self, container: Watched) -> None:
        pidfd = container.pidfd
        if pidfd is not None:
            self.selector.register(pidfd, selectors.EVENT_READ, lambda: self._gone(container, pidfd))

    def _gone(self, container: Watched, pidfd: int) -> None:
        self.selector.unregister(pidfd)
        os.close(pidfd)
        container.pidfd = None
        for running in list(self.running.values()):
            if running.container is container:
                self._stop(running, "container_gone")
        if self.request.on_restart == "follow" and container.returns_to_view() and container.returns < MOST_RETURNS and self.begun:
            container.gone_at = time.monotonic()
            self._look_for(container, container.gone_at)

    def _look_for(self, container: Watched, since: float) -> None:
        """A restarted container is back when its cgroup holds a process in a network namespace of its own, twice the same:
        its old processes are still ending at first, and those by which an engine enters (runc's) come and go."""
        if self.ending is not None:
            return
        now = time.monotonic()
        gone_for_good = not os.path.isdir(container.record) if container.record else now - since > RETURN_GRACE
        namespace = self._returned(container)
        seen, container.seen = container.seen, namespace.pid if namespace else None
        if namespace is None and gone_for_good:
            container.gone_at = None
        elif namespace is None:
            self._after(RETURN_INTERVAL, lambda: self._look_for(container, since))
        elif namespace.pid != seen:
            namespace.close()
            self._after(SETTLE_INTERVAL, lambda: self._look_for(container, since))
        else:
            os.close(container.fd)
            container.fd, container.pidfd = namespace.fd, namespace.pidfd
            container.returns += 1
            self._resume(container, namespace, now + INTERFACE_GRACE)

    @staticmethod
    def _returned(container: Watched) -> _netns.Namespace | None:
        for pid in container.processes():
            with contextlib.suppress(NamespaceError):
                namespace = _netns.open_process(pid, container.identity)
                if namespace.host == container.host:  # else an engine's own process that is still on its way in
                    return namespace
                namespace.close()
        return None

    def _resume(self, container: Watched, namespace: _netns.Namespace, deadline: float) -> None:
        """Taps the new namespace as the old one was, each place as a new segment; its interfaces may be yet to come."""
        if self.ending is not None:
            return
        if container.pidfd is not None and _process.has_ended(container.pidfd):  # it has stopped again
            os.close(container.pidfd)
            container.pidfd = None
            self._look_for(container, time.monotonic())
            return
        try:
            places = self._taps(container, namespace)
        except NettapError:
            if time.monotonic() < deadline:
                self._after(RETURN_INTERVAL, lambda: self._resume(container, namespace, deadline))
                return
            # The places of before, so that tcpdump says in each segment what is wrong with it.
            old = [segment for segment in self.session.segments if segment.id == container.id]
            places = list(dict.fromkeys(_plan.Tap(segment.interface, segment.vantage, segment.device) for segment in old))
        container.gone_at = None
        self._watch(container)
        for tap in places:
            segment = self._segment(container, tap)
            try:
                self._spawn(segment, container)
            except (NettapError, OSError) as error:
                segment.fail(str(error))
        self._save()

    def _taps(self, container: Watched, namespace: _netns.Namespace) -> list[_plan.Tap]:
        if self.request.vantage == "container":
            return _plan.taps(container.name, namespace, self.request)
        # The host's peers are read with pyroute2, which would double this process's memory for good: a child reads them.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            [sys.executable, "-I", sys.path[0], "taps"], input=json.dumps([container.name, namespace.fd, dataclasses.asdict(self.request)]),
            pass_fds=[namespace.fd, int(os.path.basename(sys.path[0]))], capture_output=True, text=True, check=False,
        )
        if done.returncode:
            raise CaptureError(done.stderr.strip())
        return [_plan.Tap(*place) for place in json.loads(done.stdout)]

    def _segment(self, container: Watched, tap: _plan.Tap) -> Segment:
        def argv(device: str, path: str) -> list[str]:
            return _tcpdump.command(self.program, self.request, device, path, self.session.buffer_size)

        segment = _plan.segment(len(self.session.segments), container, tap, argv, self.directory)
        self.session.segments.append(segment)
        return segment


def main() -> None:
    """Entry of the archive that _launch.py makes; standard input holds what to do as JSON."""
    given = json.load(sys.stdin)
    if sys.argv[1] == "taps":
        try:
            name, fd, request = given
            places = _plan.taps(name, _netns.Namespace(fd, name), Request.of(request))
        except NettapError as error:
            raise SystemExit(str(error)) from error
        json.dump(list(map(dataclasses.astuple, places)), sys.stdout)
        return
    os.umask(0o077)
    os.chdir("/")
    assignment = Assignment.of(given)
    assignment.session.supervisor = _process.Process.own()
    supervisor = Supervisor(assignment)
    try:
        supervisor.run()
    except BaseException as error:
        supervisor.tell_task(f"The supervisor could not go on: {error}.")
        with open(os.open(os.path.join(supervisor.directory, "supervisor.log"), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
            traceback.print_exc(file=stream)
        raise
