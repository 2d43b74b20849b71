# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eve.json: read on from where it ended, across rotation, half lines and rubbish, in bounded memory."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import tracemalloc
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._suricata import _eve
from ansible_collections.nettap.containers.plugins.module_utils._suricata._events import KnownContainer

START = 1_800_000_000.0  # 2027-01-15T08:00:00Z
WEB, SHOP = "02:42:ac:11:00:02", "02:42:ac:11:00:03"
CONTAINERS = [KnownContainer("web", WEB.upper(), ["172.17.0.2/16", "fd00::2"]), KnownContainer("shop", SHOP, ["172.17.0.3"])]


def stamp(second: float, hours: int = 0) -> str:
    """Suricata writes the host's local time, with its zone."""
    zone = datetime.timezone(datetime.timedelta(hours=hours))
    return datetime.datetime.fromtimestamp(START + second, zone).strftime("%Y-%m-%dT%H:%M:%S.%f%z")


def alert(second: float, sid: int = 1, **more: t.Any) -> bytes:
    event = {
        "timestamp": stamp(second), "in_iface": "vth1", "event_type": "alert", "src_ip": "10.9.9.9", "src_port": 4444, "dest_ip": "172.17.0.2",
        "dest_port": 80, "proto": "TCP", "ether": {"src_mac": "02:42:00:00:00:01", "dest_mac": WEB},
        "alert": {"action": "blocked", "gid": 1, "signature_id": sid, "signature": f"rule {sid}", "severity": 3}, "app_proto": "failed", **more,
    }  # fmt: skip
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def stats(second: float, accepted: int) -> bytes:
    figures = {
        "uptime": 60, "capture": {"kernel_packets": 9, "kernel_drops": 2}, "detect": {"alerts_suppressed": 7},
        "ips": {"accepted": accepted, "blocked": 4, "drop_reason": {"rules": 1, "flow_drop": 3, "stream_error": 0}},
    }  # fmt: skip
    return json.dumps({"timestamp": stamp(second), "event_type": "stats", "stats": figures}, separators=(",", ":")).encode() + b"\n"


