# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dp reports by itself, byte by byte, and the bounded log of it."""

from __future__ import annotations

import os
import pathlib
import stat
import time
import typing as t

import dp_notices
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _notices
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._events import EventLog, EventSummary
from ansible_collections.nettap.containers.plugins.module_utils._steering._watchdog._listener import Listener

MAC, MAC2 = "02:42:0a:63:00:02", "02:42:0a:63:00:03"
DENIED = (MAC, "10.99.0.1", "10.99.0.2", 80, dp_notices.DENY, 2, 5)
VIOLATED = (MAC2, "10.99.0.9", "10.99.0.3", 443, dp_notices.VIOLATE, 0, 1)
ALLOWED = (MAC, "10.99.0.4", "10.99.0.2", 80, 2, 1, 9)


def event(**values: t.Any) -> dict[str, t.Any]:
    return {"at": 1.0, "container": "web", "kind": "connection", "action": "deny", "rule": 2, "threat": None, "count": 1, **values}


def test_threat() -> None:
    assert _notices.parse(dp_notices.threat(MAC, 1002, "10.99.0.1", "10.99.0.2", count=70, message=b"rate 100")) == [{
        "kind": "threat", "mac": MAC, "action": "drop", "rule": None, "threat": "icmp_flood", "severity": "critical", "message": "rate 100",
        "source": "10.99.0.1", "source_port": None, "destination": "10.99.0.2", "destination_port": None, "protocol": "icmp", "direction": "ingress",
        "count": 70,
    }]  # fmt: skip
    (other,) = _notices.parse(dp_notices.threat(MAC, 9999, "fd00::1", "fd00::2", protocol=17, ports=(4000, 53), ingress=False))
    assert (other["threat"], other["source"], other["source_port"], other["destination_port"]) == ("9999", "fd00::1", 4000, 53)
    assert (other["protocol"], other["direction"]) == ("udp", "egress")


@pytest.mark.parametrize("appended", [0, 16, 32])
def test_connections_that_the_policy_denied_or_reported(appended: int) -> None:
    denied, violated = _notices.parse(dp_notices.connections(DENIED, ALLOWED, VIOLATED, appended=appended))
    assert denied == {
        "kind": "connection", "mac": MAC, "action": "deny", "rule": 2, "threat": None, "severity": None, "message": "", "source": "10.99.0.1",
        "source_port": None, "destination": "10.99.0.2", "destination_port": 80, "protocol": "tcp", "direction": "ingress", "count": 5,
    }  # fmt: skip
    assert (violated["mac"], violated["action"], violated["rule"], violated["count"]) == (MAC2, "violate", 0, 1)
    assert _notices.parse(dp_notices.connections()) == [] == _notices.parse(dp_notices.notice(dp_notices.FQDN, bytes(30)))


@pytest.mark.parametrize(("kind", "length"), [(6, 100), (7, 3), (7, 5)])
def test_reports_that_are_not_known(kind: int, length: int) -> None:
    with pytest.raises(DataplaneError, match=f"in {length} bytes, which is no layout that is known here"):
        _notices.parse(dp_notices.notice(kind, bytes(length)))


def test_log_is_bounded_and_read_on(tmp_path: pathlib.Path) -> None:
    log = EventLog("nettap", str(tmp_path / "events"), 4000)
    assert log.read() == EventSummary([], [], "", True, False)
    log.append([event(at=100.0), event(at=200.0, action="violate", count=3)])
    assert stat.S_IMODE(os.stat(log.path).st_mode) == 0o600 and stat.S_IMODE(os.stat(tmp_path / "events").st_mode) == 0o700
    first = log.read()
    assert [one["time"][:19] for one in first.events] == ["1970-01-01T00:01:40", "1970-01-01T00:03:20"]
    assert first.counts[0] == {"container": "web", "kind": "connection", "action": "violate", "rule": 2, "threat": None, "count": 3}
    assert not log.read(first.cookie).events and [one["action"] for one in log.read("150").events] == ["violate"]
    assert (log.read(limit=1).truncated, len(log.read(limit=1).events), log.read(limit=1).counts) == (True, 1, first.counts)

    log.append([event(at=300.0)])
    later = log.read(first.cookie)
    assert len(later.events) == 1 and later.complete
    seen = 3
    while not os.path.exists(log.path + ".1"):
        log.append([event(at=400.0)])
        seen += 1
    assert len(log.read(later.cookie).events) == seen - 3 and log.read(later.cookie).complete, "the file was put away meanwhile"
    for _number in range(500):
        log.append([event(at=500.0)])
    assert sum(os.path.getsize(path) for path in (log.path, log.path + ".1")) <= 8000
    assert not log.read(later.cookie).complete and log.read(later.cookie).events
    with pytest.raises(DataplaneError, match="since must be an ISO 8601 time"):
        log.read("yesterday")


def test_what_is_heard_is_logged(tmp_path: pathlib.Path) -> None:
    log = EventLog("nettap", str(tmp_path / "events"))
    path = tmp_path / _notices.SOCKET
    for again in (False, True):  # the second one takes over from the first, as a new watchdog does
        listener = Listener(log, str(tmp_path / "dp.sock"))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        before = time.time()
        dp_notices.send(str(path), dp_notices.connections(DENIED, VIOLATED), dp_notices.threat(MAC, 2006, "10.99.0.1", "10.99.0.2"))
        listener.take({MAC: "web"})
        (denied, violated, threat) = log.read(str(before)).events
        assert (denied["container"], violated["container"], threat["container"], threat["threat"]) == ("web", None, "web", "ping_of_death")
        if not again:
            with pytest.raises(DataplaneError, match=r"is heard at .* by another process already"):
                Listener(log, str(tmp_path / "dp.sock"))
        listener._socket.close()


def test_a_report_that_is_not_known_costs_no_other(tmp_path: pathlib.Path) -> None:
    log = EventLog("nettap", str(tmp_path / "events"))
    listener = Listener(log, str(tmp_path / "dp.sock"))
    dp_notices.send(str(tmp_path / _notices.SOCKET), b"\x06\x00\x00\x05x", dp_notices.connections(DENIED))
    with pytest.raises(DataplaneError, match="no layout that is known here"):
        listener.take({})
    assert len(log.read().events) == 1
    listener._socket.close()
