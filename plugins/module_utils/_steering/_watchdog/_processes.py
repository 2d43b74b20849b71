# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a dataplane's engine, as the watchdog observes them: from their start to their end."""

from __future__ import annotations

import os
import select
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _engine
from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane
from ansible_collections.nettap.containers.plugins.module_utils._system import _process

# Seconds between two searches of /proc for the owners of the same sockets. The pause doubles after each search that has found no process.
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Processes:
    """The pidfds of the engine's processes and threads, registered with the poller. The object is true while a process is known."""

    def __init__(self, dataplane: Dataplane, poller: select.poll) -> None:
        self._dataplane = dataplane
        self._poller = poller
        self._pidfds: dict[int, int] = {}  # pidfd: PID
        self._threads: dict[int, int] = {}  # pidfd of a thread: PID
        self._sockets: set[str] = set()
        self._pause = _PAUSE
        self._next_look = 0.0

    def __bool__(self) -> bool:
        return bool(self._pidfds)

    def look(self) -> None:
        """Find the engine's new processes. Raise NettapError.

        An engine that starts opens sockets, and the kernel's list of them is short. So /proc is searched only when that list has changed,
        and now and then while no process is found for its sockets.
        """
        sockets, now = _engine.sockets(self._dataplane), time.monotonic()
        if sockets == self._sockets and now < self._next_look:
            return
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) if sockets == self._sockets else _PAUSE
        self._sockets, self._next_look = sockets, now + self._pause
        known = set(self._pidfds.values())
        for process in _engine.processes(self._dataplane):
            pidfd = process.open() if process.pid not in known else None
            if pidfd is not None:
                self._pidfds[pidfd] = process.pid
                self._threads.update(dict.fromkeys(_process.thread_pidfds(process.pid), process.pid))
        for fd in (*self._pidfds, *self._threads):
            self._poller.register(fd, select.POLLIN)

    def reads(self) -> bool:
        """Return whether a known process reads the service links. Raise NettapError."""
        return bool(self._pidfds) and bool(_engine.sockets(self._dataplane))

    def ended(self, events: t.Collection[int]) -> bool:
        """Return whether the engine is gone by these events of the poller: its last process has ended, or ends in order and reads no more.

        The kernel takes a tenth of a second or more to free an engine's memory before it reports the engine's end. The engine's threads end
        first. An engine that is told to end (SIGTERM) closes its sockets, and then its process can exist for a second: dp waits for a
        thread that sleeps (dp/pkt.c, dp_timer_thr). Raise NettapError.
        """
        ended = {self._pidfds[fd] for fd in events if fd in self._pidfds}
        threads = [fd for fd in self._threads if fd in events]
        ended |= {self._threads[fd] for fd in threads if _process.killed(self._threads[fd])}
        for known in (self._pidfds, self._threads):
            for fd in [fd for fd, pid in known.items() if fd in events or pid in ended]:
                self._poller.unregister(fd)
                os.close(fd)
                del known[fd]
        return bool(ended) and not self._pidfds or bool(threads) and not self.reads()
