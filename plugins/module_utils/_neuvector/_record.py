# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorded configuration of each NeuVector dp: one file for each process.

dp itself does not return its configuration, and a dp that is started again has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._policy import EMPTY, Config
from ansible_collections.nettap.containers.plugins.module_utils._system import _files, _stored
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process

VERSION = 1  # of a record's format; release 0.1.0 wrote no records
ROOT = "/run/nettap/dataplane"  # in /run: no dp outlives a reboot
_PATIENCE = 60.0  # seconds to wait for another task


class Busy(DataplaneError):
    """Another task holds the lock of all records."""


@dataclasses.dataclass
class DataplaneRecord:
    """The configuration that was sent to one dp process. The defaults are those of a dp without a record.

    sure is False from before the first message until all is verified; a task that is killed leaves it False. macs are all
    workloads that dp may know. rules are dp's two counters of rules at the time of verification, [] before. icmp
    says whether an ICMP policy was ever sent to it. sockets are those of workloads (by MAC), for which it was told ports and rules. jumbo
    says whether its service link takes jumbo frames; config says what was asked for, None where the link's MTU decides.
    """

    config: Config = dataclasses.field(default_factory=lambda: dict(EMPTY))
    sure: bool = True
    macs: list[str] = dataclasses.field(default_factory=list)
    rules: list[int] = dataclasses.field(default_factory=list)
    icmp: bool = False
    sockets: dict[str, list[t.Any]] = dataclasses.field(default_factory=dict)
    jumbo: bool = False

    @classmethod
    def of(cls, stored: t.Any) -> DataplaneRecord:
        """Return the record that this release or an older one stored, with options that the older one did not know. Raise ValueError for any other content."""
        values = _stored.known(cls, stored, VERSION)
        config = {**EMPTY, **values.get("config", {})}
        if "jumbo" not in values:  # an older release asked for no jumbo frames where the user had asked for nothing
            values["jumbo"], config["jumbo_frames"] = bool(config["jumbo_frames"]), None
        return cls(**{**values, "config": config})


class Store:
    """The record of one process on disk. PID and start time are its name, so that it is never mistaken for another process's."""

    def __init__(self, pid: int | None, started: int | None, root: str = ROOT) -> None:
        self._root = root
        self._path = os.path.join(root, f"neuvector-{pid}-{started}.json")

    @contextlib.contextmanager
    def locked(self, patience: float = _PATIENCE) -> t.Iterator[None]:
        """Hold the lock of all records, because dp loses the batches of two tasks if they mix. Make the folder (0700).

        Raise Busy, a DataplaneError, if the lock is not free after patience seconds, or StorageError.
        """
        busy = Busy(f"Another task has been configuring a dataplane for {patience:.0f} s: wait for it.")
        with _files.held(self._root, patience, busy):
            sweep(self._root)
            yield

    def load(self) -> DataplaneRecord:
        """Return the record, or an empty one. Raise DataplaneError for a damaged one."""
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as stream:
                return DataplaneRecord.of(json.load(stream))
        except FileNotFoundError:
            return DataplaneRecord()
        except (ValueError, TypeError, OSError) as error:
            raise DataplaneError(f"{self._path} cannot be read ({error}): remove it and start dp again.") from error

    def save(self, record: DataplaneRecord) -> None:
        """Replace the record atomically: whenever the writer is killed, the old or the new one is there. Raise StorageError."""
        _files.replace_json(self._path, _stored.content(record, VERSION))

    def remove(self) -> None:
        """Remove the record, once dp has nothing of the collection's configuration any more. Raise StorageError."""
        _files.remove(self._path)


def sweep(root: str = ROOT) -> None:
    """Remove the records of processes that have ended, and the files that a killed writer left. Raise StorageError."""
    for path in glob.glob(os.path.join(glob.escape(root), "neuvector-*")):
        pid, unused, started = os.path.basename(path)[len("neuvector-"):].partition(".")[0].partition("-")
        if not (pid.isdigit() and started.isdigit() and Process(int(pid), int(started)).alive()):
            _files.remove(path)
