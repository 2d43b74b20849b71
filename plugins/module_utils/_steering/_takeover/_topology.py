# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The topology takeover: the container's interface moves into the dataplane's namespace, and a stand-in replaces it.

    before     container [eth0] ──── network
    after      container [eth0'] ─ vin ┄ filters, engine ┄ vex ──── network

vex is the interface itself, so its other end stays as it is, whatever its kind. eth0' is the stand-in: a veth with the interface's
name, index, MAC and configuration. If a task is killed at any step, the places of the links show how far it came. The stand-in is made,
as `spare` beside vin, before the interface leaves, and moves back there before the interface returns. So as long as the interface is in
the dataplane's namespace the stand-in exists, unless a runtime deleted it at the container's end (or the container's end did).
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
    """The takeover of one interface, and its return. container_fd is the container's namespace, None when the container is gone.

    save writes the record to disk. The caller holds the journal's lock and sets record.status.
    """

    def __init__(self, record: SteeringRecord, container_fd: int | None, dataplane: Dataplane, save: t.Callable[[SteeringRecord], None]) -> None:
        self.record = record
        self.container_fd = container_fd
        self.dataplane = dataplane
        self.save = save
        # Names of at most 15 characters that no other record has: a saved record that has no links yet must keep its names.
        slot = hashlib.sha256(record.key.encode("utf-8", "surrogateescape")).hexdigest()[:10]
        self.vex, self.vin, self.spare = f"vex{slot}", f"vin{slot}", f"vnw{slot}"
        self._filters = TakeoverFilters(record, dataplane, self.vex, self.vin)

    def refusal(self) -> str | None:
        """Return one sentence with the reason why the interface cannot be taken over, and the remedy; None when it can."""
        reason = self._reason()
        return f"{self.record.where()} cannot be taken over: {reason}." if reason else None

    def apply(self) -> None:
        """Take the interface over, from any half-done state. If it is taken over already, set the filters of its options. Raise SteeringError.

        Where the interface cannot be taken over, everything is restored first.
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
        """Restore everything, from any state. Do nothing when nothing is left to restore. Raise SteeringError."""
        with self._namespaces() as (container, plane):
            failed = self._give_back(container, plane)
        if failed:
            raise SteeringError(f"{self.record.where()} is back, but {'; '.join(failed)}.")
        if self.record.takeover is not None:
            self.record.takeover = None
            self.save(self.record)

    def bypass(self) -> None:
        """Remove the steering filters. The remaining filters forward around the engine."""
        self._filters.bypass()

    def resume(self) -> None:
        """Add the missing steering filters again. Raise SteeringError."""
        with Netlink(self.dataplane.fd) as plane:
            self._filters.set(plane)

    def steered(self) -> bool:
        """Return whether the interface is taken over with exactly the expected filters."""
        with self._namespaces() as (container, plane):
            if not self._standing(container, plane):
                return False
            return self._filters.complete(plane)

    def filters(self) -> list[dict[str, t.Any]]:
        """Return the collection's filters as the kernel has them, in the form that modules return."""
        return self._filters.present()

    def planned(self, bypassed: bool = False) -> list[dict[str, t.Any]]:
        """Return the filters that apply would add, or those that a bypass would leave."""
        return self._filters.planned(bypassed)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return the packets sent to the engine and returned by it, out of the container and into it, since the filters were added."""
        return self._filters.counters()

    def warnings(self) -> list[str]:
        """Return no warnings: this topology refuses all that it cannot do."""
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
                return _refusal.kernel(record.mode, record.ipv6, record.drop)
            reason = _refusal.interface(container, record.interface, self.dataplane.mtu) if container else None
            if reason:
                return reason
            if record.mode == "tag" and not record.tag:
                return "mode tag needs a tag, and the record has none"
            if self._filters.taken(plane):
                return f"another interface with the MAC {record.mac} is steered by {self.dataplane.name}: use another dataplane_netns"
        return _refusal.kernel(record.mode, record.ipv6, record.drop)

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
        # From here the container is off the network. The carrier takes longest, so vex goes up first.
        _move(container, link.index, self.dataplane.fd, self.vex, _other_than(link.link, max(other.index for other in links.values()) + 1))
        self._quiet(self.vex)
        vex = plane.links()[self.vex]
        # vex does not know the container's multicast groups: a macvlan or a NIC passes them on in this mode only.
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
                if link is not None and (link.kind, link.link) == (saved.kind, saved.link):  # else a runtime made a new one
                    failed = _snapshot.give(container, self._fd(), link.index, saved.snapshot)
        if vin is not None:
            plane.delete_link(vin.index)  # the stand-in is deleted with it, wherever it is
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
        """Return the other end of vin if it is in the container, else None."""
        if container is None or vin is None or vin.netnsid is None or vin.netnsid != plane.nsid(self._fd()):
            return None
        return container.link(vin.link) if vin.link else None

    def _refresh(self, container: Netlink, stand_in: Link, saved: TakenOver) -> None:
        """Save the configuration of a complete stand-in, so that the container keeps its changes there (a lease, a route)."""
        if saved.complete:
            saved.snapshot = {**_snapshot.take(container, self._fd(), stand_in), "name": self.record.interface}
            saved.complete = False
            self.save(self.record)

    def _dispose(self, plane: Netlink, vex: Link) -> None:
        """Treat an orphan as the kernel treats the links of a namespace that ends: move hardware to the host, delete any other link."""
        if vex.kind is not None:
            plane.delete_link(vex.index)
            return
        with _netns.host() as host:
            with Netlink(host) as netlink:
                name = "dev%d" if netlink.link(self.record.interface) else self.record.interface
            _move(plane, vex.index, host, name)

    def _quiet(self, name: str) -> None:
        """Disable IPv6 on a link, which would announce an address of its own to the network. The namespace's default should do so already."""
        with _netns.entered(self.dataplane.fd):
            if _sysctl.read(name).get("ipv6/conf", {}).get("disable_ipv6") == "0":
                failed = _sysctl.put(name, "ipv6/conf", "disable_ipv6", "1")
                if failed:
                    raise SteeringError(failed)

    def _standing(self, container: Netlink | None, plane: Netlink) -> bool:
        """Return whether the interface is taken over completely, with the stand-in in its place."""
        links = plane.links()
        complete = self.record.takeover is not None and self.record.takeover.complete
        return complete and self.vex in links and self._stand_in(container, plane, links.get(self.vin)) is not None


def _other_than(avoided: int | None, index: int) -> int:
    """Return an index for a veth's end that differs from its other end's. If both are equal, the kernel may report the carrier a second later."""
    return index + 1 if index == avoided else index


def _move(netlink: Netlink, index: int, fd: int, name: str, wanted: int | None = None) -> None:
    """Move a link of netlink's namespace to that of fd, down and under another name, if possible with the index wanted. Raise NetlinkError.

    Linux sets the index since 5.13 (IFLA_NEW_IFINDEX). Older kernels ignore it and keep the link's index unless it is taken.
    """
    where = [attribute(rt.IFLA_NET_NS_FD, fd), attribute(rt.IFLA_IFNAME, name)]
    try:
        netlink.set_link(index, *where, *([attribute(rt.IFLA_NEW_IFINDEX, wanted)] if wanted else []))
    except NetlinkError as error:
        if wanted is None or error.errno not in (errno.EBUSY, errno.EEXIST):
            raise
        netlink.set_link(index, *where)
