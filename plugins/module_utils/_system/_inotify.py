# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notification of new files in a folder, and of what comes and goes at paths, see inotify(7)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, refused_as

# sys/inotify.h and linux/inotify.h
IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x2, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
IN_MASK_ADD = 0x20000000
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC
_QUEUE = 1 << 20  # bytes; more than the events that the kernel keeps (fs.inotify.max_queued_events: 16384)
_COMES = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_MASK_ADD
_CHANGES = _COMES | IN_MODIFY | IN_DELETE | IN_MOVED_FROM
_EVENT = struct.Struct("iIII")  # watch descriptor, mask, cookie, length of the name that follows
_LIBC = ctypes.CDLL(None, use_errno=True)


class NewFiles:
    """A descriptor (fd) that is readable when files have been made in a folder. The constructor raises NettapError at the kernel's limits."""

    def __init__(self, folder: str) -> None:
        with _refusals(f"New files in {folder}"):
            self.fd: int = _checked(_LIBC.inotify_init1(IN_NONBLOCK | IN_CLOEXEC))
            try:
                _checked(_LIBC.inotify_add_watch(self.fd, os.fsencode(folder), IN_CREATE))
            except OSError:
                os.close(self.fd)
                raise

    def names(self) -> list[str]:
        """Return the names of the files made since the last call, in order."""
        found: list[str] = []
        try:
            data = os.read(self.fd, _QUEUE)
        except BlockingIOError:
            return found
        while data:
            length = _EVENT.unpack_from(data)[3]
            found.append(os.fsdecode(data[_EVENT.size:_EVENT.size + length].rstrip(b"\0")))
            data = data[_EVENT.size + length:]
        return found


class Paths:
    """A descriptor (fd) that is readable when something has come, gone or changed at one of some paths, which need not exist.

    The constructor and watch() raise NettapError at the kernel's limits. Files of cgroup v1, v2 and of other virtual file systems tell too.
    """

    def __init__(self) -> None:
        with _refusals("What comes and goes"):
            self.fd: int = _checked(_LIBC.inotify_init1(IN_NONBLOCK | IN_CLOEXEC))
        self._watched: set[int] = set()

    def watch(self, paths: t.Iterable[str]) -> None:
        """Watch these paths from now on, and no others. Call this after each event, and before each look at what is there."""
        wanted = {number for path in dict.fromkeys(paths) for number in self._add(path)}
        for number in self._watched - wanted:
            _LIBC.inotify_rm_watch(self.fd, number)  # fails where the kernel has removed it already, with what it watched
        self._watched = wanted
        with contextlib.suppress(BlockingIOError):  # what was told until now, the look that follows will see
            while os.read(self.fd, 1 << 16):
                pass

    def _add(self, path: str) -> tuple[int, int]:
        """Watch a path or, while it does not exist, the nearest folder above it that does. Return the numbers of the watches."""
        place, below = path, ""
        while True:
            # The removal of a cgroup is told in the folder above it only. That watch comes first, so that no removal is missed.
            above = self._added(os.path.dirname(place), _COMES | IN_DELETE | IN_MOVED_FROM)
            number = self._added(place, _COMES if below else _CHANGES) if above >= 0 else -1
            if number < 0:
                place, below = os.path.dirname(place), place
            elif not below or not os.path.exists(below):
                return above, number
            else:  # it came meanwhile
                place, below = path, ""

    def _added(self, path: str, events: int) -> int:
        """Return the number of a watch, -1 where the path does not exist."""
        number = _LIBC.inotify_add_watch(self.fd, os.fsencode(path), events)
        if number < 0 and ctypes.get_errno() not in (errno.ENOENT, errno.ENOTDIR):
            with _refusals(path):
                _checked(number)
        return int(number)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def _refusals(what: str) -> t.ContextManager[None]:
    return refused_as(NettapError, f"{what} cannot be watched for", "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches (sysctl)")


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
