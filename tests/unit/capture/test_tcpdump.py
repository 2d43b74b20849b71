# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tcpdump's command line, the check of filters by the real tcpdump, and the reading of what it says."""

from __future__ import annotations

import getopt
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError

# Options of tcpdump(1) that these command lines use or that an injection would; a colon takes a value.
OPTIONS = "dni:s:B:Z:pc:C:W:G:w:r:F:V:z:y:"
NAUGHTY = ["icmp -z /tmp/prog", "-z/tmp/prog", "-w /tmp/x", "-w", "--", "-- -w /tmp/x", "--version", "-r /etc/passwd", "-", "; rm -rf /", "$(id)", "`id`"]


def command(**options: t.Any) -> list[str]:
    return _tcpdump.command("/usr/bin/tcpdump", Request.of(options), "eth0", "/c/000.pcap", 65536)


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ({}, ["-n", "-i", "eth0", "-s", "0", "-B", "65536", "-Z", "root", "-p", "-C", "100", "-W", "18", "-w", "/c/000.pcap"]),
        ({"promiscuous": True, "snaplen": 96}, ["-n", "-i", "eth0", "-s", "96", "-B", "65536", "-Z", "root", "-C", "100", "-W", "18", "-w", "/c/000.pcap"]),
        # One file of any size: -W without -C would do nothing, and -C 0 would be refused.
        ({"file_size": 0, "file_count": 3}, ["-n", "-i", "eth0", "-s", "0", "-B", "65536", "-Z", "root", "-p", "-w", "/c/000.pcap"]),
        ({"file_size": 2, "file_count": 5, "packet_count": 7, "filter": "tcp port 80"},
         ["-n", "-i", "eth0", "-s", "0", "-B", "65536", "-Z", "root", "-p", "-c", "7", "-C", "2", "-W", "13", "-w", "/c/000.pcap", "--", "tcp port 80"]),
    ],
)
def test_command_line(options: dict[str, t.Any], argv: list[str]) -> None:
    assert command(**options) == ["/usr/bin/tcpdump", *argv]


@pytest.mark.parametrize(("device", "like"), [("anycast0", True), ("any0", True), ("anything", True), ("any", False), ("eth0", False), ("xany", False)])
def test_device_that_looks_like_any(device: str, like: bool) -> None:
    assert _tcpdump.looks_like_any(device) is like


@pytest.mark.parametrize(("hardware", "link_type"), [(1, "EN10MB"), (65534, "RAW"), (823, None)])
def test_link_type_is_the_device_s(hardware: int, link_type: str | None) -> None:
    argv = _tcpdump.command("tcpdump", Request.of({}), "anycast0", "/c/000.pcap", 65536, _tcpdump.link_type(hardware))
    assert argv[argv.index("root") + 1 : argv.index("-p")] == (["-y", link_type] if link_type else [])


@pytest.mark.parametrize("expression", ["icmp", "not port 22 and host ::1", *NAUGHTY])
def test_filter_is_the_one_argument_after_the_options(expression: str) -> None:
    """Read as GNU getopt reads it, which permutes: without -- a filter could run a program as root."""
    argv = command(filter=expression)
    options, arguments = getopt.gnu_getopt(argv[1:], OPTIONS, ["version"])
    assert arguments == [expression] and argv[-2:] == ["--", expression]
    assert [name for name, _value in options] == ["-n", "-i", "-s", "-B", "-Z", "-p", "-C", "-W", "-w"]


def test_without_filter_nothing_follows_the_file() -> None:
    """An empty argument would be a filter that newer versions refuse."""
    assert command()[-2:] == ["-w", "/c/000.pcap"] and "--" not in command()


# --- check_filter, with the real tcpdump

ETHERNET, LOOPBACK, TUN, PPP, IPIP, IP6GRE = 1, 772, 65534, 512, 768, 823


@pytest.mark.parametrize(
    ("expression", "device", "hardware"),
    [
        ("icmp", "eth0", ETHERNET),
        ("ether host 02:00:00:00:00:01 and vlan 7", "eth0", ETHERNET),
        ("tcp port 80 and (host 10.0.0.1 or host fd00::1)", "lo", LOOPBACK),
        ("icmp", "tun0", TUN),
        ("ip", "ppp0", PPP),
        ("icmp", "tunl0", IPIP),
        ("icmp", "any", None),
        ("inbound", "any", None),
        ("ifindex 2", "any", None),  # LINUX_SLL2 alone has it
        ("not a filter", "gre0", IP6GRE),  # a link type that is left to tcpdump itself
    ],
)
def test_filter_is_taken(expression: str, device: str, hardware: int | None) -> None:
    _tcpdump.check_filter(_tcpdump.program(), expression, device, hardware)


