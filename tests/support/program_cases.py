# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every branch of the programs of steering in place: a frame, and what must become of it.

The kernel runs them in tests/integration/steering/test_programs.py, an interpreter for both byte orders in tests/unit/steering/inplace/test_programs.py.
"""

from __future__ import annotations

import dataclasses
import socket
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import mac_bytes
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace import _programs

MAC, TAG = "02:42:ac:11:00:02", "4e:65:75:56:00:01"
# Somebody at the other end of the network, and another steered container with its tag.
STATION, NEIGHBOUR, NEIGHBOUR_TAG = "02:42:8f:00:00:01", "02:42:ac:11:00:03", "4e:65:75:56:00:02"
BROADCAST, MULTICAST4, MULTICAST6 = "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "33:33:00:00:00:01"
IPV4, IPV6, ARP, HEARTBEAT = 0x0800, 0x86DD, 0x0806, 0x88B5
PASS, OK, DROP, REDIRECT = -1, 0, 2, 7  # linux/pkt_cls.h: TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_REDIRECT
MARK = 0x6E657474
PEER, NEIGHBOUR_PEER, SERVICE = 0x01020304, 0x01020305, 0x01020306  # numbers of links whose every byte tells where it is
EGRESS, INGRESS = 0, 1  # flags of bpf_redirect
# Each counter differs, so that it shows which was counted.
BEFORE = {"out_sent": 100, "out_returned": 200, "in_sent": 300, "in_returned": 400, "refused": 500}


def frame(source: str, destination: str, kind: int = IPV4, length: int = 60) -> bytes:
    """Return an Ethernet frame of that many bytes, without check sequence."""
    return (mac_bytes(destination) + mac_bytes(source) + kind.to_bytes(2, "big") + bytes(range(1, length)))[:length]


def element(mac: str = MAC, ifindex: int = PEER, **more: int) -> _programs.Element:
    """Return what the map knows of a container: BEFORE, and what is counted more."""
    return _programs.Element(ifindex, mac, **{name: number + more.get(name, 0) for name, number in BEFORE.items()})


@dataclasses.dataclass(frozen=True)
class Case:
    """A program, a frame and its marks before; then what the program returns, the frame and its marks after, and what is counted.

    where are ifindex and flags of bpf_redirect. known is whether the map has the container.
    """

    program: str
    frame: bytes
    action: int
    after: bytes
    tagged: bool = False
    ipv6: str = "steer"
    drop: tuple[str, ...] = ()
    mark: int = 0
    mark_after: int = 0
    segments: int = 0
    known: bool = True
    where: tuple[int, int] | None = None
    counted: dict[str, int] = dataclasses.field(default_factory=dict)

    def code(self, map_fd: int, order: str = "=") -> bytes:
        """Return the program for a map and a byte order."""
        if self.program in ("outbound", "inbound"):
            make = _programs.outbound if self.program == "outbound" else _programs.inbound
            return make(map_fd, MAC, TAG if self.tagged else None, SERVICE, self.ipv6, self.drop, order)
        return _programs.returning(map_fd, self.program in ("vbr0", "vbr"), self.program in ("vbr1", "vbr"), self.tagged, order)

    def elements(self, after: bool = False) -> dict[bytes, _programs.Element]:
        """Return what is in the map before or after: the container if it is known, and its neighbour, which never changes."""
        keys = (TAG, NEIGHBOUR_TAG) if self.tagged else (MAC, NEIGHBOUR)
        all_of_them = {_programs.key(keys[1]): element(NEIGHBOUR, NEIGHBOUR_PEER)}
        if self.known:
            all_of_them[_programs.key(keys[0])] = element(MAC, PEER, **(self.counted if after else {}))
        return all_of_them


def others(mac: str) -> t.Iterator[str]:
    """Give MACs that differ from this one in one byte each, in turn; none is a group address."""
    for number in range(6):
        changed = bytearray(mac_bytes(mac))
        changed[number] ^= 0x80
        yield changed.hex(":")


def cases() -> dict[str, Case]:
    """Return all cases, by a name that says what is done to what."""
    found: dict[str, Case] = {}
    for tagged in (False, True):
        mode = "tag" if tagged else "bridge"
        for program in ("outbound", "inbound"):
            for name, case in _redirecting(program, tagged):
                found[f"{program}-{mode}-{name}"] = case
        for program in ["vbr"] if tagged else ["vbr0", "vbr1"]:
            for name, case in _returning(program, tagged):
                found[f"{program}-{mode}-{name}"] = case
    return found


def _redirecting(program: str, tagged: bool) -> t.Iterator[tuple[str, Case]]:
    """Give the cases of a program at the container's veth: outbound knows it by the source MAC, inbound by the destination."""
    outbound = program == "outbound"

    def bearing(mac: str, kind: int = IPV4, length: int = 60, other: str = STATION) -> bytes:
        return frame(mac, other, kind, length) if outbound else frame(other, mac, kind, length)

    def passed(data: bytes, **options: t.Any) -> Case:
        return Case(program, data, PASS, data, tagged, **options)

    def dropped(data: bytes, **options: t.Any) -> Case:
        return Case(program, data, DROP, data, tagged, **options)

    def steered(kind: int = IPV4, length: int = 60, other: str = STATION, packets: int = 1, **options: t.Any) -> Case:
        counted = {"out_sent" if outbound else "in_sent": packets}
        return Case(program, bearing(MAC, kind, length, other), REDIRECT, bearing(TAG if tagged else MAC, kind, length, other), tagged,
                    where=(SERVICE, EGRESS), counted=counted, **options)  # fmt: skip

    yield "ipv4", steered()
    # What a kernel runs a program on: an IPv4 header behind Ethernet's, of other protocols a byte.
    yield "shortest", steered(length=34)
    yield "shortest-arp", passed(bearing(MAC, ARP, 15))
    yield "to-neighbour", steered(other=NEIGHBOUR)
    for ipv6 in ("steer", "bypass", "drop"):
        yield f"ipv4-where-ipv6-{ipv6}", steered(ipv6=ipv6)
        yield f"marked-where-ipv6-{ipv6}", passed(bearing(MAC, IPV6), mark=MARK, ipv6=ipv6)
        yield f"arp-where-ipv6-{ipv6}", passed(bearing(MAC, ARP), ipv6=ipv6)
    yield "ipv6-steer", steered(IPV6)
    yield "ipv6-bypass", passed(bearing(MAC, IPV6), ipv6="bypass")
    yield "ipv6-drop", dropped(bearing(MAC, IPV6), ipv6="drop")
    yield "ipv6-group-drop", dropped(frame(MAC if outbound else STATION, MULTICAST6, IPV6), ipv6="drop")
    yield "arp-broadcast", passed(frame(MAC if outbound else STATION, BROADCAST, ARP))
    yield "heartbeat", passed(bearing(MAC, HEARTBEAT))
    # Its number with its bytes in the wrong order is none that steering knows.
    yield "ethertype-0008", passed(bearing(MAC, 0x0008))

    yield "marked", passed(bearing(MAC), mark=MARK)
    yield "marked-arp", passed(bearing(MAC, ARP), mark=MARK)
    yield "marked-foreign", passed(bearing(NEIGHBOUR), mark=MARK)
    for mark in (1, MARK ^ 1, MARK ^ 1 << 31, 0x7474656E):
        yield f"mark-of-another-{mark:x}", steered(mark=mark, mark_after=mark)
        yield f"mark-of-another-{mark:x}-arp", passed(bearing(MAC, ARP), mark=mark, mark_after=mark)

    for group in (BROADCAST, MULTICAST4):
        yield f"group-{group}", passed(frame(MAC if outbound else STATION, group))
        yield f"group-{group}-foreign", passed(frame(NEIGHBOUR, group))
    yield "group-ipv6", passed(frame(MAC if outbound else STATION, MULTICAST6, IPV6))

    for number, mac in enumerate(others(MAC)):
        # A container whose source MAC is not its own is a way around the engine; what is flooded is for another.
        yield f"foreign-byte-{number}", dropped(bearing(mac), counted={"refused": 1}) if outbound else passed(bearing(mac))
    yield "foreign-ipv6", dropped(bearing(NEIGHBOUR, IPV6), counted={"refused": 1}) if outbound else passed(bearing(NEIGHBOUR, IPV6))
    yield "foreign-bypassed", passed(bearing(NEIGHBOUR, IPV6), ipv6="bypass")
    yield "foreign-arp", passed(bearing(NEIGHBOUR, ARP))
    swapped = bearing(STATION, other=MAC)  # its MAC in the other field
    yield "foreign-other-way", dropped(swapped, counted={"refused": 1}) if outbound else passed(swapped)

    counted = {"out_sent" if outbound else "in_sent": 1}

    def with_header(data: bytes, protocol: int, source: str, destination: str) -> bytes:
        header = data[:23] + bytes([protocol]) + data[24:26] + socket.inet_aton(source) + socket.inet_aton(destination)
        return header + data[len(header):]

    both = ("link_local", "other_protocols")
    for drop in (("other_protocols",), ("link_local",), both):
        for number, source, destination in [
            *((number, "10.0.0.1", "10.0.0.2") for number in (1, 6, 17, 0, 2, 5, 7, 16, 18, 47, 50, 132, 255)), (6, "169.254.0.1", "10.0.0.2"),
            (17, "10.0.0.1", "169.254.255.254"), (6, "169.253.255.255", "169.255.0.0"), (6, "254.169.0.1", "10.169.254.1"),
        ]:  # fmt: skip
            gone = ("other_protocols" in drop and number not in (1, 6, 17)) or ("link_local" in drop and "169.254." in (source[:8], destination[:8]))
            before = steered(drop=drop)
            case = dataclasses.replace(before, frame=with_header(before.frame, number, source, destination),
                                       after=with_header(before.after, number, source, destination))  # fmt: skip
            if gone:
                case = dataclasses.replace(case, action=DROP, after=case.frame, where=None)
            yield f"{'-'.join(drop)}-{number}-{source}-{destination}", case
        yield f"{'-'.join(drop)}-ipv6", steered(IPV6, drop=drop)
        yield f"{'-'.join(drop)}-ipv6-too", dropped(bearing(MAC, IPV6), ipv6="drop", drop=drop)
        yield f"{'-'.join(drop)}-arp", passed(bearing(MAC, ARP), drop=drop)
        yield f"{'-'.join(drop)}-marked", passed(bearing(MAC), mark=MARK, drop=drop)
    yield "dropped-unknown", dataclasses.replace(dropped(bearing(MAC), drop=both), known=False)
    yield "dropped-shortest", dropped(bearing(MAC, length=34), drop=both, counted=counted)

    yield "segments", steered(segments=7, packets=7)
    if outbound:
        yield "segments-refused", dropped(bearing(NEIGHBOUR), segments=7, counted={"refused": 7})
        yield "unknown-refused", dropped(bearing(NEIGHBOUR), known=False)
    yield "unknown", dataclasses.replace(steered(), known=False)


