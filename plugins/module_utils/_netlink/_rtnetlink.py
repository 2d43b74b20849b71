# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rtnetlink as the kernel speaks it: messages are bytes, so that what was read can be given back unchanged.

The takeover keeps addresses and routes in a journal and sets them again. pyroute2 would decode and encode them, each
release in its own way, and lose what it does not know; it has no pedit either. This needs neither.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_ACK_TLVS = 0x200  # of an answer
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLMSGERR_ATTR_MSG = 1
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11
NLA_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_GETNSID, NETNSA_NSID, NETNSA_FD, NETNSA_NSID_NOT_ASSIGNED = 90, 1, 3, -1  # linux/net_namespace.h
RTM_GETNEXTHOP = 106
# linux/if.h, linux/if_arp.h
IFF_UP, IFF_LOOPBACK, IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST = 0x1, 0x8, 0x80, 0x100, 0x200, 0x1000
ARPHRD_ETHER = 1
# linux/if_link.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_TXQLEN, IFLA_OPERSTATE = 1, 3, 4, 5, 10, 13, 16
IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 18, 1, 2, 1
IFLA_AF_SPEC, IFLA_INET6_TOKEN, IFLA_INET6_ADDR_GEN_MODE = 26, 7, 8
IFLA_GROUP, IFLA_NET_NS_FD, IFLA_LINK_NETNSID, IFLA_XDP, IFLA_XDP_ATTACHED, IFLA_NEW_IFINDEX = 27, 28, 37, 43, 2, 49
IFINFOMSG = struct.Struct("BxHiII")  # family, type, index, flags, change
PATIENCE = 10.0  # seconds until the kernel must have answered

Attributes = list[tuple[int, bytes]]


class NetlinkError(NettapError):
    """What the kernel refused: errno, and as strerror its own words where it has any."""

    def __init__(self, number: int, words: str) -> None:
        super().__init__(f"The kernel refused a look at links, addresses, routes or filters, or a change of them ({words}): "
                         "look for its reason in the kernel's log (dmesg), then run the task again.")
        self.errno = number
        self.strerror = words


@dataclasses.dataclass(frozen=True)
class Link:
    """A link as one RTM_NEWLINK message tells; link and netnsid are IFLA_LINK and IFLA_LINK_NETNSID, None without."""

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