@pytest.mark.parametrize(
    ("expression", "device", "hardware", "words"),
    [
        ("tcp port", "eth0", ETHERNET, "syntax error"),
        ("prot 80", "any", None, "syntax error"),
        ("port 99999", "eth0", ETHERNET, "illegal port number 99999 > 65535"),
        ("host no.such.name.invalid", "eth0", ETHERNET, "no.such.name.invalid"),
        # Only the real link type tells: Ethernet, which tcpdump -d takes unless told, would accept them.
        ("ether host 02:00:00:00:00:01", "any", None, "ethernet addresses supported only on ethernet"),
        ("ether host 02:00:00:00:00:01", "tun0", TUN, "ethernet addresses supported only on ethernet"),
    ],
)
def test_filter_is_refused_in_the_words_of_tcpdump(expression: str, device: str, hardware: int | None, words: str) -> None:
    with pytest.raises(CaptureError) as caught:
        _tcpdump.check_filter(_tcpdump.program(), expression, device, hardware)
    text = str(caught.value)
    assert text.startswith(f"tcpdump does not take the filter {expression!r} on {device}: ") and words in text
    assert text.endswith(".") and not text.endswith("..") and "\n" not in text and ": tcpdump:" not in text


@pytest.mark.parametrize("device", ["eth0", "any"])
@pytest.mark.parametrize("expression", NAUGHTY)
def test_filter_that_tries_to_be_an_option(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, expression: str, device: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaptureError, match=r"syntax error|illegal|unknown|can't parse|non-network"):
        _tcpdump.check_filter(_tcpdump.program(), expression.replace("/tmp/", f"{tmp_path}/"), device, ETHERNET)
    assert list(tmp_path.iterdir()) == []


