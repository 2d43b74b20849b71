# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of one interface: read whole, and applied to an interface that has just come into the namespace.

Messages are kept as the kernel's own bytes (hexadecimal, for JSON), without the values that only the kernel can set. Applying a
snapshot changes only what differs. So it may be repeated at any time: an interface that has all of the configuration stays as it is.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink as rt
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import attribute, attributes, attributes_of
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover import _sysctl
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

Snapshot = dict[str, t.Any]

AF_MPLS = 28
HZ = 100  # USER_HZ, the unit of the remaining time in RTA_CACHEINFO
# The flags of an address and of a neighbour that are settings
IFA_F_SETTABLE = rt.IFA_F_NODAD | rt.IFA_F_HOMEADDRESS | rt.IFA_F_MANAGETEMPADDR | rt.IFA_F_NOPREFIXROUTE | rt.IFA_F_MCAUTOJOIN
NTF_SETTABLE = rt.NTF_PROXY | rt.NTF_EXT_LEARNED | rt.NTF_ROUTER
NUD_DYNAMIC = rt.NUD_REACHABLE | rt.NUD_STALE | rt.NUD_DELAY | rt.NUD_PROBE

SIZES = ((rt.IFLA_MTU, "mtu"), (rt.IFLA_TXQLEN, "txqlen"), (rt.IFLA_GROUP, "group"))
CARRIER_SECONDS = 1.5  # the kernel reports carrier once a second
FLAGS = rt.IFF_UP | rt.IFF_NOARP | rt.IFF_PROMISC | rt.IFF_ALLMULTI | rt.IFF_MULTICAST
LAST = ("addr_gen_mode", "accept_dad")  # of net.ipv6.conf, set in this order once the addresses are there


def take(netlink: Netlink, fd: int, link: rt.Link) -> Snapshot:
    """Return the whole configuration of an interface in the namespace of fd, which is also that of netlink. Raise NetlinkError."""
    with _netns.entered(fd):
        sysctls = _sysctl.read(link.name)
    addresses = [_address(message) for message in _of(netlink, rt.RTM_GETADDR, bytes(rt.IFADDRMSG.size), link.index)]
    return {
        "name": link.name, "index": link.index, "mac": link.mac, "mtu": link.mtu, "txqlen": link.txqlen, "group": link.group,
        "flags": link.flags & FLAGS, "gen_mode": link.gen_mode, "token": link.token, "sysctls": sysctls,
        "addresses": [message.hex() for message in addresses],
        "routes": [message.hex() for message in _routes(netlink, link.index, {_own(message) for message in addresses})],
        "neighbours": [message.hex() for message in _neighbours(netlink, link.index)],
    }


def give(netlink: Netlink, fd: int, index: int, wanted: Snapshot) -> list[str]:
    """Apply all of a snapshot to an interface, which has its name already. Return a sentence for each setting that fails. Raise NetlinkError.

    IPv6 addresses are added without duplicate address detection. They were the interface's until a moment ago, and a
    tentative address receives nothing for a second or more.
    """
    return _Giving(netlink, fd, index, wanted).all()


