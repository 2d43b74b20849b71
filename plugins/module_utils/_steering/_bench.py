# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One open dataplane with the parts that steering needs: its records, its links, the filters of the host."""

from __future__ import annotations

import contextlib
import functools
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _namespace
from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane
from ansible_collections.nettap.containers.plugins.module_utils._errors import MissingError, NettapError, SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._filters import Filters
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._topology import InPlace
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import Journal, SteeringRecord
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover._topology import Takeover
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

# Seconds in which an engine returns the packets that it holds. Suricata took up to 10 ms under load.
_DRAIN = 0.1

Topology = t.Union[InPlace, Takeover]


class Bench:
    """An open dataplane, to use as a context manager. dataplane is None where there is none (any more): then steering can only be undone."""

    dataplane: Dataplane | None
    host: Filters
    host_fd: int

    def __init__(self, name: str) -> None:
        self.name = name
        self.journal = Journal(name)

    def __enter__(self) -> Bench:
        with contextlib.ExitStack() as stack:
            self.host_fd = stack.enter_context(_netns.host())
            self.host = Filters(self.host_fd)
            stack.enter_context(self.host)
            self.dataplane = stack.enter_context(_namespace.opened(self.name))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    @property
    def steering_fd(self) -> int:
        """Return the namespace that holds steering's ends of the service links."""
        return self.dataplane.fd if self.dataplane is not None and self.dataplane.topology == "takeover" else self.host_fd

    @property
    def inode(self) -> int | None:
        """Return the inode number of the dataplane's network namespace, None where there is no dataplane."""
        return self.dataplane.inode if self.dataplane is not None else None

    @contextlib.contextmanager
    def topology(self, record: SteeringRecord) -> t.Iterator[Topology]:
        """Yield the topology object that applies and undoes the steering of a record. Raise SteeringError if the taken interface is gone."""
        if record.topology == "inplace":
            yield InPlace(record, self.dataplane, self.host, self.journal.save)
            return
        if self.dataplane is None:
            raise SteeringError(f"The namespace of the dataplane {self.name} is gone, and with it the interface that {record.where()} had: "
                                "restart the container, then run state: absent once more.")
        namespace = container(record)
        try:
            yield Takeover(record, None if namespace is None else namespace.fd, self.dataplane, self.journal.save)
        finally:
            if namespace is not None:
                namespace.close()

    def gone(self, record: SteeringRecord) -> bool:
        """Return whether the container has ended, so that only leftovers have to be removed."""
        if record.topology == "inplace":
            return not self.host.has_link(record.peer_ifindex or 0)
        namespace = container(record)
        if namespace is not None:
            namespace.close()
        return namespace is None

    def undo(self, records: t.Sequence[SteeringRecord]) -> None:
        """Undo the steering of records from any state, and remove the records. The caller holds the journal's lock.

        If one cannot be undone, it keeps its record, and the others are undone all the same. Raise all errors at the end as one SteeringError.
        """
        failures: dict[str, str] = {}
        for record in records:
            if record.status != "restoring":
                record.status = "restoring"
                with going_on(record, failures):
                    self.journal.save(record)
        if self._divert(records):
            time.sleep(_DRAIN)
        for record in records:
            with going_on(record, failures):
                if record.topology == "inplace" or self.dataplane is not None or not self.gone(record):
                    with self.topology(record) as topology:
                        topology.restore()
                self.journal.remove(record)
                failures.pop(record.key, None)  # it is undone, whatever has failed before
        if failures:
            raise SteeringError(" ".join(dict.fromkeys(failures.values())))

    def stand_aside(self) -> None:
        """Bypass the engine, which is about to be stopped, for all that fails open, and return once it has returned its packets. Raise NettapError.

        The caller holds the journal's lock. The watchdog, which waits for that lock, resumes when the next engine forwards.
        """
        aside = [record for record in self.journal.records() if record.fails_open()]
        for record in aside:
            with self.topology(record) as topology:
                topology.bypass()
        if aside:
            time.sleep(_DRAIN)

    def _divert(self, records: t.Sequence[SteeringRecord]) -> bool:
        """Stop sending packets to the engine; the path of its last packets stays open. Return True where it may hold some."""
        diverted = False
        for record in records:
            with contextlib.suppress(NettapError, OSError):  # restore() does the same again, and reports its error
                if record.topology == "inplace" and not self.gone(record):
                    with self.topology(record) as topology:
                        diverted = diverted or bool(topology.filters())
                        topology.bypass()
        return diverted


@contextlib.contextmanager
def going_on(record: SteeringRecord, failures: dict[str, str]) -> t.Iterator[None]:
    """Record an error of the block as the record's failure (by its key), and go on: an error of one record must not affect another."""
    try:
        yield
    except NettapError as error:
        failures[record.key] = str(error)
    except OSError as error:
        failures[record.key] = f"{record.where()}: {error.strerror or error}."


def container(record: SteeringRecord) -> _netns.Namespace | None:
    """Return the open namespace of a record's container, found by its process, its path, or any other process in it; None if it is gone."""
    for candidate in _candidates(record):
        with contextlib.suppress(MissingError):  # any other error does not mean that the namespace is gone
            namespace = candidate()
            if namespace.inode == record.inode:
                return namespace
            namespace.close()
    return None


def _candidates(record: SteeringRecord) -> t.Iterator[t.Callable[[], _netns.Namespace]]:
    if record.pid is not None and record.process_alive():
        yield functools.partial(_netns.open_process, record.pid)
    elif record.pid is None and _netns.leads_to(record.netns_path, record.inode):
        yield functools.partial(_netns.open_path, record.netns_path)
    # In a pod, the named container may have ended while others go on. Only then all of /proc is searched.
    for pid in _netns.processes(record.inode):
        yield functools.partial(_netns.open_process, pid)
