# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reason to start a session, and the share of packets dropped that is too much."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _control
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError
from ansible_collections.nettap.containers.plugins.module_utils._system import _process
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

ALIVE = _process.Process.own()
DEAD = _process.Process(1 << 30, 1)
WEB, DB = ("docker", "a" * 64, "web"), ("docker", "b" * 64, "db")
ICMP: dict[str, t.Any] = {"filter": "icmp"}


def targets(*wanted: tuple[str, str, str]) -> list[t.Any]:
    return [types.SimpleNamespace(container=Container(runtime=runtime, id=number, name=name)) for runtime, number, name in wanted]


def running(*of: tuple[str, str, str], alive: bool = True, status: str = "running", **options: t.Any) -> Session:
    segments = [Segment(name, number, "any", "container", "any", f"000-{name}.pcap", []) for _runtime, number, name in of]
    return Session(status, Request.of(options), supervisor=ALIVE if alive else DEAD, segments=segments,
                   targets=sorted(f"{runtime}:{number}" for runtime, number, _name in of))


@pytest.mark.parametrize(
    ("state", "wanted", "options", "reason"),
    [
        (None, [WEB], {}, "There was no session x."),
        (running(WEB), [WEB], {}, None),
        (running(WEB, DB), [DB, WEB], {}, None),
        (running(WEB, **ICMP), [WEB], ICMP, None),
        (running(WEB, status="stopped"), [WEB], {}, "Session x has stopped."),
        (running(WEB, status="failed"), [WEB], {}, "Session x has failed."),
        (running(WEB, status="stopped"), [DB], ICMP, "Session x has stopped."),
        # A tcpdump that a dead supervisor has left is no session that runs.
        (running(WEB, alive=False), [WEB], {}, "The supervisor of session x was killed."),
        # With force, the differences are the reason; without them there is none.
        (running(WEB), [WEB], {"force": True}, None),
        (running(WEB, **ICMP), [WEB], {"force": True, "filter": "tcp", "duration": 5},
         "Session x was running with other arguments (filter: 'icmp', not 'tcp'; duration: 0, not 5)."),
        (running(WEB, DB), [WEB], {"force": True}, "Session x was running with other arguments (containers: db, web, not web)."),
    ],
)
def test_reason_to_start(state: Session | None, wanted: list[tuple[str, str, str]], options: dict[str, t.Any], reason: str | None) -> None:
    force = options.get("force", False)
    status = state.status if state else "absent"
    assert _control.reason_to_start("x", status, state, Request.of(options), targets(*wanted), force) == reason


@pytest.mark.parametrize(
    ("state", "wanted", "options", "words"),
    [
        (running(WEB), [WEB], ICMP, "filter: '', not 'icmp'"),
        (running(WEB, interface=["eth0"]), [WEB], {"interface": ["eth0", "eth1"]}, "interface: ('eth0',), not ('eth0', 'eth1')"),
        (running(WEB), [DB], {}, "containers: web, not db"),
        (running(WEB), [("docker", "c" * 64, "web")], {}, "containers: web, not web made anew since"),
        (running(WEB, **ICMP), [WEB, DB], {"snaplen": 96}, "filter: 'icmp', not ''; snaplen: 0, not 96; containers: web, not db, web"),
    ],
)
def test_another_session_of_that_name_runs(state: Session, wanted: list[tuple[str, str, str]], options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(CaptureError) as caught:
        _control.reason_to_start("x", "running", state, Request.of(options), targets(*wanted), False)
    assert str(caught.value) == f"Session x is running with other arguments ({words}): use another name, or force: true to restart it."


def segment(received: int | None, dropped: int | None, container: str = "web") -> dict[str, t.Any]:
    return {"container": container, "containers": [container], "device": "eth0", "packets_received": received, "packets_dropped": dropped}


@pytest.mark.parametrize(
    ("segments", "limit", "named"),
    [
        ([], 1, None),
        ([segment(100, 50)], None, None),
        ([segment(100, 0)], 0, None),
        ([segment(None, None)], 0, None),
        ([segment(0, 0)], 0, None),
        ([segment(1_000_000, 1)], 0, "web eth0 1 of 1000000"),
        ([segment(100, 5)], 5, None),  # received holds the dropped: exactly 5 %
        ([segment(1000, 51)], 5, "web eth0 51 of 1000"),
        ([segment(1000, 6)], 0.5, "web eth0 6 of 1000"),
        ([segment(1000, 5)], 0.5, None),
        ([segment(100, 100)], 99.9, "web eth0 100 of 100"),
        ([segment(100, 100)], 100, None),
        # each for itself: a quiet one must not make up for another's loss
        ([segment(10**9, 0), segment(100, 50, "db"), segment(10, 9, "mail")], 10, "db eth0 50 of 100, mail eth0 9 of 10"),
    ],
)
def test_excessive_drops(segments: list[dict[str, t.Any]], limit: float | None, named: str | None) -> None:
    words = _control.excessive_drops({"segments": segments}, limit)
    if named is None:
        assert words is None
    else:
        assert words == f"More than {limit:g} % of the packets were dropped ({named}): raise buffer_size, lower snaplen or narrow the filter."