class _Giving:
    def __init__(self, netlink: Netlink, fd: int, index: int, wanted: Snapshot) -> None:
        self.netlink = netlink
        self.fd = fd
        self.index = index
        self.wanted = wanted
        self.failed: list[str] = []

    def all(self) -> list[str]:
        inet6 = self.wanted["gen_mode"] is not None
        self._settings(inet6)
        self._addresses()
        if inet6:
            self._generation()
        self._routes()
        for text in self.wanted["neighbours"]:
            message = _indexed(rt.RTM_NEWNEIGH, bytes.fromhex(text), self.wanted["index"], self.index)
            what = f"the neighbour {_ip(attributes_of(message, rt.NDMSG.size).get(rt.NDA_DST, b''))}"
            self._set(what, rt.RTM_NEWNEIGH, message, rt.NLM_F_CREATE | rt.NLM_F_REPLACE)
        return self.failed

    def _link(self) -> rt.Link:
        link = self.netlink.link(self.index)
        if link is None:
            raise NetlinkError(errno.ENODEV, f"{self.wanted['name']} went away")
        return link

    def _settings(self, inet6: bool) -> None:
        """Set MTU and the like, then the sysctls, then the link up. The kernel makes no link-local address yet."""
        wanted, link = self.wanted, self._link()
        mac = attribute(rt.IFLA_ADDRESS, rt.mac_bytes(wanted["mac"])) if link.mac != wanted["mac"] else b""
        changed = mac + b"".join(attribute(kind, wanted[name]) for kind, name in SIZES if getattr(link, name) != wanted[name])
        if changed:
            self._set_link("its MAC, MTU, queue length or group", changed)
        early = {folder: {name: value for name, value in values.items() if name not in LAST} for folder, values in wanted["sysctls"].items()}
        with _netns.entered(self.fd):
            self.failed += _sysctl.write(wanted["name"], early)
            if inet6 and not link.flags & rt.IFF_UP:
                _sysctl.put(wanted["name"], "ipv6/conf", "accept_dad", "0")  # for the address that the kernel may make
                # Netlink changes the setting alone. A write to /proc/sys would also make an address at once.
                self._set_link("its IPv6 address generation", _inet6(rt.IFLA_INET6_ADDR_GEN_MODE, bytes([rt.IN6_ADDR_GEN_MODE_NONE])))
        if (link.flags & FLAGS) != wanted["flags"]:
            self._set_link("its flags", flags=wanted["flags"], change=FLAGS)

    def _generation(self) -> None:
        """Set how the kernel makes link-local addresses. The kernel then makes one; remove it if it was not there before."""
        wanted = self.wanted
        if wanted["flags"] & rt.IFF_UP and not any(_is_link_local(bytes.fromhex(text)) for text in wanted["addresses"]):
            self._await_carrier()  # else the kernel would make an address later, on carrier, though there was none before
        with _netns.entered(self.fd):
            conf = wanted["sysctls"].get("ipv6/conf", {})
            self.failed += _sysctl.write(wanted["name"], {"ipv6/conf": {name: conf[name] for name in LAST if name in conf}})
        if wanted["token"].strip("0"):
            self._set_link("its IPv6 token", _inet6(rt.IFLA_INET6_TOKEN, bytes.fromhex(wanted["token"])))
        self._addresses()

    def _await_carrier(self) -> None:
        deadline = time.monotonic() + CARRIER_SECONDS
        while time.monotonic() < deadline and self._link().operstate != rt.IF_OPER_UP:
            time.sleep(0.02)

    def _addresses(self) -> None:
        wanted = [_indexed(rt.RTM_NEWADDR, bytes.fromhex(text), self.wanted["index"], self.index) for text in self.wanted["addresses"]]
        identities = {_identity(message) for message in wanted}
        there = {}
        for raw in _of(self.netlink, rt.RTM_GETADDR, bytes(rt.IFADDRMSG.size), self.index):
            message = _address(raw)
            if _identity(message) in identities or (raw[0] == socket.AF_INET6 and _flags(raw) & rt.IFA_F_TEMPORARY):
                there[_identity(message)] = raw
            else:
                self._set(f"the absence of {_said(message, rt.IFADDRMSG)}", rt.RTM_DELADDR, message)
        for message in (m for m in wanted if m[0] == socket.AF_INET):
            if _identity(message) not in there:
                self._set(f"the address {_said(message, rt.IFADDRMSG)}", rt.RTM_NEWADDR, message, rt.NLM_F_CREATE | rt.NLM_F_EXCL)
        for message in (m for m in reversed(wanted) if m[0] == socket.AF_INET6):  # the kernel puts a new address before similar ones
            found = there.get(_identity(message))
            if found is None or (_flags(found) ^ _flags(message)) & rt.IFA_F_NODAD:
                self._add_inet6(message)

    def _add_inet6(self, message: bytes) -> None:
        if _flags(message) & rt.IFA_F_STABLE_PRIVACY and self._link().gen_mode == rt.IN6_ADDR_GEN_MODE_NONE != self.wanted["gen_mode"]:
            return  # only the kernel can make an address with that flag: _generation has it made
        what = f"the address {_said(message, rt.IFADDRMSG)}"
        self._set(what, rt.RTM_NEWADDR, _with_flags(message, _flags(message) | rt.IFA_F_NODAD), rt.NLM_F_CREATE | rt.NLM_F_REPLACE)
        if not _flags(message) & rt.IFA_F_NODAD:
            self._set(what, rt.RTM_NEWADDR, message, rt.NLM_F_REPLACE)  # removes the flag again

    def _routes(self) -> None:
        own = {_own(bytes.fromhex(text)) for text in self.wanted["addresses"]}
        wanted = [_indexed(rt.RTM_NEWROUTE, bytes.fromhex(text), self.wanted["index"], self.index) for text in self.wanted["routes"]]
        there = [_lasting(message) for message in _routes(self.netlink, self.index, own)]
        lasting = {_lasting(message) for message in wanted}
        for message in there:
            if message not in lasting:
                self._set(f"the absence of the route {_said(message, rt.RTMSG)}", rt.RTM_DELROUTE, message)
        missing = [message for message in wanted if _lasting(message) not in there]
        while missing:  # the route to a gateway may come later in the kernel's order
            errors = [(message, error) for message, error in ((message, self._add_route(message)) for message in missing) if error]
            if len(errors) == len(missing):
                self.failed += [f"the route {_said(message, rt.RTMSG)} cannot be set ({error.strerror})" for message, error in errors]
                return
            missing = [message for message, _error in errors]

    def _add_route(self, message: bytes) -> NetlinkError | None:
        # The hops of an IPv6 multipath route over other interfaces may be left: the whole route replaces them.
        partly = message[0] == socket.AF_INET6 and rt.RTA_MULTIPATH in attributes_of(message, rt.RTMSG.size)
        try:
            self.netlink.request(rt.RTM_NEWROUTE, message, rt.NLM_F_CREATE | (rt.NLM_F_REPLACE if partly else rt.NLM_F_APPEND))
        except NetlinkError as error:
            return None if error.errno == errno.EEXIST else error
        return None

    def _set(self, what: str, kind: int, message: bytes, flags: int = 0) -> None:
        try:
            self.netlink.request(kind, message, flags)
        except NetlinkError as error:
            self.failed.append(f"{what} cannot be set ({error.strerror})")

    def _set_link(self, what: str, attributes: bytes = b"", flags: int = 0, change: int = 0) -> None:
        self._set(what, rt.RTM_SETLINK, rt.IFINFOMSG.pack(0, 0, self.index, flags, change) + attributes)


