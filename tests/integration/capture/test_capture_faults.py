# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong while a session runs: nothing is lost, nothing is left behind, and what happened is told."""

from __future__ import annotations

import collections.abc as c
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from capture_tools import SECONDS, TRAFFIC, Capture, Captures, by, count, flood, lengths, only, processes_naming, reach, send
from waiting import wait_for


def follow(captures: Captures, target, number: int, places: int = 1) -> None:
    """Wait until a session captures from a container that was started for the so-manieth time: datagrams of that length."""
    where = reach(target)

    def arrived(capture: Capture) -> bool:
        send(where, [number])
        newest = capture["segments"][(number - 1) * places :]
        return len(newest) == places and all(segment["packets_captured"] for segment in newest)

    captures.until(arrived)


def test_supervisor_killed(captures, container):
    """Its tcpdumps end with it, in order; the module tells so, cleans up, and a start is a start anew."""
    target = container()
    where = reach(target)
    running = captures.start(target, interface=["eth0", "lo"], filter=TRAFFIC)["capture"]
    send(where, [1, 2])
    captures.until(lambda capture: by(capture, "interface")["eth0"]["packets_captured"] == 2)
    os.kill(running["supervisor"]["pid"], signal.SIGKILL)
    assert wait_for(lambda: not captures.processes(), SECONDS), "tcpdump outlives its supervisor"
    told = captures.info()
    assert (told["status"], told["supervisor"]["alive"]) == ("failed", False)
    assert told["error"] == f"The supervisor (PID {running['supervisor']['pid']}) was killed; what was captured until then can be fetched."
    assert {(segment["status"], segment["stop_reason"]) for segment in told["segments"]} == {("failed", "error")}
    done = captures.task(state="stopped")
    assert (done["changed"], done["capture"]["status"]) == (True, "failed")
    segment = by(done["capture"], "interface")["eth0"]
    assert (segment["packets_captured"], lengths(*segment["files"])) == (2, [1, 2])
    assert "the supervisor was killed" in segment["error"]
    assert not captures.task(state="stopped")["changed"]
    kept = captures.start(target, filter=TRAFFIC)["kept"]
    assert lengths(*by(captures.info(kept), "interface")["eth0"]["files"]) == [1, 2]


def test_supervisor_killed_then_absent(captures, container):
    running = captures.start(container(), start_at="2100-01-01")["capture"]  # before its tcpdump runs
    os.kill(running["supervisor"]["pid"], signal.SIGKILL)
    assert wait_for(lambda: captures.info()["status"] == "failed", SECONDS)
    assert captures.task(state="absent")["changed"]
    assert os.listdir(captures.path) == []


def test_tcpdump_killed(captures, container):
    """One of two: that segment says so, the other goes on."""
    target = container()
    where = reach(target)
    running = by(captures.start(target, interface=["eth0", "lo"], filter=TRAFFIC)["capture"], "interface")
    os.kill(running["lo"]["pid"], signal.SIGKILL)
    told = captures.until(lambda capture: by(capture, "interface")["lo"]["status"] == "failed")
    failed = by(told, "interface")["lo"]
    assert (told["status"], failed["stop_reason"], failed["error"]) == ("running", "error", "tcpdump was ended by SIGKILL")
    send(where, [4])
    capture = captures.stop()
    segments = by(capture, "interface")
    assert (capture["status"], segments["eth0"]["status"], lengths(*segments["eth0"]["files"])) == ("failed", "stopped", [4])


