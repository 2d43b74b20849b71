# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tools that people use read in the files: tcpdump, tshark and capinfos."""

from __future__ import annotations

import decimal
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._pcap._pcapng import SegmentInput, merge
from ansible_collections.nettap.containers.plugins.module_utils._pcap._ring import join_ring
from ansible_collections.nettap.containers.tests.unit.pcap import builder
from ansible_collections.nettap.containers.tests.unit.pcap.builder import START

# LINUX_SLL2 (https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html): protocol, reserved, ifindex, ARPHRD_ETHER, type, address.
SLL2 = bytes.fromhex("88b5 0000 00000007 0001 00 06 0200000000010000")


CAPTURE_ANY = {"linktype": builder.LINUX_SLL2, "snaplen": 96}


def tool(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def fields(path: str, *names: str) -> list[list[str]]:
    """One list of values per packet."""
    return [line.split("\t") for line in tool("tshark", "-n", "-r", path, "-T", "fields", *(word for name in names for word in ("-e", name))).splitlines()]


@pytest.fixture(name="session")
def fixture_session(tmp_path: pathlib.Path) -> t.Iterator[str]:
    """Three segments: a wrapped, cut ring of Ethernet frames, cooked frames of `-i any` out of order, and one without packets."""
    packets = builder.sequence(900, step=3000)
    ring = [
        builder.write(tmp_path / "web0", builder.pcap(packets[600:])[:-1]),
        builder.write(tmp_path / "web1", builder.pcap(packets[:300])),
        builder.write(tmp_path / "web2", builder.pcap(packets[300:600])),
        builder.write(tmp_path / "web3", b""),
    ]
    cooked = [packet._replace(data=SLL2 + packet.data) for packet in builder.jittered(500, seed=3, step=5000, jitter=60_000)]
    any_file = builder.write(tmp_path / "db", builder.pcap(cooked, linktype=builder.LINUX_SLL2))
    path = tmp_path / "session.pcapng"
    with path.open("wb") as out:
        result = merge(
            [
                SegmentInput(ring, "node1/web/eth0", "web on node1", "tcp port 80", ["id 0123456789ab", "image nginx:1.27"], received=1000, dropped=100),
                SegmentInput([any_file], "node1/db/any", comments=["id ba9876543210"]),
                SegmentInput([], "node1/idle/eth0", received=0, dropped=0),
            ],
            out,
            "session default",
        )
    assert result.per_segment == (899, 500, 0)
    yield str(path)


def test_capinfos(session: str) -> None:
    found = tool("capinfos", session)
    values = dict(line.split(":", 1) for line in found.splitlines() if ":" in line and not line.startswith(" "))
    values = {name: value.strip() for name, value in values.items()}
    assert values["File type"] == "Wireshark/... - pcapng"
    assert values["Number of packets"] == "1399"
    assert values["Strict time order"] == "True"
    assert values["Capture application"] == "nettap.containers"
    assert values["Capture comment"] == "session default"
    assert values["Number of interfaces in file"] == "3"

    interfaces = found.split("Interface #")[1:]
    assert [line.partition("= ")[2] for text in interfaces for line in text.splitlines() if "Name =" in line] == [
        "node1/web/eth0",
        "node1/db/any",
        "node1/idle/eth0",
    ]
    for expected in ("Description = web on node1", "Filter string = tcp port 80", "id 0123456789ab\nimage nginx:1.27", "Number of packets = 899"):
        assert expected in interfaces[0]
    assert "Comment = id ba9876543210" in interfaces[1]
    assert "Number of packets = 0" in interfaces[2]
    assert ["Number of stat entries = 1" in text for text in interfaces] == [True, False, True]


def test_tshark(session: str) -> None:
    found = fields(session, "frame.interface_name", "frame.interface_id", "frame.encap_type", "frame.time_epoch", "frame.len")
    assert len(found) == 1399
    ethernet, cooked = ["node1/web/eth0", "0", "1"], ["node1/db/any", "1", "210"]
    assert [row[:3] for row in found].count(ethernet) == 899
    assert [row[:3] for row in found].count(cooked) == 500
    times = [decimal.Decimal(row[3]) for row in found]
    assert times == sorted(times)
    assert times[0] == decimal.Decimal(START).scaleb(-9)
    assert not tool("tshark", "-n", "-r", session, "_ws.malformed || frame.time_delta < 0")


def test_tcpdump_reads_segments_of_one_link_type(tmp_path: pathlib.Path) -> None:
    segments = []
    for number, kind in enumerate(sorted(builder.MAGICS)):
        packets = builder.sequence(100, START + number * 1000, step=4000, first_number=number * 100)
        segments.append(SegmentInput([builder.write(tmp_path / str(number), builder.pcap(packets, *kind))], f"node1/c{number}/eth0"))
    with (tmp_path / "x.pcapng").open("wb") as out:
        merge([*segments, SegmentInput([], "node1/idle/eth0")], out)
    lines = tool("tcpdump", "-n", "-tt", "-r", str(tmp_path / "x.pcapng"), "ether proto 0x88b5").splitlines()
    starts = [line.split()[0] for line in lines if line.startswith("1700000000.")]
    assert starts == [f"1700000000.{microsecond:06}" for microsecond in range(400)]


@pytest.mark.parametrize("kind", [{}, CAPTURE_ANY, {"snaplen": 96}], ids=["ethernet", "any with snaplen", "snaplen"])
def test_tcpdump_reads_past_a_segment_without_a_file(tmp_path: pathlib.Path, kind: dict) -> None:
    """Also one whose only file is damaged from its first byte."""
    packets = [packet._replace(data=SLL2 + packet.data) if kind == CAPTURE_ANY else packet for packet in builder.sequence(10)]
    good = SegmentInput([builder.write(tmp_path / "good", builder.pcap(packets, **kind))], "node1/web/any")
    zeros = SegmentInput([builder.write(tmp_path / "zeros", bytes(4096))], "node1/db/any", received=0)
    path = str(tmp_path / "x.pcapng")
    with open(path, "wb") as out:
        merge([SegmentInput([], "node1/idle/any"), good, zeros], out)
    assert tool("tcpdump", "-n", "-tt", "-r", path).count("1700000000.") == 10
    assert [row[0] for row in fields(path, "frame.interface_name")] == ["node1/web/any"] * 10


def test_zeros_of_a_power_cut(tmp_path: pathlib.Path) -> None:
    """The tools would count 255 packets of 1970 or refuse the file: they get what was there before, and a word."""
    damaged = builder.write(tmp_path / "damaged", builder.pcap(builder.sequence(10)) + bytes(4096))
    whole = builder.write(tmp_path / "whole", builder.pcap(builder.sequence(5, START + 500)))
    path = str(tmp_path / "x.pcapng")
    with open(path, "wb") as out:
        result = merge([SegmentInput([damaged], "node1/web/eth0"), SegmentInput([whole], "node1/db/eth0")], out)
    assert tool("tcpdump", "-n", "-tt", "-r", path).count("1700000000.") == 15
    values = dict(line.split(":", 1) for line in tool("capinfos", "-cox", path).splitlines() if ":" in line)
    assert (values["Number of packets"].strip(), values["Strict time order"].strip()) == ("15", "True")
    assert result.damages == (f"{damaged}: no packet at offset 784: a record of zeros, as a power cut leaves it",)


@pytest.mark.parametrize(("endian", "nanosecond"), sorted(builder.MAGICS))
def test_joined_ring(tmp_path: pathlib.Path, endian: str, nanosecond: bool) -> None:
    packets = builder.sequence(300)
    halves = [builder.write(tmp_path / str(number), builder.pcap(half, endian, nanosecond)) for number, half in enumerate((packets[150:], packets[:150]))]
    path = str(tmp_path / "joined.pcap")
    with open(path, "wb") as out:
        join_ring(halves, out)
    assert [int(row[0]) for row in fields(path, "frame.number")] == list(range(1, 301))
    values = dict(line.split(":", 1) for line in tool("capinfos", "-cox", path).splitlines() if ":" in line)
    assert (values["Number of packets"].strip(), values["Strict time order"].strip()) == ("300", "True")
    assert tool("tcpdump", "-n", "-r", path, "ether[14:4] = 0 and ether[18:4] = 299").count("\n") >= 1
