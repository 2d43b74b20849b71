# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are replaced whole, and folders that one process at a time holds."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import StorageError, refused_as

_ROOM = "look at the free room, the mount and the permissions there"


def replace(path: str, content: bytes) -> None:
    """Replace a file (0600): a reader sees the old or the new one, whenever the writer is killed. Raise StorageError."""
    with refused_as(StorageError, f"{path} cannot be written", _ROOM):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ".new")  # left by a killed writer
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(path + ".new", path)


def remove(path: str) -> None:
    """Remove a file, if it exists, and the file that a killed writer of it left. Raise StorageError."""
    for name in (path, path + ".new"):
        with refused_as(StorageError, f"{name} cannot be removed", _ROOM), contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def replace_json(path: str, state: t.Mapping[str, t.Any]) -> None:
    """Replace a file by the JSON of state. Raise StorageError."""
    replace(path, json.dumps(state, indent=1).encode())


@contextlib.contextmanager
def held(folder: str, patience: float, busy: Exception) -> t.Iterator[None]:
    """Lock a folder for the block, and make it (0700) where it is missing. Raise busy after patience seconds, StorageError.

    The previous holder of the lock may have removed the folder. Then the lock is on a folder that has no path any more: take it on the new folder.
    """
    deadline = time.monotonic() + patience
    while True:
        fd = _made(folder)
        try:
            lock(fd, deadline, busy)
            if same(fd, folder):
                yield
                return
        finally:
            os.close(fd)


def _made(folder: str) -> int:
    with refused_as(StorageError, f"The folder {folder} cannot be made or opened", _ROOM):
        while True:
            # Another task that removes a folder also removes the folder above it, if that is empty. It may do so just now.
            with contextlib.suppress(FileNotFoundError):
                os.makedirs(folder, mode=0o700, exist_ok=True)
                return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def same(fd: int, path: str) -> bool:
    """Return whether a path leads to the open file or folder."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def lock(fd: int, deadline: float, busy: Exception) -> None:
    """Lock an open folder. A killed task leaves no such lock behind. Raise busy at the deadline, by the monotonic clock."""
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise busy from error
        time.sleep(0.01)
