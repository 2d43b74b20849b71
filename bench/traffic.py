# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP as fast as it goes, and small requests one at a time, between two network namespaces; a process for each end.

    python traffic.py serve                   until it is killed; prints "ready"
    python traffic.py send ADDRESS SECONDS    prints bytes a second
    python traffic.py ask ADDRESS COUNT       prints the sorted round trip times as JSON, in seconds
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time

SINK, ECHO = 5201, 5202
# So much in one call, that what Python does between calls does not count.
BLOCK = 1 << 20
_COUNT = struct.Struct("!Q")


class Server:
    """The end in the container, a process until close()."""

    def __init__(self, netns: str) -> None:
        self._process = subprocess.Popen(["ip", "netns", "exec", netns, sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"
        self.pid = self._process.pid

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


def throughput(netns: str, address: str, seconds: float) -> float:
    """Bytes a second that arrive at a server."""
    return float(_client(netns, "send", address, str(seconds)))


def round_trips(netns: str, address: str, count: int) -> list[float]:
    """Seconds that so many requests took, sorted."""
    times: list[float] = json.loads(_client(netns, "ask", address, str(count)))
    return times


def _client(netns: str, *arguments: str) -> str:
    return subprocess.run(["ip", "netns", "exec", netns, sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def serve() -> None:
    """Takes connections for good, a thread each."""
    with socket.create_server(("", SINK)) as sink, socket.create_server(("", ECHO)) as echo:
        threading.Thread(target=_accept, args=(echo, _echo), daemon=True).start()
        print("ready", flush=True)
        _accept(sink, _sink)


def _accept(server: socket.socket, handle: object) -> None:
    while True:
        connection, _address = server.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()  # type: ignore[arg-type]


def _sink(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        buffer, total = bytearray(BLOCK), 0
        while size := connection.recv_into(buffer):
            total += size
        connection.sendall(_COUNT.pack(total))


def _echo(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(64):
            connection.sendall(data)


def send(address: str, seconds: float) -> None:
    """As much as goes; the clock stops when the server says that it has it all."""
    with socket.create_connection((address, SINK), timeout=30) as connection:
        block = bytes(BLOCK)
        begun = now = time.monotonic()
        while now < begun + seconds:
            connection.sendall(block)
            now = time.monotonic()
        connection.shutdown(socket.SHUT_WR)
        (total,) = _COUNT.unpack(connection.recv(_COUNT.size))
        print(total / (time.monotonic() - begun))


def ask(address: str, count: int) -> None:
    """One byte there and back, again and again."""
    with socket.create_connection((address, ECHO), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _number in range(count):
            begun = time.perf_counter()
            connection.sendall(b"?")
            connection.recv(1)
            times.append(time.perf_counter() - begun)
        print(json.dumps(sorted(times)))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    elif sys.argv[1] == "send":
        send(sys.argv[2], float(sys.argv[3]))
    else:
        ask(sys.argv[2], int(sys.argv[3]))
