# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The merge: the blocks it writes, byte by byte, and the order of packets over all segments."""

from __future__ import annotations

import io
import pathlib
import struct

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._pcap import _pcapng
from ansible_collections.nettap.containers.plugins.module_utils._pcap._pcapng import Merged, SegmentInput, merge
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import SLACK
from ansible_collections.nettap.containers.tests.unit.pcap import builder
from ansible_collections.nettap.containers.tests.unit.pcap.builder import START, Packet


def merged(*segments: SegmentInput, comment: str | None = None) -> tuple[bytes, Merged]:
    out = io.BytesIO()
    result = merge(segments, out, comment)
    assert result.size == len(out.getvalue())
    return out.getvalue(), result


def segment(path: pathlib.Path, packets: list[Packet], endian: str = "<", nanosecond: bool = False) -> SegmentInput:
    return SegmentInput([builder.write(path, builder.pcap(packets, endian, nanosecond))], path.name)


def in_order(*streams: list[Packet]) -> list[tuple[int, Packet]]:
    """What a merge must give: sorted by time alone, stably, so that equal times follow the order of the segments."""
    pairs = [(interface, packet._replace(original=len(packet.data))) for interface, stream in enumerate(streams) for packet in stream]
    return sorted(pairs, key=lambda pair: pair[1].time)


def test_section_header() -> None:
    for comment, expected in (None, []), ("a session", [(1, b"a session")]):
        first = builder.blocks(merged(comment=comment)[0])[0]
        assert first.kind == 0x0A0D0D0A
        assert struct.unpack_from("<IHHq", first.body) == (0x1A2B3C4D, 1, 0, -1)
        assert builder.options(first.body[16:]) == [*expected, (4, b"nettap.containers")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [(2, b"h/c/eth0"), (9, b"\x09")]),
        ({"description": "nginx"}, [(2, b"h/c/eth0"), (3, b"nginx"), (9, b"\x09")]),
        ({"filter": "tcp port 80"}, [(2, b"h/c/eth0"), (9, b"\x09"), (11, b"\x00tcp port 80")]),
        ({"comments": ["id 0123", "image nginx"]}, [(1, b"id 0123\nimage nginx"), (2, b"h/c/eth0"), (9, b"\x09")]),
        ({"comments": ["é" * 40000]}, [(1, "é".encode() * 32767), (2, b"h/c/eth0"), (9, b"\x09")]),
        ({"filter": "x" * 65535}, [(2, b"h/c/eth0"), (9, b"\x09"), (11, b"\x00" + b"x" * 65534)]),
        ({"description": "bad \udcff byte"}, [(2, b"h/c/eth0"), (3, b"bad ? byte"), (9, b"\x09")]),
    ],
)
def test_interface_options(given: dict, expected: list[tuple[int, bytes]]) -> None:
    block = builder.blocks(merged(SegmentInput([], "h/c/eth0", linktype=276, snaplen=96, **given))[0])[1]
    assert block.kind == 1
    assert struct.unpack_from("<HHI", block.body) == (276, 0, 96)
    assert builder.options(block.body[8:]) == expected


def test_link_type_and_snaplen_are_those_of_the_files(tmp_path: pathlib.Path) -> None:
    for content in builder.header(linktype=276, snaplen=96), builder.pcap(builder.sequence(1), linktype=276, snaplen=96):
        block = builder.blocks(merged(SegmentInput([builder.write(tmp_path / "x", content)], "x"))[0])[1]
        assert struct.unpack_from("<HHI", block.body) == (276, 0, 96)


@pytest.mark.parametrize(("endian", "nanosecond"), sorted(builder.MAGICS))
@pytest.mark.parametrize("length", range(9))
def test_packet(tmp_path: pathlib.Path, endian: str, nanosecond: bool, length: int) -> None:
    packet = Packet(START + 999_999_000, bytes(range(1, length + 1)), original=1514)
    content, result = merged(segment(tmp_path / "x", [packet], endian, nanosecond))
    assert builder.enhanced_packets(content) == [(0, packet)]
    assert result == Merged(1, (1,), packet.time, packet.time, len(content), True)


def test_nanoseconds_are_kept(tmp_path: pathlib.Path) -> None:
    packets = [Packet(START + time, b"x", 1) for time in (1, 2, 999_999_999)]
    assert builder.enhanced_packets(merged(segment(tmp_path / "x", packets, nanosecond=True))[0]) == [(0, packet) for packet in packets]


