# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following: every packet once, in pieces of bounded size, and a word where packets are missing."""

from __future__ import annotations

import base64
import dataclasses
import json
import pathlib
import struct
import sys
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _follow, _plan, _state, _storage
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._tcpdump import Counts
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process
from ansible_collections.nettap.containers.tests.unit.pcap import builder

SECTION, INTERFACE, STATISTICS = 0x0A0D0D0A, 1, 5
MEGABYTE = 1_000_000


class Session:
    """A session x whose supervisor is this very process, with a segment for each name; its ring has files of 1 MB, three at a time."""

    def __init__(self, path: pathlib.Path, *names: str) -> None:
        self.storage = _storage.Storage(str(path / "captures"))
        self.directory = self.storage.directory("x")
        with self.storage.locked("x", create=True):
            pass
        self.state = _state.Session("running", Request(file_size=1, file_count=3), started_at="2026-01-31T03:00:00Z", supervisor=Process.own())
        for name in names:
            self.add(name)
        self.cursor: dict[str, t.Any] = {}
        self.stream = b""

    def add(self, name: str, **fields: t.Any) -> None:
        known = Watched(name * 8, name, "i")
        argv = ["tcpdump", "-W", "5"]
        one = _plan.segment(len(self.state.segments), known, _plan.Tap("eth0", "container", "eth0"), lambda _device, _path: argv, self.directory)
        self.state.segments.append(dataclasses.replace(one, **{"link_type": "EN10MB", **fields}))
        self.save()

    def save(self, **fields: t.Any) -> None:
        self.state = dataclasses.replace(self.state, **fields)
        _storage.save(self.directory, self.state)

    def end(self, **counts: int) -> None:
        for segment in self.state.segments:
            segment.status, segment.stop_reason, segment.counts = "stopped", "user", Counts(**counts)
        self.save(status="stopped")

    def file(self, digit: str = "0", segment: int = 0) -> pathlib.Path:
        return pathlib.Path(self.directory, self.state.segments[segment].file + digit)

    def follow(self, form: str = "pcapng", from_start: bool = True) -> dict[str, t.Any]:
        answer = _follow.follow(_follow.Order(self.storage.path, "x", "node", form, from_start, 0), self.cursor)
        self.cursor = json.loads(json.dumps(answer["cursor"]))
        self.stream += answer["data"]
        return answer

    def followed(self) -> list[tuple[int, builder.Packet]]:
        return [(interface, packet._replace(original=None)) for interface, packet in builder.enhanced_packets(self.stream)]


