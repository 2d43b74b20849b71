# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading of what another user may have put there: no device is opened, no pipe or endless file keeps or fills us."""

from __future__ import annotations

import json
import os
import pwd
import resource
import select
import signal
import stat
import time
import typing as t

_LARGEST = 16 << 20  # bytes; a large OCI bundle has some 100 KiB
LARGEST_PID = 1 << 22  # PID_MAX_LIMIT, linux/threads.h
_MEMORY = 1 << 30  # bytes of address space of a process that reads for us
_SECONDS = 10  # that it has


def content(path: str, owner: int | None = None) -> bytes:
    """What is in a regular file, of that owner if one is given. Raises OSError, also for one that is none or is too large."""
    # Looked at before it is opened: to open a device can be enough to set it going.
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        figures = os.fstat(place)
        if not stat.S_ISREG(figures.st_mode) or figures.st_size > _LARGEST or owner not in (None, figures.st_uid):
            raise OSError(f"{path} is no regular file of a usual size, or not that user's")
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(place)
    with open(fd, "rb") as stream:
        return stream.read(_LARGEST)


def json_object(path: str, owner: int | None = None) -> dict[str, t.Any]:
    """The JSON object in a file, of that owner if one is given; {} where there is none."""
    try:
        found = json.loads(content(path, owner))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def pid(path: str, owner: int | None = None) -> int:
    """The PID in a PID file, of that owner if one is given; 0 where there is none."""
    try:
        found = int(content(path, owner))
    except (OSError, ValueError):
        return 0
    return found if 0 < found <= LARGEST_PID else 0


def asked_as(uid: int, work: t.Callable[[], t.Any]) -> t.Any:
    """What work returns (anything that JSON has), in a process of that user's and with little time and memory.

    For libraries that read what the user can write: nothing in it leads where the user could not go. Raises OSError.
    """
    group = pwd.getpwuid(uid).pw_gid
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(group, group, group)
                os.setresuid(uid, uid, uid)
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
            with open(writing, "w", encoding="utf-8") as stream:
                json.dump(work(), stream)
            os._exit(0)
        finally:  # whatever it raises is not the caller's
            os._exit(1)
    os.close(writing)
    answer = b""
    try:
        answer = _received(reading)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # ours until it is waited for
        os.waitpid(child, 0 if answer else os.WNOHANG)  # what the kernel keeps busy, with a network's file system say, goes when we go
    try:
        return json.loads(answer)
    except ValueError as error:
        raise OSError(f"it cannot be read as the user with UID {uid}") from error


def _received(fd: int) -> bytes:
    """What comes until the end, or until it is too late or too much."""
    deadline = time.monotonic() + _SECONDS
    found = bytearray()
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while len(found) <= _LARGEST and poller.poll(max(0, deadline - time.monotonic()) * 1000):
        piece = os.read(fd, 1 << 16)
        if not piece:
            return bytes(found)
        found += piece
    return b""
