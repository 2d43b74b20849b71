# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TCP and UDP sockets of a network namespace, by sock_diag(7), or from /proc where the kernel has no such module.

The kernel has one table of established connections for all namespaces, and /proc/net/tcp reads it from end to end: milliseconds on a large host.
A dump of listening sockets alone reads a short table.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

# include/net/tcp_states.h. An unconnected UDP socket is in state CLOSE.
STATES = {1: "established", 2: "syn-sent", 3: "syn-received", 4: "fin-wait-1", 5: "fin-wait-2", 6: "time-wait", 7: "close", 8: "close-wait",
          9: "last-ack", 10: "listen", 11: "closing"}
NUMBERS = {name: number for number, name in STATES.items()}
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
_NETLINK_SOCK_DIAG = 4  # linux/netlink.h
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2 of linux/inet_diag.h: family, protocol, extensions, states; all sockets
# struct inet_diag_msg: family, state, timer, retransmissions; then ports and addresses in network order; interface, cookie; figures
_HEADER, _ID, _FIGURES = struct.Struct("=BBxx"), struct.Struct("!HH16s16s"), struct.Struct("=12xIIIII")


class Socket(t.NamedTuple):
    """A socket: its state by name, both addresses as text (an IPv4 address of an IPv6 socket as IPv4) and ports, and its owner.

    The queues are in bytes. Of a listening TCP socket they are the connections that wait to be accepted, and how many may wait.
    inode is 0 where no process has the socket open any more.
    """

    protocol: str
    state: str
    own: str
    port: int
    peer: str
    peer_port: int
    receive_queue: int
    send_queue: int
    uid: int
    inode: int


def dump(fd: int, protocol: str, states: t.Collection[str] = tuple(NUMBERS)) -> list[Socket]:
    """Return the sockets of a protocol (tcp or udp) in these states, IPv4 and IPv6, in the namespace of fd. Raise NettapError."""
    mask = sum(1 << NUMBERS[state] for state in states)
    found = []
    try:
        with Netlink(fd, _NETLINK_SOCK_DIAG) as netlink:
            for family in (socket.AF_INET, socket.AF_INET6):
                for answer in netlink.dump(_SOCK_DIAG_BY_FAMILY, _REQUEST.pack(family, PROTOCOLS[protocol], 0, mask)):
                    found.append(_parse(protocol, answer))
    except NetlinkError as error:
        if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EINVAL):
            raise
        return [one for one in _from_proc(fd, protocol) if one.state in states]
    return found


def _parse(protocol: str, answer: bytes) -> Socket:
    family, state = _HEADER.unpack_from(answer)
    size = 4 if family == socket.AF_INET else 16
    port, peer_port, own, peer = _ID.unpack_from(answer, _HEADER.size)
    _expires, receive, send, uid, inode = _FIGURES.unpack_from(answer, _HEADER.size + _ID.size)
    return Socket(protocol, STATES.get(state, str(state)), _text(own[:size]), port, _text(peer[:size]), peer_port, receive, send, uid, inode)


def _from_proc(fd: int, protocol: str) -> list[Socket]:
    found = []
    for suffix in ("", "6"):
        refusals = refused_as(NamespaceError, "The sockets of the container cannot be read", "mount /proc, as root of the host itself")
        with _netns.entered(fd), refusals:
            try:
                with open(f"/proc/thread-self/net/{protocol}{suffix}", encoding="ascii") as table:
                    rows = [line.split() for line in table][1:]
            except FileNotFoundError:  # no IPv6 in the kernel
                continue
        # proc_net_tcp.rst of the kernel: sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode
        for _number, own, peer, state, queues, _timer, _retransmissions, uid, _timeout, inode, *_rest in rows:
            send, receive = (int(text, 16) for text in queues.split(":"))
            name = STATES.get(int(state, 16), state)
            found.append(Socket(protocol, name, *_place(own), *_place(peer), receive, send, int(uid), int(inode)))
    return found


def _place(text: str) -> tuple[str, int]:
    """Return address and port; in the address, each word is in the machine's byte order."""
    address, dummy, port = text.partition(":")
    return _text(b"".join(struct.pack("=I", int(address[i:i + 8], 16)) for i in range(0, len(address), 8))), int(port, 16)


def _text(address: bytes) -> str:
    one = ipaddress.ip_address(address)
    return str((one.ipv4_mapped or one) if isinstance(one, ipaddress.IPv6Address) else one)
