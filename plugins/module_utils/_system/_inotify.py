# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notification of new files in a folder, see inotify(7)."""

from __future__ import annotations

import ctypes
import os
import struct

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, refused_as

# sys/inotify.h and linux/inotify.h
IN_CREATE = 0x100
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC
_QUEUE = 1 << 20  # bytes; more than the events that the kernel keeps (fs.inotify.max_queued_events: 16384)
_EVENT = struct.Struct("iIII")  # watch descriptor, mask, cookie, length of the name that follows
_LIBC = ctypes.CDLL(None, use_errno=True)


class NewFiles:
    """A descriptor (fd) that is readable when files have been made in a folder. The constructor raises NettapError at the kernel's limits."""

    def __init__(self, folder: str) -> None:
        with refused_as(NettapError, f"New files in {folder} cannot be watched for",
                        "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches (sysctl)"):
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


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