def _of(netlink: Netlink, kind: int, request: bytes, index: int) -> list[bytes]:
    """Return the IP messages of a dump that are about an interface. ifaddrmsg and ndmsg have its index at offset 4. Raise NetlinkError."""
    found = netlink.dump(kind, request)
    return [message for message in found if message[0] in (socket.AF_INET, socket.AF_INET6) and struct.unpack_from("=i", message, 4)[0] == index]


def _address(message: bytes) -> bytes:
    """Return an address without its creation time, with only the flags that are settings, and the privacy flag."""
    family, length, _flags8, scope, index = rt.IFADDRMSG.unpack_from(message)
    kept = IFA_F_SETTABLE | (rt.IFA_F_STABLE_PRIVACY if family == socket.AF_INET6 else 0)
    out = rt.IFADDRMSG.pack(family, length, 0, scope, index)
    for kind, value in attributes(message, rt.IFADDRMSG.size):
        if kind == rt.IFA_CACHEINFO:
            value = value[:8] + bytes(8)  # keep the preferred and valid lifetimes, in seconds; drop the times of creation and update
        elif kind == rt.IFA_FLAGS:
            value = struct.pack("=I", struct.unpack("=I", value)[0] & kept)
        out += attribute(kind, value)
    return out


def _flags(message: bytes) -> int:
    return rt.number(attributes_of(message, rt.IFADDRMSG.size).get(rt.IFA_FLAGS)) or 0


def _with_flags(message: bytes, flags: int) -> bytes:
    kept = b"".join(attribute(kind, value) for kind, value in attributes(message, rt.IFADDRMSG.size) if kind != rt.IFA_FLAGS)
    return message[:rt.IFADDRMSG.size] + kept + attribute(rt.IFA_FLAGS, flags)


def _own(message: bytes) -> bytes:
    found = attributes_of(message, rt.IFADDRMSG.size)
    return found.get(rt.IFA_LOCAL, found.get(rt.IFA_ADDRESS, b""))


def _is_link_local(message: bytes) -> bool:
    return message[0] == socket.AF_INET6 and ipaddress.IPv6Address(_own(message)).is_link_local


def _identity(message: bytes) -> bytes:
    """Return the identity of an address: all but its lifetimes, and for IPv6 its flags, which can be changed."""
    ignored = (rt.IFA_CACHEINFO,) if message[0] == socket.AF_INET else (rt.IFA_CACHEINFO, rt.IFA_FLAGS)
    return message[:2] + b"".join(attribute(kind, value) for kind, value in attributes(message, rt.IFADDRMSG.size) if kind not in ignored)


