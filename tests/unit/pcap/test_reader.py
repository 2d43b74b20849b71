# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader: every byte order and unit of time, files that end anywhere, files that change while they are read."""

from __future__ import annotations

import pathlib

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
    packets = [Packet(START + 1000, b""), Packet(START + 2000, b"abc"), Packet(START + 3000, b"x" * 40)]
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
    with pytest.raises(PcapError, match=rf"^{path}: not a pcap file: .* offset 0 is {content[:4].hex()}$"):
        scan(path)


def test_garbage_between_packets_is_located(tmp_path: pathlib.Path) -> None:
    good = builder.pcap(builder.sequence(3))
    path = builder.write(tmp_path / "x.pcap", good + b"\xff" * 100)
    with pytest.raises(PcapError, match=rf"^{path}: no packet at offset {len(good)}: "):
        scan(path)


def test_longest_packet_of_tcpdump_is_read(tmp_path: pathlib.Path) -> None:
    path = builder.write(tmp_path / "x.pcap", builder.pcap([Packet(START, bytes(262144)), Packet(START + 1000, b"")]))
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