def test_pieces_make_one_stream_in_the_order_of_time(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one segment has far more to tell than the other."""
    monkeypatch.setattr(_follow, "_PIECE", 4000)
    monkeypatch.setattr(_follow, "_SMALLEST_SHARE", 1000)
    session = Session(tmp_path, "web", "db")
    many, few = builder.sequence(300, step=2000), builder.sequence(20, step=30_000, start=builder.START + 1000, first_number=1000)
    builder.write(session.file("0"), builder.pcap(many[:200]))
    builder.write(session.file("1"), builder.pcap(many[200:]))
    builder.write(session.file("0", 1), builder.pcap(few))
    session.end(packets_captured=1, packets_received=1, packets_dropped=0)
    capture, answers = None, []
    while capture is None:
        answers.append(session.follow())
        capture = answers[-1]["capture"]
    assert len(answers) > 5 and all(len(answer["data"]) < 10_000 and answer["lost"] == [] for answer in answers)
    assert session.followed() == sorted([(0, packet) for packet in many] + [(1, packet) for packet in few], key=lambda pair: pair[1].time)
    kinds = [block.kind for block in builder.blocks(session.stream)]
    assert kinds[:3] == [SECTION, INTERFACE, INTERFACE] and kinds[-2:] == [STATISTICS, STATISTICS] and kinds.count(SECTION) == 1
    assert [segment["packets_followed"] for segment in capture["segments"]] == [300, 20] and answers[-1]["packets"] == 320


def test_what_is_half_written_waits(tmp_path: pathlib.Path) -> None:
    session = Session(tmp_path, "web")
    assert session.follow()["packets"] == 0
    packets = builder.sequence(3)
    content = builder.pcap(packets)
    for end, number in ((10, 0), (24, 0), (60, 0), (100, 1), (len(content) - 1, 2), (len(content), 3), (len(content), 3)):
        builder.write(session.file(), content[:end])
        answer = session.follow()
        assert (answer["packets"], answer["lost"], answer["capture"]) == (number, [], None)
    assert session.followed() == [(0, packet) for packet in packets]


def test_new_segments_and_link_types_that_are_not_known_yet(tmp_path: pathlib.Path) -> None:
    session = Session(tmp_path)
    session.add("web", link_type=None)
    assert [block.kind for block in builder.blocks(session.follow()["data"])] == [SECTION]
    builder.write(session.file(), builder.pcap(builder.sequence(1), linktype=builder.LINUX_SLL2))
    session.follow()
    session.add("db", link_type="LINUX_SLL2")
    assert [block.kind for block in builder.blocks(session.follow()["data"])] == [INTERFACE]
    builder.write(session.file("0", 1), builder.pcap(builder.sequence(1), linktype=builder.LINUX_SLL2))
    session.follow()
    assert [interface for interface, _packet in session.followed()] == [0, 1]
    assert [block.body[0] | block.body[1] << 8 for block in builder.blocks(session.stream) if block.kind == INTERFACE] == [builder.LINUX_SLL2] * 2


@pytest.mark.parametrize(
    ("before", "read", "after", "lost"),
    [
        ("0", "whole", "1", False),  # read to its end, and the next one is there
        ("4", "whole", "0", False),  # five names: three files, and two spare
        ("0", "half", "1", True),  # it went on being written after we had read it
        ("0", "whole", "2", True),  # the one between has come and gone
        ("3", "whole", "3", True),  # the ring went all the way round
    ],
)
def test_ring_files_that_are_gone(tmp_path: pathlib.Path, before: str, read: str, after: str, lost: bool) -> None:
    session = Session(tmp_path, "web")
    first = builder.sequence(20 if read == "whole" else 5, length=60_000)  # tcpdump turns to the next file when this one is larger than 1 MB
    assert (sum(len(packet.data) for packet in first) > MEGABYTE) == (read == "whole")
    builder.write(session.file(before), builder.pcap(first))
    session.follow()
    session.file(before).unlink()
    second = builder.sequence(2, start=builder.START + 10**9)
    builder.write(session.file(after), builder.pcap(second))
    answer = session.follow()
    assert answer["lost"] == (["web eth0"] if lost else []) and session.follow()["lost"] == []
    assert [packet for _interface, packet in session.followed()] == first + second


@pytest.mark.parametrize(("name", "again"), [("web", "web" * 8), ("shop/web-0", "another")])
def test_pcap_of_one_place(tmp_path: pathlib.Path, name: str, again: str) -> None:
    """A container that has come back goes on under the same header, but not with another link type. A pod comes back with another ID."""
    session = Session(tmp_path, name)
    packets = builder.sequence(4)
    builder.write(session.file(), builder.pcap(packets[:2]))
    session.follow("pcap")
    session.add(name, id=again)
    builder.write(session.file("0", 1), builder.pcap(packets[2:]))
    session.follow("pcap")
    assert session.stream == builder.pcap(packets)
    session.add(name, link_type="LINUX_SLL2")
    with pytest.raises(CaptureError, match="has come back with another link type"):
        session.follow("pcap")
    session.add("db")
    with pytest.raises(CaptureError, match="captures in 2 places"):
        session.follow("pcap")


def test_from_now_on(tmp_path: pathlib.Path) -> None:
    session = Session(tmp_path, "web")
    packets = builder.sequence(5)
    builder.write(session.file("0"), builder.pcap(packets[:2]))
    builder.write(session.file("1"), builder.pcap(packets[2:3]) + b"half")
    assert session.follow(from_start=False)["packets"] == 0
    builder.write(session.file("1"), builder.pcap(packets[2:]))
    assert session.follow(from_start=False)["packets"] == 2
    assert session.followed() == [(0, packet) for packet in packets[3:]]


def test_a_session_that_is_another(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CaptureError, match=r"There is no capture session 'x' under \S+\.$"):
        _follow.follow(_follow.Order(str(tmp_path), "x", "node", "pcapng", True, 0), {})
    session = Session(tmp_path, "web")
    builder.write(session.file(), builder.pcap(builder.sequence(1)))
    session.follow()
    session.save(supervisor=Process(1 << 30, 1))
    with pytest.raises(CaptureError, match="Session x was started anew while it was followed"):
        session.follow()
    session.save(supervisor=Process.own())
    session.storage.remove("x")
    with pytest.raises(CaptureError, match="any more: it was removed"):
        session.follow()


@pytest.mark.parametrize("garbage", [b"\xa5" * 300, bytes(4096)], ids=["a5", "zeros"])
@pytest.mark.parametrize("form", ["pcapng", "pcap"])
def test_damage_is_told_once_and_the_stream_goes_on(tmp_path: pathlib.Path, garbage: bytes, form: str) -> None:
    """In the next file of the ring, and in the other segments."""
    session = Session(tmp_path, *(["web", "db"] if form == "pcapng" else ["web"]))
    packets = builder.sequence(30)
    builder.write(session.file(), builder.pcap(packets[:5]))
    if form == "pcapng":
        builder.write(session.file("0", 1), b"")
    assert session.follow(form)["damage"] == []
    with session.file().open("ab") as file:
        file.write(garbage + builder.record(packets[5]))
    [told] = session.follow(form)["damage"]
    assert f"{session.file()}: no packet at offset {24 + 5 * 76}: " in told
    builder.write(session.file("1"), builder.pcap(packets[10:15]))
    assert session.follow(form)["damage"] == []
    if form == "pcapng":
        builder.write(session.file("0", 1), builder.pcap(packets[20:25]))
    session.end(packets_captured=1, packets_received=1, packets_dropped=0)
    answer = session.follow(form)
    assert answer["damage"] == [] and answer["disorder"] == []
    if form == "pcap":
        assert session.stream == builder.pcap(packets[:5] + packets[10:15])
        return
    assert session.followed() == [(0, packet) for packet in packets[:5] + packets[10:15]] + [(1, packet) for packet in packets[20:25]]
    web, db = (dict(builder.options(block.body[12:])) for block in builder.blocks(session.stream) if block.kind == STATISTICS)
    assert web[1].decode() == told and 1 not in db


@pytest.mark.parametrize("content", [b"", bytes(4096), b"\xa5" * 300, builder.pcap(builder.sequence(1)) + b"half"], ids=["empty", "zeros", "a5", "cut"])
def test_damage_of_a_session_that_has_ended(tmp_path: pathlib.Path, content: bytes) -> None:
    """It is told at the beginning of the stream, too."""
    session = Session(tmp_path, "web", "db")
    builder.write(session.file(), content)
    packets = builder.sequence(5, first_number=7)
    builder.write(session.file("0", 1), builder.pcap(packets))
    session.end()
    answer = session.follow()
    assert len(answer["damage"]) == 1 and str(session.file()) in answer["damage"][0]
    assert [packet for interface, packet in session.followed() if interface] == packets
    first = builder.blocks(session.stream)[0]
    assert dict(builder.options(first.body[16:]))[1].decode() == answer["damage"][0]


@pytest.mark.parametrize("piece", [1 << 20, 1000])
@pytest.mark.parametrize("border", ["none", "answer", "answer and file"])
def test_clock_that_is_set_back_is_told_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, piece: int, border: str) -> None:
    monkeypatch.setattr(_follow, "_PIECE", piece)
    monkeypatch.setattr(_follow, "_SMALLEST_SHARE", piece)
    session = Session(tmp_path, "web", "db")
    before, after = builder.sequence(50, step=10**8), builder.sequence(50, builder.START + 2 * 10**8, step=10**8, first_number=50)
    builder.write(session.file("0", 1), builder.pcap(builder.sequence(100, step=5 * 10**7)))
    builder.write(session.file(), builder.pcap(before))
    answers = [session.follow() for _turn in range(10)] if border != "none" else []
    if border == "answer and file":
        builder.write(session.file("1"), builder.pcap(after))
    else:
        builder.write(session.file(), builder.pcap([*before, *after]))
    session.end()
    while not answers or answers[-1]["capture"] is None:
        answers.append(session.follow())
    assert sorted(session.followed()) == sorted([(0, packet) for packet in before + after] + [(1, packet) for packet in builder.sequence(100, step=5 * 10**7)])
    assert [word for answer in answers for word in answer["disorder"]] == [
        "web eth0: Packets are not in the order of time: some are 4.700 s earlier than others before them, as when the host's clock was set back."
    ]


def test_segment_without_a_file_tells_the_sessions_snapshot_length(tmp_path: pathlib.Path) -> None:
    """Not a default: tcpdump reads no stream of two snapshot lengths. A link type that is not known is not guessed."""
    session = Session(tmp_path, "web", "db", "wifi")
    session.state.segments[2].link_type = "IEEE802_11_RADIO"
    session.save(request=Request(snaplen=96))
    builder.write(session.file("0", 1), builder.pcap(builder.sequence(1), snaplen=96))
    session.follow()
    assert [struct.unpack_from("<HHI", block.body) for block in builder.blocks(session.stream) if block.kind == INTERFACE] == [(1, 0, 96)] * 2


def test_killed_supervisor(tmp_path: pathlib.Path) -> None:
    """Its tcpdumps end with it, and so does the stream."""
    session = Session(tmp_path, "web")
    session.save(supervisor=Process(1 << 30, 1))
    builder.write(session.file(), builder.pcap(builder.sequence(2)))
    answer = session.follow()
    assert answer["packets"] == 2 and answer["capture"]["status"] == "failed"


def test_the_program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the action plugin runs: an order and a cursor in, one line of JSON out."""
    session = Session(tmp_path, "web")
    builder.write(session.file(), builder.pcap(builder.sequence(2)))
    order = {"path": session.storage.path, "name": "x", "host": "node", "form": "pcap", "from_start": True, "wait": 0}

    def answer(cursor: str) -> dict[str, t.Any]:
        monkeypatch.setattr(sys, "argv", ["follow", _follow.pack(order), cursor])
        _follow.main()
        return json.loads(capsys.readouterr().out)

    first = answer(_follow.pack({}))
    assert base64.b64decode(first["data"]) == builder.pcap(builder.sequence(2))
    assert answer(first["cursor"])["data"] == ""
    session.storage.remove("x")
    assert answer(first["cursor"]) == {"failed": True, "msg": f"There is no capture session 'x' under {session.storage.path} any more: it was removed."}
