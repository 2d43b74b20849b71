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

_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
_NETLINK_SOCK_DIAG = 4  # linux/netlink.h
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2 of linux/inet_diag.h: family, protocol, extensions, states; all sockets
_ANSWER = struct.Struct("=BBxx")  # struct inet_diag_msg: family, state; then ports and addresses in network order
_ID = struct.Struct("!HH16s16s")
# include/net/tcp_states.h. An unconnected UDP socket is in state CLOSE. A connection ends with its last FIN, or goes on one-way after the first.
_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE, _CLOSE_WAIT, _LISTEN = 1, 4, 5, 7, 8, 10
_CONNECTED = (_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT)
_DEFAULT_RANGE = (32768, 60999)  # net.ipv4.ip_local_port_range

Row = tuple[str, int, str, int]  # own address and port, peer's address and port


class Sockets(t.NamedTuple):
    """The sockets of a namespace, without those of its loopback: the ports on which TCP listens and on which UDP is bound without a peer,
    the IPv4 TCP connections whose own port nobody listens on (any more) and whose peer's port does not show that the peer is the server, and
    the range of ports that the kernel chooses from for clients.
    """

    tcp: list[int]
    udp: list[int]
    connections: list[Row]
    ephemeral: tuple[int, int]


def read(fd: int, connections: bool) -> Sockets:
    """Return the sockets in the namespace of fd. Without connections, do not look for these. Raise NettapError."""
    tcp = {port for _own, port, _peer, _peer_port in _rows(fd, socket.IPPROTO_TCP, (_LISTEN,))}
    udp = {port for _own, port, _peer, _peer_port in _rows(fd, socket.IPPROTO_UDP, (_CLOSE,))}
    ephemeral = _ephemeral(fd)
    found = _rows(fd, socket.IPPROTO_TCP, _CONNECTED) if connections else []
    return Sockets(sorted(tcp), sorted(udp), sorted(row for row in found if _unsure(row, tcp, ephemeral[0])), ephemeral)


def _unsure(row: Row, listening: t.Collection[int], ephemeral: int) -> bool:
    own, port, peer, peer_port = row
    return port not in listening and (port <= peer_port or peer_port >= ephemeral) and "." in own and "." in peer


def _rows(fd: int, protocol: int, states: t.Sequence[int]) -> list[Row]:
    """Return the sockets of both families in these states, without those of the loopback."""
    try:
        with Netlink(fd, _NETLINK_SOCK_DIAG) as netlink:
            found = []
            for family in (socket.AF_INET, socket.AF_INET6):
                for answer in netlink.dump(_SOCK_DIAG_BY_FAMILY, _REQUEST.pack(family, protocol, 0, sum(1 << state for state in states))):
                    size = 4 if _ANSWER.unpack_from(answer)[0] == socket.AF_INET else 16
                    port, peer_port, own, peer = _ID.unpack_from(answer, _ANSWER.size)
                    found.append((_text(own[:size]), port, _text(peer[:size]), peer_port))
    except NetlinkError as error:
        if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EINVAL):
            raise
        found = _from_proc(fd, "tcp" if protocol == socket.IPPROTO_TCP else "udp", states)
    return [row for row in found if not ipaddress.ip_address(row[0]).is_loopback]


def _from_proc(fd: int, name: str, states: t.Collection[int]) -> list[Row]:
    found = []
    for suffix in ("", "6"):
        refusals = refused_as(NamespaceError, "The sockets of the container cannot be read", "mount /proc, as root of the host itself")
        with _netns.entered(fd), refusals:
            try:
                with open(f"/proc/thread-self/net/{name}{suffix}", encoding="ascii") as table:
                    rows = [line.split() for line in table][1:]
            except FileNotFoundError:  # no IPv6 in the kernel
                continue
        # proc_net_tcp.rst of the kernel: sl local_address rem_address st …; addresses are words of the machine's byte order
        for _number, own, peer, state, *_rest in rows:
            if int(state, 16) in states:
                (address, port), (peer_address, peer_port) = own.split(":"), peer.split(":")
                found.append((_text(_words(address)), int(port, 16), _text(_words(peer_address)), int(peer_port, 16)))
    return found


def _words(text: str) -> bytes:
    return b"".join(struct.pack("=I", int(text[i:i + 8], 16)) for i in range(0, len(text), 8))


def _text(address: bytes) -> str:
    """Return an address as text, an IPv4 address of an IPv6 socket as IPv4."""
    one = ipaddress.ip_address(address)
    return str((one.ipv4_mapped or one) if isinstance(one, ipaddress.IPv6Address) else one)


def _ephemeral(fd: int) -> tuple[int, int]:
    try:
        with _netns.entered(fd), open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as stream:
            low, high = map(int, stream.read().split())
            return low, high
    except (OSError, ValueError):
        return _DEFAULT_RANGE