def _returning(program: str, tagged: bool) -> t.Iterator[tuple[str, Case]]:
    """Give the cases of a program at a service link: what comes out of vbr0 goes to the container, out of vbr1 from it, out of vbr both ways."""
    borne = TAG if tagged else MAC

    def returned(way: str, kind: int = IPV4, length: int = 60, packets: int = 1, **options: t.Any) -> Case:
        if way == "in":
            came, goes = frame(STATION, borne, kind, length), frame(STATION, MAC, kind, length)
        else:
            came, goes = frame(borne, STATION, kind, length), frame(MAC, STATION, kind, length)
        return Case(program, came, REDIRECT, goes, tagged, mark_after=MARK, where=(PEER, EGRESS if way == "in" else INGRESS),
                    counted={f"{way}_returned": packets}, **options)  # fmt: skip

    def dropped(data: bytes, **options: t.Any) -> Case:
        return Case(program, data, DROP, data, tagged, **options)

    ways = {"vbr0": ["in"], "vbr1": ["out"], "vbr": ["in", "out"]}[program]
    for way in ways:
        yield f"{way}-ipv4", returned(way)
        yield f"{way}-ipv6", returned(way, IPV6)
        yield f"{way}-arp", returned(way, ARP)
        yield f"{way}-shortest", returned(way, ARP, 15)
        yield f"{way}-segments", returned(way, segments=7, packets=7)
        yield f"{way}-mark-of-another", returned(way, mark=1)
        yield f"{way}-unknown", dropped(returned(way).frame, known=False)
        for number, mac in enumerate(others(borne)):
            yield f"{way}-unknown-byte-{number}", dropped(frame(STATION, mac) if way == "in" else frame(mac, STATION))
    if program == "vbr0":
        yield "other-way", dropped(frame(MAC, STATION))
    if program == "vbr1":
        yield "other-way", dropped(frame(STATION, MAC))
    if tagged:
        # Engines return tags: a container's own MAC is nobody's.
        yield "in-untagged", dropped(frame(STATION, MAC))
        yield "out-untagged", dropped(frame(MAC, STATION))
    yield "stranger", dropped(frame(STATION, STATION))
    yield "stranger-broadcast", dropped(frame(STATION, BROADCAST))
    for name, heartbeat in (("heartbeat", frame(STATION, BROADCAST, HEARTBEAT)), ("heartbeat-known", frame(borne, borne, HEARTBEAT))):
        yield name, Case(program, heartbeat, OK, heartbeat, tagged)
