# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The BPF programs of steering in place.

Two programs are on the host's end of the container's veth, and send unicast IP to a service link:

    from the container   ingress of the peer   source MAC is the container's        -> egress of vbr0 (or vbr)
    to the container     egress of the peer    destination MAC is the container's   -> egress of vbr1 (or vbr)

One program is on the ingress of each service link. It finds the container by its MAC in a hash map, and returns the frame to
the peer, with a mark that lets it pass there:

    vbr1 (vbr)   by source MAC        -> ingress of the peer
    vbr0 (vbr)   by destination MAC   -> egress of the peer

In tag mode, frames to the service link have a tag in place of the container's MAC, and the map's keys are tags.

Programs read numbers of several bytes in the machine's byte order, from packets too. The values that they compare with are in that order.
"""

from __future__ import annotations

import dataclasses
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._bpf import _assembler
from ansible_collections.nettap.containers.plugins.module_utils._bpf._assembler import BYTE, HALF, R0, R1, R2, R3, R4, R5, R6, R7, R10, WORD, Assembler
from ansible_collections.nettap.containers.plugins.module_utils._dataplane._engine import HEARTBEAT
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import mac_bytes
from ansible_collections.nettap.containers.plugins.module_utils._netlink._tc import ETH_P_IP, ETH_P_IPV6, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC

# The mark of frames that came back from the engine, from the service link to the peer, in the host's namespace only. A link into
# another namespace clears the mark, so no container can set it. The letters are "nett".
MARK = 0x6E657474

# Flags of bpf_redirect
_EGRESS, _INGRESS = 0, 1  # BPF_F_INGRESS

# Offsets in struct __sk_buff (linux/bpf.h)
_MARK, _PROTOCOL, _DATA, _DATA_END, _GSO_SEGS = 8, 16, 76, 80, 164
# Offsets in an Ethernet header
_DESTINATION, _SOURCE, _HEADER_LENGTH = 0, 6, 14
# Offsets in the frame of an IPv4 header's protocol and addresses (RFC 791), and what of them NeuVector's dp does not hold to rules: protocols
# other than ICMP, TCP and UDP, and link-local addresses (169.254.0.0/16, RFC 3927)
_IP_PROTOCOL, _IP_ADDRESSES = 14 + 9, 14 + 12
_RULED = (1, 6, 17)
_LINK_LOCAL = bytes([169, 254])

_MAC_SIZE = 6
_MAC_HALVES = (0, 2, 4)  # offsets at which a MAC is read and written, two bytes each
KEY_SIZE = 8  # a MAC, and zeros
_KEY = -KEY_SIZE  # offset of the key on the stack, from the end of the stack frame
# Element of the map: the peer's ifindex, the container's MAC, then the counters (packets; each segment of an offloaded one).
_ELEMENT = "I6s6x5Q"
VALUE_SIZE = struct.calcsize(f"={_ELEMENT}")
_IFINDEX, _MAC = 0, 4
_COUNTERS = ("out_sent", "out_returned", "in_sent", "in_returned", "refused")
_OFFSETS = {name: 16 + 8 * number for number, name in enumerate(_COUNTERS)}


@dataclasses.dataclass(frozen=True)
class Element:
    """A container's element of the map. refused counts IP packets with a source MAC that is not the container's."""

    ifindex: int
    mac: str
    out_sent: int = 0
    out_returned: int = 0
    in_sent: int = 0
    in_returned: int = 0
    refused: int = 0

    def pack(self, order: str = "=") -> bytes:
        """Return the element as the programs of that byte order (see Assembler) read it."""
        return struct.pack(f"{order}{_ELEMENT}", self.ifindex, mac_bytes(self.mac), *(getattr(self, name) for name in _COUNTERS))

    @classmethod
    def unpack(cls, value: bytes, order: str = "=") -> Element:
        """Return the element that the bytes hold, in that byte order."""
        ifindex, mac, *counters = struct.unpack(f"{order}{_ELEMENT}", value)
        return cls(ifindex, mac.hex(":"), *counters)


def key(mac: str) -> bytes:
    """Return the map's key for a MAC or tag."""
    return mac_bytes(mac) + bytes(KEY_SIZE - _MAC_SIZE)


