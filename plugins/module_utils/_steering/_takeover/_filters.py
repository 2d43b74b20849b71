# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of an interface that is taken over: they lead its traffic through the engine, or around it.

Those of vex and vin send matching frames to a service link, and all other frames to each other. Those of the service links forward
the frames that come back from the engine.
"""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane
from ansible_collections.nettap.containers.plugins.module_utils._errors import SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import Link
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._tc import ETH_P_ALL, ETH_P_IP, ETH_P_IPV6
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover import _u32
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover._u32 import Filter, match_mac, write_mac

PREF_IPV6, PREF_IP, PREF_ALL = 10000, 10001, 10002  # NeuVector's, and one before them
PREF_LINK_LOCAL, PREF_RULED = 9998, 9999  # for IPv4 that is dropped: link-local addresses, then what remains beside these protocols
_RULED = (1, 6, 17)  # ICMP, TCP, UDP
_PLANNED = (-1, -2)  # placeholders for the future indices of vex and vin


class TakeoverFilters:
    """The filters of one interface, in the dataplane's namespace. vex and vin are the names of its links there."""

    def __init__(self, record: SteeringRecord, dataplane: Dataplane, vex: str, vin: str) -> None:
        self.record = record
        self.dataplane = dataplane
        self.vex = vex
        self.vin = vin

    def bypass(self) -> None:
        """Remove the steering filters. The catch-all filters below them forward vex to vin and back."""
        with Netlink(self.dataplane.fd) as plane:
            for link in filter(None, (plane.link(self.vex), plane.link(self.vin))):
                for pref, protocol in ((PREF_IPV6, ETH_P_IPV6), *((pref, ETH_P_IP) for pref in (PREF_LINK_LOCAL, PREF_RULED, PREF_IP))):
                    _u32.delete(plane, link.index, pref, protocol)

    def set(self, plane: Netlink) -> None:
        """Add missing filters, remove those that are not wanted any more, and read all back. Raise SteeringError."""
        links = plane.links()
        vex, vin = links.get(self.vex), links.get(self.vin)
        if vex is None or vin is None:
            raise SteeringError(f"{self.record.where()} is not taken over: {self.dataplane.name} has no {self.vin if vex else self.vex}.")
        wanted = self._wanted(vex.index, vin.index)
        for ifindex, one in self._lacking(wanted, self.own(plane, links)):
            try:
                _u32.add(plane, ifindex, one)
            except NetlinkError as error:
                raise SteeringError(f"The kernel does not take a filter for {self.record.where()}: {error.strerror}.") from error
        there = self.own(plane, links)
        lacking = self._lacking(wanted, there)
        if lacking:
            raise SteeringError(f"The kernel does not show the filter {lacking[0][1]} that it took for {self.record.where()}.")
        for found in there:  # last, so that no packet evades the engine meanwhile
            if not any(ifindex == found["ifindex"] and one.same(found) for ifindex, one in wanted):
                _u32.delete(plane, found["ifindex"], found["pref"], _u32.number_of(found["protocol"]), found["handle"])

    def complete(self, plane: Netlink) -> bool:
        """Return whether exactly the expected filters are there. vex and vin must exist."""
        links = plane.links()
        there = self.own(plane, links)
        wanted = self._wanted(links[self.vex].index, links[self.vin].index)
        return len(there) == len(wanted) and not self._lacking(wanted, there)

    def present(self) -> list[dict[str, t.Any]]:
        """Return the collection's filters as the kernel has them.

        Each has link (whose ingress it is on), pref, protocol, matches and actions (see _u32.decode), with dev in place of ifindex.
        """
        with Netlink(self.dataplane.fd) as plane:
            links = plane.links()
            found = self.own(plane, links)
        return _describe(found, {link.index: link.name for link in links.values()})

    def planned(self, bypassed: bool = False) -> list[dict[str, t.Any]]:
        """Return the filters that set would add, or those that a bypass would leave."""
        names = {service.ifindex: service.name for service in self.dataplane.links}
        vex, vin = _PLANNED
        names.update({vex: self.vex, vin: self.vin})
        filters = self._forwarding(vex, vin) if bypassed else self._wanted(vex, vin)
        return _describe([{"link": names[ifindex], **_u32.described(one)} for ifindex, one in filters], names)

    def counters(self) -> dict[str, dict[str, int]]:
        """Count the packets sent to the engine and returned by it, out of the container and into it, since the filters were added."""
        with Netlink(self.dataplane.fd) as plane:
            links = plane.links()
            found = self.own(plane, links)
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

    def taken(self, plane: Netlink) -> bool:
        """Return whether a service link leads this interface's MAC or tag to another interface."""
        links = plane.links()
        ours = self.own(plane, links)
        return any(one["matches"] in self._returning() and not any(one["handle"] == k["handle"] and one["pref"] == k["pref"] for k in ours)
                   for link in self.dataplane.links for one in _u32.read(plane, link.ifindex))

    def own(self, plane: Netlink, links: dict[str, Link]) -> list[dict[str, t.Any]]:
        """Return this interface's filters, with link and ifindex.

        They are all filters on vex and vin, and those on the service links that lead to vex, to vin or to a link that is gone.
        """
        ours = [links[name] for name in (self.vex, self.vin) if name in links]
        targets = {0, *(link.index for link in ours)}
        found = [{"link": link.name, "ifindex": link.index, **one} for link in ours for one in _u32.read(plane, link.index)]
        for service in dict.fromkeys((link.name, link.ifindex) for link in self.dataplane.links):
            found += [{"link": service[0], "ifindex": service[1], **one} for one in _u32.read(plane, service[1])
                      if one["matches"] in self._returning() and _u32.redirected(one) in targets]
        return found

    def _steering(self, vex: int, vin: int) -> list[tuple[int, Filter]]:
        """Return the filters that lead to the engine: (ifindex, filter)."""
        mac, tag = self.record.mac, self.record.tag if self.record.mode == "tag" else None
        found = []
        for pref, protocol in ((PREF_IP, ETH_P_IP), (PREF_IPV6, ETH_P_IPV6))[:1 if self.record.ipv6 == "bypass" else 2]:
            drop = protocol == ETH_P_IPV6 and self.record.ipv6 == "drop"
            for ifindex, where, service in ((vex, _u32.DESTINATION, self.dataplane.links[-1]), (vin, _u32.SOURCE, self.dataplane.links[0])):
                rewrite = write_mac(where, tag) if tag and not drop else ()
                match = match_mac(where, mac, unicast=True)
                steering = Filter(pref, protocol, match, None if drop else service.ifindex, rewrite)
                found += [(ifindex, one) for one in (self._ruled(steering) if protocol == ETH_P_IP else [steering])]
        return found

    def _ruled(self, steering: Filter) -> list[Filter]:
        """Return an IPv4 steering filter with those that drop the packets which the record's drop names. u32 cannot match what is not there."""
        found = [steering]
        if "other_protocols" in self.record.drop:
            found = [steering._replace(pref=PREF_RULED, matches=(*steering.matches, _u32.match_ip_protocol(one))) for one in _RULED]
            found.append(steering._replace(redirect=None, rewrite=()))
        if "link_local" in self.record.drop:
            found += [steering._replace(pref=PREF_LINK_LOCAL, matches=(*steering.matches, one), redirect=None, rewrite=()) for one in _u32.LINK_LOCAL]
        return found

    def _returning(self) -> tuple[list[_u32.Word], list[_u32.Word]]:
        """Return the matches of frames that come back from the engine, into the container and out of it."""
        mac = self.record.tag if self.record.mode == "tag" and self.record.tag else self.record.mac
        return list(match_mac(_u32.DESTINATION, mac)), list(match_mac(_u32.SOURCE, mac))

    def _forwarding(self, vex: int, vin: int) -> list[tuple[int, Filter]]:
        """Return the filters on the way back from the engine, and around it: (ifindex, filter)."""
        tag = self.record.mode == "tag"
        into, out = self._returning()
        return [
            (vex, Filter(PREF_ALL, ETH_P_ALL, (), vin)), (vin, Filter(PREF_ALL, ETH_P_ALL, (), vex)),
            (self.dataplane.links[0].ifindex, Filter(PREF_IP, ETH_P_ALL, tuple(into), vin, write_mac(_u32.DESTINATION, self.record.mac) if tag else ())),
            (self.dataplane.links[-1].ifindex, Filter(PREF_IP, ETH_P_ALL, tuple(out), vex, write_mac(_u32.SOURCE, self.record.mac) if tag else ())),
        ]

    def _wanted(self, vex: int, vin: int) -> list[tuple[int, Filter]]:
        """Return all filters: (ifindex, filter)."""
        return [*self._forwarding(vex, vin), *self._steering(vex, vin)]

    @staticmethod
    def _lacking(wanted: list[tuple[int, Filter]], there: list[dict[str, t.Any]]) -> list[tuple[int, Filter]]:
        return [(ifindex, one) for ifindex, one in wanted if not any(ifindex == found["ifindex"] and one.same(found) for found in there)]


def _describe(filters: list[dict[str, t.Any]], names: dict[int, str]) -> list[dict[str, t.Any]]:
    """Return filters as modules return them, without counters and the kernel's own choices. names maps indices to links' names."""
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
