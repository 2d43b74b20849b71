# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures followed live: over ssh from a user who becomes root, into files, FIFOs and programs."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import typing as t

import pytest
from capture_tools import PORT, TRAFFIC, by, capinfos, count, flood, lengths, only, reach, send, tshark
from waiting import wait_for

MODULE = "nettap.containers.container_capture_stream"
SECONDS = 120


class Follower:
    """container_capture_stream on the host `node`, into a file unless told otherwise."""

    def __init__(self, captures, cli, sshd, dest: pathlib.Path) -> None:
        self.captures, self.cli, self.sshd, self.dest = captures, cli, sshd, dest
        # The user is that of all tests: a killed play of another test may have left its own there.
        self._before = set(self._temporary())

    def start(self, *tasks_before: dict, host_vars: dict | None = None, **options):
        """Start a play that follows; returns it, running."""
        if "argv" not in options:
            options.setdefault("dest", str(self.dest))
        follow = {"name": "Follow", MODULE: {"path": str(self.captures.path), **options}}
        play = {"hosts": "all", "gather_facts": False, "tasks": [*tasks_before, follow]}
        return self.cli.start_playbook([play], hosts={"node": {**self.sshd.host_vars, **(host_vars or {})}})

    def _temporary(self) -> list[pathlib.Path]:
        return list((self.sshd.home / ".ansible" / "tmp").glob("*"))

    def left(self) -> list[pathlib.Path]:
        """Return what this test has left in the login user's temporary folder."""
        return [path for path in self._temporary() if path not in self._before]

    def holds(self, size: int) -> bool:
        """Whether so many bytes have arrived."""
        return self.dest.exists() and self.dest.stat().st_size >= size


@pytest.fixture
def follow(captures, cli, sshd, tmp_path):
    return Follower(captures, cli, sshd, tmp_path / "here" / "live.pcapng")