class Netlink:
    """A socket in the network namespace of fd; it stays there when we have left. A context manager, or close() it. Raises NetlinkError."""

    def __init__(self, fd: int) -> None:
        with _netns.entered(fd), _refusals():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            with _refusals():
                for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
                    self._socket.setsockopt(SOL_NETLINK, option, 1)
                self._socket.settimeout(PATIENCE)
                self._socket.bind((0, 0))
        except NetlinkError:
            self._socket.close()
            raise
        self._sequence = 0

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def request(self, kind: int, payload: bytes, flags: int = 0) -> None:
        """Has the kernel change something. Raises NetlinkError."""
        self._send(kind, payload, flags | NLM_F_REQUEST | NLM_F_ACK)
        for _answer in self._answers():
            pass

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """Everything of a kind, each message without its netlink header. Raises NetlinkError."""
        while True:
            self._send(kind, payload, NLM_F_REQUEST | NLM_F_DUMP)
            self._interrupted = False
            found = list(self._answers())
            if not self._interrupted:  # else something changed meanwhile: what we have may lack or repeat an entry
                return found

    def links(self) -> dict[str, Link]:
        """The links of the namespace by their names."""
        found = [parse_link(message) for message in self.dump(RTM_GETLINK, IFINFOMSG.pack(0, 0, 0, 0, 0))]
        return {link.name: link for link in found}

    def link(self, which: str | int) -> Link | None:
        """One link, by name or index; None when there is none."""
        by_name = attribute(IFLA_IFNAME, which) if isinstance(which, str) else b""
        self._send(RTM_GETLINK, IFINFOMSG.pack(0, 0, 0 if isinstance(which, str) else which, 0, 0) + by_name, NLM_F_REQUEST | NLM_F_ACK)
        try:
            return next(parse_link(answer) for answer in list(self._answers()))
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def nsid(self, fd: int) -> int | None:
        """The number by which this namespace knows that of fd (IFLA_LINK_NETNSID of a veth into it), None when it does not."""
        self._send(RTM_GETNSID, b"\0\0\0\0" + attribute(NETNSA_FD, fd), NLM_F_REQUEST | NLM_F_ACK)
        found = int(next(struct.unpack("=i", attributes_of(answer, 4)[NETNSA_NSID])[0] for answer in list(self._answers())))
        return None if found == NETNSA_NSID_NOT_ASSIGNED else found

    def set_link(self, index: int, *attributes: bytes, flags: int = 0, change: int = 0) -> None:
        """Changes a link: attributes as attribute() gives them; of the flags (IFF_…) those in change."""
        self.request(RTM_SETLINK, IFINFOMSG.pack(0, 0, index, flags, change) + b"".join(attributes))

    def delete_link(self, index: int) -> None:
        """Deletes a link; nothing happens when it is gone."""
        try:
            self.request(RTM_DELLINK, IFINFOMSG.pack(0, 0, index, 0, 0))
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def _send(self, kind: int, payload: bytes, flags: int) -> None:
        self._sequence += 1
        with _refusals():
            self._socket.sendto(struct.pack("=IHHII", 16 + len(payload), kind, flags, self._sequence, 0) + payload, (0, 0))

    def _answers(self) -> t.Iterator[bytes]:
        while True:
            with _refusals():
                data = self._socket.recv(1 << 18)
            while data:
                length, kind, flags, sequence, _port = struct.unpack_from("=IHHII", data)
                payload, data = data[16:length], data[(length + 3) & ~3:]
                if sequence != self._sequence:
                    continue
                if flags & NLM_F_DUMP_INTR:
                    self._interrupted = True
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    number = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
                    if number > 0:
                        # With NETLINK_CAP_ACK our message's header alone (16 bytes) follows the number.
                        said = attributes_of(payload, 20 if kind == NLMSG_ERROR else 4) if flags & NLM_F_ACK_TLVS else {}
                        raise NetlinkError(number, said.get(NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace") or os.strerror(number))
                    return
                yield payload


@contextlib.contextmanager
def _refusals() -> t.Iterator[None]:
    """Turn what the socket itself refuses into the same error as what the kernel answers."""
    try:
        yield
    except socket.timeout as error:
        raise NetlinkError(errno.ETIMEDOUT, "the kernel did not answer") from error
    except OSError as error:
        raise NetlinkError(error.errno or 0, error.strerror or str(error)) from error


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """A netlink attribute, padded; str becomes a C string, int an unsigned 32-bit number."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape") + b"\0"
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(payload: bytes, offset: int = 0) -> Attributes:
    """The attributes after a fixed header of offset bytes, in their order, their types with the flag bits."""
    found = []
    while offset + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, offset)
        if length < 4:
            break
        found.append((kind, payload[offset + 4:offset + length]))
        offset += (length + 3) & ~3
    return found


def attributes_of(payload: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes by type, without the flag bits."""
    return {kind & NLA_TYPE_MASK: value for kind, value in attributes(payload, offset)}


def number(value: bytes | None) -> int | None:
    """An unsigned 32-bit attribute; None stays None."""
    return None if value is None else int(struct.unpack("=I", value)[0])


def parse_link(message: bytes) -> Link:
    """Reads an RTM_NEWLINK message (without netlink header)."""
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
    """A C string; a link's name may hold bytes that are not UTF-8."""
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")


def mac_text(value: bytes) -> str:
    """A hardware address in the usual writing."""
    return ":".join(f"{byte:02x}" for byte in value)


def mac_bytes(value: str) -> bytes:
    """The bytes of a hardware address."""
    return bytes.fromhex(value.replace(":", ""))


def end(name: str, mtu: int, *more: bytes, index: int = 0) -> bytes:
    """One end of a new veth: its MTU in bytes, further attributes, and its index where the kernel is not to choose."""
    return IFINFOMSG.pack(0, 0, index, 0, 0) + attribute(IFLA_IFNAME, name) + attribute(IFLA_MTU, mtu) + b"".join(more)


def veth(near: bytes, far: bytes) -> bytes:
    """Payload of the RTM_NEWLINK that makes a veth of two ends; far may have IFLA_NET_NS_FD."""
    return near + attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, "veth") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, far)))
