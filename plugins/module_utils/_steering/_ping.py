# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pings from the host: the container's network as its clients see it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import struct
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import NDA_DST, NDA_LLADDR, NDMSG, RTM_GETNEIGH, attributes_of
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

_INTERVAL = 0.1  # seconds between two rounds of pings
# Family, protocol, type of the request and of the reply (RFC 792, RFC 4443)
_KINDS = ((4, socket.AF_INET, socket.IPPROTO_ICMP, 8, 0), (6, socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129))


def answering(namespace_fd: int, addresses: t.Iterable[str], seconds: float) -> set[str]:
    """Return those of the addresses that answer a ping from the namespace within so many seconds. Return as soon as all have answered."""
    wanted = {address for address in addresses if not ipaddress.ip_address(address).is_link_local}
    found: set[str] = set()
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        sockets = {}
        with _netns.entered(namespace_fd):
            for version, family, protocol, request, reply in _KINDS:
                with contextlib.suppress(OSError):  # no IPv6 in the kernel
                    one = stack.enter_context(socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol))
                    sockets[version] = (one, request, reply)
        poller = select.poll()
        for one, dummy, dummy in sockets.values():
            poller.register(one, select.POLLIN)
        next_round = 0.0
        sequence = 0
        while found != wanted and time.monotonic() < deadline:
            if time.monotonic() >= next_round:
                next_round = time.monotonic() + _INTERVAL
                sequence += 1
                for address in wanted - found:
                    with contextlib.suppress(OSError, KeyError):  # no route from the host: the address does not answer
                        one, request, _reply = sockets[ipaddress.ip_address(address).version]
                        one.sendto(_echo(request, sequence), (address, 0))
            poller.poll(max(0.0, min(next_round, deadline) - time.monotonic()) * 1000)
            for version, (one, dummy, reply) in sockets.items():
                found |= _replies(one, version, reply) & wanted
    return found


def of_others(namespace_fd: int, macs: t.Mapping[str, t.Collection[str]]) -> set[str]:
    """Return those of the addresses whose MAC in the namespace's neighbour table is not one that may have the address.

    macs maps each address to the MACs that may have it. Separate networks use the same addresses, such as those of every user of
    rootless Podman. Raise NetlinkError.
    """
    with Netlink(namespace_fd) as netlink:
        entries = [attributes_of(message, NDMSG.size) for message in netlink.dump(RTM_GETNEIGH, bytes(NDMSG.size))]
    entries = [entry for entry in entries if NDA_DST in entry and len(entry.get(NDA_LLADDR, b"")) == 6]
    known = {str(ipaddress.ip_address(entry[NDA_DST])): entry[NDA_LLADDR].hex(":") for entry in entries}
    return {address for address, allowed in macs.items() if address in known and known[address] not in allowed}


def _replies(one: socket.socket, version: int, reply: int) -> set[str]:
    found = set()
    with contextlib.suppress(BlockingIOError):
        while True:
            data, sender = one.recvfrom(256)
            # An IPv4 raw socket returns the IP header too.
            header = data[(data[0] & 15) * 4:] if version == 4 else data
            if len(header) >= 6 and header[0] == reply and struct.unpack_from("!H", header, 4)[0] == _identifier():
                found.add(sender[0])
    return found


def _identifier() -> int:
    return os.getpid() & 0xFFFF


def _echo(kind: int, sequence: int) -> bytes:
    """Return an echo request (RFC 792). For ICMPv6 the kernel sets the checksum."""
    body = struct.pack("!HH", _identifier(), sequence & 0xFFFF) + b"nettap.containers   "
    total = (kind << 8) + sum(struct.unpack(f"!{len(body) // 2}H", body))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", kind, 0, ~total & 0xFFFF) + body
