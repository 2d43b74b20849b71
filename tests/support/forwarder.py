"""The simplest inline engine: what comes in on one link goes out on the other, or, with one link, on the same.

    python forwarder.py [--lingers] vth0 vth1 [--without udp | older | long-ip | long]

With --lingers it ends as NeuVector's dp does: at SIGTERM it closes its sockets, and its process ends a second later.
Without something, it is an engine that loses that: UDP, TCP connections that are older than it, IP packets over 1000 bytes, or all
frames over 1000 bytes. Tests of steering use it where what an engine decides is of no matter; it never ships.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # linux/if_packet.h


def lost(frame: bytes, without: str, begun: set[bytes]) -> bool:
    """Whether the engine loses a frame. begun are the TCP connections whose handshake it has seen."""
    ip, protocol = frame[12:14] == b"\x08\x00", frame[23]
    if ip and protocol == 6 and frame[47] & 2:
        begun.update((frame[26:38], frame[30:34] + frame[26:30] + frame[36:38] + frame[34:36]))
    return {
        "udp": ip and protocol == 17, "older": ip and protocol == 6 and frame[26:38] not in begun, "long-ip": ip and len(frame) > 1000,
        "long": len(frame) > 1000,
    }.get(without, False)  # fmt: skip


def main(names: list[str], without: str = "") -> None:
    """Forward until killed."""
    begun: set[bytes] = set()
    links: list[socket.socket] = []

    def linger(*_arguments: object) -> None:
        for link in links:
            link.close()
        time.sleep(1)
        sys.exit(0)

    if names[0] == "--lingers":
        del names[0]
        signal.signal(signal.SIGTERM, linger)
    for name in names:
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        link.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE if hasattr(socket, "SO_RCVBUFFORCE") else 33, 16 << 20)
        link.bind((name, ETH_P_ALL))
        links.append(link)
    poller = select.epoll()
    ways = {link.fileno(): (link, links[(number + 1) % len(links)]) for number, link in enumerate(links)}
    for fd in ways:
        poller.register(fd, select.EPOLLIN)
    while True:
        for fd, _event in poller.poll():
            source, destination = ways[fd]
            frame = source.recv(65536)
            if without and lost(frame, without, begun):
                continue
            try:
                destination.send(frame)
            except OSError:  # its queue is full, or the link is going
                pass


if __name__ == "__main__":
    NAMES, _OPTION, WITHOUT = [*" ".join(sys.argv[1:]).partition(" --without ")]
    main(NAMES.split(), WITHOUT)