@pytest.mark.parametrize(("vantage", "interface"), [("container", "any"), ("both", "eth0")])
def test_restarted_container_is_followed(captures, container, vantage, interface):
    target = container()
    places = ["container"] if vantage == "container" else ["container", "host"]
    captures.start(target, interface=[interface], vantage=vantage, filter=TRAFFIC)
    follow(captures, target, 1, len(places))
    target.restart(timeout=5)
    follow(captures, target, 2, len(places))
    target.kill()
    captures.until(lambda capture: all(segment["status"] == "stopped" for segment in capture["segments"]))
    target.start()  # by hand, as much later as one likes
    follow(captures, target, 3, len(places))
    capture = captures.stop()
    for place in places:
        segments = [segment for segment in capture["segments"] if segment["vantage"] == place]
        assert [segment["stop_reason"] for segment in segments] == ["container_gone", "container_gone", "user"]
        assert [set(lengths(*segment["files"])) for segment in segments] == [{1}, {2}, {3}]
        assert {segment["id"] for segment in segments} == {target.id}
    assert len(capture["segments"]) == 3 * len(places)
    assert capture["status"] == "stopped"


def test_container_that_stops_or_goes(captures, container):
    """Followed, a session waits for a stopped container until it is removed; with on_restart=stop it ends at once."""
    target = container()
    where = reach(target)
    captures.start(target, name="follow", filter=TRAFFIC)
    captures.start(target, name="stop", filter=TRAFFIC, on_restart="stop")
    send(where, [5])
    target.stop()
    ended = captures.until_ended("stop")
    waiting = captures.until(lambda capture: only(capture)["status"] == "stopped", "follow")
    assert (ended["status"], waiting["status"]) == ("stopped", "running")
    target.remove()
    for capture in (ended, captures.until_ended("follow")):
        segment = only(capture)
        assert (capture["status"], segment["stop_reason"], segment["error"], lengths(*segment["files"])) == ("stopped", "container_gone", None, [5])
    assert not captures.task(name="follow", state="stopped")["changed"]


def test_one_of_two_containers_goes(captures, container):
    target, other = container(), container()
    where = reach(other)
    captures.start(target, other, filter=TRAFFIC)
    target.remove(force=True)
    captures.until(lambda capture: by(capture, "container")[target.name]["status"] == "stopped")
    send(where, [6])
    segments = by(captures.stop(), "container")
    assert {name: segment["stop_reason"] for name, segment in segments.items()} == {target.name: "container_gone", other.name: "user"}
    assert lengths(*segments[other.name]["files"]) == [6]


