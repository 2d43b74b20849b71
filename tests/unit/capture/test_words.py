# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are told of a session: where its packets are, which losses are too much, and a clock that is off."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _words

MOMENT = "2026-01-31T03:00:00.000000Z"


def segment(captured: int | None = 0, kept: int | None = None, overwritten: int | None = None, **fields: t.Any) -> dict[str, t.Any]:
    return {"container": "web", "interface": "eth0", "device": "eth0", "vantage": "container", "status": "stopped", "stop_reason": "duration", "error": None,
            "packets_captured": captured, "packets_kept": kept, "packets_overwritten": overwritten, "packets_received": captured, "packets_dropped": 0,
            "packets_unread": None, "files": ["/x/000.pcap0"], **fields}


def capture(*segments: dict[str, t.Any], **fields: t.Any) -> dict[str, t.Any]:
    return {"name": "x", "status": "stopped", "start_at": None, "started_at": MOMENT, "clock": None, "max_overwritten_percent": None,
            "segments": list(segments), **fields}


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((None, None, None), "0 packets"),
        ((7356, None, None), "7356 packets"),  # nobody has counted yet
        ((7356, 7356, 0), "7356 packets"),
        ((0, 0, 0), "0 packets"),
        ((7356, 59, 7297), "59 of 7356 packets are in the file, the ring overwrote the rest"),
        ((7356, 0, 7356), "0 of 7356 packets are in the file, the ring overwrote the rest"),
        ((100, 60, 0), "60 of 100 packets are in the file, the rest is damaged or was not written"),
        ((100, 60, 30), "60 of 100 packets are in the file, the ring overwrote 30, 10 are damaged or were not written"),
        ((3, 5, 0), "3 packets"),  # of a running tcpdump, whose counts are older than its files
    ],
)
def test_where_the_packets_are(figures: tuple[int | None, ...], words: str) -> None:
    assert _words.packets(segment(*figures)) == words


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "web eth0 (container): 9 packets, 0 dropped, ended by duration"),
        ({"vantage": "host", "device": "veth1", "packets_dropped": 2}, "web eth0 (host): 9 packets, 2 dropped, ended by duration"),
        ({"packets_unread": 0}, "web eth0 (container): 9 packets, 0 dropped, ended by duration"),
        ({"packets_unread": 4, "stop_reason": "interface_gone"}, "web eth0 (container): 9 packets, 0 dropped, 4 gone unread with the interface, "
                                                                 "ended by interface_gone"),
        ({"stop_reason": "error", "error": "it broke"}, "web eth0 (container): 9 packets, 0 dropped, ended by error: it broke"),
        ({"stop_reason": None, "status": "running"}, "web eth0 (container): 9 packets, 0 dropped, running"),
    ],
)
def test_summary(fields: dict[str, t.Any], line: str) -> None:
    assert _words.summary(capture(segment(9, 9, 0, **fields))) == [line]


def test_summary_tells_of_a_clock() -> None:
    assert _words.summary(capture(clock={"offset": -3.5, "bound": 0.01})) == ["clock: 3.500 s behind the controller's (± 0.010 s)"]
    assert _words.summary(capture(clock={"offset": 0.04, "bound": 0.01})) == []


@pytest.mark.parametrize(
    ("segments", "limit", "named"),
    [
        ([], 1, None),
        ([(100, 50)], None, None),
        ([(100, 0)], 0, None),
        ([(None, None)], 0, None),
        ([(0, 0)], 0, None),
        ([(1_000_000, 1)], 0, "web eth0 1 of 1000000"),
        ([(100, 5)], 5, None),  # received holds the dropped: exactly 5 %
        ([(1000, 51)], 5, "web eth0 51 of 1000"),
        ([(1000, 6)], 0.5, "web eth0 6 of 1000"),
        ([(1000, 5)], 0.5, None),
        ([(100, 100)], 99.9, "web eth0 100 of 100"),
        ([(100, 100)], 100, None),
        # each for itself: a quiet one must not make up for another's loss
        ([(10**9, 0), (100, 50), (10, 9)], 10, "web eth0 50 of 100, web eth0 9 of 10"),
    ],
)
def test_too_much_is_lost(segments: list[tuple[int | None, int | None]], limit: float | None, named: str | None) -> None:
    dropped = capture(*(segment(0, packets_received=of, packets_dropped=lost) for of, lost in segments))
    overwritten = capture(*(segment(of, None, lost) for of, lost in segments))
    told = [_words.exceeded(dropped, limit, None), _words.exceeded(overwritten, None, limit)]
    assert [_words.exceeded(dropped, None, limit), _words.exceeded(overwritten, limit, None)] == [None, None]
    if named is None:
        assert told == [None, None]
    else:
        assert told == [
            f"More than {limit:g} % of the packets were dropped ({named}): raise buffer_size, lower snaplen or narrow the filter.",
            f"More than {limit:g} % of the packets were overwritten by the ring ({named}): raise file_count or file_size, lower snaplen or narrow the filter.",
        ]