def test_statistics(tmp_path: pathlib.Path) -> None:
    path = builder.write(tmp_path / "x", builder.pcap(builder.sequence(3)))
    started, stopped = START - 5, START + 10**9
    content, dummy = merged(
        SegmentInput([path], "all", received=1 << 40, dropped=7, captured=5, started=started, stopped=stopped),
        SegmentInput([path], "none", captured=5, started=started, stopped=stopped),
        SegmentInput([path], "received only", received=9),
        SegmentInput([], "dropped only, no packets", dropped=0),
    )
    found = builder.blocks(content)[-3:]
    assert [block.kind for block in found] == [5, 5, 5]
    heads = [struct.unpack_from("<III", block.body) for block in found]
    assert [(interface, (high << 32) + low) for interface, high, low in heads] == [(0, stopped), (2, START + 2000), (3, 0)]
    assert [builder.options(block.body[12:]) for block in found] == [
        [
            (2, struct.pack("<II", started >> 32, started & 0xFFFFFFFF)),
            (3, struct.pack("<II", stopped >> 32, stopped & 0xFFFFFFFF)),
            (4, struct.pack("<Q", 1 << 40)),
            (5, struct.pack("<Q", 7)),
            (8, struct.pack("<Q", 5)),
        ],
        [(4, struct.pack("<Q", 9))],
        [(5, struct.pack("<Q", 0))],
    ]


def test_order_over_all_segments(tmp_path: pathlib.Path) -> None:
    """Segments of every kind of file, of different rates, one of them out of order, all of equal times now and then."""
    streams = [
        builder.sequence(3000, step=1000),
        builder.jittered(3000, seed=1, step=2000, jitter=500_000),
        builder.sequence(30, START - 5_000_000, step=100_000_000),
        builder.sequence(1000, START + 10**10, step=1000),
    ]
    kinds = sorted(builder.MAGICS)
    content, result = merged(*(segment(tmp_path / str(number), stream, *kinds[number]) for number, stream in enumerate(streams)))
    expected = in_order(*streams)
    assert builder.enhanced_packets(content) == expected
    assert 0 < result.setback < 500_000  # the jitter
    assert result == Merged(7030, (3000, 3000, 30, 1000), expected[0][1].time, expected[-1][1].time, len(content), True, setback=result.setback)


@pytest.mark.parametrize("chunk", [64, 200, 4096])
@pytest.mark.parametrize("seed", range(5))
def test_order_does_not_depend_on_chunks(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, chunk: int, seed: int) -> None:
    """Out of order by up to the whole slack, across every border of a chunk."""
    monkeypatch.setattr(_pcapng, "_LARGEST_CHUNK", chunk)
    streams = [builder.jittered(400, seed * 10 + number, step=step, jitter=SLACK) for number, step in enumerate((300_000, 40_000, 5_000_000))]
    content, result = merged(*(segment(tmp_path / str(number), stream) for number, stream in enumerate(streams)))
    assert builder.enhanced_packets(content) == in_order(*streams)
    assert result.in_order


