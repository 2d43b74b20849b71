# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refusals of links that the test machine's kernel cannot make, and messages told of another index."""

from __future__ import annotations

import dataclasses
import socket
import struct
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane, ServiceLink
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import attribute
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover import _refusal, _snapshot, _u32
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover._filters import TakeoverFilters

ETH0 = _rtnetlink.Link(2, "eth0", "veth", 1, _rtnetlink.IFF_UP, "02:42:ac:11:00:02", 1500, 1000, 0, 0, 7, 0, 6, 0, 0, "")


@pytest.mark.parametrize("changed, words", [
    ({"kind": "ipvlan"}, "shares its parent's MAC"),
    ({"kind": "bond"}, "is a bond"),
    ({"type": 65534}, "no Ethernet address"),
    ({"mac": "00:00:00:00:00:00"}, "no Ethernet address"),
    ({"xdp": 2}, "XDP program"),
    ({"mtu": 1501}, "MTU of eth0 (1501)"),
])
def test_refused(changed: dict[str, t.Any], words: str) -> None:
    assert words in str(_refusal._kind(dataclasses.replace(ETH0, **changed), 1500))


@pytest.mark.parametrize("kind", ["veth", "macvlan", "vlan", None])
def test_not_refused(kind: str | None) -> None:
    assert _refusal._kind(dataclasses.replace(ETH0, kind=kind), 1500) is None


@pytest.mark.parametrize("changed, refused", [
    ({"kind": "vlan", "link": 2, "netnsid": None}, True),
    ({"kind": "macvlan", "link": 2, "netnsid": 0}, False),  # index 2 of another namespace
    ({"kind": "veth", "link": 2, "netnsid": None}, False),  # its other end
])
def test_what_lies_on_top(changed: dict[str, t.Any], refused: bool) -> None:
    other = dataclasses.replace(ETH0, index=9, name="other", **changed)
    assert (_refusal._stack(ETH0, {"eth0": ETH0, "other": other}) is not None) == refused


def test_a_multipath_route_over_another_index() -> None:
    """Only the hops over the interface change, and states among the flags are no settings."""

    def route(first: int, flags: int) -> bytes:
        gateway = attribute(5, socket.inet_aton("10.0.0.1"))
        hops = struct.pack("=HBBi", 8 + len(gateway), flags, 0, first) + gateway + struct.pack("=HBBi", 8, flags, 3, 7)
        return _rtnetlink.RTMSG.pack(socket.AF_INET, 24, 0, 0, 254, 3, 0, 1, 0) + attribute(1, socket.inet_aton("192.0.2.0")) + attribute(9, hops)

    assert _snapshot._indexed(_rtnetlink.RTM_NEWROUTE, route(2, 4), 2, 30) == route(30, 4)
    kind, value = _rtnetlink.attributes(route(2, 4 | 1 | 16), _rtnetlink.RTMSG.size)[1]
    assert _snapshot._route_attribute(kind, value) == attribute(*_rtnetlink.attributes(route(2, 4), _rtnetlink.RTMSG.size)[1])


IN, OUT = _u32.match_mac(_u32.DESTINATION, ETH0.mac, unicast=True), _u32.match_mac(_u32.SOURCE, ETH0.mac, unicast=True)


@pytest.mark.parametrize("drop", [[], ["other_protocols"], ["link_local"], ["link_local", "other_protocols"]])
def test_filters_that_drop_what_an_engine_cannot(drop: list[str]) -> None:
    """The kernel asks filters by pref. So link-local packets are dropped first; then three protocols are steered, and all others dropped."""
    record = SteeringRecord("netns", "", "web", None, None, "/run/netns/web", 1, "eth0", 2, ETH0.mac, 1500, "takeover", "bridge", "bypass", "open", drop=drop)
    links = (ServiceLink("vbr0", 1, "vth0", 2), ServiceLink("vbr1", 3, "vth1", 4))
    found = TakeoverFilters(record, Dataplane("nettap", -1, 1, "takeover", "bridge", 1500, links), "vex", "vin").planned()
    for link, mac, service in (("vex", IN, "vbr1"), ("vin", OUT, "vbr0")):
        own = [(one["pref"], [tuple(word) for word in one["matches"]], one["actions"]) for one in found if one["link"] == link and one["pref"] != 10002]
        steered, dropped = [{"kind": "mirred", "action": "redirect", "dev": service}], [{"kind": "drop"}]
        wanted = [(10001, [*mac], steered)]
        if "other_protocols" in drop:
            wanted = [(9999, [*mac, (8, number << 16, 0xFF0000)], steered) for number in (1, 6, 17)] + [(10001, [*mac], dropped)]
        if "link_local" in drop:
            wanted = [(9998, [*mac, (offset, 0xA9FE0000, 0xFFFF0000)], dropped) for offset in (12, 16)] + wanted
        assert own == wanted
