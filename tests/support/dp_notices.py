"""What NeuVector's dp sends by itself, byte by byte (defs.h DPMsgThreatLog, DPMsgConnect): a stand-in for dp's reports. It never ships.

    dp_notices.send("/tmp/ctrl_listen.sock", dp_notices.threat(mac, 1002, "10.0.0.1", "10.0.0.2"))
"""

from __future__ import annotations

import socket
import struct
import time

THREAT, CONNECTIONS, FQDN = 6, 7, 11  # defs.h DP_KIND_*
DROP, CRITICAL = 2, 5
VIOLATE, DENY = 6, 7


def packed(address: str) -> tuple[int, bytes]:
    """Return the EtherType of an address, and its field of 16 bytes."""
    if ":" in address:
        return 0x86DD, socket.inet_pton(socket.AF_INET6, address)
    return 0x800, socket.inet_aton(address) + bytes(12)


def notice(kind: int, body: bytes) -> bytes:
    """Return a datagram, as dp sends it."""
    return struct.pack(">BBH", kind, 0, len(body) + 4) + body


def threat(mac: str, number: int, source: str, destination: str, *, protocol: int = 1, ports: tuple[int, int] = (0, 0), count: int = 1,
           message: bytes = b"", ingress: bool = True) -> bytes:
    """Return the report of a threat, with the packet in which dp has found it."""
    ethertype, first = packed(source)
    body = struct.pack(
        ">3I4B6sH16s16sHHBBHHH64s2048sI", number, int(time.time()), count, DROP, CRITICAL, protocol, int(ingress), bytes.fromhex(mac.replace(":", "")),
        ethertype, first, packed(destination)[1], *ports, 0, 8, 1001, 100, 100, message, b"p" * 100, 0)
    return notice(THREAT, body)


def connections(*some: tuple[str, str, str, int, int, int, int], appended: int = 32) -> bytes:
    """Return the report of connections, each (mac, client, server, port, action, rule, count). Releases append different figures."""
    body = struct.pack(">HH", len(some), 0)
    for mac, client, server, port, action, rule, count in some:
        ethertype, first = packed(client)
        body += struct.pack(">6sBBHH16s16sHH4IHBB3I", bytes.fromhex(mac.replace(":", "")), 6, 0, port, 0, first, packed(server)[1], ethertype, 1, 600, count,
                            1, 2, 1001, action, 0, rule, count if action in (VIOLATE, DENY) else 0, 0) + bytes(appended)  # fmt: skip
    return notice(CONNECTIONS, body)


def send(path: str, *notices: bytes) -> None:
    """Send notices as dp does: it waits while the queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        for data in notices:
            one.sendto(data, path)
