# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic between the host and a container's network namespace, with both ends of it ours: what an engine may drop although pings pass.

Each probe has a TCP connection that is established before anything is changed, and a UDP socket at each end. No process of the container and
nobody else sees any of it. The client's port is smaller than the server's, because some engines take the smaller one for the server's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import itertools
import os
import select
import socket
import struct
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

UDP, FULL_SIZE, CONNECTION = "UDP", "UDP packets of the full MTU", "an established TCP connection"
_CLIENT_PORTS, _SERVER_PORTS = (10000, 19999), (20000, 29999)  # below the kernel's choice for clients, which begins at 32768
_TRIES = 20  # ports that may be taken already
_NUMBERS = itertools.count(step=101)
_INTERVAL = 0.1  # seconds between two rounds of datagrams
_HEADERS = {4: 20 + 8, 6: 40 + 8}  # bytes of IP and UDP
# TCP data of a round in each direction: as much as fills so many packets, but no more than the smallest usual buffers hold
_SEGMENTS, _MOST = 4, 1 << 16


class Probe:
    """The sockets of one address of a container. host_fd and container_fd are of the namespaces. mtu is the interface's. Making one raises OSError."""

    def __init__(self, host_fd: int, container_fd: int, address: str, mtu: int) -> None:
        self.address = address
        version = ipaddress.ip_address(address).version
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._sizes = {UDP: 64, FULL_SIZE: mtu - _HEADERS[version]}
        self._amount = min(mtu * _SEGMENTS, _MOST)
        self._undo = contextlib.ExitStack()
        try:
            with _netns.entered(container_fd):
                self._udp_server = self._open(socket.SOCK_DGRAM, address, _SERVER_PORTS)
                self._listener = self._open(socket.SOCK_STREAM, address, _SERVER_PORTS)
                self._listener.listen(1)
            with _netns.entered(host_fd):
                self._udp_client = self._open(socket.SOCK_DGRAM, "", _CLIENT_PORTS)
                self._client = self._open(socket.SOCK_STREAM, "", _CLIENT_PORTS)
            self._udp_client.connect(self._udp_server.getsockname()[:2])
            self._client.connect_ex(self._listener.getsockname()[:2])
        except BaseException:
            self.close()
            raise
        self._server: socket.socket | None = None
        self._round = 0
        self._left = {"client": 0, "server": 0}  # bytes of TCP that this round has still to bring

    def close(self) -> None:
        """Close all sockets."""
        self._undo.close()

    @property
    def ports(self) -> dict[str, int]:
        """Return the servers' ports, by protocol (tcp, udp)."""
        return {"tcp": self._listener.getsockname()[1], "udp": self._udp_server.getsockname()[1]}

    def filenos(self) -> list[int]:
        """Return the descriptors to poll for what comes in."""
        sockets = (self._udp_server, self._udp_client, self._listener, self._client, self._server)
        return [one.fileno() for one in sockets if one is not None]

    def begin(self) -> None:
        """Begin a round: send as much over the connection in each direction as fills several packets."""
        self._round += 1
        self._left = {"client": self._amount, "server": self._amount}
        for one in (self._client, self._server):
            self._fill(one)

    def _fill(self, one: socket.socket | None) -> None:
        """Send this round's TCP data, whose every byte is the round's number."""
        if one is not None:
            with contextlib.suppress(OSError):  # not connected yet, or no longer
                one.send(bytes([self._round]) * self._amount)

    def send(self) -> None:
        """Send the datagrams of this round."""
        for size in self._sizes.values():
            with contextlib.suppress(OSError):  # no route, or a longer packet than the host's link takes
                self._udp_client.send(self._round.to_bytes(4, "big").ljust(size, b"\0"))

    def passed(self) -> set[str]:
        """Read what has come in, answer it, and return what has passed there and back since the last call."""
        found = set()
        with contextlib.suppress(OSError):
            if self._server is None:
                self._server = self._undo.enter_context(self._listener.accept()[0])
                self._prepare(self._server)
                self._fill(self._server)
                self._fill(self._client)
        with contextlib.suppress(OSError):
            while True:
                data, peer = self._udp_server.recvfrom(1 << 16)
                self._udp_server.sendto(data, peer)
        with contextlib.suppress(OSError):
            while True:
                data = self._udp_client.recv(1 << 16)
                if int.from_bytes(data[:4], "big") == self._round:
                    found |= {kind for kind, size in self._sizes.items() if size == len(data)}
        for name, one in (("client", self._client), ("server", self._server)):
            with contextlib.suppress(OSError):
                while one is not None and self._left[name] > 0:
                    data = one.recv(1 << 16)
                    if not data:
                        break
                    self._left[name] -= data.count(self._round)
        if self._server is not None and max(self._left.values()) <= 0:
            found.add(CONNECTION)
        return found

    @staticmethod
    def _prepare(one: socket.socket) -> None:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MOST)
        if one.type == socket.SOCK_STREAM:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed, nothing of it stays in TIME_WAIT

    def _open(self, kind: int, address: str, ports: tuple[int, int]) -> socket.socket:
        one = self._undo.enter_context(socket.socket(self._family, kind | socket.SOCK_CLOEXEC))
        self._prepare(one)
        first, last = ports
        for left in range(_TRIES - 1, -1, -1):
            try:
                one.bind((address, first + (os.getpid() + next(_NUMBERS)) % (last - first)))
                break
            except OSError:
                if not left:
                    raise
        return one


@dataclasses.dataclass
class Probes:
    """The probes of several containers."""

    probes: list[Probe]

    def close(self) -> None:
        """Close all probes."""
        for probe in self.probes:
            probe.close()

    def passing(self, wanted: t.Mapping[str, t.Collection[str]], seconds: float) -> dict[str, set[str]]:
        """Return by address what passes there and back within so many seconds, at once when all that is wanted has passed."""
        found: dict[str, set[str]] = {probe.address: set() for probe in self.probes}
        busy = [probe for probe in self.probes if wanted.get(probe.address)]
        for probe in busy:
            probe.begin()
        deadline, next_round = time.monotonic() + seconds, 0.0
        while busy and time.monotonic() < deadline:
            if time.monotonic() >= next_round:
                next_round = time.monotonic() + _INTERVAL
                for probe in busy:
                    probe.send()
            poller = select.poll()
            for fileno in (fileno for probe in busy for fileno in probe.filenos()):
                poller.register(fileno, select.POLLIN)
            poller.poll(max(0.0, min(next_round, deadline) - time.monotonic()) * 1000)
            for probe in busy:
                found[probe.address] |= probe.passed()
            busy = [probe for probe in busy if not found[probe.address].issuperset(wanted[probe.address])]
        return found
