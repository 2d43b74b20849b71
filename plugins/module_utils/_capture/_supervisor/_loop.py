# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's loop: one thread that waits on descriptors and timers, and on nothing else."""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
import typing as t


class Loop:
    """The actions that wait for a descriptor to be readable, or for their time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, t.Callable[[], None]]] = []
        self._order = itertools.count()  # orders timers for the same instant

    def watch(self, fd: int, action: t.Callable[[], None]) -> None:
        """Call an action whenever the descriptor is readable."""
        self._selector.register(fd, selectors.EVENT_READ, action)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor. The caller closes it."""
        self._selector.unregister(fd)

    def after(self, delay: float, action: t.Callable[[], None]) -> None:
        """Call an action once, after delay seconds."""
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._order), action))

    def step(self) -> None:
        """Wait until a descriptor is readable or a timer is due, and call the actions for it."""
        delay = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        for key, _mask in self._selector.select(delay):
            key.data()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
