# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage of sessions: private folders, safe against links that another user planted, and files replaced whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture._request import check_name
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, StorageError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _files

STATE = "session.json"
_RESERVE = "session.reserve"  # a running session's: room for its final session.json on a full disk
_LOOK = "look at its file system, its mount and its permissions"
PATIENCE = 60.0  # seconds to wait while another task starts, stops or fetches the same session


class BusyError(StorageError):
    """A session that another task works on."""


class Storage:
    """The folder that holds the sessions of a host, one folder each."""

    def __init__(self, path: str) -> None:
        self.path = os.path.normpath(path)
        if not os.path.isabs(path):
            raise StorageError(f"path must be absolute, not {path!r}.")

    def directory(self, name: str) -> str:
        """Return the folder of a session, whether it exists or not. Raise CaptureError for a name that cannot be one."""
        return os.path.join(self.path, check_name(name))

    def names(self) -> list[str]:
        """Return the names of the sessions that exist. Raise StorageError."""
        if not self._safe():
            return []
        with refused_as(StorageError, f"The storage path {self.path} cannot be read", _LOOK):
            found = os.listdir(self.path)
        return sorted(name for name in found if os.path.isfile(os.path.join(self.path, name, STATE)))

    def free(self) -> tuple[int, int]:
        """Return the free bytes and the size in bytes of the file system that holds the path or its nearest existing parent. Raise StorageError."""
        place = self.path
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        with refused_as(StorageError, f"The free room of {place} cannot be read", _LOOK):
            figures = os.statvfs(place)
        return figures.f_bavail * figures.f_frsize, figures.f_blocks * figures.f_frsize

    @contextlib.contextmanager
    def locked(self, name: str, create: bool = False, patience: float | None = None) -> t.Iterator[bool]:
        """Lock the session's folder for the block. Yield whether it exists. With create, make it (0700) where it is missing.

        The lock is on the folder itself, so it needs no file, and a killed task leaves none behind.
        Raise StorageError when something unsafe is in the way, BusyError when another task holds the lock for longer than patience seconds
        (PATIENCE by default).
        """
        directory = self.directory(name)
        if create:
            self._make()
        patience = PATIENCE if patience is None else patience
        deadline = time.monotonic() + patience
        busy = BusyError(f"Another task has been working on session {name} for {patience:.0f} s: wait for it, or use another name.")
        while True:
            if not self._safe():
                yield False
                return
            if create:
                with refused_as(StorageError, f"The session's folder {directory} cannot be made", _LOOK), contextlib.suppress(FileExistsError):
                    os.mkdir(directory, 0o700)
            try:
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                yield False
                return
            except OSError as error:
                raise _unsafe(directory, error) from error
            try:
                _files.lock(fd, deadline, busy)
                # Another task may have renamed or removed the folder before we got the lock.
                if _files.same(fd, directory):
                    yield True
                    return
            finally:
                os.close(fd)

    def find(self, name: str, owner: str | None) -> str | None:
        """Return the name that the session of an owner has now: another session may have taken its name since it ended. None if there is none.

        Without an owner, return the name as it is.
        """
        if owner is None:
            return name
        return next((known for known in sorted(self.names(), key=lambda known: known != name) if self._is_of(known, owner)), None)

    @contextlib.contextmanager
    def held(self, name: str, owner: str | None, patience: float | None = None) -> t.Iterator[str | None]:
        """Lock the session of this name (of this owner, where one is given) for the block. Yield the name that it has; None if there is none.

        Raise what locked() raises.
        """
        while True:
            found = self.find(name, owner)
            if found is None:
                yield None
                return
            with contextlib.ExitStack() as stack:
                there = stack.enter_context(self.locked(found, patience=patience))
                if owner is None or self._is_of(found, owner):  # else it was renamed or removed before the lock was ours
                    yield found if there else None
                    return

    def _is_of(self, name: str, owner: str) -> bool:
        with contextlib.suppress(StorageError):  # another session's file may be damaged
            session = load(self.directory(name))
            return session is not None and session.owner == owner
        return False

    def missing(self, name: str, owner: str | None) -> CaptureError:
        """Return the error that there is no such session."""
        known = ", ".join(self.names()) or "none"
        return CaptureError(f"There is no capture session {name!r}{' of this run' if owner else ''} under {self.path} (there are: {known}).")

    def rename(self, name: str, new: str) -> None:
        """Give a session another name, in one step. Raise StorageError."""
        with refused_as(StorageError, f"The session's folder {self.directory(name)} cannot be renamed to {new}", _LOOK):
            os.rename(self.directory(name), self.directory(new))

    def remove(self, name: str) -> None:
        """Delete a session with its captures. Raise StorageError."""
        with refused_as(StorageError, f"The session's folder {self.directory(name)} cannot be removed", _LOOK):
            shutil.rmtree(self.directory(name))  # removes a link in the folder as a link, and follows none

    def _make(self) -> None:
        missing = self.path
        while not os.path.lexists(missing):
            missing = os.path.dirname(missing)
        self._check(missing)
        before = os.umask(0o022)  # makedirs applies its mode to the last folder only
        try:
            os.makedirs(self.path, exist_ok=True)
            if missing != self.path:
                os.chmod(self.path, 0o700)
        except OSError as error:
            raise StorageError(f"The storage path {self.path} cannot be made: {error.strerror}.") from error
        finally:
            os.umask(before)

    def _safe(self) -> bool:
        """Return False when the path does not exist. Raise StorageError when it leads through a link or other users could change it."""
        if not os.path.lexists(self.path):
            return False
        self._check(self.path)
        figures = os.stat(self.path)
        if figures.st_uid != os.geteuid() or stat.S_IMODE(figures.st_mode) & 0o022:
            raise StorageError(f"The storage path {self.path} belongs to another user or is writable by others: captures hold secrets; "
                               "give a folder that is the task's user's alone (chown root, chmod 0700).")
        return True

    @staticmethod
    def _check(path: str) -> None:
        """Raise StorageError unless every part of the path is a folder and no link: no other user can then redirect root's writes."""
        part = "/"
        for piece in path.split("/"):
            part = os.path.join(part, piece)
            with refused_as(StorageError, f"{part} in the storage path cannot be looked at", "give a path that root can reach"):
                mode = os.lstat(part).st_mode
            if stat.S_ISLNK(mode):
                raise StorageError(f"{part} in the storage path is a symbolic link: give the real path, {os.path.realpath(path)}, if that is what you mean.")
            if not stat.S_ISDIR(mode):
                raise StorageError(f"{part} in the storage path is not a folder.")


