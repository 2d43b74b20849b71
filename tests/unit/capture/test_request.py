# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user may ask of a session: defaults, limits, amounts, instants and names."""

from __future__ import annotations

import dataclasses
import io
import json
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _request
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request, check_name, check_new_name, start_instant
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError
from ansible_collections.nettap.containers.plugins.modules import container_capture

GIB = 1 << 30


def test_defaults_are_those_of_the_design_and_of_the_module() -> None:
    """Three places tell them; they must agree."""
    assert Request.of({}) == Request() == Request.of(dict.fromkeys(dataclasses.asdict(Request())))
    assert (Request().interface, Request().file_size, Request().file_count, Request().promiscuous) == (("any",), 100, 10, False)
    for field in dataclasses.fields(Request):
        default = container_capture.ARGUMENTS[field.name].get("default")
        assert (tuple(default) if isinstance(default, list) else default) == field.default, field.name
    assert Request.of({"state": "started", "container": ["web"], "interface": ["eth0", " eth1", "", "eth0\neth1"]}).interface == ("eth0", "eth1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interface": []}, "interface must name at least one"),
        ({"interface": [""]}, "interface must name at least one"),
        ({"interface": [" ", ""]}, "interface must name at least one"),
        ({"filter": "icmp\n-z /tmp/x"}, "write it on one line"),
        ({"filter": "icmp\r"}, "control character"),
        ({"filter": "ic\0mp"}, "control character"),
        ({"filter": "ic\x7fmp"}, "control character"),
        ({"snaplen": -1}, "snaplen must be at least 0, not -1."),
        ({"packet_count": -5}, "packet_count must be at least 0, not -5."),
        ({"duration": -0.5}, "duration must be at least 0, not -0.5."),
        ({"duration": float("nan")}, "duration must be a number, not nan."),
        ({"duration": float("inf")}, "duration must be a number, not inf."),
        ({"file_size": -1}, "file_size must be at least 0"),
        ({"file_count": 0}, "file_count must be at least 1, not 0."),
        ({"max_drop_percent": -1.0}, "max_drop_percent must be at least 0"),
        ({"max_drop_percent": float("nan")}, "max_drop_percent must be a number, not nan."),
        ({"buffer_size": 0}, "buffer_size is in KiB and must be from 1 to 2097151, not 0."),
        ({"buffer_size": 2097152}, "not 2097152."),
        ({"min_free": "plenty"}, "min_free must be an amount"),
    ],
)
def test_values_that_make_no_sense(options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(CaptureError) as caught:
        Request.of(options)
    assert words in str(caught.value) and str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"duration": 0, "packet_count": 0, "snaplen": 0, "file_size": 0, "max_drop_percent": 0},
        {"file_count": 1, "buffer_size": 1},
        {"buffer_size": 2097151},
        {"filter": "host 10.0.0.1 and port 80 or 'ü'"},
        {"filter": "-z /bin/sh"},  # harmless: it is an argument after --, see test_tcpdump.py
    ],
)
def test_values_at_the_limits(options: dict[str, t.Any]) -> None:
    request = Request.of(options)
    assert {name: getattr(request, name) for name in options} == options


