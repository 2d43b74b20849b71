# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a session: the order of its files, its figures, and the truth when its supervisor is dead."""

from __future__ import annotations

import collections.abc as c
import dataclasses
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan, _session, _storage
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._capture._tcpdump import Counts
from ansible_collections.nettap.containers.plugins.module_utils._system import _process
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp
from ansible_collections.nettap.containers.tests.unit.pcap import builder

LISTENING = "tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n"
FINAL = "5 packets captured\n7 packets received by filter\n2 packets dropped by kernel\n"
SECOND = 10**9
NOBODY: dict[str, t.Any] = {"pid": 1 << 30, "started": 1}
DEAD = _process.Process(**NOBODY)
KILLED = f"The supervisor (PID {1 << 30}) was killed; what was captured until then can be fetched."
# What stands in for tcpdump: told by SIGUSR1, it writes its counts to the log in its first argument.
STAND_IN = """
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
while signal.sigwait([signal.SIGUSR1]):
    with open(sys.argv[1], "a", buffering=1) as log:
        log.write("tcpdump: 5 packets captured, ")
        log.flush()
        time.sleep(0.02)  # so that whoever does not wait for the end of the line sees half of it
        log.write("7 packets received by filter, 2 packets dropped by kernel\\n")
"""
Processes = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(name="processes")
def make_processes() -> c.Iterator[Processes]:
    """Give processes(log): it starts what stands in for a tcpdump, and returns its PID and start time."""
    started: list[subprocess.Popen[bytes]] = []

    def start(log: pathlib.Path) -> dict[str, t.Any]:
        process = subprocess.Popen([sys.executable, "-S", "-c", STAND_IN, str(log)], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        moment = _process.start_time(process.pid)
        assert moment is not None
        return {"pid": process.pid, "started": moment}

    yield start
    for process in started:
        process.kill()
        process.communicate()


def segment(directory: pathlib.Path, number: int = 0, interface: str = "eth0", **fields: t.Any) -> Segment:
    tap = _plan.Tap(interface, "container", interface)
    made = _plan.segment(number, Watched("a" * 64, "web", "i"), tap, lambda device, path: ["tcpdump", "-i", device, "-w", path], str(directory))
    return dataclasses.replace(made, **fields)


def state(*segments: Segment, **fields: t.Any) -> Session:
    return Session(**{"status": "running", "started_at": timestamp(0), "supervisor": _process.Process.own(), "segments": list(segments), **fields})


def ring(directory: pathlib.Path, one: Segment, **contents: bytes) -> None:
    """Files of a segment by the digits that tcpdump adds (n for none)."""
    for ending, content in contents.items():
        builder.write(directory / (one.file + ending[1:]), content)


def packets(first: int) -> bytes:
    """A file of two packets, a second apart, the first at this second."""
    return builder.pcap(builder.sequence(2, start=first * SECOND, step=SECOND))


# --- names and files

@pytest.mark.parametrize(
    ("name", "interface", "file"),
    [
        ("web", "eth0", "003-web-eth0-container.pcap"),
        ("web", "any", "003-web-any-container.pcap"),
        ("../../etc", "eth0", "003-.._.._etc-eth0-container.pcap"),
        ("a b\n*", "wg0.1", "003-a_b__-wg0.1-container.pcap"),
        ("ü" * 300, "eth0", f"003-{'_' * 100}-container.pcap"),
    ],
)
def test_file_of_a_segment(name: str, interface: str, file: str) -> None:
    """The number keeps apart what the readable part does not; AppArmor lets tcpdump write *.pcap alone."""
    one = _plan.segment(3, Watched("1", name), _plan.Tap(interface, "container", "dev"), lambda device, path: [device, path], "/c")
    assert one.file == file and one.argv == ["dev", f"/c/{file}"] and one.container == name
    assert _session.log("/c", one) == f"/c/{file[:-4]}log" and _session.output("/c", one) == f"/c/{file}"


@pytest.mark.parametrize("folder", ["plain", "gl[o]b*?"])
@pytest.mark.parametrize(
    ("contents", "order"),
    [
        ({}, []),
        ({"n": packets(1)}, [""]),
        ({"n0": packets(1), "n1": packets(3), "n2": packets(5)}, ["0", "1", "2"]),
        # wrapped: the oldest is where the ring writes next
        ({"n0": packets(7), "n1": packets(3), "n2": packets(5)}, ["1", "2", "0"]),
        ({"n00": packets(11), "n01": packets(2), "n10": packets(10)}, ["01", "10", "00"]),
        # just emptied or not yet written to: last
        ({"n0": b"", "n1": packets(3), "n2": packets(5)}, ["1", "2", "0"]),
        ({"n0": packets(7), "n1": builder.header(), "n2": packets(5)}, ["2", "0", "1"]),
        ({"n0": packets(7), "n1": packets(3)[:30], "n2": b"no pcap file at all"}, ["0", "1", "2"]),
    ],
)
def test_files_in_the_order_of_their_first_packet(tmp_path: pathlib.Path, folder: str, contents: dict[str, bytes], order: list[str]) -> None:
    directory = tmp_path / folder
    directory.mkdir()
    one, other = segment(directory), segment(directory, 1)
    ring(directory, one, **contents)
    ring(directory, other, n0=packets(0))
    for name in (one.file + ".gz", one.file + "1a", one.file + "-1", one.file[:-4] + "log", "session.json"):
        (directory / name).write_bytes(packets(0))
    assert _session.files(str(directory), one) == [f"{directory}/{one.file}{ending}" for ending in order]


# --- the end

@pytest.mark.parametrize(
    ("reason", "error", "status"),
    [("user", None, "stopped"), ("duration", None, "stopped"), ("disk", None, "stopped"), ("container_gone", None, "stopped"), ("error", "it broke", "failed")],
)
def test_finish_counts_and_times(tmp_path: pathlib.Path, reason: str, error: str | None, status: str) -> None:
    one = segment(tmp_path)
    pathlib.Path(_session.log(str(tmp_path), one)).write_text(LISTENING + FINAL)
    ring(tmp_path, one, n0=packets(7), n1=packets(3), n2=b"")
    _session.finish(str(tmp_path), one, reason, error)
    assert (one.status, one.stop_reason, one.error) == (status, reason, error)
    assert one.counts == Counts(5, 7, 2)
    assert (one.first_packet, one.last_packet) == ("1970-01-01T00:00:03.000000Z", "1970-01-01T00:00:08.000000Z")


@pytest.mark.parametrize("contents", [{}, {"n": b""}, {"n": builder.header()}, {"n": b"not a pcap file"}])
def test_finish_without_a_packet(tmp_path: pathlib.Path, contents: dict[str, bytes]) -> None:
    one = segment(tmp_path)
    ring(tmp_path, one, **contents)
    _session.finish(str(tmp_path), one, "user")
    assert (one.status, one.first_packet, one.last_packet) == ("stopped", None, None)


@pytest.mark.parametrize(
    ("segments", "error", "status"),
    [(["stopped", "stopped"], None, "stopped"), (["stopped", "failed"], None, "failed"), (["stopped"], "it broke", "failed"), ([], None, "stopped")],
)
def test_conclude(tmp_path: pathlib.Path, segments: list[str], error: str | None, status: str) -> None:
    one = state(*(segment(tmp_path, status=each) for each in segments))
    _session.conclude(one, error)
    assert (one.status, one.error) == (status, error) and (one.stopped_at or "").endswith("Z")


# --- what is told

def test_tell_a_session_that_runs(tmp_path: pathlib.Path, processes: Processes) -> None:
    one = segment(tmp_path)
    log = pathlib.Path(_session.log(str(tmp_path), one))
    log.write_text(LISTENING)
    one = dataclasses.replace(one, **processes(log))
    ring(tmp_path, one, n0=packets(7), n1=packets(3))
    for _round in range(3):  # a new answer each time, and a whole one
        told = _session.tell(str(tmp_path), state(one))
        assert [told["segments"][0][field.name] for field in dataclasses.fields(Counts)] == [5, 7, 2, None]
    assert (told["name"], told["path"], told["status"], told["error"]) == (tmp_path.name, str(tmp_path), "running", None)
    assert told["supervisor"] == {"pid": os.getpid(), "alive": True} and told["started_at"] == "1970-01-01T00:00:00.000000Z"
    only = told["segments"][0]
    assert (only["status"], only["stop_reason"], only["pid"], only["argv"][:3]) == ("running", None, one.pid, ["tcpdump", "-i", "eth0"])
    assert only["files"] == [f"{tmp_path}/{one.file}{ending}" for ending in "10"] and only["bytes"] == sum(map(os.path.getsize, only["files"]))
    assert (only["first_packet"], only["last_packet"]) == ("1970-01-01T00:00:03.000000Z", None)
    assert log.read_text().count("captured") == 3


def test_tcpdump_that_does_not_listen_yet_is_not_asked(tmp_path: pathlib.Path, processes: Processes) -> None:
    """SIGUSR1 would end it."""
    one = segment(tmp_path)
    log = pathlib.Path(_session.log(str(tmp_path), one))
    log.write_text("tcpdump: data link type LINUX_SLL2\n")
    one = dataclasses.replace(one, **processes(log))
    assert _session.tell(str(tmp_path), state(one))["segments"][0]["packets_captured"] is None
    assert "captured" not in log.read_text()


def test_tell_with_a_dead_supervisor(tmp_path: pathlib.Path, processes: Processes) -> None:
    """What still captures is told so; what ended with the supervisor has failed, with tcpdump's last words as its figures."""
    left, dead = segment(tmp_path, 0), segment(tmp_path, 1, **NOBODY)
    log = pathlib.Path(_session.log(str(tmp_path), left))
    log.write_text(LISTENING)
    left = dataclasses.replace(left, **processes(log))
    pathlib.Path(_session.log(str(tmp_path), dead)).write_text(LISTENING + FINAL)
    ended = segment(tmp_path, 2, status="stopped", stop_reason="packet_count", counts=Counts(3), first_packet="x", last_packet="y")
    told = _session.tell(str(tmp_path), state(left, dead, ended, supervisor=DEAD))
    assert (told["status"], told["error"], told["supervisor"]) == ("running", KILLED, {"pid": NOBODY["pid"], "alive": False})
    assert [(each["status"], each["stop_reason"], each["packets_captured"]) for each in told["segments"]] == [
        ("running", None, 5), ("failed", "error", 5), ("stopped", "packet_count", 3)]
    assert told["segments"][1]["error"] == "the supervisor was killed, and its captures ended with it"
    told = _session.tell(str(tmp_path), state(dead, ended, supervisor=DEAD))
    assert (told["status"], told["error"]) == ("failed", KILLED)


def test_supervisor_killed_before_the_start_it_waited_for(tmp_path: pathlib.Path) -> None:
    """No tcpdump was ever begun: a session that nobody will start must not be told as running."""
    told = _session.tell(str(tmp_path), state(segment(tmp_path), supervisor=DEAD, started_at=None))
    assert (told["status"], told["error"], told["segments"][0]["status"]) == ("failed", KILLED, "failed")
    waiting = _session.tell(str(tmp_path), state(segment(tmp_path), started_at=None))
    assert (waiting["status"], waiting["error"], waiting["segments"][0]["status"]) == ("running", None, "running")


def test_pid_of_the_supervisor_is_somebody_elses_now(tmp_path: pathlib.Path) -> None:
    other = dataclasses.replace(_process.Process.own(), started=1)
    told = _session.tell(str(tmp_path), state(segment(tmp_path, pid=other.pid, started=other.started), supervisor=other))
    assert (told["status"], told["supervisor"]) == ("failed", {"pid": os.getpid(), "alive": False})


def test_supervisor_that_ends_while_the_session_is_looked_at(tmp_path: pathlib.Path) -> None:
    """What was read said running, and the supervisor is gone: the newest session.json tells that it ended in order."""
    before = state(segment(tmp_path, **NOBODY), supervisor=DEAD)
    after = state(segment(tmp_path, status="stopped", stop_reason="duration", **NOBODY), supervisor=DEAD, status="stopped", stopped_at="z")
    _storage.save(str(tmp_path), after)
    told = _session.tell(str(tmp_path), before)
    assert (told["status"], told["error"], told["stopped_at"], told["segments"][0]["stop_reason"]) == ("stopped", None, "z", "duration")
    _storage.save(str(tmp_path), before)
    assert _session.tell(str(tmp_path), before)["status"] == "failed"


def test_conclude_killed(tmp_path: pathlib.Path) -> None:
    dead, ended = segment(tmp_path, 0, **NOBODY), segment(tmp_path, 1, status="stopped", stop_reason="packet_count")
    pathlib.Path(_session.log(str(tmp_path), dead)).write_text(LISTENING + FINAL)
    ring(tmp_path, dead, n=packets(3))
    assert _session.conclude_killed(str(tmp_path), state(dead, ended, supervisor=DEAD))
    kept = _storage.load(str(tmp_path))
    assert kept is not None and (kept.status, kept.error) == ("failed", KILLED) and kept.stopped_at
    assert [(each.status, each.stop_reason) for each in kept.segments] == [("failed", "error"), ("stopped", "packet_count")]
    assert kept.segments[0].counts.packets_captured == 5 and kept.segments[0].last_packet == "1970-01-01T00:00:04.000000Z"
    assert not _session.conclude_killed(str(tmp_path), kept), "once"
    assert _session.tell(str(tmp_path), kept)["status"] == "failed"