def test_both_limits_are_told() -> None:
    words = _words.exceeded(capture(segment(100, 50, 50, packets_received=200, packets_dropped=100)), 1, 1)
    assert words and words.count("More than 1 %") == 2


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (segment(9, 9, 0), []),
        (segment(9), []),
        (segment(9, 2, 7), ["overwrote the rest; give the ring more room (file_size, file_count)"]),
        (segment(9, 2, 0), ["or was not written; look at the host's disk"]),
        (segment(9, 9, 0, packets_unread=3), ["3 packets went unread with the interface"]),
        (segment(9, 9, 0, stop_reason="disk"), ["ended before its time, when no more than min_free was left"]),
        (segment(9, 1, 7, stop_reason="disk", packets_unread=1), ["overwrote 7, 1 are damaged", "1 packets went unread", "before its time"]),
    ],
)
def test_losses(one: dict[str, t.Any], words: list[str]) -> None:
    found = _words.losses(capture(one))
    assert len(found) == len(words) and all(word in line and line.startswith("web eth0: ") for word, line in zip(words, found))


def test_failure() -> None:
    assert _words.failure(capture(segment(error="killed"))) is None
    assert _words.failure(capture(status="failed", error="It broke.")) == "It broke."
    one = segment(error="it broke")
    assert _words.failure(capture(one, segment(), status="failed", error=None)) == "The capture failed (web eth0: it broke): start it again."


@pytest.mark.parametrize(("damage", "number"), [("/x/000.pcap0: is empty", 0), ("/x/001.pcap0: is empty", 1)])
def test_damage_that_was_told_is_not_told_again(damage: str, number: int) -> None:
    assert len(_words.losses(capture(segment(9, 2, 0)), damages=[damage])) == number


def test_a_ring_that_may_overwrite_makes_no_warning() -> None:
    assert _words.losses(capture(segment(9, 2, 7)), overwritten=False) == _words.losses(capture(segment(9, 2, 7), max_overwritten_percent=100)) == []


@pytest.mark.parametrize(
    ("offset", "bound", "off"),
    [
        (0.0, 0.001, None),
        (0.04, 0.005, None),
        (-0.04, 0.005, None),
        (0.05, 0.005, None),
        (0.054, 0.005, None),  # it may be 0.049
        (0.0551, 0.005, "0.055 s ahead of the controller's (± 0.005 s)"),
        (-0.2, 0.3, None),  # all of it may be the connection's
        (-0.3, 0.2, "0.300 s behind the controller's (± 0.200 s)"),
        (-10800.25, 0.01, "10800.250 s behind the controller's (± 0.010 s)"),
    ],
)
def test_clock(offset: float, bound: float, off: str | None) -> None:
    clock = {"offset": offset, "bound": bound}
    assert _words.clock_off(clock) == off
    assert len(_words.start_warnings(capture(clock=clock))) == (off is not None)
    told = _words.start_warnings(capture(clock=clock, start_at=MOMENT, started_at=None))
    assert ("is not the same instant" in "".join(told)) == (off is not None)


def test_clock_that_nobody_knows() -> None:
    assert _words.clock_off(None) is None and _words.start_warnings(capture()) == []


@pytest.mark.parametrize(("second", "late"), [("00.000000", None), ("00.040000", None), ("00.300000", "0.30 s after"), ("12.500000", "12.50 s after start_at")])
def test_start_that_came_late(second: str, late: str | None) -> None:
    told = _words.start_warnings(capture(start_at=MOMENT, started_at=f"2026-01-31T03:00:{second}Z"))
    assert (late is None and told == []) or (late is not None and late in told[0])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "waits until 03:00:00 UTC"),
        ({"clock": {"offset": -30.0, "bound": 0.01}}, "waits until 03:00:00 UTC by the host's clock, which is 30.000 s behind the controller's (± 0.010 s)"),
        ({"start_at": "2026-02-01T03:00:00.500000Z"}, "waits until 03:00:00 UTC on 2026-02-01"),
        ({"started_at": MOMENT}, None),
        ({"status": "stopped"}, None),
        ({"start_at": None}, None),
    ],
)
def test_what_it_waits_for(fields: dict[str, t.Any], words: str | None) -> None:
    assert _words.waits(capture(**{"status": "running", "start_at": MOMENT, "started_at": None, **fields}), "2026-01-31T02:59:00Z") == words
