"""A steady stream of ICMP echo requests, and what came of it. A process of its own, so that the test does not disturb it.

    with PingStream("10.0.0.2", 500) as stream:
        …
    stream.result.lost, stream.result.silence
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

GRACE = 1.5  # seconds that the last replies get
SO_RCVBUFFORCE = 33  # asm-generic/socket.h: beyond what rmem_max allows


@dataclasses.dataclass
class Result:
    """sent and lost are pings; silence is the longest time between two replies, in seconds."""

    sent: int
    lost: int
    silence: float


class PingStream:
    """Sends `rate` pings a second from this namespace (or the named one) until the block ends."""

    def __init__(self, address: str, rate: float, netns: str = "") -> None:
        prefix = ["ip", "netns", "exec", netns] if netns else []
        self._argv = [*prefix, sys.executable, __file__, address, str(rate)]

    def __enter__(self) -> PingStream:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout and self._process.stdout.readline() == "answered\n", "the first ping was not answered"
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self.result = Result(**json.loads(self._process.communicate(timeout=30)[0]))


def main(address: str, rate: float) -> None:
    """Ping until SIGINT, then print a Result as JSON."""
    family, proto, request, reply = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129) if ":" in address else (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0)
    )
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(1))
    identifier = os.getpid() & 0xFFFF
    sent, silence, last = 0, 0.0, 0.0
    answered: set[int] = set()
    with socket.socket(family, socket.SOCK_RAW, proto) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)  # the replies to all that was due after a pause
        sock.connect((address, 0))
        sock.setblocking(False)
        start = time.monotonic()
        end = None
        while end is None or (len(answered) < sent and (time.monotonic() < end or select.select([sock], [], [], 0)[0])):
            now = time.monotonic()
            if stop and end is None:
                end = now + GRACE
            if end is None and now >= start + sent / rate:
                try:
                    sock.send(echo(request, identifier, sent))
                except OSError:  # unreachable for now: lost
                    pass
                sent += 1
                continue
            wait = start + sent / rate - now if end is None else end - now
            if not select.select([sock], [], [], max(0.0, wait))[0]:
                continue
            data = sock.recv(65536)
            header = data[(data[0] & 15) * 4:] if family == socket.AF_INET else data
            kind, _code, _sum, found, sequence = struct.unpack_from("!BBHHH", header)
            if (kind, found) == (reply, identifier):
                if not answered:
                    print("answered", flush=True)
                else:
                    silence = max(silence, time.monotonic() - last)
                last = time.monotonic()
                answered.add(sequence)
    print(json.dumps({"sent": sent, "lost": sent - len(answered), "silence": silence}))


def echo(kind: int, identifier: int, sequence: int) -> bytes:
    """Return an echo request; the kernel does ICMPv6's checksum itself."""
    body = struct.pack("!HH", identifier, sequence & 0xFFFF) + bytes(16)
    total = sum(struct.unpack("!10H", body)) + (kind << 8)
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return struct.pack("!BBH", kind, 0, ~total & 0xFFFF) + body


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
