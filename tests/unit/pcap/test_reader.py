# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader: every byte order and unit of time, files that end anywhere, files that change while they are read."""

from __future__ import annotations

import errno
import os
import pathlib
import struct

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import PcapError
from ansible_collections.nettap.containers.plugins.module_utils._pcap import _reader
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import Extent, Header, PcapFile, parse_header, scan
from ansible_collections.nettap.containers.tests.unit.pcap import builder
from ansible_collections.nettap.containers.tests.unit.pcap.builder import START, Packet

KINDS = sorted(builder.MAGICS)

OVERWRITTEN = {
    "emptied": b"",
    "header": builder.header(),
    "next round": builder.pcap(builder.sequence(300, START + 10**9)),
    "shortened": builder.pcap(builder.sequence(60)),
}


@pytest.mark.parametrize(("endian", "nanosecond"), KINDS)
@pytest.mark.parametrize("linktype", [builder.ETHERNET, builder.LINUX_SLL2])
def test_header(endian: str, nanosecond: bool, linktype: int) -> None:
    raw = builder.header(endian, nanosecond, linktype, snaplen=96)
    header = parse_header(raw, "x.pcap")
    assert header == Header(linktype, 96, endian, nanosecond)
    assert header.pack() == raw


def test_header_tells_link_type_from_frame_check_sequence() -> None:
    header = parse_header(builder.header(linktype=0x24000001), "x.pcap")
    assert header is not None and header.linktype == builder.ETHERNET


@pytest.mark.parametrize(("endian", "nanosecond"), KINDS)
def test_times_are_nanoseconds(tmp_path: pathlib.Path, endian: str, nanosecond: bool) -> None:
    packets = [Packet(START + 123_456_000, b"a"), Packet(START + 5_999_999_000, b"bcd", 1500)]
    path = builder.write(tmp_path / "x.pcap", builder.pcap(packets, endian, nanosecond))
    assert scan(path) == Extent(2, START + 123_456_000, START + 5_999_999_000, 24 + 17 + 19)


@pytest.mark.parametrize("length", range(24))
def test_file_without_header_is_no_error(tmp_path: pathlib.Path, length: int) -> None:
    path = builder.write(tmp_path / "x.pcap", builder.header()[:length])
    assert PcapFile(path).header is None
    assert scan(path) == Extent(0, None, None, 0)


def test_file_cut_at_every_byte(tmp_path: pathlib.Path) -> None:
    packets = [Packet(START + 1000, b"", 60), Packet(START + 2000, b"abc"), Packet(START + 3000, b"x" * 40)]
    whole = builder.pcap(packets)
    ends = [24, 40, 59, 115]
    for length in range(24, len(whole) + 1):
        path = builder.write(tmp_path / "x.pcap", whole[:length])
        count = sum(end <= length for end in ends) - 1
        expected = Extent(count, packets[0].time, packets[count - 1].time, ends[count]) if count else Extent(0, None, None, 24)
        assert scan(path) == expected, length
        assert PcapFile(path).first == expected.first, length


@pytest.mark.parametrize("content", [b"#!/bin/sh\necho this is no capture\n", b"\x0a\x0d\x0d\x0a" + bytes(60), bytes(100)])
def test_foreign_file_is_named(tmp_path: pathlib.Path, content: bytes) -> None:
    path = builder.write(tmp_path / "x.pcap", content)
    assert scan(path) == Extent(0, None, None, 0, (f"{path}: not a pcap file: the magic number at offset 0 is {content[:4].hex()}",))


