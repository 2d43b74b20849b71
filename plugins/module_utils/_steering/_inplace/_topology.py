# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steering in place: BPF filters on the host's end of a container's veth or netkit. Nothing in the container changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls
from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane
from ansible_collections.nettap.containers.plugins.module_utils._errors import SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace import _programs
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._filters import OWN, Filter, Filters
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord

_MAP_ENTRIES = 65536
# Pref of the collection's filters on the service links, which have no other filters.
_SERVICE_PREF = 1
_DEFAULT_QUEUE = 1000  # DEFAULT_TX_QUEUE_LEN of linux/netdevice.h, in packets


class InPlace:
    """The steering of one record in place. host gives access to the filters of the host's namespace."""

    def __init__(self, record: SteeringRecord, dataplane: Dataplane | None, host: Filters, save: t.Callable[[SteeringRecord], None]) -> None:
        self._record = record
        self._dataplane = dataplane
        self._host = host
        self._save = save
        self._peer = record.peer_ifindex or 0

    def refusal(self) -> str | None:
        """Return why this interface cannot be steered in place, and the remedy; None when it can. Raise SteeringError."""
        record, dataplane = self._record, self._dataplane
        if not record.peer:
            return f"{record.where()} has no peer on the host (it is no veth or netkit, or its other end is elsewhere): use topology: takeover."
        if self._host.qdisc(self._peer) == "ingress":
            return (f"{record.peer}, the host's end of {record.where()}, has somebody's ingress qdisc, beside which no clsact can be: "
                    "remove it, or use topology: takeover.")
        # Programs of the netkit's own end run after the collection's filters.
        for kind, name, where in ((_calls.TCX_INGRESS, "tcx", "ingress"), (_calls.TCX_EGRESS, "tcx", "egress"), (_calls.NETKIT_PEER, "netkit", "peer")):
            programs = _calls.attached(self._peer, kind)
            if programs is None:
                return f"{record.peer} is the second end of a netkit pair, which does not tell what programs the first has: use topology: takeover."
            if programs:
                return (f"{record.peer}, the host's end of {record.where()}, has {name} programs ({where}, IDs {', '.join(map(str, programs))}), which go "
                        "before any filter and can hide traffic from it (Cilium?): use topology: takeover, or that network's own steering.")
        if dataplane is not None and record.mtu > dataplane.mtu:
            return (f"{record.where()} has an MTU of {record.mtu}, more than the {dataplane.mtu} of the dataplane {dataplane.name}'s service links: "
                    "make the dataplane anew with a larger mtu.")
        return None

    def warnings(self) -> list[str]:
        """Return a warning for each filter of another program that sees the container's packets before the collection's filters do."""
        pref = self._pref()
        return [f"{record_link}: somebody's {one.kind} filter at pref {one.pref} ({one.direction}) goes before ours: what it redirects or drops is not "
                "inspected, and what is inspected passes it twice."
                for record_link in [self._record.peer] for one in self._host.list(self._peer) if not one.own and one.pref < pref]

    def apply(self) -> None:
        """Add the filters, from any state, and read them back. Raise SteeringError."""
        dataplane = self._needed()
        record = self._record
        if record.clsact is None:
            record.clsact = self._host.qdisc(self._peer) == "clsact" and not self._own()
            record.unqueued = self._host.queue_length(self._peer) == 0
            self._save(record)
        with contextlib.closing(_ReturnPath(dataplane, self._host)) as way:
            way.add(record)
            self._put_in(way)

    def restore(self) -> None:
        """Remove everything again, from any state. The container and its links may be gone. Raise SteeringError."""
        self.bypass()
        if self._there() and self._record.clsact is False and all(one.own for one in self._host.list(self._peer)):
            if self._host.qdisc(self._peer) == "clsact":
                self._host.remove_clsact(self._peer)
            # With the first qdisc, the kernel sets a queue length for a link that has none (net/sched/sch_api.c), and never resets it.
            if self._record.unqueued and self._host.queue_length(self._peer) == _DEFAULT_QUEUE:
                self._host.set_queue_length(self._peer, 0)
        if self._dataplane is not None:
            _ReturnPath.forget(self._dataplane, self._host, self._record)

    def bypass(self) -> None:
        """Remove the two filters, so that traffic takes its original path. Raise SteeringError."""
        self._host.delete(self._own())

    def resume(self) -> None:
        """Add the two filters again where they are missing. Raise SteeringError."""
        with contextlib.closing(_ReturnPath(self._needed(), self._host)) as way:
            self._put_in(way)

    def redirecting(self) -> list[Filter]:
        """Return the filters that a bypass removes. Raise SteeringError."""
        return self._own()

    def steered(self) -> bool:
        """Return whether the link has exactly the expected filters. Raise SteeringError."""
        return sorted(self._own_names()) == sorted(name for _direction, name, _code in self._expected(0))

    def filters(self) -> list[dict[str, t.Any]]:
        """Return the collection's filters as the kernel shows them. Raise SteeringError."""
        return [_describe(self._record, one.direction, one.pref, one.name) for one in self._own()]

    def planned(self, bypassed: bool = False) -> list[dict[str, t.Any]]:
        """Return the filters that apply would add. Return none for a bypass, which leaves none. Raise SteeringError."""
        pref = self._pref()
        return [] if bypassed else [_describe(self._record, direction, pref, name) for direction, name, _code in self._expected(0)]

    def counters(self) -> dict[str, t.Any]:
        """Return the packets sent to the engine and returned by it in each direction, and those refused; {} where the map has no element."""
        if self._dataplane is None:
            return {}
        element = _ReturnPath.element(self._dataplane, self._host, self._record)
        if element is None:
            return {}
        return {
            "out": {"sent": element.out_sent, "returned": element.out_returned},
            "in": {"sent": element.in_sent, "returned": element.in_returned},
            "refused": element.refused,
        }

    def _put_in(self, way: _ReturnPath) -> None:
        there = {one.direction: one.name for one in self._own()}
        wanted = self._expected(way.map_fd)
        if self._host.qdisc(self._peer) is None:
            self._host.add_clsact(self._peer)
        stale = [one for one in self._own() if one.name not in [name for _direction, name, _code in wanted]]
        self._host.delete(stale)
        pref = self._pref()
        for direction, name, code in wanted:
            if there.get(direction) != name:
                program = _calls.load(code, direction)
                try:
                    self._host.add(self._peer, direction, pref, program, name)
                finally:
                    os.close(program)
        if not self.steered():
            raise SteeringError(f"The kernel does not show the filters that were just added to {self._record.peer}: {self._own_names()}.")

    def _expected(self, map_fd: int) -> list[tuple[str, str, bytes]]:
        """Return direction, name and code of each filter. The name identifies the code, because the kernel returns it unchanged."""
        dataplane, record = self._needed(), self._record
        found = []
        # Frames from the container enter the engine on the containers' side, frames to it on the network's side.
        for direction, make, link in (("egress", _programs.inbound, dataplane.links[-1]), ("ingress", _programs.outbound, dataplane.links[0])):
            digest = hashlib.sha256(make(0, record.mac, record.tag, link.ifindex, record.ipv6, record.drop)).hexdigest()[:12]
            name = f"{OWN}{dataplane.name}:{make.__name__}:{digest}"
            found.append((direction, name, make(map_fd, record.mac, record.tag, link.ifindex, record.ipv6, record.drop)))
        return found

    def _own(self) -> list[Filter]:
        return [one for one in self._host.list(self._peer) if one.own] if self._there() else []

    def _own_names(self) -> list[str]:
        return [one.name for one in self._own()]

    def _pref(self) -> int:
        """Return the first pref that no other filter uses, because a filter before the collection's could lead packets around the engine."""
        others = {one.pref for one in self._host.list(self._peer) if not one.own}
        own = self._own()
        return own[0].pref if own else next(pref for pref in range(1, 0xFFFF) if pref not in others)

    def _there(self) -> bool:
        """Return whether the peer is still that link. The kernel reuses an index only after 2^31 others."""
        return bool(self._peer) and self._host.has_link(self._peer)

    def _needed(self) -> Dataplane:
        if self._dataplane is None:
            raise SteeringError(f"The dataplane that steers {self._record.where()} is gone: run state: absent, then make it anew.")
        return self._dataplane


