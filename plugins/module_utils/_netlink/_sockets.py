# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network namespace serves and talks to: ports, connections, and the ports of its clients."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink import _inet
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

# A connection ends with its last FIN, or goes on one-way after the first.
_CONNECTED = ("established", "fin-wait-1", "fin-wait-2", "close-wait")
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
    tcp = {port for _own, port, _peer, _peer_port in _rows(fd, "tcp", ["listen"])}
    udp = {port for _own, port, _peer, _peer_port in _rows(fd, "udp", ["close"])}
    ephemeral = _ephemeral(fd)
    found = _rows(fd, "tcp", _CONNECTED) if connections else []
    return Sockets(sorted(tcp), sorted(udp), sorted(row for row in found if _unsure(row, tcp, ephemeral[0])), ephemeral)


def _unsure(row: Row, listening: t.Collection[int], ephemeral: int) -> bool:
    own, port, peer, peer_port = row
    return port not in listening and (port <= peer_port or peer_port >= ephemeral) and "." in own and "." in peer


def _rows(fd: int, protocol: str, states: t.Sequence[str]) -> list[Row]:
    """Return the sockets of both families in these states, without those of the loopback."""
    found = _inet.dump(fd, protocol, states)
    return [(one.own, one.port, one.peer, one.peer_port) for one in found if not ipaddress.ip_address(one.own).is_loopback]


def _ephemeral(fd: int) -> tuple[int, int]:
    try:
        with _netns.entered(fd), open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as stream:
            low, high = map(int, stream.read().split())
            return low, high
    except (OSError, ValueError):
        return _DEFAULT_RANGE