@pytest.mark.parametrize(
    ("min_free", "total", "least"),
    [
        (None, 100 * GIB, GIB),
        (None, 10 * GIB, GIB // 2),
        (None, 20 * GIB, GIB),
        ("0", GIB, 0),
        ("4096", GIB, 4096),
        ("4096B", GIB, 4096),
        ("1k", GIB, 1024),
        ("500M", GIB, 500 << 20),
        ("500 MB", GIB, 500 << 20),
        ("1GiB", 0, GIB),
        (" 1.5 g ", 0, GIB * 3 // 2),
        ("2TiB", 0, 2 << 40),
        ("5%", 1000, 50),
        ("0.5 %", 1000, 5),
        ("100%", 1000, 1000),
    ],
)
def test_least_free(min_free: str | None, total: int, least: int) -> None:
    assert Request.of({"min_free": min_free}).least_free(total) == least


@pytest.mark.parametrize("min_free", ["", "-1", "-1GiB", "101%", "100.5%", "GiB", "%", "1 PiB", "1,5G", "5%%", "1G5", "0x10", "1e9", "nan"])
def test_least_free_that_is_no_amount(min_free: str) -> None:
    with pytest.raises(CaptureError, match="min_free must be an amount such as 1GiB, 500M or 5%"):
        Request.of({"min_free": min_free})


@pytest.mark.parametrize(
    ("available", "segments", "wanted", "kib"),
    [
        (8 << 20, 1, None, 65536),
        (8 << 20, 4, None, 65536),
        (8 << 20, 5, None, 52428),
        (8 << 20, 16, None, 16384),
        (8 << 20, 50, None, 5242),
        (8 << 20, 100_000, None, 4096),
        (0, 1, None, 4096),
        (8 << 20, 0, None, 65536),
        (8 << 20, 50, 300_000, 300_000),
        (0, 50, 1, 1),
    ],
)
def test_buffer_budget(monkeypatch: pytest.MonkeyPatch, available: int, segments: int, wanted: int | None, kib: int) -> None:
    """All segments together take at most a 32nd of the memory, unless the user says how much each takes."""
    text = f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {available:8} kB\n"
    monkeypatch.setattr(_request, "open", lambda path, **_options: io.StringIO({"/proc/meminfo": text}[path]), raising=False)
    assert Request.of({"buffer_size": wanted}).buffer(segments) == kib


def test_buffer_of_this_machine() -> None:
    assert 4096 <= Request().buffer(1) <= 65536


@pytest.mark.parametrize(
    ("options", "endless"),
    [({}, True), ({"duration": 0, "packet_count": 0}, True), ({"duration": 0.1}, False), ({"packet_count": 1}, False)],
)
def test_endless(options: dict[str, t.Any], endless: bool) -> None:
    assert Request.of(options).endless() is endless


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interface": ["eth0", "eth1"], "vantage": "both", "filter": "port 80 and host ::1", "snaplen": 96, "packet_count": 7, "duration": 2.5,
         "file_size": 1, "file_count": 3, "buffer_size": 8192, "promiscuous": True, "on_restart": "stop", "min_free": "1%", "max_drop_percent": 0.5},
    ],
)
def test_stored_round_trip(options: dict[str, t.Any]) -> None:
    """What session.json keeps is the same request again: else a second run would find differences."""
    request = Request.of(options)
    again = Request.of(json.loads(json.dumps(dataclasses.asdict(request))))
    assert again == request and again.differences(request) == []


def test_differences_name_theirs_and_ours() -> None:
    ours, theirs = Request.of({"filter": "icmp", "duration": 5}), Request.of({"filter": "tcp", "interface": ["eth0"], "duration": 5})
    assert ours.differences(theirs) == ["interface: ('eth0',), not ('any',)", "filter: 'tcp', not 'icmp'"]
    assert Request.of({"duration": 5}).differences(Request.of({"duration": 5.0})) == []


@pytest.mark.parametrize(
    "value",
    ["", "soon", "tomorrow 3am", "2026-13-01T00:00:00Z", "2026-01-31T25:00:00Z", "12:00", "now+5", "nan", "inf", "-Infinity", "1e999", "Z"],
)
def test_start_at_that_is_no_instant(value: str) -> None:
    with pytest.raises(CaptureError) as caught:
        start_instant(value)
    assert str(caught.value).startswith("start_at must be an ISO 8601 time") and repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["a", "default", "web-1.x_Y", "0", "-x", ".hidden", "...", "a..b", "x" * 64])
def test_good_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "x" * 65, "a b", "x\n", "\nx", "x\0", "ä", "*", "$HOME", "a;b", "a:b"])
def test_bad_name(name: str) -> None:
    with pytest.raises(CaptureError) as caught:
        check_name(name)
    assert repr(name) in str(caught.value) and "1 to 64 letters" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "good"),
    [("web", True), ("0", True), ("Z-.", True), ("-rf", False), ("--", False), (".hidden", False), ("_x", False), ("...", False)],
)
def test_name_of_a_new_session(name: str, good: bool) -> None:
    """A name such as -rf is an option to the programs that a user gives it to."""
    if good:
        assert check_new_name(name) == name
    else:
        with pytest.raises(CaptureError, match=f"'{name}' cannot be a session's name: begin with a letter or a digit"):
            check_new_name(name)
    with pytest.raises(CaptureError, match="1 to 64 letters"):
        check_new_name("")
