# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading files that another user may have planted: no device is opened, no pipe makes us wait, and no endless file fills our memory."""

from __future__ import annotations

import errno
import json
import os
import pwd
import resource
import select
import signal
import stat
import time
import typing as t

_LARGEST = 16 << 20  # bytes; the config.json of a large OCI bundle has some 100 KiB
LARGEST_PID = 1 << 22  # PID_MAX_LIMIT, linux/threads.h
_MEMORY = 1 << 30  # bytes of address space that a process that reads for us may take more than we have, which it inherits
_MOST_LINKS = 40  # as the kernel follows (MAXSYMLINKS, linux/namei.h)
_SECONDS = 10  # seconds for such a process


def content(path: str, owner: int | None = None) -> bytes:
    """Return the content of a regular file. Raise OSError, also when it is no regular file, too large, or not that owner's if one is given."""
    # Look at the file before opening it: opening a device can be enough to start it.
    return _content(os.open(path, os.O_PATH | os.O_CLOEXEC), path, owner)


def content_inside(root: int, path: str) -> bytes | None:
    """Return the content of a regular file below an open folder, as a process that has this root would find it; None where it would find none.

    No link and no ".." leads out of the folder: each is followed here, by name, and not by the kernel. Raise OSError.
    """
    way = [os.dup(root)]
    left, links = path.split("/")[::-1], 0
    try:
        while left:
            name = left.pop()
            if name == "..":
                if len(way) > 1:
                    os.close(way.pop())
            elif name not in ("", "."):
                way.append(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=way[-1]))
                if stat.S_ISLNK(os.fstat(way[-1]).st_mode):
                    target, links = os.readlink("", dir_fd=way[-1]), links + 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    os.close(way.pop())
                    while target.startswith("/") and len(way) > 1:
                        os.close(way.pop())
                    left += target.split("/")[::-1]
        return _content(way.pop(), path, None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    finally:
        for fd in way:
            os.close(fd)


def _content(place: int, path: str, owner: int | None) -> bytes:
    """Return the content of the file behind an O_PATH descriptor, which is closed."""
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
    """Return the JSON object in a file; {} where there is none, or the file is not that owner's if one is given."""
    try:
        found = json.loads(content(path, owner))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def pid(path: str, owner: int | None = None) -> int:
    """Return the PID in a PID file; 0 where there is none, or the file is not that owner's if one is given."""
    try:
        found = int(content(path, owner))
    except (OSError, ValueError):
        return 0
    return found if 0 < found <= LARGEST_PID else 0


def asked_as(uid: int, work: t.Callable[[], t.Any]) -> t.Any:
    """Call work in a process of that user, with little time and memory. Return its result, which JSON must be able to hold.

    This is for libraries that read files that the user can write: no such file leads where the user could not go. Raise OSError.
    """
    group = pwd.getpwuid(uid).pw_gid
    with open("/proc/self/statm", encoding="ascii") as stream:
        own = int(stream.read().split()[0]) * resource.getpagesize()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(group, group, group)
                os.setresuid(uid, uid, uid)
            resource.setrlimit(resource.RLIMIT_AS, (own + _MEMORY, own + _MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
            with open(writing, "w", encoding="utf-8") as stream:
                json.dump(work(), stream)
            os._exit(0)
        finally:  # an exception of work must not reach the caller's code in this process
            os._exit(1)
    os.close(writing)
    answer = b""
    try:
        answer = _received(reading)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # the PID is the child's until we wait for it
        os.waitpid(child, 0 if answer else os.WNOHANG)  # a child stuck in the kernel (a network file system) goes when we go
    try:
        return json.loads(answer)
    except ValueError as error:
        raise OSError(f"it cannot be read as the user with UID {uid}") from error


def _received(fd: int) -> bytes:
    """Return the data up to its end; b"" when it takes too long or is too large."""
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
