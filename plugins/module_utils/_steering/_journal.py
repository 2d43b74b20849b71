# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is steered on this host: one record per interface, on disk before the first change is made.

The records are in /run: a reboot ends all steering, and them with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import SteeringError, StorageError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _files, _process, _stored

ROOT = "/run/nettap/steering"
VERSION = 1  # of a record; 0.1.0 wrote none
PATIENCE = 60.0  # seconds to wait for another task or the watchdog


class Busy(SteeringError):
    """Somebody else holds the dataplane."""


@dataclasses.dataclass
class TakenOver:
    """What the takeover needs to give an interface back.

    vex, vin and spare are the names that its links have in the dataplane's namespace. kind, link (index of the other end or
    of the link below) and index are those of the interface before. snapshot is its configuration; complete says that the
    stand-in has all of it, so that what the container changes there is what it gets back.
    """

    vex: str
    vin: str
    spare: str
    kind: str | None
    link: int | None
    index: int
    complete: bool
    snapshot: dict[str, t.Any]


@dataclasses.dataclass
class SteeringRecord:
    """One steered interface of a container.

    status is applying until all is in place and read back, then steered or bypassed; restoring once its end has begun.
    since is when it was put in, deadline when it is undone if nobody confirms (both in seconds since the epoch), None once confirmed.
    peer and peer_ifindex name the host's end of the veth, where there is one. clsact says whether the peer had a clsact
    before us (None while that is not known and nothing is changed), unqueued whether its txqlen was 0. addresses are those of the
    interface, with prefix length. tag is the MAC that stands for the container's in tag mode. takeover holds what that topology
    needs to give everything back.
    """

    runtime: str
    id: str
    name: str
    pid: int | None
    started: int | None
    netns_path: str
    inode: int
    interface: str
    ifindex: int
    mac: str
    mtu: int
    topology: str
    mode: str
    ipv6: str
    fail_mode: str
    status: str = "applying"
    since: float = dataclasses.field(default_factory=time.time)
    deadline: float | None = None
    tag: str | None = None
    peer: str | None = None
    peer_ifindex: int | None = None
    clsact: bool | None = None
    unqueued: bool = False
    addresses: list[str] = dataclasses.field(default_factory=list)
    takeover: TakenOver | None = None

    @classmethod
    def of(cls, stored: t.Any) -> SteeringRecord:
        """Return the record that this release or an older one stored. Raises ValueError."""
        values = _stored.known(cls, stored, VERSION)
        if values.get("takeover") is not None:
            values["takeover"] = TakenOver(**_stored.known(TakenOver, values["takeover"]))
        return cls(**values)

    def stored(self) -> dict[str, t.Any]:
        """Return what of() reads."""
        return _stored.content(self, VERSION)

    @property
    def key(self) -> str:
        """Name of its file; the interface's name may hold anything but a slash (and is no . or ..)."""
        return f"{self.inode}-{self.interface}"

    def where(self) -> str:
        """The interface as messages name it."""
        return f"{self.interface} of {self.name}"

    def process_alive(self) -> bool:
        """Whether the process through which the namespace was found still runs; true where none is known."""
        return self.pid is None or self.started is None or _process.Process(self.pid, self.started).alive()


class Journal:
    """The records of one dataplane."""

    def __init__(self, dataplane: str, root: str = ROOT) -> None:
        self.path = os.path.join(root, dataplane)

    @contextlib.contextmanager
    def locked(self, patience: float = PATIENCE) -> t.Iterator[None]:
        """Holds the dataplane alone: tasks and its watchdog take turns. Makes the folder (0700). Raises SteeringError after so many seconds."""
        busy = Busy(f"Another task has been steering by {os.path.basename(self.path)} for {patience:.0f} s: wait for it.")
        with _files.held(self.path, patience, busy):
            yield

    def records(self, damaged: dict[str, str] | None = None) -> list[SteeringRecord]:
        """All records, in the order of containers' names.

        Raises SteeringError for a damaged one, or puts what is to be said of it into damaged, by its key. Raises StorageError.
        """
        found = []
        for name in self._files():
            if name.endswith(".json"):
                path = os.path.join(self.path, name)
                try:
                    with open(path, encoding="utf-8") as stream:
                        found.append(SteeringRecord.of(json.load(stream)))
                except FileNotFoundError:
                    continue  # gone since we listed: there is no lock on reading
                except (ValueError, TypeError, OSError) as error:
                    failure = SteeringError(f"{path} cannot be read ({error}): it says how to give a container its interface back; "
                                            "mend it from a copy, or remove it if no container is steered any more.")
                    if damaged is None:
                        raise failure from error
                    damaged[name[: -len(".json")]] = str(failure)
        return sorted(found, key=lambda record: (record.name, record.interface))

    def save(self, record: SteeringRecord) -> None:
        """Replaces a record whole: whenever the writer is killed, the old or the new one is there."""
        _files.replace_json(os.path.join(self.path, record.key + ".json"), record.stored())
        self._sync()

    def remove(self, record: SteeringRecord) -> None:
        """Forgets a record: nothing of it is left in the kernel."""
        _files.remove(os.path.join(self.path, record.key + ".json"))
        self._sync()

    def discard(self) -> None:
        """Removes the folder, with the watchdog's files, once nothing is steered any more."""
        if os.path.isdir(self.path):
            with refused_as(StorageError, f"The folder {self.path} cannot be removed", "look at its mount and its permissions"):
                shutil.rmtree(self.path)
            with contextlib.suppress(OSError):  # other dataplanes
                os.rmdir(os.path.dirname(self.path))

    def _files(self) -> list[str]:
        refusals = refused_as(StorageError, f"The folder {self.path} cannot be read", "look at its mount and its permissions")
        with refusals, contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.path))
        return []

    def _sync(self) -> None:
        with refused_as(StorageError, f"The folder {self.path} cannot be written", "look at its mount and its permissions"):
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