class Reader:
    """A program that reads the FIFO on its standard input; its lines come with the time at which they came."""

    def __init__(self, fifo: pathlib.Path, *argv: str) -> None:
        self.lines: list[tuple[float, str]] = []
        # Opening waits for the writer, and that must not be this test.
        self._thread = threading.Thread(target=self._run, args=(fifo, argv))
        self.process: subprocess.Popen[str] | None = None
        self.stderr = ""
        self._thread.start()

    def _run(self, fifo: pathlib.Path, argv: tuple[str, ...]) -> None:
        with fifo.open("rb") as stream:
            self.process = subprocess.Popen(argv, stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in t.cast("t.TextIO", self.process.stdout):
            self.lines.append((time.time(), line.strip()))
        self.stderr = t.cast("t.TextIO", self.process.stderr).read()
        self.process.wait()

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive() and self.process
        return self.process.returncode


@pytest.mark.alone
def test_twenty_thousand_packets_live(captures, container, follow, tmp_path):
    """tshark reads them from a FIFO while they flow, each at most two seconds late, to the end and without complaint."""
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC, live=True)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = Reader(fifo, "tshark", "-l", "-n", "-r", "-", "-T", "fields", "-e", "frame.time_epoch", "-e", "data.len", "-e", "frame.interface_name")
    play = follow.start(dest=str(fifo))
    assert wait_for(lambda: reader.process is not None, SECONDS), play.output
    send(where, [7])
    assert wait_for(lambda: bool(reader.lines), SECONDS), play.output
    sent = [1 + number % 1000 for number in range(20_000)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for start in range(0, len(sent), 50):
            for length in sent[start : start + 50]:
                sender.sendto(bytes(length), (where, PORT))
            time.sleep(0.02)  # 2,500 a second: eight seconds
    assert wait_for(lambda: len(reader.lines) >= 20_001, SECONDS), len(reader.lines)
    stopped = only(captures.stop())
    done = play.wait()
    result = done.result("Follow")
    assert reader.wait() == 0 and re.fullmatch(r'(Running as user "root" and group "root".*\n)?', reader.stderr), reader.stderr
    assert done.rc == 0 and (result["ended_by"], result["packets"], result["missed"], result["lost"]) == ("capture", 20_001, 0, []), done.output
    assert stopped["packets_captured"] == 20_001
    found = [line.split("\t") for _came, line in reader.lines]
    assert [int(length) for _at, length, _name in found] == [7, *sent]
    assert {name for _at, _length, name in found} == {f"node/{target.name}/eth0"}
    first, *others = [came - float(at) for (came, _line), (at, _length, _name) in zip(reader.lines, found, strict=True)]
    others.sort()
    print(f"first packet {first:.2f} s late, the others {others[-1]:.2f} s at most, {others[len(others) // 2]:.2f} s half of them")
    # Not the latest of 20,000: other work on this machine may stop everything for a moment.
    assert first < 2 and others[int(0.95 * len(others))] < 2
    assert follow.left() == []


def test_reader_that_closes(captures, container, follow):
    """Programs of their own choice: one that has seen enough is no error, and the session goes on or ends as asked for."""
    target = container()
    where = reach(target)
    for on_close, status in (("keep", "running"), ("stop", "stopped"), ("remove", None)):
        captures.start(target, interface=["eth0"], filter=TRAFFIC, live=True, name=on_close)
        play = follow.start(name=on_close, on_close=on_close, argv=["tcpdump", "-n", "-l", "-r", "-", "-c", "2"])
        send(where, [41, 42])
        done = play.wait()
        result = done.result("Follow")
        # The packets may have been the last of the stream's first piece: then only the next look finds the reader gone.
        assert done.rc == 0 and (result["ended_by"], result["rc"], result["dest"]) == ("reader", 0, None), done.output
        assert re.search(r"^\[node\] .*UDP, length 41$", done.output, re.MULTILINE) and "UDP, length 42" in done.output
        found = captures.find(on_close)
        assert (found and found["status"]) == status and result["changed"] == (on_close != "keep")
    assert follow.left() == []


def test_programs_that_fail(captures, container, follow, tmp_path):
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC, live=True, duration=2)
    send(where, [5])
    for options, words in (
        ({"argv": ["nettap-is-not-there"]}, r"nettap-is-not-there cannot be run on the controller: No such file or directory\."),
        ({"argv": ["tshark", "-r", "-", "-Y", "nosuchfield"]}, r"tshark ended with code \d+: .*nosuchfield"),
        ({"argv": []}, "argv is empty"),
        ({"dest": f"{tmp_path}/fifo", "argv": ["cat"]}, "mutually exclusive"),
        ({"dest": "/proc/nettap/live"}, r"/proc/nettap/live on the controller cannot be written: No such file or directory\."),
        ({"name": "other"}, r"There is no capture session 'other' under \S+ \(there are: default\)\."),
        ({"name": "../x"}, "cannot be a session's name"),
    ):
        done = follow.start(**options).wait()
        assert done.rc == 2 and re.search(words, done.result("Follow")["msg"]), done.output
    assert captures.until_ended()["status"] == "stopped" and follow.left() == []


def listens(segment: dict) -> bool:
    """Whether its tcpdump has its socket open, and so answers."""
    return segment["status"] == "running" and segment["packets_captured"] is not None