class _ReturnPath:
    """The return path from the engine: the filters of the service links, and the map in which they find the container."""

    def __init__(self, dataplane: Dataplane, host: Filters) -> None:
        fds = [fd for fd in (self._map(host, link.ifindex) for link in dataplane.links) if fd is not None]
        self.map_fd = fds[0] if fds else _calls.create_map(_programs.KEY_SIZE, _programs.VALUE_SIZE, _MAP_ENTRIES, "nettap")
        for fd in fds[1:]:
            os.close(fd)
        try:
            self._put_in(dataplane, host)
        except BaseException:
            self.close()
            raise

    def _put_in(self, dataplane: Dataplane, host: Filters) -> None:
        """Add the missing filters of the service links. Raise SteeringError."""
        for number, link in enumerate(dataplane.links):
            if host.qdisc(link.ifindex) is None:
                host.add_clsact(link.ifindex)
            if not host.list(link.ifindex):
                code = _programs.returning(self.map_fd, number == 0, number == len(dataplane.links) - 1, dataplane.mode == "tag")
                program = _calls.load(code, "returning")
                try:
                    host.add(link.ifindex, "ingress", _SERVICE_PREF, program, f"{OWN}{dataplane.name}:returning:{link.name}")
                finally:
                    os.close(program)

    def add(self, record: SteeringRecord) -> None:
        """Add a container to the map. An element that is already there keeps its counters. Raise SteeringError."""
        element = _programs.Element(record.peer_ifindex or 0, record.mac)
        before = _calls.lookup(self.map_fd, _key(record), _programs.VALUE_SIZE)
        if before is None or _programs.Element.unpack(before).ifindex != element.ifindex:
            _calls.update(self.map_fd, _key(record), element.pack())

    def close(self) -> None:
        """Close the map's descriptor. The map exists as long as a filter uses it."""
        os.close(self.map_fd)

    @classmethod
    def forget(cls, dataplane: Dataplane, host: Filters, record: SteeringRecord) -> None:
        """Remove a container from the map. Raise SteeringError."""
        map_fd = cls._map(host, dataplane.links[0].ifindex)
        if map_fd is not None:
            try:
                _calls.delete(map_fd, _key(record))
            finally:
                os.close(map_fd)

    @classmethod
    def element(cls, dataplane: Dataplane, host: Filters, record: SteeringRecord) -> _programs.Element | None:
        """Return a container's element of the map, None where there is none. Raise SteeringError."""
        map_fd = cls._map(host, dataplane.links[0].ifindex)
        if map_fd is None:
            return None
        try:
            value = _calls.lookup(map_fd, _key(record), _programs.VALUE_SIZE)
        finally:
            os.close(map_fd)
        return None if value is None else _programs.Element.unpack(value)

    @staticmethod
    def _map(host: Filters, ifindex: int) -> int | None:
        """Return a descriptor of the map that the link's filter uses, None where there is none."""
        for one in host.list(ifindex):
            if one.own and one.program is not None:
                return _calls.map_of_program(one.program)
        return None


def _key(record: SteeringRecord) -> bytes:
    return _programs.key(record.tag or record.mac)


def _describe(record: SteeringRecord, direction: str, pref: int, name: str) -> dict[str, t.Any]:
    return {"link": record.peer, "qdisc": "clsact", "direction": direction, "pref": pref, "kind": "bpf", "name": name}