IMPOSSIBLE = {
    "zeros of a power cut": (bytes(4096), "a record of zeros, as a power cut leaves it"),
    "one of zeros": (bytes(16), "a record of zeros, as a power cut leaves it"),
    "zeros from the fraction on": (struct.pack("<4I", 1_700_000_000, 0, 0, 0), "a record of 0 bytes of 0, "),
    "all bits": (b"\xff" * 100, "a record of 4294967295 bytes, the longest is 1514"),
    "a5": (b"\xa5" * 300, "a record of 2779096485 bytes, the longest is 1514"),
    "text": (b"Nov 30 17:53:54 node1 kernel: EXT4-fs error", "a record of "),
    "longer than the snapshot length": (builder.record(Packet(START, bytes(1515))), "a record of 1515 bytes, the longest is 1514"),
    "longer than it was": (builder.record(Packet(START, bytes(60), 59)), "a record of 60 bytes of 59, "),
    "a million microseconds": (struct.pack("<4I", 1_700_000_000, 1_000_000, 60, 60) + bytes(60), "a record of 60 bytes of 60, 1000000 parts of a second"),
    "1970": (builder.record(Packet(5 * 10**9, bytes(60))), "its time, 5 s after 1970, is years from the others"),
    "2106": (builder.record(Packet((2**32 - 1) * 10**9, bytes(60))), "its time, 4294967295 s after 1970, is years from the others"),
}


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("after", [False, True], ids=["at the end", "and packets"])
@pytest.mark.parametrize(("garbage", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("size", [16, 100, 1 << 20])
def test_impossible_record_ends_the_file(tmp_path: pathlib.Path, garbage: bytes, words: str, before: int, after: bool, size: int) -> None:
    """All packets before it are read, nothing after it, and where it is is said."""
    if not before and "years" in words:
        return  # there are no others
    good = builder.pcap(builder.sequence(before), snaplen=1514)
    path = builder.write(tmp_path / "x.pcap", good + garbage + b"".join(map(builder.record, builder.sequence(2, START + 10**9) if after else [])))
    file = PcapFile(path)
    assert (file.first is None) == (not before)
    chunks = list(file.chunks(size))
    assert b"".join(chunk.data for chunk in chunks) == good[24:] and sum(chunk.packets for chunk in chunks) == before
    assert file.damage is not None and file.damage.startswith(f"{path}: no packet at offset {len(good)}: {words}")


@pytest.mark.parametrize("times", [(5, 6, 1_700_000_000, 1_700_000_001), (1_700_000_000, 5, 6, 7, 1_700_000_000, 1_700_000_001)])
@pytest.mark.parametrize("size", [16, 100, 1 << 20])
def test_clock_that_starts_in_1970_is_no_damage(tmp_path: pathlib.Path, times: tuple[int, ...], size: int) -> None:
    """As on a host without a battery: the packets after bear out the time."""
    packets = [Packet(time * 10**9, bytes(60)) for time in times]
    file = PcapFile(builder.write(tmp_path / "x.pcap", builder.pcap(packets)))
    assert sum(chunk.packets for chunk in file.chunks(size)) == len(times) and file.damage is None
    assert file.setback == (1_700_000_000 - 5) * 10**9 * (times[0] > times[1])


def test_quiet_months_are_no_damage(tmp_path: pathlib.Path) -> None:
    packets = builder.sequence(4, step=300 * 86400 * 10**9)
    assert scan(builder.write(tmp_path / "x.pcap", builder.pcap(packets))).packets == 4


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (0, "is empty"),
        (10, "ends in its header, 10 bytes after offset 0"),
        (24, None),
        (30, "ends in a packet, 6 bytes after offset 24"),
        (41, "ends in a packet, 17 bytes after offset 24"),
        (100, None),
        (101, "ends in a packet, 1 bytes after offset 100"),
        (140, "ends in a packet, 40 bytes after offset 100"),
    ],
)
def test_cut_is_damage_only_once_nobody_writes(tmp_path: pathlib.Path, end: int, words: str | None) -> None:
    path = builder.write(tmp_path / "x.pcap", builder.pcap(builder.sequence(2))[:end])
    assert scan(path).damages == ()
    assert scan(path, ended=True).damages == ((f"{path}: {words}",) if words else ())


