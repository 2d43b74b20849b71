# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tc u32 filters with the actions mirred, pedit and gact: encoded for the kernel, read back from it, counted, probed.

u32 and pedit work on 32-bit words at offsets that are multiples of four, from the network header. The Ethernet header
is at -14, so its first word is at -16. The words here are those that tc(8) makes of `match u16 … at -14` and `munge offset -14`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink as rt
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _tc as tc
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import attribute, attributes_of
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

PROTOCOLS = {tc.ETH_P_IP: "ip", tc.ETH_P_IPV6: "ipv6", tc.ETH_P_ALL: "all"}
DESTINATION, SOURCE = -14, -8  # of the MAC addresses

Word = tuple[int, int, int]  # offset, value, mask: the bits that a match compares, or that pedit keeps
# Source or destination in 169.254.0.0/16 (RFC 3927), of an IPv4 header (RFC 791)
LINK_LOCAL: tuple[Word, Word] = (12, 0xA9FE0000, 0xFFFF0000), (16, 0xA9FE0000, 0xFFFF0000)
_LIBC = ctypes.CDLL(None, use_errno=True)


class Filter(t.NamedTuple):
    """A filter at ingress. Without redirect (an ifindex) it drops. rewrite is done before the redirect."""

    pref: int
    protocol: int
    matches: tuple[Word, ...]
    redirect: int | None = None
    rewrite: tuple[Word, ...] = ()

    def same(self, found: dict[str, t.Any]) -> bool:
        """Return whether a decoded filter is this one."""
        return (found["pref"] == self.pref and found["protocol"] == PROTOCOLS[self.protocol] and _rewriting(found) == self.rewrite
                and found["matches"] == list(self.matches or ((0, 0, 0),)) and redirected(found) == self.redirect)


def match_mac(where: int, mac: str, unicast: bool = False) -> tuple[Word, ...]:
    """Return the words that match a MAC (where: DESTINATION or SOURCE). With unicast, they also match only destinations that are no group addresses."""
    given = {where + position: (byte, 0xFF) for position, byte in enumerate(rt.mac_bytes(mac))}
    if unicast:
        value, mask = given.get(DESTINATION, (0, 0))
        given[DESTINATION] = (value & 0xFE, mask | 0x01)
    return _words(given)


def match_ip_protocol(number: int) -> Word:
    """Return the word that matches the protocol of an IPv4 header."""
    return 8, number << 16, 0x00FF0000


def write_mac(where: int, mac: str) -> tuple[Word, ...]:
    """Return the pedit keys that set a MAC (where: DESTINATION or SOURCE)."""
    words = _words({where + position: (byte, 0xFF) for position, byte in enumerate(rt.mac_bytes(mac))})
    return tuple((offset, value, mask ^ 0xFFFFFFFF) for offset, value, mask in words)


def _words(given: dict[int, tuple[int, int]]) -> tuple[Word, ...]:
    words: dict[int, tuple[int, int]] = {}
    for offset, (value, mask) in given.items():
        shift = 8 * (3 - offset % 4)
        before = words.get(offset - offset % 4, (0, 0))
        words[offset - offset % 4] = (before[0] | value << shift, before[1] | mask << shift)
    return tuple((offset, *words[offset]) for offset in sorted(words))


def encode(wanted: Filter, ifindex: int) -> bytes:
    """Return the tcmsg and attributes of an RTM_NEWTFILTER. The kernel chooses the handle."""
    actions = []
    if wanted.rewrite:
        # tc_pedit_key: mask and value in wire order, then off, at, offmask, shift.
        keys = b"".join(struct.pack(">II", mask, value) + struct.pack("=iIII", offset, 0, 0, 0) for offset, value, mask in wanted.rewrite)
        actions.append(_action("pedit", tc.GEN.pack(0, 0, tc.TC_ACT_PIPE, 0, 0) + struct.pack("=BBxx", len(wanted.rewrite), 0) + keys))
    if wanted.redirect is None:
        actions.append(_action("gact", tc.GEN.pack(0, 0, tc.TC_ACT_SHOT, 0, 0)))
    else:
        actions.append(_action("mirred", tc.GEN.pack(0, 0, tc.TC_ACT_STOLEN, 0, 0) + struct.pack("=iI", tc.TCA_EGRESS_REDIR, wanted.redirect)))
    matches = wanted.matches or ((0, 0, 0),)
    selector = tc.SEL.pack(tc.TC_U32_TERMINAL, 0, len(matches), 0, 0, 0, 0, 0)
    selector += b"".join(struct.pack(">II", mask, value) + struct.pack("=ii", offset, 0) for offset, value, mask in matches)
    numbered = b"".join(attribute(position, action) for position, action in enumerate(actions, 1))
    options = attribute(tc.TCA_U32_ACT, numbered) + attribute(tc.TCA_U32_SEL, selector)
    return tc.tcmsg(ifindex, tc.INGRESS_PARENT, pref=wanted.pref, protocol=wanted.protocol) + attribute(tc.TCA_KIND, "u32") + attribute(tc.TCA_OPTIONS, options)