def _routes(netlink: Netlink, index: int, own: set[bytes]) -> list[bytes]:
    """Return the routes of an interface: those over it, and those from its addresses, without those that the kernel keeps itself. Raise NetlinkError."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6, AF_MPLS):
        for message in netlink.dump(rt.RTM_GETROUTE, rt.RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            told, dst, src, tos, table, protocol, scope, kind, flags = rt.RTMSG.unpack_from(message)
            if told != family or flags & rt.RTM_F_CLONED or (table == rt.RT_TABLE_LOCAL and protocol == rt.RTPROT_KERNEL):
                continue  # without support for a family, the kernel returns the routes of all others
            parts = attributes_of(message, rt.RTMSG.size)
            hops = [] if rt.RTA_MULTIPATH not in parts else [hop[3] for hop, _rest in _hops(parts[rt.RTA_MULTIPATH])]
            if index in hops or rt.number(parts.get(rt.RTA_OIF)) == index or parts.get(rt.RTA_PREFSRC, b"-") in own:
                out = rt.RTMSG.pack(told, dst, src, tos, table, protocol, scope, kind, flags & rt.RTNH_F_ONLINK)
                found.append(out + b"".join(_route_attribute(kind, value) for kind, value in attributes(message, rt.RTMSG.size)))
    return found


def _route_attribute(kind: int, value: bytes) -> bytes:
    if kind & rt.NLA_TYPE_MASK == rt.RTA_MULTIPATH:
        value = b"".join(rt.RTNEXTHOP.pack(hop[0], hop[1] & rt.RTNH_F_ONLINK, *hop[2:]) + rest for hop, rest in _hops(value))
    if kind & rt.NLA_TYPE_MASK == rt.RTA_CACHEINFO:
        expires = struct.unpack_from("=i", value, 8)[0]
        return attribute(rt.RTA_EXPIRES, max(expires // HZ, 1)) if expires > 0 else b""
    return attribute(kind, value)


def _hops(value: bytes) -> t.Iterator[tuple[tuple[int, int, int, int], bytes]]:
    while len(value) >= rt.RTNEXTHOP.size:
        hop = rt.RTNEXTHOP.unpack_from(value)
        yield hop, value[rt.RTNEXTHOP.size:(hop[0] + 3) & ~3]
        value = value[(hop[0] + 3) & ~3:]


def _lasting(message: bytes) -> bytes:
    """Return a route without its time to live, for comparison."""
    return message[:rt.RTMSG.size] + b"".join(attribute(kind, value) for kind, value in attributes(message, rt.RTMSG.size) if kind != rt.RTA_EXPIRES)


def _neighbours(netlink: Netlink, index: int) -> list[bytes]:
    """Return permanent, learned and proxy neighbours, without the kernel's entries for groups and failed attempts. Raise NetlinkError."""
    found = []
    for flags in (0, rt.NTF_PROXY):
        for message in _of(netlink, rt.RTM_GETNEIGH, rt.NDMSG.pack(0, 0, 0, flags, 0), index):
            family, _index, state, told, kind = rt.NDMSG.unpack_from(message)
            parts = attributes_of(message, rt.NDMSG.size)
            if state & NUD_DYNAMIC:
                state = rt.NUD_STALE  # usable at once; the first answer confirms it
            if (told & rt.NTF_PROXY) != flags or rt.NDA_DST not in parts:
                continue
            group = ipaddress.ip_address(parts[rt.NDA_DST]).is_multicast or parts.get(rt.NDA_LLADDR, b"\0")[:1] == b"\xff"
            if flags or state in (rt.NUD_STALE, rt.NUD_PERMANENT) or (state == rt.NUD_NOARP and not group):
                kept = (rt.NDA_DST, rt.NDA_LLADDR, rt.NDA_PROTOCOL, rt.NDA_FLAGS_EXT)
                found.append(rt.NDMSG.pack(family, index, rt.NUD_PERMANENT if flags else state, told & NTF_SETTABLE, kind)
                             + b"".join(attribute(number, parts[number]) for number in kept if number in parts))
    return found


def _indexed(kind: int, message: bytes, old: int, new: int) -> bytes:
    """Return the message with another interface index."""
    if old == new:
        return message
    if kind != rt.RTM_NEWROUTE:
        return message[:4] + struct.pack("=i", new) + message[8:]
    out = message[:rt.RTMSG.size]
    for number, value in attributes(message, rt.RTMSG.size):
        if number == rt.RTA_OIF and rt.number(value) == old:
            value = struct.pack("=I", new)
        elif number & rt.NLA_TYPE_MASK == rt.RTA_MULTIPATH:
            value = b"".join(rt.RTNEXTHOP.pack(*hop[:3], new if hop[3] == old else hop[3]) + rest for hop, rest in _hops(value))
        out += attribute(number, value)
    return out


def _inet6(kind: int, value: bytes) -> bytes:
    return attribute(rt.IFLA_AF_SPEC, attribute(socket.AF_INET6, attribute(kind, value)))


def _said(message: bytes, header: struct.Struct) -> str:
    """Return an address or a route as a person writes it. Both have the length in the second byte, and IFA_ADDRESS equals RTA_DST."""
    return f"{_ip(attributes_of(message, header.size).get(rt.RTA_DST, b'')) or 'default'}/{message[1]}"


def _ip(value: bytes) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return ""
