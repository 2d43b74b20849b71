# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joining the files of a ring: order of packets, not of names; bytes as they were."""

from __future__ import annotations

import io
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import Extent
from ansible_collections.nettap.containers.plugins.module_utils._pcap._ring import Ring, join_ring
from ansible_collections.nettap.containers.tests.unit.pcap import builder
from ansible_collections.nettap.containers.tests.unit.pcap.builder import START, Packet


def joined(*paths: str, **options: t.Any) -> tuple[bytes, Extent]:
    out = io.BytesIO()
    extent = join_ring(paths, out, **options)
    return out.getvalue(), extent


@pytest.mark.parametrize(("endian", "nanosecond"), sorted(builder.MAGICS))
def test_wrapped_ring(tmp_path: pathlib.Path, endian: str, nanosecond: bool) -> None:
    packets = builder.sequence(30)
    rounds = {"x.pcap1": packets[0:10], "x.pcap2": packets[10:20], "x.pcap0": packets[20:30]}
    paths = [builder.write(tmp_path / name, builder.pcap(rounds[name], endian, nanosecond)) for name in sorted(rounds)]
    expected = builder.pcap(packets, endian, nanosecond)
    assert joined(*paths) == (expected, Extent(30, packets[0].time, packets[-1].time, len(expected)))


def test_tails_are_cut_and_files_without_packets_skipped(tmp_path: pathlib.Path) -> None:
    packets = builder.sequence(20)
    paths = [
        builder.write(tmp_path / "newest", builder.pcap(packets[10:])[:-1]),
        builder.write(tmp_path / "killed", b""),
        builder.write(tmp_path / "started", builder.header()),
        builder.write(tmp_path / "starting", builder.header()[:20]),
        builder.write(tmp_path / "first packet unfinished", builder.pcap([Packet(START - 1000, b"half")])[:-2]),
        builder.write(tmp_path / "oldest", builder.pcap(packets[:10])[:-30]),
    ]
    expected = builder.pcap([*packets[:9], *packets[10:19]])
    assert joined(*paths) == (expected, Extent(18, packets[0].time, packets[18].time, len(expected)))


def test_packets_out_of_order_stay_where_they_are(tmp_path: pathlib.Path) -> None:
    packets = [Packet(START + time, b"x") for time in (5000, 3000, 9000, 4000)]
    content = builder.pcap(packets)
    assert joined(builder.write(tmp_path / "x", content))[0] == content


def test_without_any_header_the_callers_link_type_holds(tmp_path: pathlib.Path) -> None:
    content, extent = joined(builder.write(tmp_path / "x", b""), linktype=builder.LINUX_SLL2, snaplen=96)
    assert content == builder.header(linktype=builder.LINUX_SLL2, snaplen=96)
    assert extent == Extent(0, None, None, 24)
    read = subprocess.run(["tcpdump", "-r", "-"], input=content, capture_output=True, check=True)
    assert b"link-type LINUX_SLL2 (Linux cooked v2), snapshot length 96" in read.stderr


def test_a_header_without_packets_holds_before_the_callers(tmp_path: pathlib.Path) -> None:
    path = builder.write(tmp_path / "x", builder.header(">", True, builder.LINUX_SLL2, 77))
    assert joined(path)[0] == builder.header(">", True, builder.LINUX_SLL2, 77)


def test_snaplen_is_the_largest(tmp_path: pathlib.Path) -> None:
    paths = [builder.write(tmp_path / str(snaplen), builder.pcap(builder.sequence(1), snaplen=snaplen)) for snaplen in (96, 262144, 65535)]
    header = Ring(paths).header
    assert header is not None and header.snaplen == 262144
    assert joined(*paths)[0][:24] == builder.header(snaplen=262144)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (builder.pcap(builder.sequence(1), linktype=builder.LINUX_SLL2), "left out, since its link type"),
        (builder.pcap(builder.sequence(1), endian=">"), "left out, since its link type, byte order"),
        (builder.pcap(builder.sequence(1), nanosecond=True), "left out, since its link type, byte order or unit of time"),
        (b"garbage" * 10, "not a pcap file"),
        (bytes(4096), "not a pcap file"),
        (b"", "is empty"),
    ],
)
def test_a_file_that_cannot_share_the_header_is_left_out(tmp_path: pathlib.Path, other: bytes, message: str) -> None:
    """Wherever it stands: two of three decide."""
    packets = builder.sequence(4)
    for bad in range(3):
        contents = [builder.pcap(packets[:2]), builder.pcap(packets[2:])]
        contents.insert(bad, other)
        content, extent = joined(*(builder.write(tmp_path / str(number), one) for number, one in enumerate(contents)), ended=True)
        assert content == builder.pcap(packets)
        assert len(extent.damages) == 1 and extent.damages[0].startswith(f"{tmp_path / str(bad)}: {message}")


def test_damaged_middle_file(tmp_path: pathlib.Path) -> None:
    """Its packets up to the damage and those of all other files come."""
    packets = builder.sequence(30)
    paths = [builder.write(tmp_path / str(number), builder.pcap(packets[number * 10 : number * 10 + 10])) for number in range(3)]
    for garbage in b"\xa5" * 300, bytes(4096):
        damaged = builder.pcap(packets[10:15]) + garbage + b"".join(map(builder.record, packets[15:20]))
        builder.write(tmp_path / "1", damaged)
        content, extent = joined(*paths)
        assert content == builder.pcap([*packets[:15], *packets[20:]])
        assert extent.packets == 25 and len(extent.damages) == 1 and f"{paths[1]}: no packet at offset {24 + 5 * 76}: " in extent.damages[0]


def test_setback_between_two_files(tmp_path: pathlib.Path) -> None:
    packets = [*builder.sequence(10, step=10**9), *builder.sequence(10, START + 5 * 10**9, step=10**9)]
    paths = [builder.write(tmp_path / str(number), builder.pcap(packets[number * 10 : number * 10 + 10])) for number in range(2)]
    assert joined(*paths)[1].setback == 4 * 10**9


def test_ring_of_the_real_tcpdump(tmp_path: pathlib.Path) -> None:
    """tcpdump itself writes 3.3 MB into a ring of three times 1 MB: it wraps, and the oldest packets are gone."""
    source = builder.write(tmp_path / "all.pcap", builder.pcap(builder.sequence(2900, length=1100)))
    subprocess.run(["tcpdump", "-Z", "root", "-r", source, "-w", str(tmp_path / "ring.pcap"), "-C", "1", "-W", "3"], check=True, capture_output=True)
    paths = sorted(str(path) for path in tmp_path.glob("ring.pcap*"))
    assert [path[-1] for path in paths] == ["0", "1", "2"]
    starts = {path: Ring([path]).first or 0 for path in paths}
    assert starts[paths[0]] > starts[paths[2]] > starts[paths[1]]

    content, extent = joined(*paths)
    numbers = [int.from_bytes(content[offset + 30 : offset + 38], "big") for offset in range(24, len(content), 1116)]
    assert numbers == list(range(numbers[0], 2900))
    assert len(numbers) == extent.packets < 2900
