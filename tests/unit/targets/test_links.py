# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What netlink says of links, and which of them has a peer on the host: also for kinds that the test machine's kernel lacks."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._targets import _links

ETHER, LOOPBACK = 1, 772  # linux/if_arp.h
HOST_ID, OTHER_ID = 0, 7  # by which the container's namespace knows the host's and another
INSIDE_FD = 1000


class Message(dict[str, t.Any]):
    """A netlink message as pyroute2 gives it."""

    def __init__(self, attributes: dict[str, t.Any], **fields: t.Any) -> None:
        super().__init__(**fields)
        self.attributes = attributes

    def get_attr(self, name: str) -> t.Any:
        return self.attributes.get(name)


def link(index: int, kind: str | None, other: int | None = None, netnsid: int | None = None, master: int | None = None, arp: int = ETHER) -> Message:
    info = Message({"IFLA_INFO_KIND": kind}) if kind else None
    return Message({"IFLA_IFNAME": f"l{index}", "IFLA_LINKINFO": info, "IFLA_ADDRESS": "02:00:00:00:00:01", "IFLA_MTU": 1500, "IFLA_OPERSTATE": "UP",
                    "IFLA_LINK": other, "IFLA_LINK_NETNSID": netnsid, "IFLA_MASTER": master}, index=index, ifi_type=arp)


class OldNetlink:
    """A socket in a namespace with these links and addresses, of pyroute2 before 0.6.5."""

    def __init__(self, links: list[Message], addresses: t.Sequence[Message] = ()) -> None:
        self.links, self.addresses = links, addresses

    def __enter__(self) -> OldNetlink:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def get_links(self) -> list[Message]:
        return self.links

    def get_addr(self) -> t.Sequence[Message]:
        return self.addresses

    def nlm_request(self, message: dict[str, t.Any], kind: int, _flags: int) -> list[Message]:
        [(name, fd)] = message["attrs"]
        assert (name, kind) == ("NETNSA_FD", 90) and fd != INSIDE_FD  # RTM_GETNSID
        return [Message({"NETNSA_NSID": HOST_ID})]


class Netlink(OldNetlink):
    """The same since then."""

    def get_netnsid(self, fd: int) -> dict[str, int]:
        assert fd != INSIDE_FD
        return {"nsid": HOST_ID}


def interfaces(monkeypatch: pytest.MonkeyPatch, inside: OldNetlink, host: OldNetlink, is_host: bool = False) -> list[dict[str, t.Any]]:
    monkeypatch.setattr(_links, "connect", lambda fd: inside if fd == INSIDE_FD else host)
    return _links.interfaces([t.cast("t.Any", types.SimpleNamespace(fd=INSIDE_FD, host=is_host))])[0]


# The host's link 5 is a veth that points to a link 2, on the bridge 3; 6 is one that points elsewhere; 7 is a netkit; 4 is a NIC.
HOST = [link(1, None, arp=LOOPBACK), link(3, "bridge"), link(4, None), link(5, "veth", 2, OTHER_ID, master=3), link(6, "veth", 9, OTHER_ID),
        link(7, "netkit", 2, OTHER_ID)]
PEER = {"name": "l5", "ifindex": 5, "master": "l3"}


@pytest.mark.parametrize(
    ("one", "kind", "peer"),
    [
        (link(2, "veth", 5, HOST_ID), "veth", PEER),
        # the same numbers, in a namespace that is not the host's: two containers wired to each other
        (link(2, "veth", 5, OTHER_ID), "veth", None),
        # in our own namespace: IFLA_LINK_NETNSID is absent
        (link(2, "veth", 5), "veth", None),
        (link(2, "veth", None, HOST_ID), "veth", None),
        # the host's link of that number is gone, is no veth, or is the peer of another
        (link(2, "veth", 8, HOST_ID), "veth", None),
        (link(2, "veth", 4, HOST_ID), "veth", None),
        (link(2, "veth", 6, HOST_ID), "veth", None),
        (link(9, "veth", 6, HOST_ID), "veth", {"name": "l6", "ifindex": 6, "master": None}),
        # netkit too comes in pairs; the number must be a netkit's
        (link(2, "netkit", 7, HOST_ID), "netkit", {"name": "l7", "ifindex": 7, "master": None}),
        (link(2, "netkit", 5, HOST_ID), "netkit", None),
        (link(2, "veth", 7, HOST_ID), "veth", None),
        # What these show there is their parent, even where its number and kind would fit.
        (link(2, "macvlan", 5, HOST_ID), "macvlan", None),
        (link(2, "ipvlan", 5, HOST_ID), "ipvlan", None),
        (link(2, "macvtap", 5, HOST_ID), "macvtap", None),
        (link(2, "vlan", 5, HOST_ID), "vlan", None),
        (link(2, "dummy"), "dummy", None),
        (link(2, "wireguard"), "wireguard", None),
        (link(2, None), "physical", None),
        (link(1, None, arp=LOOPBACK), "loopback", None),
    ],
)
def test_peer(monkeypatch: pytest.MonkeyPatch, one: Message, kind: str, peer: dict[str, t.Any] | None) -> None:
    found, = interfaces(monkeypatch, Netlink([one]), Netlink(HOST))
    assert (found["kind"], found["host_peer"], found["iflink"]) == (kind, peer, one.get_attr("IFLA_LINK"))
    # In the host's own namespace nothing has a peer "on the host".
    found, = interfaces(monkeypatch, Netlink([one]), Netlink(HOST), is_host=True)
    assert found["host_peer"] is None


@pytest.mark.parametrize(("netnsid", "peer"), [(HOST_ID, PEER), (OTHER_ID, None)])
def test_peer_by_an_old_pyroute2(monkeypatch: pytest.MonkeyPatch, netnsid: int, peer: dict[str, t.Any] | None) -> None:
    """The real one: the scenario `distributions`, on Debian 11."""
    found, = interfaces(monkeypatch, OldNetlink([link(2, "veth", 5, netnsid)]), OldNetlink(HOST))
    assert found["host_peer"] == peer


def address(index: int, prefix: int, **attributes: str) -> Message:
    return Message(attributes, index=index, prefixlen=prefix)


def test_addresses_and_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a point-to-point link the other side's address stands in IFA_ADDRESS, ours in IFA_LOCAL, which IPv6 lacks otherwise."""
    two = link(2, "tun")
    two.attributes["IFLA_OPERSTATE"] = None
    three = link(3, "veth")
    three.attributes["IFLA_OPERSTATE"] = "LOWERLAYERDOWN"
    addresses = [
        address(3, 24, IFA_ADDRESS="10.0.0.2", IFA_LOCAL="10.0.0.2"), address(3, 64, IFA_ADDRESS="fd00::2"), address(3, 64, IFA_ADDRESS="fe80::1"),
        address(2, 32, IFA_ADDRESS="10.9.0.1", IFA_LOCAL="10.9.0.2"), address(2, 128, IFA_ADDRESS="fd09::1", IFA_LOCAL="fd09::2"),
    ]
    tunnel, veth = interfaces(monkeypatch, Netlink([two, three], addresses), Netlink(HOST))
    assert (tunnel["addresses"], tunnel["state"]) == (["10.9.0.2/32", "fd09::2/128"], "unknown")
    assert (veth["addresses"], veth["state"]) == (["10.0.0.2/24", "fd00::2/64", "fe80::1/64"], "lowerlayerdown")
    assert {key: veth[key] for key in ("name", "ifindex", "mac", "mtu")} == {"name": "l3", "ifindex": 3, "mac": "02:00:00:00:00:01", "mtu": 1500}