def test_everything_of_a_session_that_has_ended(captures, container, follow):
    """Two containers, one of which comes back; any beside a named interface. What is followed is what is fetched."""
    first, second = container(), container()
    captures.start(first, second, interface=["eth0", "any"], filter=TRAFFIC, live=True)
    for target in (first, second):
        send(reach(target), [1, 2, 3])
    captures.until(lambda capture: all(segment["packets_captured"] == 3 for segment in capture["segments"]))
    play = follow.start()
    assert wait_for(lambda: follow.holds(1) and count(follow.dest) == 12, SECONDS), play.output
    first.restart()
    captures.until(lambda capture: sum(listens(segment) for segment in capture["segments"]) == 4 and len(capture["segments"]) == 6)
    send(reach(first), [4])
    captures.stop()
    done = play.wait()
    result = done.result("Follow")
    assert done.rc == 0 and (result["packets"], result["missed"], result["ended_by"], result["changed"]) == (14, 0, "capture", True), done.output
    assert result["size"] == follow.dest.stat().st_size and oct(follow.dest.stat().st_mode) == "0o100600"
    names = {f"node/{target.name}/{interface}" for target in (first, second) for interface in ("eth0", "any")}
    found = [line.split("\t") for line in tshark(follow.dest, "frame.interface_name", "data.len")]
    assert sorted(found) == sorted([name, str(number)] for name in names for number in (1, 2, 3, 4) if number < 4 or first.name in name)
    told = capinfos(follow.dest)
    assert f"container: {second.name}\n" in told and told.count("Number of packets = 3") == 4 and told.count("Number of packets = 1\n") == 2
    again = follow.start(dest=f"{follow.dest}.again").wait()
    assert again.rc == 0 and count(f"{follow.dest}.again") == 14
    refused = follow.start(format="pcap").wait()
    assert refused.rc == 2 and "captures in 4 places" in refused.result("Follow")["msg"]


def test_damaged_files(captures, container, follow):
    """One file ends in the zeros of a power cut, one is empty: all the rest comes, and the damage is told."""
    targets = [container() for dummy in range(3)]
    captures.start(*targets, filter=TRAFFIC, snaplen=96)
    for target in targets:
        send(reach(target), range(1, 11))
    segments = by(captures.stop(), "container")
    damaged, empty, _whole = (pathlib.Path(segments[target.name]["files"][0]) for target in targets)
    with damaged.open("ab") as file:
        file.write(bytes(4096))
    empty.write_bytes(b"")
    done = follow.start().wait()
    result = done.result("Follow")
    assert done.rc == 0 and (result["packets"], result["missed"], result["in_order"]) == (20, 10, True), done.output
    assert sorted(lengths(follow.dest)) == sorted([*range(1, 11)] * 2)
    words = ["a record of zeros, as a power cut leaves it", f"{empty}: is empty"]
    told = capinfos(follow.dest)
    assert len(result["damage"]) == 2
    for word in words:
        assert any(word in one for one in result["damage"]) and word in told and any(word in warning for warning in result["warnings"])


def test_one_place_as_pcap_from_now_on(captures, container, follow):
    """A restarted container goes on in the same file; what was captured before is left out."""
    target = container()
    captures.start(target, filter=TRAFFIC, live=True)
    send(reach(target), [1, 2])
    captures.until(lambda capture: capture["segments"][0]["packets_captured"] == 2)
    play = follow.start(format="pcap", from_start=False)
    assert wait_for(lambda: follow.holds(24), SECONDS), play.output
    send(reach(target), [3])
    assert wait_for(lambda: follow.holds(25), SECONDS), play.output
    target.restart()
    captures.until(lambda capture: len(capture["segments"]) == 2 and listens(capture["segments"][1]))
    send(reach(target), [4])
    captures.stop()
    done = play.wait()
    assert done.rc == 0 and (done.result("Follow")["packets"], done.result("Follow")["missed"]) == (2, None), done.output
    assert lengths(follow.dest) == [3, 4] and "File type:           Wireshark/tcpdump/... - pcap" in capinfos(follow.dest)


def test_a_ring_that_is_overwritten_is_told_of(captures, container, follow, tmp_path):
    """A reader that does not read holds the stream up; the session captures on, and what it overwrites is counted."""
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC, live=True, file_size=1, file_count=2)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    play = follow.start(dest=str(fifo))
    out = tmp_path / "out.pcapng"
    with fifo.open("rb") as stream:
        sent = len(flood(where, 3))
        header = stream.read(8)  # so the stream is on, and now it fills the pipe
        sent += len(flood(where, 12))
        with out.open("wb") as copy:
            copy.write(header)
            reading = threading.Thread(target=lambda: [copy.write(data) for data in iter(lambda: stream.read(1 << 16), b"")])
            reading.start()
            captured = only(captures.stop())["packets_captured"]
            done = play.wait()
            reading.join(SECONDS)
    result = done.result("Follow")
    assert done.rc == 0 and result["ended_by"] == "capture" and captured > 0.9 * sent, done.output
    assert result["missed"] == captured - count(out) > 0 and result["packets"] == count(out)
    assert result["lost"] == [f"{target.name} eth0"] and "are missing in the stream from here on" in done.output
    assert f"{result['missed']} packets of the session default are not in the stream" in re.sub(r"\s+", " ", done.output)


