# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The topology takeover: the container's interface moves into the dataplane's namespace, a stand-in takes its place.

    before     container [eth0] ──── network
    after      container [eth0'] ─ vin ┄ filters, engine ┄ vex ──── network

vex is the very interface (so whatever its kind, its other end stays as it is), eth0' the stand-in: a veth with its name,
index, MAC and configuration. Killed at any step, what is where tells how far it came: the stand-in is made, as `spare`
beside vin, before the interface leaves, and goes back there before the interface returns. So as long as the interface is
with us the stand-in is somewhere, unless an engine deleted it for the container's end (or the container's end did).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink as rt
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import Link, Netlink, NetlinkError, attribute
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord, TakenOver
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover import _refusal, _snapshot, _sysctl, _u32
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover._u32 import ETH_P_ALL, ETH_P_IP, ETH_P_IPV6, Filter, match_mac, write_mac
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

PREF_IPV6, PREF_IP, PREF_ALL = 10000, 10001, 10002  # NeuVector's, and one before them
_PLANNED = (-1, -2)  # stand for the indices that vex and vin will have


class Takeover:
    """Takes one interface over and gives it back. container_fd is its namespace, None when the container is gone.

    save puts the record on disk. The caller holds the journal's lock and sets record.status.
    """

    def __init__(self, record: SteeringRecord, container_fd: int | None, dataplane: Dataplane, save: t.Callable[[SteeringRecord], None]) -> None:
        self.record = record
        self.container_fd = container_fd
        self.dataplane = dataplane
        self.save = save
        # Of 15 characters at most, and of no other record's: one that was saved, but has no links yet, must keep its names.
        slot = hashlib.sha256(record.key.encode("utf-8", "surrogateescape")).hexdigest()[:10]
        self.vex, self.vin, self.spare = f"vex{slot}", f"vin{slot}", f"vnw{slot}"

    def refusal(self) -> str | None:
        """One sentence on why this cannot be taken over and what to do instead; None when it can."""
        reason = self._reason()
        return f"{self.record.where()} cannot be taken over: {reason}." if reason else None

    def apply(self) -> None:
        """Takes over, from any half-done state; what is taken over already gets the filters of its options. Raises SteeringError.

        Where the interface cannot be taken over, all is given back first.
        """
        with self._namespaces() as (container, plane):
            if self._standing(container, plane):
                self._set_filters(plane)
                return
        self.restore()
        refused = self.refusal()
        if refused:
            raise SteeringError(refused)
        try:
            with self._namespaces() as (container, plane):
                if container is not None:
                    self._take_over(container, plane)
        except BaseException as error:
            try:
                self.restore()
            except (NettapError, OSError) as second:
                raise SteeringError(f"{self.record.where()} cannot be taken over ({error}), nor be given back ({second}): run with state absent.") from error
            if isinstance(error, Exception):
                raise SteeringError(f"{self.record.where()} cannot be taken over ({error}); it is as it was before.") from error
            raise

    def restore(self) -> None:
        """Gives everything back, from any state; does nothing when nothing is left. Raises SteeringError."""
        with self._namespaces() as (container, plane):
            failed = self._give_back(container, plane)
        if failed:
            raise SteeringError(f"{self.record.where()} is back, but {'; '.join(failed)}.")
        if self.record.takeover is not None:
            self.record.takeover = None
            self.save(self.record)

    def bypass(self) -> None:
        """Takes the steering filters away; the catch-all below them forwards vex to vin and back."""
        with Netlink(self.dataplane.fd) as plane:
            for link in filter(None, (plane.link(self.vex), plane.link(self.vin))):
                for pref, protocol in ((PREF_IPV6, ETH_P_IPV6), (PREF_IP, ETH_P_IP)):
                    _u32.delete(plane, link.index, pref, protocol)

    def resume(self) -> None:
        """Puts back the steering filters that are missing. Raises SteeringError."""
        with Netlink(self.dataplane.fd) as plane:
            self._set_filters(plane)

    def steered(self) -> bool:
        """Whether the interface is taken over and exactly the filters that belong there are there."""
        with self._namespaces() as (container, plane):
            if not self._standing(container, plane):
                return False
            links = plane.links()
            there = self._own_filters(plane, links)
            wanted = self._wanted(links[self.vex].index, links[self.vin].index)
        return len(there) == len(wanted) and not self._lacking(wanted, there)

    def warnings(self) -> list[str]:
        """There is nothing to warn of: what is not possible is refused."""
        return []

    def filters(self) -> list[dict[str, t.Any]]:
        """Our filters as the kernel has them: link (whose ingress), pref, protocol, matches and actions (see _u32.decode), with dev instead of ifindex."""
        with Netlink(self.dataplane.fd) as plane:
            links = plane.links()
            found = self._own_filters(plane, links)
        return _describe(found, {link.index: link.name for link in links.values()})

    def planned(self, bypassed: bool = False) -> list[dict[str, t.Any]]:
        """The filters that apply would put in, or those that a bypass would leave."""
        names = {service.ifindex: service.name for service in self.dataplane.links}
        vex, vin = _PLANNED
        names.update({vex: self.vex, vin: self.vin})
        filters = self._forwarding(vex, vin) if bypassed else self._wanted(vex, vin)
        return _describe([{"link": names[ifindex], **_u32.described(one)} for ifindex, one in filters], names)

    def counters(self) -> dict[str, dict[str, int]]:
        """Packets sent to the engine and come back from it, out of the container and into it, since the filters are there."""
        with Netlink(self.dataplane.fd) as plane:
            links = plane.links()
            found = self._own_filters(plane, links)
        names = {link.index: link.name for link in links.values()}
        count = {"out": {"sent": 0, "returned": 0}, "in": {"sent": 0, "returned": 0}}
        sent, returned = {self.vin: "out", self.vex: "in"}, {self.vin: "in", self.vex: "out"}
        for one in found:
            target = names.get(_u32.redirected(one) or 0)
            if one["link"] not in sent and target in returned:
                count[returned[target]]["returned"] += one["packets"]
            elif one["link"] in sent and one["pref"] != PREF_ALL:
                count[sent[one["link"]]]["sent"] += one["packets"]
        return count

    @contextlib.contextmanager
    def _namespaces(self) -> t.Iterator[tuple[Netlink | None, Netlink]]:
        with contextlib.ExitStack() as opened:
            container = None if self.container_fd is None else opened.enter_context(Netlink(self.container_fd))
            yield container, opened.enter_context(Netlink(self.dataplane.fd))

    def _reason(self) -> str | None:
        record = self.record
        if self.container_fd is None:
            return "the container is gone"
        inode = os.fstat(self.container_fd).st_ino
        if inode in (os.stat(_netns.host_path()).st_ino, os.fstat(self.dataplane.fd).st_ino):
            return "its network namespace is the host's or the dataplane's own, which is never steered"
        with self._namespaces() as (container, plane):
            if self._standing(container, plane):
                return _refusal.kernel(record.mode, record.ipv6)
            reason = _refusal.interface(container, record.interface, self.dataplane.mtu) if container else None
            if reason:
                return reason
            if record.mode == "tag" and not record.tag:
                return "mode tag needs a tag, and the record has none"
            if self._taken(plane):
                return f"another interface with the MAC {record.mac} is steered by {self.dataplane.name}: use another dataplane_netns"
        return _refusal.kernel(record.mode, record.ipv6)

    def _taken(self, plane: Netlink) -> bool:
        """Whether a service link hands our MAC or tag to somebody else."""
        links = plane.links()
        ours = self._own_filters(plane, links)
        return any(one["matches"] in self._returning() and not any(one["handle"] == k["handle"] and one["pref"] == k["pref"] for k in ours)
                   for link in self.dataplane.links for one in _u32.read(plane, link.ifindex))

    def _take_over(self, container: Netlink, plane: Netlink) -> None:
        record = self.record
        link = container.links()[record.interface]
        snapshot = _snapshot.take(container, self._fd(), link)
        record.takeover = TakenOver(self.vex, self.vin, self.spare, link.kind, link.link, link.index, False, snapshot)
        self.save(record)
        free = max(other.index for other in plane.links().values()) + 1
        queue = attribute(rt.IFLA_TXQLEN, link.txqlen)
        pair = rt.veth(rt.end(self.vin, link.mtu, queue, index=_other_than(link.index, free + 1)),
                       rt.end(self.spare, link.mtu, queue, attribute(rt.IFLA_ADDRESS, rt.mac_bytes(link.mac)), index=free))
        plane.request(rt.RTM_NEWLINK, pair, rt.NLM_F_CREATE | rt.NLM_F_EXCL)
        links = plane.links()
        vin, spare = links[self.vin], links[self.spare]
        for name in (self.vin, self.spare):
            self._quiet(name)
        for index in (vin.index, *(service.ifindex for service in self.dataplane.links)):
            _u32.add_ingress(plane, index)
        plane.set_link(vin.index, flags=rt.IFF_UP, change=rt.IFF_UP)
        # The silence begins. The carrier takes longest: vex goes up first.
        _move(container, link.index, self.dataplane.fd, self.vex, _other_than(link.link, max(other.index for other in links.values()) + 1))
        self._quiet(self.vex)
        vex = plane.links()[self.vex]
        # Groups that the container is in are not known to vex: a macvlan or a NIC passes them on in this mode only.
        plane.set_link(vex.index, flags=rt.IFF_UP | rt.IFF_ALLMULTI, change=rt.IFF_UP | rt.IFF_ALLMULTI)
        _move(plane, spare.index, self._fd(), record.interface, link.index)
        _u32.add_ingress(plane, vex.index)
        self._set_filters(plane)
        failed = _snapshot.give(container, self._fd(), container.links()[record.interface].index, snapshot)
        if failed:
            raise SteeringError("; ".join(failed))
        record.takeover.complete = True
        self.save(record)

    def _give_back(self, container: Netlink | None, plane: Netlink) -> list[str]:
        saved = self.record.takeover
        links = plane.links()
        vex, vin, spare = links.get(self.vex), links.get(self.vin), links.get(self.spare)
        ours = self._own_filters(plane, links)
        stand_in = self._stand_in(container, plane, vin)
        failed: list[str] = []
        if vex is not None and (saved is None or container is None or not (stand_in or spare)):
            self._dispose(plane, vex)
        elif container is not None and saved is not None:
            if vex is not None:
                if stand_in is not None:
                    self._refresh(container, stand_in, saved)
                    _move(container, stand_in.index, self.dataplane.fd, self.spare)
                _move(plane, vex.index, self._fd(), self.record.interface, saved.index)
            if vex is not None or stand_in is None:
                link = container.link(self.record.interface)
                if link is not None and (link.kind, link.link) == (saved.kind, saved.link):  # else an engine made a new one
                    failed = _snapshot.give(container, self._fd(), link.index, saved.snapshot)
        if vin is not None:
            plane.delete_link(vin.index)  # and the stand-in with it, wherever it is
        for one in ours:
            for service in self.dataplane.links:
                if one["link"] == service.name:
                    _u32.delete(plane, service.ifindex, one["pref"], ETH_P_ALL, one["handle"])
        return failed

    def _fd(self) -> int:
        if self.container_fd is None:
            raise SteeringError(f"{self.record.where()} is gone, and its namespace with it.")
        return self.container_fd

    def _stand_in(self, container: Netlink | None, plane: Netlink, vin: Link | None) -> Link | None:
        """The other end of vin, when it is in the container."""
        if container is None or vin is None or vin.netnsid is None or vin.netnsid != plane.nsid(self._fd()):
            return None
        return container.link(vin.link) if vin.link else None

    def _refresh(self, container: Netlink, stand_in: Link, saved: TakenOver) -> None:
        """Keeps what the container changed on a stand-in that was complete (a lease, a route): that is what it gets back."""
        if saved.complete:
            saved.snapshot = {**_snapshot.take(container, self._fd(), stand_in), "name": self.record.interface}
            saved.complete = False
            self.save(self.record)

    def _dispose(self, plane: Netlink, vex: Link) -> None:
        """Does with an orphan what the kernel does with the links of a namespace that ends: only hardware goes to the host."""
        if vex.kind is not None:
            plane.delete_link(vex.index)
            return
        host = os.open(_netns.host_path(), os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Netlink(host) as netlink:
                name = "dev%d" if netlink.link(self.record.interface) else self.record.interface
            _move(plane, vex.index, host, name)
        finally:
            os.close(host)

    def _quiet(self, name: str) -> None:
        """Without IPv6, which would greet the network with an address of its own (the namespace's default should say so)."""
        with _netns.entered(self.dataplane.fd):
            if _sysctl.read(name).get("ipv6/conf", {}).get("disable_ipv6") == "0":
                failed = _sysctl.put(name, "ipv6/conf", "disable_ipv6", "1")
                if failed:
                    raise SteeringError(failed)

    def _steering(self, vex: int, vin: int) -> list[tuple[int, Filter]]:
        """The filters that lead to the engine: (ifindex, filter)."""
        mac, tag = self.record.mac, self.record.tag if self.record.mode == "tag" else None
        found = []
        for pref, protocol in ((PREF_IP, ETH_P_IP), (PREF_IPV6, ETH_P_IPV6))[:1 if self.record.ipv6 == "bypass" else 2]:
            drop = protocol == ETH_P_IPV6 and self.record.ipv6 == "drop"
            for ifindex, where, service in ((vex, _u32.DESTINATION, self.dataplane.links[-1]), (vin, _u32.SOURCE, self.dataplane.links[0])):
                rewrite = write_mac(where, tag) if tag and not drop else ()
                found.append((ifindex, Filter(pref, protocol, match_mac(where, mac, unicast=True), None if drop else service.ifindex, rewrite)))
        return found

    def _returning(self) -> tuple[list[_u32.Word], list[_u32.Word]]:
        """What frames that come back from the engine are known by, into the container and out of it."""
        mac = self.record.tag if self.record.mode == "tag" and self.record.tag else self.record.mac
        return list(match_mac(_u32.DESTINATION, mac)), list(match_mac(_u32.SOURCE, mac))

    def _forwarding(self, vex: int, vin: int) -> list[tuple[int, Filter]]:
        """The filters on the way back from the engine, and past it: (ifindex, filter)."""
        tag = self.record.mode == "tag"
        into, out = self._returning()
        return [
            (vex, Filter(PREF_ALL, ETH_P_ALL, (), vin)), (vin, Filter(PREF_ALL, ETH_P_ALL, (), vex)),
            (self.dataplane.links[0].ifindex, Filter(PREF_IP, ETH_P_ALL, tuple(into), vin, write_mac(_u32.DESTINATION, self.record.mac) if tag else ())),
            (self.dataplane.links[-1].ifindex, Filter(PREF_IP, ETH_P_ALL, tuple(out), vex, write_mac(_u32.SOURCE, self.record.mac) if tag else ())),
        ]

    def _wanted(self, vex: int, vin: int) -> list[tuple[int, Filter]]:
        """All filters: (ifindex, filter)."""
        return [*self._forwarding(vex, vin), *self._steering(vex, vin)]

    def _set_filters(self, plane: Netlink) -> None:
        """Adds what is not there, removes what belongs there no more, and reads all back. Raises SteeringError."""
        links = plane.links()
        vex, vin = links.get(self.vex), links.get(self.vin)
        if vex is None or vin is None:
            raise SteeringError(f"{self.record.where()} is not taken over: {self.dataplane.name} has no {self.vin if vex else self.vex}.")
        wanted = self._wanted(vex.index, vin.index)
        for ifindex, one in self._lacking(wanted, self._own_filters(plane, links)):
            try:
                _u32.add(plane, ifindex, one)
            except NetlinkError as error:
                raise SteeringError(f"The kernel does not take a filter for {self.record.where()}: {error}.") from error
        there = self._own_filters(plane, links)
        lacking = self._lacking(wanted, there)
        if lacking:
            raise SteeringError(f"The kernel does not show the filter {lacking[0][1]} that it took for {self.record.where()}.")
        for found in there:  # last, so that no packet goes past the engine meanwhile
            if not any(ifindex == found["ifindex"] and one.same(found) for ifindex, one in wanted):
                _u32.delete(plane, found["ifindex"], found["pref"], _u32.number_of(found["protocol"]), found["handle"])

    @staticmethod
    def _lacking(wanted: list[tuple[int, Filter]], there: list[dict[str, t.Any]]) -> list[tuple[int, Filter]]:
        return [(ifindex, one) for ifindex, one in wanted if not any(ifindex == found["ifindex"] and one.same(found) for found in there)]

    def _standing(self, container: Netlink | None, plane: Netlink) -> bool:
        """Whether the interface is taken over, and the stand-in is in its place."""
        links = plane.links()
        complete = self.record.takeover is not None and self.record.takeover.complete
        return complete and self.vex in links and self._stand_in(container, plane, links.get(self.vin)) is not None

    def _own_filters(self, plane: Netlink, links: dict[str, Link]) -> list[dict[str, t.Any]]:
        """Our filters, with link and ifindex: all on vex and vin, of those on the service links the ones that lead to ours or to a link that is gone."""
        ours = [links[name] for name in (self.vex, self.vin) if name in links]
        targets = {0, *(link.index for link in ours)}
        found = [{"link": link.name, "ifindex": link.index, **one} for link in ours for one in _u32.read(plane, link.index)]
        for service in dict.fromkeys((link.name, link.ifindex) for link in self.dataplane.links):
            found += [{"link": service[0], "ifindex": service[1], **one} for one in _u32.read(plane, service[1])
                      if one["matches"] in self._returning() and _u32.redirected(one) in targets]
        return found


def _describe(filters: list[dict[str, t.Any]], names: dict[int, str]) -> list[dict[str, t.Any]]:
    """Filters as modules return them, without what counts or is the kernel's own choice; names are those of links by index."""
    described = []
    for one in filters:
        actions = []
        for action in one["actions"]:
            action = dict(action)
            if "ifindex" in action:
                action["dev"] = names.get(action.pop("ifindex"))
            actions.append(action)
        described.append({"link": one["link"], "qdisc": "ingress", "direction": "ingress", "pref": one["pref"], "kind": "u32", "protocol": one["protocol"],
                          "matches": [list(word) for word in one["matches"]], "actions": actions})
    return sorted(described, key=lambda one: (one["link"], one["pref"], str(one["protocol"]), one["matches"]))


def _other_than(avoided: int | None, index: int) -> int:
    """An index for a veth's end that is not its other end's: where both are the same the kernel may report carrier a second later."""
    return index + 1 if index == avoided else index


def _move(netlink: Netlink, index: int, fd: int, name: str, wanted: int | None = None) -> None:
    """Moves a link of netlink's namespace to that of fd, down and under another name, if possible with the index wanted.

    Since Linux 5.13 (IFLA_NEW_IFINDEX); older kernels ignore it and keep the index unless it is taken.
    """
    where = [attribute(rt.IFLA_NET_NS_FD, fd), attribute(rt.IFLA_IFNAME, name)]
    try:
        netlink.set_link(index, *where, *([attribute(rt.IFLA_NEW_IFINDEX, wanted)] if wanted else []))
    except NetlinkError as error:
        if wanted is None or error.errno not in (errno.EBUSY, errno.EEXIST):
            raise
        netlink.set_link(index, *where)
