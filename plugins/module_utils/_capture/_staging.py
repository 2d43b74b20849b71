# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of stagings in a session's folder: where files of the session are staged, and which fetch they are staged for.

A fetch removes its staged files itself. When it could not, because it was killed or lost the host, a later task removes them. Fetches
of one session may run at the same time, so a later task must know that a fetch is gone. How long ago it staged says nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _stored
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process, start_time
from ansible_collections.nettap.containers.plugins.module_utils._system._runner import Runner, boot

ENDING = ".staged"  # of the files in the login user's folder


@dataclasses.dataclass(frozen=True)
class Fetch:
    """A fetch: its process on the controller, and the process on this host that carries its connection (None where none outlives a command)."""

    runner: Runner = dataclasses.field(default_factory=Runner)
    carrier: Process | None = None

    @classmethod
    def of(cls, told: t.Mapping[str, t.Any]) -> Fetch:
        """Return the fetch that an action plugin describes, with the PID that one of its earlier commands has found as its parent.

        A process that lives on after that command carries more than one command, and ends with the connection.
        """
        pid = int(told.get("carrier") or 0)
        started = start_time(pid) if pid > 1 else None
        return cls(Runner(**_stored.known(Runner, told.get("runner") or {})), Process(pid, started) if started is not None else None)


@dataclasses.dataclass(frozen=True)
class _Staging:
    """folder is the login user's, known by device and inode. boot is the host's when it was staged. Release 0.1.0 recorded no boot and no fetch."""

    folder: str
    device: int
    inode: int
    boot: str = ""
    fetch: Fetch | None = None

    @classmethod
    def of(cls, stored: t.Any) -> _Staging:
        values = _stored.known(cls, stored)
        fetch = values.get("fetch")
        if fetch:
            carrier = fetch.get("carrier")
            values["fetch"] = Fetch(Runner(**_stored.known(Runner, fetch["runner"])), Process(**_stored.known(Process, carrier)) if carrier else None)
        return cls(**values)

    def gone(self) -> bool:
        """Return whether its fetch is known to be gone. One that cannot be known, since it runs elsewhere, may go on."""
        if self.fetch is None or self.boot != boot():
            return True
        alive = self.fetch.runner.alive()
        if alive is None and self.fetch.carrier:
            alive = self.fetch.carrier.alive()
        return alive is False


def record(directory: str, folder: str, figures: os.stat_result, fetch: Fetch | None) -> None:
    """Record in a session's folder that a fetch stages in a folder. Raise OSError."""
    staging = _Staging(folder, figures.st_dev, figures.st_ino, boot(), fetch)
    path = os.path.join(directory, f"staging-{figures.st_dev:x}-{figures.st_ino:x}.json")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(dataclasses.asdict(staging), stream)


def clear(directory: str) -> None:
    """Remove the staged files whose fetch is gone, and the records of folders that are gone. The caller holds the session's lock."""
    for path in glob.glob(os.path.join(glob.escape(directory), "staging*.json")):
        if _cleared(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _cleared(path: str) -> bool:
    """Remove what is staged by a record if its fetch is gone. Return whether the record has nothing more to tell."""
    try:
        with open(path, encoding="utf-8") as stream:
            staging = _Staging.of(json.load(stream))
        fd = os.open(staging.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return True
    try:
        figures = os.fstat(fd)
        if (figures.st_dev, figures.st_ino) != (staging.device, staging.inode):
            return True
        if not staging.gone():
            return False
        for file in os.listdir(fd):
            if file.endswith(ENDING):
                with contextlib.suppress(FileNotFoundError):  # its user has removed it just now
                    os.unlink(file, dir_fd=fd)
        with contextlib.suppress(OSError):
            os.rmdir(staging.folder)
        return True
    finally:
        os.close(fd)