def outbound(map_fd: int, mac: str, tag: str | None, service_ifindex: int, ipv6: str, drop: t.Collection[str] = (), order: str = "=") -> bytes:
    """Return the program for the ingress of the peer, which the container sends to.

    ipv6 is steer, bypass or drop. drop names IPv4 packets to drop: other_protocols, link_local. For order see Assembler.
    """
    return _redirecting(Assembler(order), map_fd, mac, tag, service_ifindex, ipv6, drop, _SOURCE, "out_sent")


def inbound(map_fd: int, mac: str, tag: str | None, service_ifindex: int, ipv6: str, drop: t.Collection[str] = (), order: str = "=") -> bytes:
    """Return the program for the egress of the peer, from which the container receives. For the rest see outbound."""
    return _redirecting(Assembler(order), map_fd, mac, tag, service_ifindex, ipv6, drop, _DESTINATION, "in_sent")


def _redirecting(
    code: Assembler, map_fd: int, mac: str, tag: str | None, service_ifindex: int, ipv6: str, drop: t.Collection[str], field: int, counter: str,
) -> bytes:
    code.move(R6, R1)
    # A frame that the engine has returned passes. Without the mark it continues as if it had not been redirected.
    code.load(WORD, R5, R6, _MARK)
    code.jump_if("!=", R5, MARK, "fresh")
    code.set(R5, 0)
    code.store(WORD, R6, _MARK, R5)
    code.leave(TC_ACT_UNSPEC)

    code.place("fresh")
    code.load(WORD, R5, R6, _PROTOCOL)
    code.jump_if("==", R5, _network_order(code, ETH_P_IP), "ip")
    if ipv6 != "bypass":
        code.jump_if("==", R5, _network_order(code, ETH_P_IPV6), "ip" if ipv6 == "steer" else "drop")
    code.place("pass")
    code.leave(TC_ACT_UNSPEC)

    code.place("ip")
    _header(code, "pass")
    # The first bit on the wire marks group addresses: broadcast and multicast keep their original path.
    code.load(BYTE, R5, R2, _DESTINATION)
    code.mask(R5, 1)
    code.jump_if("!=", R5, 0, "pass")
    # A frame to another container, which the bridge floods to this port, passes. A frame from the container with another source MAC
    # could not be returned to it, and would evade the engine if it passed.
    stranger = "pass" if field == _DESTINATION else "refuse"
    for offset, value in zip(_MAC_HALVES, struct.unpack(f"{code.order}3H", mac_bytes(mac))):
        code.load(HALF, R5, R2, field + offset)
        code.jump_if("!=", R5, value, stranger)
    _count(code, map_fd, tag or mac, counter)
    _drop_unruled(code, drop)
    if tag:
        _stack(code, key(tag))
        _rewrite(code, field)
    code.set(R1, service_ifindex)
    code.set(R2, _EGRESS)
    code.call(_assembler.REDIRECT)
    code.leave()

    if stranger == "refuse":
        code.place("refuse")
        _count(code, map_fd, tag or mac, "refused")
    if stranger == "refuse" or ipv6 == "drop" or drop:
        code.place("drop")
        code.leave(TC_ACT_SHOT)
    return code.code()


def returning(map_fd: int, inbound_link: bool, outbound_link: bool, tagged: bool, order: str = "=") -> bytes:
    """Return the program for the ingress of a service link, where frames to the container, from it, or (tag mode) both come back."""
    code = Assembler(order)
    code.move(R6, R1)
    _header(code, "drop")
    # Heartbeats pass, for the watchdog's sockets.
    code.load(WORD, R5, R6, _PROTOCOL)
    code.jump_if("==", R5, _network_order(code, HEARTBEAT), "pass")
    ways = [way for way, wanted in (("in", inbound_link), ("out", outbound_link)) if wanted]
    for way in ways:
        field = _DESTINATION if way == "in" else _SOURCE
        _header(code, "drop")  # the call before has made the pointers invalid
        code.set(R5, 0)
        code.store(WORD, R10, _KEY + 4, R5)  # the zeros, and two bytes that the MAC's end overwrites
        for offset in _MAC_HALVES:
            code.load(HALF, R5, R2, field + offset)
            code.store(HALF, R10, _KEY + offset, R5)
        _look_up(code, map_fd)
        code.jump_if("!=", R0, 0, way)
    # A frame of no container: the container is gone, or the engine sends frames of its own.
    code.place("drop")
    code.leave(TC_ACT_SHOT)
    code.place("pass")
    code.leave(TC_ACT_OK)

    for way in ways:
        code.place(way)
        _segments(code, R7)
        code.count(R0, _OFFSETS[f"{way}_returned"], R7)
        code.load(WORD, R7, R0, _IFINDEX)
        if tagged:
            for offset in _MAC_HALVES:
                code.load(HALF, R5, R0, _MAC + offset)
                code.store(HALF, R10, _KEY + offset, R5)
            _rewrite(code, _DESTINATION if way == "in" else _SOURCE)
        code.set(R5, MARK)
        code.store(WORD, R6, _MARK, R5)
        code.move(R1, R7)
        code.set(R2, _EGRESS if way == "in" else _INGRESS)
        code.call(_assembler.REDIRECT)
        code.leave()
    return code.code()


