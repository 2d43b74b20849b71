# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds pcap files and takes pcapng files apart, by struct alone: nothing here comes from the code under test."""

from __future__ import annotations

import pathlib
import random
import struct
import typing as t

START = 1_700_000_000_000_000_000
ETHERNET = 1
LINUX_SLL2 = 276

MAGICS = {
    ("<", False): b"\xd4\xc3\xb2\xa1",
    (">", False): b"\xa1\xb2\xc3\xd4",
    ("<", True): b"\x4d\x3c\xb2\xa1",
    (">", True): b"\xa1\xb2\x3c\x4d",
}


class Packet(t.NamedTuple):
    """A packet with its time in nanoseconds; `original` is its length on the wire, None when all of it was captured."""

    time: int
    data: bytes
    original: int | None = None


class Block(t.NamedTuple):
    """A pcapng block: its type, what stands between the two lengths, and its whole length."""

    kind: int
    body: bytes
    length: int


def header(endian: str = "<", nanosecond: bool = False, linktype: int = ETHERNET, snaplen: int = 262144) -> bytes:
    return MAGICS[endian, nanosecond] + struct.pack(endian + "HHiIII", 2, 4, 0, 0, snaplen, linktype)


def record(packet: Packet, endian: str = "<", nanosecond: bool = False) -> bytes:
    seconds, rest = divmod(packet.time, 10**9)
    original = len(packet.data) if packet.original is None else packet.original
    return struct.pack(endian + "4I", seconds, rest if nanosecond else rest // 1000, len(packet.data), original) + packet.data


def pcap(packets: t.Iterable[Packet], endian: str = "<", nanosecond: bool = False, linktype: int = ETHERNET, snaplen: int = 262144) -> bytes:
    return header(endian, nanosecond, linktype, snaplen) + b"".join(record(packet, endian, nanosecond) for packet in packets)


def frame(number: int, length: int = 60) -> bytes:
    """An Ethernet frame of an experimental type that holds its number, so that a packet can be told from every other."""
    return (bytes.fromhex("020000000001 020000000002 88b5") + struct.pack(">Q", number)).ljust(length, b"\xee")


def sequence(count: int, start: int = START, step: int = 1000, length: int = 60, first_number: int = 0) -> list[Packet]:
    return [Packet(start + step * number, frame(first_number + number, length)) for number in range(count)]


def jittered(count: int, seed: int, step: int, jitter: int) -> list[Packet]:
    """Packets whose times go up on the average but by up to `jitter` nanoseconds down, each of its own length."""
    source = random.Random(seed)
    return [Packet(START + (step * number + source.randrange(jitter)) // 1000 * 1000, source.randbytes(source.randrange(1, 120))) for number in range(count)]


def write(path: pathlib.Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def blocks(content: bytes) -> list[Block]:
    """Take a little-endian pcapng file apart, and hold each block to its two equal lengths and 32-bit alignment."""
    found = []
    offset = 0
    while offset < len(content):
        kind, length = struct.unpack_from("<II", content, offset)
        assert length % 4 == 0 and length >= 12
        assert struct.unpack_from("<I", content, offset + length - 4) == (length,)
        found.append(Block(kind, content[offset + 8 : offset + length - 4], length))
        offset += length
    assert offset == len(content)
    return found


def options(encoded: bytes) -> list[tuple[int, bytes]]:
    """The options that end a block, without the mark of their end, which must be the last."""
    found: list[tuple[int, bytes]] = []
    offset = 0
    while True:
        code, length = struct.unpack_from("<HH", encoded, offset)
        if code == 0:
            assert length == 0 and offset + 4 == len(encoded)
            return found
        end = offset + 4 + length
        found.append((code, encoded[offset + 4 : end]))
        assert not any(encoded[end : end + -length % 4])
        offset = end + -length % 4


def enhanced_packets(content: bytes) -> list[tuple[int, Packet]]:
    """The packets of a pcapng file with the number of their interface."""
    found = []
    for block in blocks(content):
        if block.kind == 6:
            interface, high, low, captured, original = struct.unpack_from("<5I", block.body)
            data = block.body[20 : 20 + captured]
            assert len(data) == captured and block.body[20 + captured :] == bytes(-captured % 4)
            found.append((interface, Packet((high << 32) + low, data, original)))
    return found
