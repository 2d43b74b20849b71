# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running tcpdump: how it is started in its namespace, and ended without losing packets that the kernel still holds for it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan, _session, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _process

PR_SET_PDEATHSIG = 1  # linux/prctl.h
STOP_TIMEOUT = 10.0  # seconds from SIGTERM to SIGKILL: tcpdump writes out its buffer in far less
# Seconds until the kernel has handed over all packets that had arrived. It hands over a block of its ring that is not full only after
# tcpdump's read timeout of 1 s, by a timer that may be 0.08 s late (8 ticks at 100 Hz, kernel/time/timer.c). A tcpdump that is ended
# before that loses these packets.
DRAIN_TIMEOUT = 1.2
DRAIN_INTERVAL = 0.02
_LIBC = ctypes.CDLL(None, use_errno=True)


class Running:
    """A tcpdump with the segment that it writes.

    ready is whether its socket is open. reason is why it was asked to end, None if it was not.
    """

    def __init__(self, loop: Loop, directory: str, segment: Segment, container: Watched, host_fd: int) -> None:
        """Start tcpdump. Raise NettapError, OSError."""
        self._loop = loop
        self._directory = directory
        self.segment = segment
        self.container = container
        self.ready = False
        self.reason: str | None = None
        self._fd = os.dup(host_fd if segment.vantage == "host" else container.fd)
        self._process = self._spawn()
        self._pidfd = _process.pidfd_open(self._process.pid)
        self._over = False
        segment.pid, segment.started = self._process.pid, _process.start_time(self._process.pid)

    def _spawn(self) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def die_with_parent() -> None:
            # Nothing else would end the capture of a killed supervisor, or guard its disk. At SIGTERM, tcpdump writes out its buffer.
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        log = os.open(_session.log(self._directory, self.segment), flags, 0o600)
        try:
            self.segment.links = self.links()
            with _netns.entered(self._fd):
                return subprocess.Popen(  # pylint: disable=subprocess-popen-preexec-fn,consider-using-with,ansible-bad-function
                    self.segment.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd="/", preexec_fn=die_with_parent
                )
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(log)

    def when_ended(self, action: t.Callable[[], None]) -> None:
        """Call an action when tcpdump has ended, whether it was asked to or not."""
        self._loop.watch(self._pidfd, action)

    def links(self) -> dict[int, str]:
        """Return the names of the links in tcpdump's namespace, by index."""
        return _plan.link_names(self._fd)

    def report(self) -> _tcpdump.Report:
        """Return tcpdump's messages so far."""
        return _tcpdump.read(_session.log(self._directory, self.segment))

    def wait(self) -> int:
        """Reap a tcpdump that has ended. Return its exit code, or minus the number of the signal that ended it."""
        self._loop.forget(self._pidfd)
        self._over = True
        return self._process.wait()

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._pidfd)
        os.close(self._fd)

    def stop(self, reason: str) -> None:
        """End tcpdump. The first reason stays."""
        if self.reason is not None:
            return
        self.reason = reason
        if reason in ("disk", "error"):
            self._terminate()
        else:
            self._drain(time.monotonic() + DRAIN_TIMEOUT)

    def _drain(self, deadline: float, goal: int | None = None, answers: int = -1, before: int = -1) -> None:
        """End tcpdump once it has read all packets that its socket had taken in when it was asked to end; goal is their number.

        After the deadline, end it also when it has read no packet since its last answer (before is the count of then) and sleeps: then the
        kernel has handed over none that tcpdump has yet to read. The goal is never reached where the kernel counts packets that tcpdump
        skips, such as the first sight of packets that loop back. A tcpdump that waits for a processor or for the disk gets as long as it takes.
        """
        if self._over:
            return
        report = self.report()
        if answers >= 0 and report.answers > answers:
            goal = report.arrived if goal is None else goal
            captured, late = report.captured, time.monotonic() > deadline
            if captured >= goal or late and captured == before and _process.asleep(self._process.pid):
                self._terminate()
                return
            before = captured if late else -1
        if not report.ready or _process.halted(self._process.pid):
            self._terminate()
            return
        if report.answers > answers:
            self._process.send_signal(signal.SIGUSR1)  # makes tcpdump print its counts
        self._loop.after(DRAIN_INTERVAL, lambda: self._drain(deadline, goal, report.answers, before))

    def _terminate(self) -> None:
        self._process.terminate()

        def kill() -> None:
            if not self._over:
                self._process.kill()

        self._loop.after(STOP_TIMEOUT, kill)