def _unsafe(directory: str, error: OSError) -> StorageError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return StorageError(f"{directory} is not a session's folder but a symbolic link or a file: remove it.")
    return StorageError(f"The session's folder {directory} cannot be opened: {error.strerror}.")


def load(directory: str) -> Session | None:
    """Return the session in session.json; None when there is none. Raise StorageError when it is damaged."""
    path = os.path.join(directory, STATE)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as stream:
            return Session.of(json.load(stream))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, OSError, CaptureError) as error:
        raise StorageError(f"{path} cannot be read ({error}): look at the captures beside it, then remove the session (state: absent).") from error


def reserve(directory: str, segments: int) -> None:
    """Reserve the room that session.json needs with so many segments, and as many again, until the session has ended. Raise StorageError."""
    path = os.path.join(directory, _RESERVE)
    refusals = refused_as(StorageError, f"{path} cannot be written", "make room, or set path to another file system")
    with refusals, open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as stream:
        stream.write(bytes((64 << 10) + segments * (4 << 10)))


def save(directory: str, session: Session) -> None:
    """Replace session.json whole: a reader sees the old or the new one, whenever the writer is killed. Raise StorageError."""
    if session.status != "running":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, _RESERVE))
    _files.replace_json(os.path.join(directory, STATE), session.stored())