def stand_in(path: pathlib.Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.parametrize(
    ("device", "hardware", "link_types"),
    [("any", None, ["LINUX_SLL2"]), ("eth0", ETHERNET, ["EN10MB"]), ("lo", LOOPBACK, ["EN10MB"]), ("tun0", TUN, ["RAW"]), ("gre0", IP6GRE, [])],
)
def test_filter_is_compiled_for_the_link_type_of_the_device(tmp_path: pathlib.Path, device: str, hardware: int | None, link_types: list[str]) -> None:
    (tmp_path / "asked").touch()
    _tcpdump.check_filter(stand_in(tmp_path / "tcpdump", f'echo "$2" >>{tmp_path}/asked'), "icmp", device, hardware)
    assert (tmp_path / "asked").read_text().split() == link_types


def test_any_on_a_tcpdump_of_before_4_99(tmp_path: pathlib.Path) -> None:
    """It does not know LINUX_SLL2: the filter is then compiled for what it does capture, LINUX_SLL."""
    refuse = 'if [ "$2" = LINUX_SLL2 ]; then echo "tcpdump: invalid data link type LINUX_SLL2" >&2; exit 1; fi'
    old = stand_in(tmp_path / "tcpdump", f'{refuse}\nexec {_tcpdump.program()} "$@"')
    _tcpdump.check_filter(old, "icmp", "any", None)
    with pytest.raises(CaptureError, match="syntax error"):
        _tcpdump.check_filter(old, "prot 80", "any", None)


def test_filter_in_a_text_that_is_no_utf_8(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CaptureError, match=r"b.d"):
        _tcpdump.check_filter(stand_in(tmp_path / "tcpdump", r"printf 'tcpdump: b\377d\n' >&2; exit 1"), "x", "eth0", ETHERNET)


# --- read

LISTENING = "tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n"
ANY = "tcpdump: data link type LINUX_SLL2\ntcpdump: listening on any, link-type LINUX_SLL2 (Linux cooked v2), snapshot length 262144 bytes\n"
DISAPPEARED = "tcpdump: pcap_loop: The interface disappeared\n"
LIVE = "tcpdump: {} packets captured, {} packets received by filter, {} packets dropped by kernel\n"
FINAL = "{} packets captured\n{} packets received by filter\n{} packets dropped by kernel\n"


@pytest.mark.parametrize(
    ("text", "link_type", "counts", "answers"),
    [
        ("", None, (), 0),
        ("tcpdump: data link type LINUX_SLL2\n", None, (), 0),
        (LISTENING, "EN10MB", (), 0),
        (ANY, "LINUX_SLL2", (), 0),
        ("listening on eth0, link-type EN10MB (Ethernet), capture size 96 bytes\n", "EN10MB", (), 0),
        ("tcpdump: data link type RAW\n" + LISTENING.replace("EN10MB", "RAW"), "RAW", (), 0),
        # tcpdump writes a line piece by piece: what is not whole is no answer yet, or a capture would be ended for a goal of 0 packets.
        ("tcpdump: listening on eth0, link-type EN", None, (), 0),
        (LISTENING + "tcpdump: 1", "EN10MB", (), 0),
        (LISTENING + "tcpdump: 10 packets captured, ", "EN10MB", (), 0),
        (LISTENING + LIVE.format(10, 12, 2) + LIVE.format(15, 17, 2)[:-1], "EN10MB", (10, 12, 2), 1),
        (LISTENING + LIVE.format(10, 12, 2), "EN10MB", (10, 12, 2), 1),
        (LISTENING + LIVE.format(10, 12, 2) + LIVE.format(15, 17, 2) + LIVE.format(20, 25, 5), "EN10MB", (20, 25, 5), 3),
        (LISTENING + FINAL.format(3, 4, 0), "EN10MB", (3, 4, 0), 1),
        (LISTENING + "3 packets captured\n", "EN10MB", (3,), 0),
        (LISTENING + "3 packets captured\n4 packets received by filter\n0 pack", "EN10MB", (3, 4), 0),
        (LISTENING + LIVE.format(1, 1, 0) + FINAL.format(300000, 4000000000, 7), "EN10MB", (300000, 4000000000, 7), 2),
        (LISTENING + "1 packet captured\n1 packet received by filter\n1 packet dropped by kernel\n", "EN10MB", (1, 1, 1), 1),
        (LISTENING + FINAL.format(3, 4, 0) + "9 packets dropped by interface\n", "EN10MB", (3, 4, 0, 9), 1),
    ],
)
def test_read(tmp_path: pathlib.Path, text: str, link_type: str | None, counts: tuple[int, ...], answers: int) -> None:
    (tmp_path / "log").write_text(text)
    report = _tcpdump.read(str(tmp_path / "log"))
    assert (report.link_type, report.ready, report.answers) == (link_type, link_type is not None, answers)
    assert report.counts == _tcpdump.Counts(*counts)
    assert report.arrived == sum(counts[1:2]) - sum(counts[2:3])
    assert (report.complaint, report.interface_gone) == ("", False)


@pytest.mark.parametrize(
    ("text", "words", "gone"),
    [
        ("tcpdump: nope: No such device exists\n(No such device exists)\n", "nope: No such device exists", False),
        ("tcpdump: eth0: You don't have permission to capture on that device\n(socket: Operation not permitted)\n",
         "eth0: You don't have permission to capture on that device", False),
        ("tcpdump: can't parse filter expression: syntax error\n", "can't parse filter expression: syntax error", False),
        (LISTENING + DISAPPEARED + FINAL.format(1, 2, 0), "The interface disappeared", True),
        (LISTENING + "tcpdump: pcap_loop: The interface went down\n" + FINAL.format(1, 2, 0), "The interface went down", True),
        (LISTENING + "tcpdump: Unable to write output: No space left on device\n", "Unable to write output: No space left on device", False),
        ("tcpdump: WARNING: any: That device doesn't support promiscuous mode\n(Promiscuous mode not supported on the \"any\" device)\n" + ANY, "", False),
        ("Warning: Kernel filter failed: Bad file descriptor\n" + LISTENING, "", False),
        ("tcpdump: one.\ntcpdump: two.\n", "one; two", False),
    ],
)
def test_complaint(tmp_path: pathlib.Path, text: str, words: str, gone: bool) -> None:
    (tmp_path / "log").write_text(text)
    report = _tcpdump.read(str(tmp_path / "log"))
    assert (report.complaint, report.interface_gone) == (words, gone)


def test_log_that_is_not_there_or_no_text(tmp_path: pathlib.Path) -> None:
    assert _tcpdump.read(str(tmp_path / "none")) == _tcpdump.Report(None, _tcpdump.Counts(), 0, "", False)
    (tmp_path / "log").write_bytes(b"\xff\xfe\0" + LISTENING.encode())
    assert _tcpdump.read(str(tmp_path / "log")).complaint


def test_what_the_installed_tcpdump_says_is_read(tmp_path: pathlib.Path) -> None:
    """The texts above are of 4.99; these are the words of the one that is here."""
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([_tcpdump.program(), "-i", "no-such-link", "-w", tmp_path / "x.pcap"], stdin=subprocess.DEVNULL, stderr=log, check=False)
    report = _tcpdump.read(str(tmp_path / "log"))
    assert report.complaint.startswith("no-such-link: ") and not report.ready and not report.interface_gone