@pytest.mark.parametrize("short", [True, False], ids=["short read first", "at once"])
def test_bad_sector(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, short: bool) -> None:
    """The packets before it are read, and the task goes on."""
    path = builder.write(tmp_path / "x.pcap", builder.pcap(builder.sequence(200)))
    bad = 24 + 76 * 100 + 30
    real = os.pread

    def pread(fd: int, length: int, offset: int) -> bytes:
        if offset + length > bad and (offset >= bad or not short):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, min(length, bad - offset), offset)

    monkeypatch.setattr(os, "pread", pread)
    file = PcapFile(path)
    assert sum(chunk.packets for chunk in file.chunks(4096 if short else 76)) == 100
    assert file.damage is not None and file.damage.startswith(f"{path}: cannot be read at offset ")


def test_setback(tmp_path: pathlib.Path) -> None:
    """By how much the clock was set back, wherever the pieces begin."""
    packets = [*builder.sequence(10), *builder.sequence(10, START - 5 * 10**9), *builder.sequence(10, START - 10**9)]
    path = builder.write(tmp_path / "x.pcap", builder.pcap(packets))
    for size in 16, 100, 1000, 1 << 20:
        file = PcapFile(path)
        assert sum(chunk.packets for chunk in file.chunks(size)) == 30
        assert file.setback == 5 * 10**9 + 9000


def test_longest_packet_of_tcpdump_is_read(tmp_path: pathlib.Path) -> None:
    path = builder.write(tmp_path / "x.pcap", builder.pcap([Packet(START, bytes(262144)), Packet(START + 1000, b"x")]))
    assert scan(path).packets == 2


def test_missing_file_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(PcapError, match=rf"^{tmp_path}/x\.pcap: cannot be read: No such file or directory$"):
        PcapFile(str(tmp_path / "x.pcap"))


@pytest.mark.parametrize("size", [1, 16, 76, 77, 151, 152, 153, 4096, 1 << 20])
def test_chunks_hold_whole_packets_whatever_their_size(tmp_path: pathlib.Path, size: int) -> None:
    packets = [*builder.sequence(50), Packet(START + 60_000, bytes(9000)), *builder.sequence(50, START + 70_000)]
    content = builder.pcap(packets)
    chunks = list(PcapFile(builder.write(tmp_path / "x.pcap", content)).chunks(size))
    assert b"".join(chunk.data for chunk in chunks) == content[24:]
    assert sum(chunk.packets for chunk in chunks) == 101
    assert all(len(chunk.data) <= max(size, 76) or chunk.packets == 1 for chunk in chunks)
    ends = [sum(chunk.packets for chunk in chunks[:number]) for number in range(len(chunks) + 1)]
    assert [chunk.first for chunk in chunks] == [packets[number].time for number in ends[:-1]]
    assert [chunk.last for chunk in chunks] == [packets[number - 1].time for number in ends[1:]]


def test_growth_is_not_seen(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.pcap"
    file = PcapFile(builder.write(path, builder.pcap(builder.sequence(3))[:-5]))
    with path.open("ab") as growing:
        growing.write(bytes(5) + builder.record(Packet(START + 9000, b"later")))
    assert [chunk.packets for chunk in file.chunks()] == [2]


@pytest.mark.parametrize("content", OVERWRITTEN.values(), ids=OVERWRITTEN)
def test_file_overwritten_by_its_ring_is_an_error(tmp_path: pathlib.Path, content: bytes) -> None:
    path = builder.write(tmp_path / "x.pcap", builder.pcap(builder.sequence(200)))
    chunks = PcapFile(path).chunks(4096)
    assert next(chunks).packets == 53
    builder.write(tmp_path / "x.pcap", content)
    with pytest.raises(PcapError, match=rf"^{path}: overwritten by its running capture"):
        next(chunks)


def test_file_that_vanishes_is_an_error(tmp_path: pathlib.Path) -> None:
    path = builder.write(tmp_path / "x.pcap", builder.pcap(builder.sequence(200)))
    chunks = PcapFile(path).chunks(4096)
    next(chunks)
    (tmp_path / "x.pcap").unlink()
    with pytest.raises(PcapError, match=rf"^{path}: overwritten by its running capture"):
        next(chunks)


def test_limit_is_that_of_tcpdump() -> None:
    assert _reader.MAXIMUM_SNAPLEN == 262144
