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
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import Link, attribute
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._tc import ETH_P_ALL
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord, TakenOver
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover import _refusal, _snapshot, _sysctl, _u32
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover._filters import TakeoverFilters
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns


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
        self._filters = TakeoverFilters(record, dataplane, self.vex, self.vin)

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
                self._filters.set(plane)
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
            except NettapError as second:
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
        """Takes the steering filters away; those that stay forward past the engine."""
        self._filters.bypass()

    def resume(self) -> None:
        """Puts back the steering filters that are missing. Raises SteeringError."""
        with Netlink(self.dataplane.fd) as plane:
            self._filters.set(plane)

    def steered(self) -> bool:
        """Whether the interface is taken over and exactly the filters that belong there are there."""
        with self._namespaces() as (container, plane):
            if not self._standing(container, plane):
                return False
            return self._filters.complete(plane)

    def filters(self) -> list[dict[str, t.Any]]:
        """Our filters as the kernel has them, as modules return them."""
        return self._filters.present()

    def planned(self, bypassed: bool = False) -> list[dict[str, t.Any]]:
        """The filters that apply would put in, or those that a bypass would leave."""
        return self._filters.planned(bypassed)

    def counters(self) -> dict[str, dict[str, int]]:
        """Packets sent to the engine and come back from it, out of the container and into it, since the filters are there."""
        return self._filters.counters()

    def warnings(self) -> list[str]:
        """There is nothing to warn of: what is not possible is refused."""
        return []

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
        with _netns.host() as host:
            own = (os.fstat(host).st_ino, os.fstat(self.dataplane.fd).st_ino)
        if inode in own:
            return "its network namespace is the host's or the dataplane's own, which is never steered"
        with self._namespaces() as (container, plane):
            if self._standing(container, plane):
                return _refusal.kernel(record.mode, record.ipv6)
            reason = _refusal.interface(container, record.interface, self.dataplane.mtu) if container else None
            if reason:
                return reason
            if record.mode == "tag" and not record.tag:
                return "mode tag needs a tag, and the record has none"
            if self._filters.taken(plane):
                return f"another interface with the MAC {record.mac} is steered by {self.dataplane.name}: use another dataplane_netns"
        return _refusal.kernel(record.mode, record.ipv6)

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
        self._filters.set(plane)
        failed = _snapshot.give(container, self._fd(), container.links()[record.interface].index, snapshot)
        if failed:
            raise SteeringError("; ".join(failed))
        record.takeover.complete = True
        self.save(record)

    def _give_back(self, container: Netlink | None, plane: Netlink) -> list[str]:
        saved = self.record.takeover
        links = plane.links()
        vex, vin, spare = links.get(self.vex), links.get(self.vin), links.get(self.spare)
        ours = self._filters.own(plane, links)
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
        with _netns.host() as host:
            with Netlink(host) as netlink:
                name = "dev%d" if netlink.link(self.record.interface) else self.record.interface
            _move(plane, vex.index, host, name)

    def _quiet(self, name: str) -> None:
        """Without IPv6, which would greet the network with an address of its own (the namespace's default should say so)."""
        with _netns.entered(self.dataplane.fd):
            if _sysctl.read(name).get("ipv6/conf", {}).get("disable_ipv6") == "0":
                failed = _sysctl.put(name, "ipv6/conf", "disable_ipv6", "1")
                if failed:
                    raise SteeringError(failed)

    def _standing(self, container: Netlink | None, plane: Netlink) -> bool:
        """Whether the interface is taken over, and the stand-in is in its place."""
        links = plane.links()
        complete = self.record.takeover is not None and self.record.takeover.complete
        return complete and self.vex in links and self._stand_in(container, plane, links.get(self.vin)) is not None


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