@pytest.fixture(name="log")
def make_log(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "eve.json"


def read(log: pathlib.Path, *args: t.Any, **options: t.Any) -> _eve.Summary:
    return _eve.Log(str(log)).read(*args, **options)


def append(log: pathlib.Path, *lines: bytes) -> None:
    with log.open("ab") as stream:
        stream.write(b"".join(lines))


def sids(found: _eve.Summary) -> list[int]:
    return [entry["sid"] for entry in found.alerts]


def test_alert(log: pathlib.Path) -> None:
    http = {"hostname": "shop.example", "url": "/evil", "http_method": "GET", "http_user_agent": "x" * 9000, "length": 0}
    append(log, alert(1.5, app_proto="http", http=http))
    [entry] = read(log, containers=CONTAINERS).alerts
    assert entry == {
        "time": "2027-01-15T08:00:01.500000Z", "container": "web", "action": "blocked", "signature": "rule 1", "sid": 1, "severity": 3,
        "source": "10.9.9.9", "source_port": 4444, "destination": "172.17.0.2", "destination_port": 80, "protocol": "TCP",
        "application": {"protocol": "http", "hostname": "shop.example", "url": "/evil", "method": "GET", "user_agent": "x" * 512},
    }  # fmt: skip


@pytest.mark.parametrize(("protocol", "about", "wanted"), [
    ("tls", {"sni": "a.example", "version": "TLS 1.3"}, {"sni": "a.example", "version": "TLS 1.3"}),
    ("dns", {"query": [{"rrname": "a.example", "rrtype": "A"}]}, {"name": "a.example", "type": "A"}),
    ("dns", {"query": []}, {}),
    ("http", "no object", {}),
    ("smb", {"id": 1}, {}),
])  # fmt: skip
def test_application(log: pathlib.Path, protocol: str, about: t.Any, wanted: dict[str, str]) -> None:
    append(log, alert(1, app_proto=protocol, **{protocol: about}))
    assert read(log).alerts[0]["application"] == {"protocol": protocol, **wanted}


@pytest.mark.parametrize(("about", "name"), [
    ({}, "web"),
    ({"ether": {"src_mac": SHOP, "dest_mac": WEB}}, "web"),  # one of ours to another, on its way in
    ({"ether": {"src_mac": SHOP, "dest_mac": WEB}, "in_iface": "vth0"}, "shop"),  # and on its way out
    ({"ether": {"src_macs": ["02:42:00:00:00:09", SHOP], "dest_macs": ["02:42:00:00:00:01"]}, "dest_ip": "1.1.1.1"}, "shop"),
    ({"ether": {}, "dest_ip": "fd00:0000:0000:0000:0000:0000:0000:0002"}, "web"),
    ({"ether": None, "dest_ip": "172.17.0.3"}, "shop"),
    ({"ether": {"dest_mac": 7}, "dest_ip": None, "src_ip": "172.17.0.2"}, "web"),
    ({"ether": {}, "dest_ip": "10.0.0.1"}, None),
])  # fmt: skip
def test_container(log: pathlib.Path, about: dict[str, t.Any], name: str | None) -> None:
    append(log, alert(1, **about))
    found = read(log, containers=CONTAINERS)
    assert found.alerts[0]["container"] == name
    assert found.counts == [{"container": name, "sid": 1, "signature": "rule 1", "action": "blocked", "count": 1}]


def test_counts_have_what_the_alerts_leave_out(log: pathlib.Path) -> None:
    append(log, *(alert(second, second % 3 + 1) for second in range(30)), alert(40, 9))
    found = read(log, limit=5, containers=CONTAINERS)
    assert sids(found) == [3, 1, 2, 3, 9] and found.truncated and found.complete
    assert [(entry["sid"], entry["count"]) for entry in found.counts] == [(1, 10), (2, 10), (3, 10), (9, 1)]
    assert read(log, limit=0).alerts == [] and len(read(log, limit=31).alerts) == 31 and not read(log, limit=31).truncated


def test_newest_by_time_not_by_line(log: pathlib.Path) -> None:
    """Threads write in their own order."""
    append(log, alert(3, 3), alert(1, 1), alert(4, 4), alert(2, 2))
    assert sids(read(log, limit=3)) == [2, 3, 4]


@pytest.mark.parametrize("rubbish", [
    b"\n", b"{\n", b"\xff\x00\n", b"[]\n", b'"event_type":"alert"\n', b'{"event_type":"alert"}\n', b'{"event_type":"alert","alert":3,"timestamp":"no"}\n',
    b"x" * (2 << 20) + b'"event_type":"alert"\n', json.dumps({"event_type": "drop", "alert": {}, "x": '"event_type":"alert"'}).encode() + b"\n",
])  # fmt: skip
def test_rubbish(log: pathlib.Path, rubbish: bytes) -> None:
    append(log, alert(1, 1), rubbish, alert(2, 2))
    assert sids(read(log, str(START))) == [1, 2]
    assert sids(read(log, read(log).cookie)) == []


def test_half_a_line_waits_for_its_rest(log: pathlib.Path) -> None:
    second = alert(2, 2)
    append(log, alert(1, 1), second[:100])
    found = read(log)
    assert sids(found) == [1]
    append(log, second[100:], alert(3, 3)[:-1])
    again = read(log, found.cookie)
    assert sids(again) == [2] and again.complete
    append(log, b"\n")
    assert sids(read(log, again.cookie)) == [3]


def test_empty(log: pathlib.Path) -> None:
    log.touch()
    found = read(log)
    assert found.alerts == [] and found.counts == [] and found.stats is None and found.complete and not found.truncated
    append(log, alert(1))
    assert sids(read(log, found.cookie)) == [1]


def test_rotation(log: pathlib.Path) -> None:
    """What was not read yet of those that were rotated away since is read from them."""
    append(log, alert(1, 1))
    cookie = read(log).cookie
    for number in (2, 3):
        append(log, alert(number, number))
        os.utime(log, (START + number, START + number))
        for old in (2, 1):
            path = pathlib.Path(f"{log}.{old}" if old > 1 else f"{log}.1")
            if path.exists():
                path.rename(f"{log}.{old + 1}")
        log.rename(f"{log}.1")
    append(log, alert(4, 4))
    found = read(log, cookie)
    assert sids(found) == [2, 3, 4] and found.complete
    assert sids(read(log, str(START + 2.5))) == [3, 4]
    assert sids(read(log, str(START + 1.5))) == [2, 3, 4]
    assert sids(read(log)) == [4]  # by default the log itself


def test_rotated_and_nothing_written_since(log: pathlib.Path) -> None:
    append(log, alert(1, 1))
    cookie = read(log).cookie
    append(log, alert(2, 2))
    log.rename(f"{log}.1")
    found = read(log, cookie)
    assert sids(found) == [2] and found.complete
    append(log, alert(3, 3))
    assert sids(read(log, found.cookie)) == [3]


def test_rotated_and_compressed(log: pathlib.Path) -> None:
    append(log, alert(1, 1))
    cookie = read(log).cookie
    append(log, alert(2, 2))
    log.rename(f"{log}.1.gz")  # the name alone tells
    append(log, alert(3, 3))
    found = read(log, cookie)
    assert sids(found) == [3] and not found.complete and found.truncated
    assert not read(log, str(START)).complete and read(log, str(START + 3.5)).complete


@pytest.mark.parametrize("now", [b"", alert(5, 5)], ids=["shorter", "as long"])
def test_another_file_of_that_number(log: pathlib.Path, now: bytes) -> None:
    """Truncated in place, or removed and its inode number used again."""
    append(log, alert(1, 1))
    cookie = read(log).cookie
    log.write_bytes(now)
    found = read(log, cookie)
    assert sids(found) == [5] * bool(now) and not found.complete


def test_since_a_time(log: pathlib.Path) -> None:
    append(log, *(alert(second, second) for second in range(1, 5000)))
    assert log.stat().st_size > 10 * 65536  # so that it is searched and not read
    for since in (str(START + 4900), "2027-01-15T09:21:40Z", "2027-01-15T09:21:40", "2027-01-15T11:21:40+02:00"):
        assert sids(read(log, since)) == list(range(4900, 5000)), since
    assert len(read(log, str(START), limit=9999).alerts) == 4999 and read(log, str(START + 9000)).alerts == []


def test_local_time(log: pathlib.Path) -> None:
    append(log, alert(1, timestamp=stamp(1, hours=-7)))
    assert read(log, str(START + 0.5)).alerts[0]["time"] == "2027-01-15T08:00:01.000000Z"


def test_latest_stats(log: pathlib.Path) -> None:
    append(log, stats(1, 10), alert(2), stats(3, 30), *[alert(4)] * 500)
    assert read(log, str(START + 9)).stats == {
        "time": "2027-01-15T08:00:03.000000Z", "uptime": 60, "accepted": 30, "blocked": 4, "drop_reasons": {"rules": 1, "flow_drop": 3},
        "kernel_packets": 9, "kernel_drops": 2, "alerts_suppressed": 7,
    }  # fmt: skip


def test_large(log: pathlib.Path) -> None:
    """A log of a GB (mostly hole) costs neither memory nor time: the newest megabytes are read."""
    block = b"".join(alert(second) for second in range(2000))
    with log.open("wb") as stream:
        stream.truncate(1 << 30)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n" + block)
    tracemalloc.start()
    found = read(log, limit=10, max_bytes=4 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not found.complete and len(found.alerts) == 10 and found.counts[0]["count"] == 2000
    assert peak < 8 << 20


@pytest.mark.parametrize("since", ["yesterday", "eve:1:2", "eve:1:2:zz"])
def test_since_refused(log: pathlib.Path, since: str) -> None:
    log.touch()
    with pytest.raises(DataplaneError, match="since must be an ISO 8601 time"):
        read(log, since)


def test_no_log(log: pathlib.Path) -> None:
    with pytest.raises(DataplaneError, match="There is no log"):
        read(log)
