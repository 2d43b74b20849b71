# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON of a session: what was written is read again, also where another release wrote it."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Assignment, Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import VERSION, Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._capture._tcpdump import Counts
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process

SEGMENT = Segment("web", "1" * 64, "eth0", "host", "veth1", "000-web.pcap", ["tcpdump", "-w", "x", "--", "tcp or udp"], "nginx", 7, 8, "stopped", "user",
                  None, "EN10MB", {1: "lo", 12: "eth0"}, Counts(5, 7, 2), "first", "last")  # fmt: skip
SESSION = Session("failed", Request(("eth0", "eth1"), "both", "tcp", duration=1.5), "it broke", "a", "b", Process(3, 4), ["docker:1"], 4096, 1 << 30, [SEGMENT])
# As 0.1.0 wrote it.
OLD: dict[str, t.Any] = {
    "status": "stopped", "error": None, "started_at": "a", "stopped_at": "b", "supervisor": {"pid": 3, "started": 4},
    "request": {"interface": ["any"], "filter": "", "duration": 2.0}, "targets": ["docker:1"], "buffer_size": 4096, "least_free": 5,
    "segments": [{
        "container": "web", "id": "1", "image": None, "interface": "any", "vantage": "container", "device": "any", "file": "000.pcap", "pid": 7, "started": 8,
        "argv": ["tcpdump"], "status": "stopped", "stop_reason": "user", "error": None, "link_type": "LINUX_SLL2", "links": {"1": "lo"},
        "packets_captured": 3, "packets_received": 4, "packets_dropped": 0, "first_packet": None, "last_packet": None,
    }],
}  # fmt: skip


def again(value: t.Any) -> t.Any:
    """What another process reads."""
    return json.loads(json.dumps(value))


def test_round_trip() -> None:
    assert Session.of(again(SESSION.stored())) == SESSION
    assert again(SESSION.stored())["version"] == VERSION
    assert Session.of(again(Session("running").stored())) == Session("running")


def test_assignment_round_trip() -> None:
    watched = Watched("1", "web", "nginx", 5, 6, True, Identity("1", owner=1000), "/sys/fs/cgroup/x", "/record")
    assignment = Assignment("/x", "/usr/bin/tcpdump", 1.5, [watched, Watched("2", "db")], SESSION, 9)
    assert Assignment.of(again(assignment.stored())) == assignment


def test_what_the_first_release_wrote() -> None:
    session = Session.of(OLD)
    assert (session.status, session.supervisor, session.least_free) == ("stopped", Process(3, 4), 5)
    assert session.request == Request(duration=2)
    assert session.segments == [Segment("web", "1", "any", "container", "any", "000.pcap", ["tcpdump"], None, 7, 8, "stopped", "user", None, "LINUX_SLL2",
                                        {1: "lo"}, Counts(3, 4, 0))]  # fmt: skip


def test_what_is_unknown_or_not_there() -> None:
    stored = again(SESSION.stored())
    later = {**stored, "later": 1, "segments": [{**stored["segments"][0], "later": [2]}], "supervisor": {**stored["supervisor"], "later": 5}}
    assert Session.of(later) == SESSION
    assert Session.of({"status": "stopped"}) == Session("stopped")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": VERSION + 1}, f"a newer release of nettap.containers wrote it, in version {VERSION + 1}; this one knows version {VERSION}"),
        ({"segments": [{"container": "web"}]}, "it lacks id, interface, vantage, device, file, argv"),
        ({"segments": ["web"]}, "it holds str instead of an object"),
    ],
)
def test_what_cannot_be_read(changed: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Session.of({**OLD, **changed})
    assert str(caught.value) == words


@pytest.mark.parametrize(("segment", "where", "expression"), [(SEGMENT, "web eth0 (veth1)", "tcp or udp"), (Session.of(OLD).segments[0], "web any", "")])
def test_segment_for_people(segment: Segment, where: str, expression: str) -> None:
    assert (segment.where, segment.filter) == (where, expression)