def _action(kind: str, parameters: bytes) -> bytes:
    # As tc(8) does, with the flag on an action's options alone.
    return attribute(tc.TCA_ACT_KIND, kind) + attribute(tc.TCA_ACT_OPTIONS | rt.NLA_F_NESTED, attribute(tc.TCA_PARMS, parameters))


def described(one: Filter) -> dict[str, t.Any]:
    """Return a filter in the form that decode returns, without handle and counters."""
    actions: list[dict[str, t.Any]] = [{"kind": "pedit", "keys": list(one.rewrite)}] if one.rewrite else []
    actions.append({"kind": "drop"} if one.redirect is None else {"kind": "mirred", "action": "redirect", "ifindex": one.redirect})
    return {"pref": one.pref, "protocol": PROTOCOLS[one.protocol], "matches": list(one.matches or ((0, 0, 0),)), "actions": actions}


def number_of(protocol: str | int) -> int:
    """Return the number of a protocol that decode has named."""
    return next((number for number, name in PROTOCOLS.items() if name == protocol), t.cast(int, protocol))


def decode(message: bytes) -> dict[str, t.Any] | None:
    """Return the u32 filter of an RTM_NEWTFILTER message (without netlink header), None for another kind or a hash table.

    {pref, protocol (ip | ipv6 | all | number), handle, matches: [(offset, value, mask)], actions: [{kind: pedit,
    keys: [(offset, value, mask)]} | {kind: mirred, action: redirect | mirror, ifindex} | {kind: drop} | {kind}],
    packets, bytes}. The counters are the last action's.
    """
    _family, _ifindex, handle, _parent, info = tc.TCMSG.unpack_from(message)
    found = attributes_of(message, tc.TCMSG.size)
    options = attributes_of(found.get(tc.TCA_OPTIONS, b""))
    if rt.text(found.get(tc.TCA_KIND, b"")) != "u32" or tc.TCA_U32_SEL not in options:
        return None
    selector = options[tc.TCA_U32_SEL]
    matches = []
    for position in range(tc.SEL.unpack_from(selector)[2]):
        mask, value = struct.unpack_from(">II", selector, tc.SEL.size + 16 * position)
        matches.append((struct.unpack_from("=i", selector, tc.SEL.size + 16 * position + 8)[0], value, mask))
    actions = []
    packets = size = 0
    for _position, action in sorted(attributes_of(options.get(tc.TCA_U32_ACT, b"")).items()):
        parts = attributes_of(action)
        actions.append(_decode_action(rt.text(parts.get(tc.TCA_ACT_KIND, b"")), attributes_of(parts.get(tc.TCA_ACT_OPTIONS, b""))))
        statistics = attributes_of(parts.get(tc.TCA_ACT_STATS, b""))
        size, packets = struct.unpack_from("=QI", statistics.get(tc.TCA_STATS_BASIC, bytes(12)))
        if tc.TCA_STATS_PKT64 in statistics:  # only if 32 bits cannot hold the number
            packets = struct.unpack("=Q", statistics[tc.TCA_STATS_PKT64])[0]
    protocol = socket.ntohs(info & 0xFFFF)
    return {"pref": info >> 16, "protocol": PROTOCOLS.get(protocol, protocol), "handle": handle, "matches": matches, "actions": actions,
            "packets": packets, "bytes": size}


def _decode_action(kind: str, options: dict[int, bytes]) -> dict[str, t.Any]:
    parameters = options.get(tc.TCA_PARMS, options.get(tc.TCA_PEDIT_PARMS_EX, b""))
    if kind == "mirred":
        eaction, ifindex = struct.unpack_from("=iI", parameters, tc.GEN.size)
        return {"kind": kind, "action": {tc.TCA_EGRESS_REDIR: "redirect", tc.TCA_EGRESS_MIRROR: "mirror"}.get(eaction, eaction), "ifindex": ifindex}
    if kind == "pedit":
        keys = []
        for position in range(parameters[tc.GEN.size]):
            mask, value = struct.unpack_from(">II", parameters, tc.GEN.size + 4 + 24 * position)
            keys.append((struct.unpack_from("=i", parameters, tc.GEN.size + 12 + 24 * position)[0], value, mask))
        return {"kind": kind, "keys": keys}
    if kind == "gact" and parameters and tc.GEN.unpack_from(parameters)[2] == tc.TC_ACT_SHOT:
        return {"kind": "drop"}
    return {"kind": kind}