@pytest.mark.parametrize(("place", "interfaces", "follows"), [
    ("inside", ["eth0"], True), ("inside", ["eth0"], False), ("inside", ["eth0", "lo"], False), ("host", ["eth0"], True), ("host", ["eth0"], False),
])
def test_interface_that_is_deleted(captures, container, place, interfaces, follows):
    """Of a container that runs on: its session waits for the interface, or ends with on_restart=stop when there is nothing left to listen at."""
    target = container()
    where = reach(target)
    vantage = "host" if place == "host" else "container"
    options = {"vantage": vantage, "filter": TRAFFIC, "on_restart": "follow" if follows else "stop"}
    running = by(captures.start(target, interface=interfaces, **options)["capture"], "interface")
    send(where, [7])
    captures.until(lambda capture: by(capture, "interface")["eth0"]["packets_captured"])
    enter = ["nsenter", f"--net=/proc/{target.attrs['State']['Pid']}/ns/net"] if place == "inside" else []
    subprocess.run([*enter, "ip", "link", "delete", running["eth0"]["device"]], check=True)
    told = captures.until(lambda capture: by(capture, "interface")["eth0"]["status"] != "running")
    assert told["status"] == ("running" if follows or len(interfaces) > 1 else told["status"])
    told = captures.stop() if follows or len(interfaces) > 1 else captures.until_ended()
    segment = by(told, "interface")["eth0"]
    assert (told["status"], segment["status"], segment["stop_reason"], lengths(*segment["files"])) == ("stopped", "stopped", "interface_gone", [7])


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> c.Iterator[pathlib.Path]:
    """A file system of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "nettap-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_disk_guard(small_disk, container):
    target = container()
    where = reach(target)
    with contextlib.closing(Captures(small_disk / "sessions")) as captures:
        captures.start(target, filter=TRAFFIC, min_free="16M")
        while captures.info()["status"] == "running":  # pytest-timeout ends it
            flood(where, 0.2)
            time.sleep(0.05)
            free = os.statvfs(small_disk)
            assert free.f_bavail * free.f_frsize > 1 << 20, "the disk runs full, and nobody guards it"
        capture = captures.until_ended()
        segment = only(capture)
        assert (capture["status"], segment["stop_reason"]) == ("stopped", "disk")
        assert segment["bytes"] > 7_000_000 and count(segment["files"][0]) == segment["packets_captured"]
        assert "MiB are free for" in captures.task(name="again", container=[target.name], min_free="20M")["msg"]
        assert "min_free keeps" in captures.task(name="again", container=[target.name], min_free="99%")["msg"]
        assert os.listdir(captures.path) == ["default"]


def test_disk_that_others_fill(small_disk, container, cli, tmp_path):
    """No guard is fast enough for everything, and tcpdump does not notice that its writes fail: the session ends even so."""
    target = container()
    where = reach(target)
    with contextlib.closing(Captures(small_disk / "sessions")) as captures:
        captures.start(target, filter=TRAFFIC, min_free="0")
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as stream:
            stream.write(bytes(20_000_000))
        sent = flood(where, 12)
        capture = captures.until_ended()
        segment = only(capture)
        assert (capture["status"], segment["stop_reason"]) == ("stopped", "disk")
        assert "No space left on device" in captures.task(name="again", container=[target.name], min_free="0")["msg"]
        assert os.listdir(captures.path) == ["default"]
        fetched = cli.ansible("container_capture_fetch", {"path": str(captures.path), "dest": str(tmp_path / "here"), "remove": True})
        assert fetched.rc == 0, fetched.output
        file = fetched.result()["files"][0]
        found = lengths(file["dest"])  # less than tcpdump believes to have written
        # The guard may look while packets still come: then tcpdump has not seen all.
        assert found == sent[: len(found)] and 3000 < len(found) == file["packets"] == count(file["dest"]) < segment["packets_captured"] <= len(sent)
        assert os.listdir(captures.path) == []
        for told in (capture, fetched.result()["capture"]):
            assert (only(told)["packets_kept"], only(told)["packets_overwritten"]) == (len(found), 0)
            assert f"{len(found)} of {segment['packets_captured']} packets are in the file, the rest is damaged or was not written" in told["summary"][0]


def test_full_disk_of_the_controller(captures, container, small_disk, cli):
    target = container()
    where = reach(target)
    captures.start(target, filter=TRAFFIC)
    flood(where, 2)
    captures.stop()
    (small_disk / "filler").write_bytes(bytes(24_000_000))
    failed = cli.ansible("container_capture_fetch", {"path": str(captures.path), "dest": str(small_disk / "here"), "remove": True})
    assert failed.rc != 0 and re.search("(broke|could not be written).*No space left on device", failed.result()["msg"]), failed.output
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["filler"]
    assert captures.info()["status"] == "stopped"


def test_connection_cut_while_capturing(captures, container, cli, sshd, tmp_path):
    """The task is lost, the capture is not: it goes on, and is fetched when the host is there again."""
    target = container()
    where = reach(target)
    hosts = {"node": sshd.host_vars}
    options = f"container={target.name} filter='{TRAFFIC}' packet_count=2 wait=true path={captures.path}"
    running = cli.start(["ansible", "all", "-m", "container_capture", "-a", options], hosts=hosts)
    try:
        captures.until_started()
        send(where, [1])
        sshd.cut()
        done = running.wait()
        assert done.results[-1]["status"] == "unreachable"
    finally:
        sshd.listen()
    assert captures.info()["status"] == "running" and len(captures.processes()) == 2
    send(where, [2])
    captures.until_ended()
    fetched = cli.ansible("container_capture_fetch", {"path": str(captures.path), "dest": str(tmp_path / "here"), "remove": True}, hosts=hosts)
    assert fetched.rc == 0, fetched.output
    assert lengths(fetched.result()["files"][0]["dest"]) == [1, 2]
    assert os.listdir(captures.path) == [] and not processes_naming(captures.path)
