# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk: a session ends before it fills the file system that it writes to."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop

INTERVAL = 1.0  # seconds; file systems send no event when they fill up
_FULL = 1 << 20  # free bytes; more than all tcpdumps of a session are about to write at once


def is_full(directory: str) -> bool:
    """Return whether writes may have failed for lack of room, or with the file system itself."""
    try:
        figures = os.statvfs(directory)
    except OSError:
        return True
    return figures.f_bfree * figures.f_frsize < _FULL


class Disk:
    """The free space of the session's folder. full is called when no more than least_free bytes are left."""

    def __init__(self, loop: Loop, directory: str, least_free: int, full: t.Callable[[], None]) -> None:
        self._loop = loop
        self._directory = directory
        self._least_free = least_free
        self._full = full

    def guard(self) -> None:
        """Look at the free space now, and again until too little is left."""
        figures = os.statvfs(self._directory)
        # Not <: with min_free 0, too, a full disk must end the session, because tcpdump does not notice that its writes fail.
        if figures.f_bavail * figures.f_frsize <= self._least_free:
            self._full()
        else:
            self._loop.after(INTERVAL, self.guard)