def test_equal_times_follow_the_segments(tmp_path: pathlib.Path) -> None:
    streams = [[Packet(START + time // 3 * 1000, builder.frame(time)) for time in range(300)] for dummy in range(3)]
    content, dummy = merged(*(segment(tmp_path / str(number), stream) for number, stream in enumerate(streams)))
    assert builder.enhanced_packets(content) == in_order(*streams)


def test_wrapped_ring_of_several_segments(tmp_path: pathlib.Path) -> None:
    packets = builder.sequence(60, step=7000)
    other = builder.sequence(90, START + 3000, step=5000)
    names = {"a1": packets[:20], "a2": packets[20:40], "a0": packets[40:]}
    ring = [builder.write(tmp_path / name, builder.pcap(names[name])) for name in sorted(names)]
    content, result = merged(SegmentInput(ring, "ring"), segment(tmp_path / "b", other))
    assert builder.enhanced_packets(content) == in_order(packets, other)
    assert result.per_segment == (60, 90)


def test_tails_are_cut(tmp_path: pathlib.Path) -> None:
    packets = builder.sequence(20)
    cut = SegmentInput([builder.write(tmp_path / "cut", builder.pcap(packets)[:-1])], "cut")
    content, result = merged(cut, segment(tmp_path / "whole", packets))
    assert builder.enhanced_packets(content) == in_order(packets[:19], packets)
    assert result.per_segment == (19, 20)


def test_segments_without_packets_keep_their_interface(tmp_path: pathlib.Path) -> None:
    content, result = merged(
        SegmentInput([], "no file"),
        SegmentInput([builder.write(tmp_path / "empty", b"")], "empty file", linktype=276),
        SegmentInput([builder.write(tmp_path / "header", builder.header())], "header only"),
    )
    found = builder.blocks(content)
    assert [block.kind for block in found] == [0x0A0D0D0A, 1, 1, 1]
    assert [dict(builder.options(block.body[8:]))[2] for block in found[1:]] == [b"no file", b"empty file", b"header only"]
    assert [struct.unpack_from("<H", block.body)[0] for block in found[1:]] == [1, 1, 1]
    assert result == Merged(0, (0, 0, 0), None, None, len(content), True)


@pytest.mark.parametrize("content", [None, b"", builder.header()[:20], bytes(4096), b"\xa5" * 300])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_segment_without_a_header_gets_that_of_the_rest(tmp_path: pathlib.Path, content: bytes | None, place: int) -> None:
    """A default would be told as a fact, and libpcap reads no file of two link types or snapshot lengths."""
    rest = [SegmentInput([builder.write(tmp_path / name, builder.pcap(builder.sequence(3), linktype=276, snaplen=96))], name) for name in "ab"]
    rest.insert(place, SegmentInput([builder.write(tmp_path / "none", content)] if content is not None else [], "none", received=0))
    blocks = builder.blocks(merged(*rest)[0])
    assert [struct.unpack_from("<HHI", block.body) for block in blocks if block.kind == 1] == [(276, 0, 96)] * 3


def test_packets_longer_than_a_chunk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pcapng, "_LARGEST_CHUNK", 4096)
    streams = [[Packet(START + 1000 * (2 * number + offset), bytes([number]) * 65549) for number in range(5)] for offset in range(2)]
    content, dummy = merged(*(segment(tmp_path / str(number), stream) for number, stream in enumerate(streams)))
    assert builder.enhanced_packets(content) == in_order(*streams)


def test_clock_set_back_loses_nothing_and_is_told(tmp_path: pathlib.Path) -> None:
    streams = [builder.sequence(5000) + builder.sequence(5000, START - 10**9), builder.sequence(100, START - 10**9, step=10**8)]
    content, result = merged(*(segment(tmp_path / str(number), stream) for number, stream in enumerate(streams)))
    found = builder.enhanced_packets(content)
    assert sorted(found) == sorted(in_order(*streams))
    assert not result.in_order
    assert (result.first, result.last) == (START - 10**9, START - 10**9 + 99 * 10**8)


def test_same_input_same_bytes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    streams = [builder.jittered(2000, seed, step=3000, jitter=50_000) for seed in range(4)]
    contents = [
        merged(*(segment(folder / str(number), stream) for number, stream in enumerate(streams)), comment="x")[0]
        for folder in (tmp_path, tmp_path / "elsewhere")
    ]
    assert contents[0] == contents[1]


def test_garbage_takes_nothing_with_it(tmp_path: pathlib.Path) -> None:
    good = builder.pcap(builder.sequence(200))
    path = builder.write(tmp_path / "x", good + b"\xff" * 40)
    whole = segment(tmp_path / "y", builder.sequence(250))
    content, result = merged(whole, SegmentInput([path], "x"), SegmentInput([builder.write(tmp_path / "z", b"")], "z", ended=True))
    assert builder.enhanced_packets(content) == in_order(builder.sequence(250), builder.sequence(200))
    assert result.per_segment == (250, 200, 0)
    assert result.damages[0].startswith(f"{path}: no packet at offset {len(good)}: ") and result.damages[1:] == (f"{tmp_path / 'z'}: is empty",)


def test_small_file_of_a_clock_set_back_is_told(tmp_path: pathlib.Path) -> None:
    """One chunk holds all of it, and is sorted."""
    for stream in [*builder.sequence(5), *builder.sequence(5, START - 5 * 10**9)], [Packet(START + 20_000_000, b"x"), Packet(START, b"x")]:
        dummy, result = merged(segment(tmp_path / "x", stream), segment(tmp_path / "y", builder.sequence(5)))
        assert not result.in_order and result.setback == stream[len(stream) // 2 - 1].time - stream[len(stream) // 2].time