def _drop_unruled(code: Assembler, drop: t.Collection[str]) -> None:
    """Jump to the place drop for the IPv4 packets that drop names. R0 to R5 are lost."""
    if not drop:
        return
    code.load(WORD, R5, R6, _PROTOCOL)
    code.jump_if("!=", R5, _network_order(code, ETH_P_IP), "ruled")
    if "other_protocols" in drop:
        _load(code, _IP_PROTOCOL, 1)
        code.load(BYTE, R5, R10, _KEY)
        for number in _RULED:
            code.jump_if("==", R5, number, "known protocol")
        code.jump_if("!=", R5, _RULED[0], "drop")
        code.place("known protocol")
    if "link_local" in drop:
        _load(code, _IP_ADDRESSES, 8)
        for offset in (0, 4):
            code.load(HALF, R5, R10, _KEY + offset)
            code.jump_if("==", R5, struct.unpack(f"{code.order}H", _LINK_LOCAL)[0], "drop")
    code.place("ruled")


def _load(code: Assembler, offset: int, size: int) -> None:
    """Put so many bytes of the frame on the stack, or jump to the place drop where it has none there. R0 to R5 are lost."""
    code.move(R1, R6)
    code.set(R2, offset)
    code.move(R3, R10)
    code.add(R3, _KEY)
    code.set(R4, size)
    code.call(_assembler.SKB_LOAD_BYTES)
    code.jump_if("!=", R0, 0, "drop")


def _header(code: Assembler, otherwise: str) -> None:
    """Set R2 to the Ethernet header, or jump to the place otherwise if the header is not there whole. R3, R4 are lost."""
    code.load(WORD, R2, R6, _DATA)
    code.load(WORD, R3, R6, _DATA_END)
    code.move(R4, R2)
    code.add(R4, _HEADER_LENGTH)
    code.jump_if_above(R4, R3, otherwise)


def _count(code: Assembler, map_fd: int, mac: str, counter: str) -> None:
    """Count the packet in the map's element of that MAC, if there is one. R0 to R5 and R7 are lost."""
    _stack(code, key(mac))
    _look_up(code, map_fd)
    with code.skipped_if("==", R0, 0):
        _segments(code, R7)
        code.count(R0, _OFFSETS[counter], R7)


def _segments(code: Assembler, register: int) -> None:
    """Set register to the number of packets that the frame will be on a wire: 1, or the number of segments of an offloaded one."""
    code.load(WORD, register, R6, _GSO_SEGS)
    # Where the kernel gives no number (0), it is one.
    with code.skipped_if("!=", register, 0):
        code.set(register, 1)


def _look_up(code: Assembler, map_fd: int) -> None:
    """Set R0 to the element whose key is on the stack, or to 0. R1 to R5 are lost."""
    code.set_map(R1, map_fd)
    code.move(R2, R10)
    code.add(R2, _KEY)
    code.call(_assembler.MAP_LOOKUP_ELEM)


def _stack(code: Assembler, value: bytes) -> None:
    """Put the key on the stack. R5 is lost."""
    code.set64(R5, struct.unpack(f"{code.order}Q", value)[0])
    code.store(_assembler.DOUBLE, R10, _KEY, R5)


def _rewrite(code: Assembler, field: int) -> None:
    """Overwrite the frame's MAC at the field with the one whose key is on the stack. R0 to R5 are lost."""
    code.move(R1, R6)
    code.set(R2, field)
    code.move(R3, R10)
    code.add(R3, _KEY)
    code.set(R4, _MAC_SIZE)
    code.set(R5, 0)
    code.call(_assembler.SKB_STORE_BYTES)


def _network_order(code: Assembler, value: int) -> int:
    """Return a 16-bit number as __sk_buff.protocol shows it: two bytes in network order, read in the machine's byte order."""
    number: int = struct.unpack(f"{code.order}H", struct.pack(">H", value))[0]
    return number