def redirected(found: dict[str, t.Any]) -> int | None:
    """Return the ifindex that a decoded filter redirects to, None if it does not redirect."""
    return next((action["ifindex"] for action in found["actions"] if action.get("action") == "redirect"), None)


def _rewriting(found: dict[str, t.Any]) -> tuple[Word, ...]:
    return tuple(key for action in found["actions"] for key in action.get("keys", ()))


def add(netlink: Netlink, ifindex: int, wanted: Filter) -> None:
    """Add a filter beside those that are there. Raise NetlinkError."""
    netlink.request(rt.RTM_NEWTFILTER, encode(wanted, ifindex), rt.NLM_F_CREATE | rt.NLM_F_EXCL)


def delete(netlink: Netlink, ifindex: int, pref: int, protocol: int, handle: int = 0) -> None:
    """Delete one filter, or without handle all of that pref and protocol. Do nothing when there is none. Raise NetlinkError."""
    kind = attribute(tc.TCA_KIND, "u32") if handle else b""
    try:
        netlink.request(rt.RTM_DELTFILTER, tc.tcmsg(ifindex, tc.INGRESS_PARENT, handle, pref, protocol) + kind)
    except NetlinkError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):  # EINVAL: there is no ingress qdisc
            raise


def read(netlink: Netlink, ifindex: int) -> list[dict[str, t.Any]]:
    """Return the u32 filters at ingress of a link in the kernel's order, none when there is no ingress qdisc. Raise NetlinkError."""
    try:
        messages = netlink.dump(rt.RTM_GETTFILTER, tc.tcmsg(ifindex, tc.INGRESS_PARENT))
    except NetlinkError as error:
        if error.errno in (errno.EINVAL, errno.ENODEV, errno.ENOENT):
            return []
        raise
    return [found for found in map(decode, messages) if found is not None]


def add_ingress(netlink: Netlink, ifindex: int) -> None:
    """Add an ingress qdisc to a link. Keep one that is there, also a clsact, whose ingress works as well. Raise NetlinkError."""
    payload = tc.tcmsg(ifindex, tc.TC_H_INGRESS, tc.INGRESS_HANDLE) + attribute(tc.TCA_KIND, "ingress")
    try:
        netlink.request(rt.RTM_NEWQDISC, payload, rt.NLM_F_CREATE | rt.NLM_F_EXCL)
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise


def missing(tag: bool, drop: bool) -> list[str]:
    """Return the names of the missing kernel features: sch_ingress, cls_u32, act_mirred; for tag mode act_pedit; to drop IPv6 act_gact.

    Each is tried on the loopback of a scratch network namespace, because only this also covers modules that are not loaded yet.
    Raise NamespaceError.
    """
    with refused_as(NamespaceError, "No scratch network namespace can be made", "run as root of the host itself, with room for open files (ulimit -n)"):
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with _netns.entered(own):  # which returns to the own namespace
                if _LIBC.unshare(_netns.CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                scratch = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(own)
    try:
        with Netlink(scratch) as netlink:
            return _missing(netlink, tag, drop)
    finally:
        os.close(scratch)


def _missing(netlink: Netlink, tag: bool, drop: bool) -> list[str]:
    mac, lo = "02:00:00:00:00:01", 1
    try:
        add_ingress(netlink, lo)
    except NetlinkError:
        return ["sch_ingress"]
    bare = tc.tcmsg(lo, tc.INGRESS_PARENT, pref=1, protocol=tc.ETH_P_IP) + attribute(tc.TCA_KIND, "u32")
    selector = attribute(tc.TCA_OPTIONS, attribute(tc.TCA_U32_SEL, tc.SEL.pack(tc.TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + bytes(16)))
    tries: list[tuple[str, bytes]] = [("cls_u32", bare + selector), ("act_mirred", encode(Filter(2, tc.ETH_P_IP, (), lo), lo))]
    if tag:
        tries.append(("act_pedit", encode(Filter(3, tc.ETH_P_IP, match_mac(DESTINATION, mac), lo, write_mac(DESTINATION, mac)), lo)))
    if drop:
        tries.append(("act_gact", encode(Filter(4, tc.ETH_P_IP, ()), lo)))
    lacking = []
    for name, payload in tries:
        try:
            netlink.request(rt.RTM_NEWTFILTER, payload, rt.NLM_F_CREATE | rt.NLM_F_EXCL)
        except NetlinkError:
            lacking.append(name)
    return lacking
