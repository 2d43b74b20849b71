# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each NeuVector dp was told: one file per process, since dp itself cannot be asked and one that is started again is empty."""

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

VERSION = 1  # of a record; 0.1.0 wrote none
ROOT = "/run/nettap/dataplane"  # in /run: no dp outlives a reboot
_PATIENCE = 60.0  # seconds to wait for another task


@dataclasses.dataclass
class DataplaneRecord:
    """What one dp process was told; as it stands here, of one that nothing is known of.

    sure is false from before the first message until all is verified: a task that is killed leaves it so. macs are all
    workloads that dp may know. rules are its two counters of rules as they were when all was verified, [] before. icmp
    says whether it was ever told of an ICMP policy.
    """

    config: Config = dataclasses.field(default_factory=lambda: dict(EMPTY))
    sure: bool = True
    macs: list[str] = dataclasses.field(default_factory=list)
    rules: list[int] = dataclasses.field(default_factory=list)
    icmp: bool = False

    @classmethod
    def of(cls, stored: t.Any) -> DataplaneRecord:
        """Return the record that this release or an older one stored, with options that the older one did not know. Raises ValueError."""
        values = _stored.known(cls, stored, VERSION)
        return cls(**{**values, "config": {**EMPTY, **values.get("config", {})}})


class Store:
    """The record of one process: PID and start time are its name, so that it is never taken for another's."""

    def __init__(self, pid: int | None, started: int | None, root: str = ROOT) -> None:
        self._root = root
        self._path = os.path.join(root, f"neuvector-{pid}-{started}.json")

    @contextlib.contextmanager
    def locked(self) -> t.Iterator[None]:
        """Holds all records alone: the batches of two tasks must not mix, or dp loses both. Makes the folder (0700)."""
        busy = DataplaneError(f"Another task has been configuring a dataplane for {_PATIENCE:.0f} s: wait for it.")
        with _files.held(self._root, _PATIENCE, busy):
            self._sweep()
            yield

    def load(self) -> DataplaneRecord:
        """The record, or an empty one. Raises DataplaneError for a damaged one."""
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as stream:
                return DataplaneRecord.of(json.load(stream))
        except FileNotFoundError:
            return DataplaneRecord()
        except (ValueError, TypeError, OSError) as error:
            raise DataplaneError(f"{self._path} cannot be read ({error}): remove it and start dp again.") from error

    def save(self, record: DataplaneRecord) -> None:
        """Replaces the record whole: whenever the writer is killed, the old or the new one is there."""
        _files.replace_json(self._path, _stored.content(record, VERSION))

    def remove(self) -> None:
        """Forgets the record: nothing of ours is left in dp."""
        _files.remove(self._path)

    def _sweep(self) -> None:
        """Removes the records of processes that have ended, and what a killed writer left."""
        for path in glob.glob(os.path.join(glob.escape(self._root), "neuvector-*")):
            pid, unused, started = os.path.basename(path)[len("neuvector-"):].partition(".")[0].partition("-")
            if not (pid.isdigit() and started.isdigit() and Process(int(pid), int(started)).alive()):
                _files.remove(path)
