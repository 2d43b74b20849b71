# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of steering on this host: one record for each steered interface, on disk before the first change is made.

The records are in /run: a reboot ends all steering, and removes the records with it.
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
VERSION = 1  # of a record's format; release 0.1.0 wrote no records
PATIENCE = 60.0  # seconds to wait for another task or the watchdog


class Busy(SteeringError):
    """Another task or the watchdog holds the dataplane's lock."""


@dataclasses.dataclass
class TakenOver:
    """The data that the takeover needs to give an interface back.

    vex, vin and spare are the names of the interface's links in the dataplane's namespace. kind, link (index of the other end or
    of the link below) and index are the interface's own before the takeover. snapshot is its configuration. complete says that
    the stand-in has all of that configuration, so that the container gets back its later changes there too.
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

    status is applying until all is in place and read back, then steered or bypassed. It is restoring once the end of the steering has begun.
    since is the time at which steering began. deadline is the time at which the watchdog undoes it if it is not confirmed, None once it is
    confirmed. Both are seconds since the epoch.
    peer and peer_ifindex name the host's end of the veth, where there is one. clsact says whether the peer had a clsact
    before steering (None while that is not known and nothing is changed), unqueued whether the peer's txqlen was 0. addresses are those of
    the interface, with prefix length. tag is the MAC that replaces the container's in tag mode. takeover holds the data that the topology
    takeover needs to give everything back. drop names IPv4 packets that are dropped instead of steered. engine_socket is the path of dp's
    control socket, if it was given.
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
    drop: list[str] = dataclasses.field(default_factory=list)
    engine_socket: str | None = None

    @classmethod
    def of(cls, stored: t.Any) -> SteeringRecord:
        """Return the record that this release or an older one stored. Raise ValueError for any other content."""
        values = _stored.known(cls, stored, VERSION)
        if values.get("takeover") is not None:
            values["takeover"] = TakenOver(**_stored.known(TakenOver, values["takeover"]))
        return cls(**values)

    def stored(self) -> dict[str, t.Any]:
        """Return the content of the record's file, which of() reads."""
        return _stored.content(self, VERSION)

    @property
    def key(self) -> str:
        """Return the name of the record's file. The interface's name may hold any character but a slash (and is neither . nor ..)."""
        return f"{self.inode}-{self.interface}"

    def where(self) -> str:
        """Return the interface's name for messages."""
        return f"{self.interface} of {self.name}"

    def fails_open(self) -> bool:
        """Return whether traffic goes through the engine, and past it while it is dead."""
        return self.status == "steered" and self.fail_mode == "open"

    def process_alive(self) -> bool:
        """Return whether the process through which the namespace was found still runs; True where no process is known."""
        return self.pid is None or self.started is None or _process.Process(self.pid, self.started).alive()


class Journal:
    """The records of one dataplane."""

    def __init__(self, dataplane: str, root: str = ROOT) -> None:
        self.path = os.path.join(root, dataplane)

    @contextlib.contextmanager
    def locked(self, patience: float = PATIENCE) -> t.Iterator[None]:
        """Hold the dataplane's lock, for which tasks and the watchdog take turns. Make the folder (0700).

        Raise Busy, a SteeringError, if the lock is not free after patience seconds, or StorageError.
        """
        busy = Busy(f"Another task has been steering by {os.path.basename(self.path)} for {patience:.0f} s: wait for it.")
        with _files.held(self.path, patience, busy):
            yield

    def records(self, damaged: dict[str, str] | None = None) -> list[SteeringRecord]:
        """Return all records, in the order of the containers' names.

        Raise SteeringError for a damaged record, or put the error sentence into damaged, by the record's key, if that is given.
        Raise StorageError if the folder cannot be read.
        """
        found = []
        for name in self._files():
            if name.endswith(".json"):
                path = os.path.join(self.path, name)
                try:
                    with open(path, encoding="utf-8") as stream:
                        found.append(SteeringRecord.of(json.load(stream)))
                except FileNotFoundError:
                    continue  # gone since the folder was listed: reading takes no lock
                except (ValueError, TypeError, OSError) as error:
                    failure = SteeringError(f"{path} cannot be read ({error}): it says how to give a container its interface back; "
                                            "mend it from a copy, or remove it if no container is steered any more.")
                    if damaged is None:
                        raise failure from error
                    damaged[name[: -len(".json")]] = str(failure)
        return sorted(found, key=lambda record: (record.name, record.interface))

    def save(self, record: SteeringRecord) -> None:
        """Replace a record's file atomically: whenever the writer is killed, the old or the new one is there. Raise StorageError."""
        _files.replace_json(os.path.join(self.path, record.key + ".json"), record.stored())
        self._sync()

    def remove(self, record: SteeringRecord) -> None:
        """Remove the record of an interface whose steering has left nothing in the kernel. Raise StorageError."""
        _files.remove(os.path.join(self.path, record.key + ".json"))
        self._sync()

    def discard(self) -> None:
        """Remove the folder, with the watchdog's files, once nothing is steered any more. Raise StorageError."""
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