def test_connection_that_breaks(captures, container, follow):
    """The stream goes on where it was."""
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC, live=True)
    play = follow.start(host_vars={"ansible_ssh_retries": 0})
    send(where, range(1, 101))
    assert wait_for(lambda: follow.holds(1) and count(follow.dest) == 100, SECONDS), play.output
    try:
        follow.sshd.cut()
        send(where, range(101, 201))
        assert wait_for(lambda: "cannot be reached" in play.output, SECONDS), play.output
    finally:
        follow.sshd.listen()
    captures.stop()
    done = play.wait()
    assert done.rc == 0 and done.result("Follow")["missed"] == 0, done.output
    assert lengths(follow.dest) == list(range(1, 201))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(captures, container, follow, number):
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC, live=True)
    play = follow.start(on_close="remove")
    send(where, [1, 2, 3])
    assert wait_for(lambda: follow.holds(1) and count(follow.dest) == 3, SECONDS), play.output
    play.interrupt(number)
    assert play.wait().rc != 0
    assert wait_for(lambda: captures.find() is None, SECONDS)
    assert wait_for(lambda: "[node] interrupted: the capture session default was removed" in play.output, SECONDS), play.output
    assert lengths(follow.dest) == [1, 2, 3] and wait_for(lambda: follow.left() == [], SECONDS)


def test_session_that_is_not_live(captures, container, follow):
    """It is followed, with a warning."""
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC)
    play = follow.start()
    assert wait_for(lambda: "was not started with live: true" in " ".join(play.output.split()), SECONDS), play.output
    send(where, range(1, 11))
    captures.stop()
    done = play.wait()
    assert done.rc == 0 and lengths(follow.dest) == list(range(1, 11)), done.output


def test_playbook(captures, container, cli, tmp_path):
    """It starts, follows, and leaves neither the session nor what it captured; each of two at once has its own."""
    target = container()
    where = reach(target)

    def values(count: int) -> dict[str, t.Any]:
        reader = ["tshark", "-l", "-n", "-r", "-", "-c", str(count), "-T", "fields", "-e", "data.len"]
        return {"capture_container": target.name, "capture_path": str(captures.path), "capture_filter": TRAFFIC, "capture_interface": ["eth0"],
                "live_argv": reader}  # fmt: skip

    first, second = (cli.start_playbook("nettap.containers.live", extra_vars=values(count)) for count in (3, 5))
    assert wait_for(lambda: captures.path.is_dir() and len(os.listdir(captures.path)) == 2, SECONDS), first.output + second.output
    for name in os.listdir(captures.path):
        assert re.fullmatch(r"live-[0-9]{8}T[0-9]{6}\.[0-9]{6}Z", name)
        assert only(captures.until_started(name))["argv"].count("-U") == 1
    send(where, [11, 12, 13])
    done = first.wait()
    assert done.rc == 0 and re.search(r"^\[local\] 11$(?s:.*)^\[local\] 13$", done.output, re.MULTILINE), done.output
    [left] = os.listdir(captures.path)
    assert captures.info(left)["status"] == "running"
    send(where, [14, 15])
    done = second.wait()
    assert done.rc == 0 and re.search(r"^\[local\] 11$(?s:.*)^\[local\] 15$", done.output, re.MULTILINE), done.output
    assert os.listdir(captures.path) == []
    refused = cli.playbook("nettap.containers.live", extra_vars={**values(3), "live_argv": ["nettap-is-not-there"]})
    assert refused.rc == 2 and os.listdir(captures.path) == [], refused.output
