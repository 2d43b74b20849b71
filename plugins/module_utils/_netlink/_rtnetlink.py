# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rtnetlink messages about links, addresses, routes and neighbours, as bytes: their numbers, their structures, and the packing of attributes.

A message that was read can so be sent back unchanged. The takeover keeps addresses and routes in a journal and sets them again. pyroute2
would decode and encode them, each release in its own way, and lose attributes that it does not know.
"""

from __future__ import annotations

import dataclasses
import socket
import struct

# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_ACK_TLVS = 0x200  # of an answer
NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLMSGERR_ATTR_MSG = 1
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF  # the mask is without NLA_F_NESTED and NLA_F_NET_BYTEORDER
# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_GETNSID, NETNSA_NSID, NETNSA_FD, NETNSA_NSID_NOT_ASSIGNED = 90, 1, 3, -1  # linux/net_namespace.h
RTM_GETNEXTHOP = 106
RTMGRP_LINK = 0x1
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MULTIPATH, RTA_CACHEINFO, RTA_EXPIRES = 1, 4, 5, 7, 9, 12, 23
RTNEXTHOP = struct.Struct("=HBBi")  # len, flags, hops, ifindex
RTNH_F_ONLINK = 4  # the flag that is a setting; dead, linkdown and offload are states
RTPROT_KERNEL, RT_TABLE_LOCAL = 2, 255
RTM_F_CLONED = 0x200  # a cached route
# linux/if.h, linux/if_arp.h
IFF_UP, IFF_LOOPBACK, IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST = 0x1, 0x8, 0x80, 0x100, 0x200, 0x1000
IF_OPER_UP = 6
ARPHRD_ETHER = 1
# linux/if_link.h
IFINFOMSG = struct.Struct("BxHiII")  # family, type, index, flags, change
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_TXQLEN, IFLA_OPERSTATE = 1, 3, 4, 5, 10, 13, 16
IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 18, 1, 2, 1
IFLA_AF_SPEC, IFLA_INET6_TOKEN, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 26, 7, 8, 1
IFLA_GROUP, IFLA_NET_NS_FD, IFLA_LINK_NETNSID, IFLA_XDP, IFLA_XDP_ATTACHED, IFLA_NEW_IFINDEX = 27, 28, 37, 43, 2, 49
# linux/if_addr.h
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefixlen, flags, scope, index
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
IFA_F_TEMPORARY, IFA_F_NODAD, IFA_F_HOMEADDRESS, IFA_F_MANAGETEMPADDR = 0x01, 0x02, 0x10, 0x100
IFA_F_NOPREFIXROUTE, IFA_F_MCAUTOJOIN, IFA_F_STABLE_PRIVACY = 0x200, 0x400, 0x800
# linux/neighbour.h
NDMSG = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
NDA_DST, NDA_LLADDR, NDA_PROTOCOL, NDA_FLAGS_EXT = 1, 2, 12, 15
NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_NOARP, NUD_PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x40, 0x80
NTF_PROXY, NTF_EXT_LEARNED, NTF_ROUTER = 0x08, 0x10, 0x80
# linux/nexthop.h
NHMSG, NHA_OIF = struct.Struct("=BBBBI"), 5  # family, scope, protocol, resvd, flags

Attributes = list[tuple[int, bytes]]


@dataclasses.dataclass(frozen=True)
class Link:
    """A link, as one RTM_NEWLINK message describes it. link and netnsid are IFLA_LINK and IFLA_LINK_NETNSID, None where the message has none."""

    index: int
    name: str
    kind: str | None
    type: int
    flags: int
    mac: str
    mtu: int
    txqlen: int
    group: int
    master: int
    link: int | None
    netnsid: int | None
    operstate: int
    xdp: int
    gen_mode: int | None
    token: str


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """Return a packed and padded netlink attribute. A str becomes a C string, an int an unsigned 32-bit number."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape") + b"\0"
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(payload: bytes, offset: int) -> Attributes:
    """Return the attributes after a fixed header of offset bytes, in their order, their types with the flag bits."""
    found = []
    while offset + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, offset)
        if length < 4:
            break
        found.append((kind, payload[offset + 4:offset + length]))
        offset += (length + 3) & ~3
    return found


def attributes_of(payload: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes by type, without the flag bits."""
    return {kind & NLA_TYPE_MASK: value for kind, value in attributes(payload, offset)}


def number(value: bytes | None) -> int | None:
    """Return the value of an unsigned 32-bit attribute, None for None."""
    return None if value is None else int(struct.unpack("=I", value)[0])


def parse_link(message: bytes) -> Link:
    """Return the link in an RTM_NEWLINK message (without netlink header)."""
    _family, kind, index, flags, _change = IFINFOMSG.unpack_from(message)
    found = attributes_of(message, IFINFOMSG.size)
    info = attributes_of(found.get(IFLA_LINKINFO, b""))
    inet6 = attributes_of(attributes_of(found.get(IFLA_AF_SPEC, b"")).get(socket.AF_INET6, b""))
    xdp = attributes_of(found.get(IFLA_XDP, b"")).get(IFLA_XDP_ATTACHED, b"\0")
    mode = inet6.get(IFLA_INET6_ADDR_GEN_MODE)
    return Link(
        index, text(found[IFLA_IFNAME]), text(info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in info else None, kind, flags,
        mac_text(found.get(IFLA_ADDRESS, b"")), number(found[IFLA_MTU]) or 0, number(found.get(IFLA_TXQLEN)) or 0,
        number(found.get(IFLA_GROUP)) or 0, number(found.get(IFLA_MASTER)) or 0,
        number(found.get(IFLA_LINK)), number(found.get(IFLA_LINK_NETNSID)), found.get(IFLA_OPERSTATE, b"\0")[0],
        xdp[0], mode[0] if mode else None, inet6.get(IFLA_INET6_TOKEN, b"").hex(),
    )


def text(value: bytes) -> str:
    """Return the text of a C string. A link's name may hold bytes that are not UTF-8."""
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")


def mac_text(value: bytes) -> str:
    """Return a hardware address as aa:bb:cc:dd:ee:ff."""
    return ":".join(f"{byte:02x}" for byte in value)


def mac_bytes(value: str) -> bytes:
    """Return the bytes of a hardware address in the form aa:bb:cc:dd:ee:ff."""
    return bytes.fromhex(value.replace(":", ""))


def end(name: str, mtu: int, *more: bytes, index: int = 0) -> bytes:
    """Return the description of one end of a new veth: its MTU in bytes, further attributes, and its index (0: the kernel chooses one)."""
    return IFINFOMSG.pack(0, 0, index, 0, 0) + attribute(IFLA_IFNAME, name) + attribute(IFLA_MTU, mtu) + b"".join(more)


def veth(near: bytes, far: bytes) -> bytes:
    """Return the payload of the RTM_NEWLINK that makes a veth of two ends. far may have IFLA_NET_NS_FD."""
    return near + attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, "veth") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, far)))
