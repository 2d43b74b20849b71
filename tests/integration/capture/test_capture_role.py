# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role capture by its playbook: all hosts together, with progress, and with an end in order whatever happens."""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import re
import signal

import pytest
import yaml
from ansible_cli import LOCAL, ROOT
from capture_tools import TRAFFIC, Captures, by, capinfos, count, flood, lengths, only, reach, send
from waiting import wait_for

PROGRESS = re.compile(r"^\[(\S+)\] (\S+) any: (\d+) packets, .* dropped", re.MULTILINE)


@pytest.fixture
def play(cli, captures, tmp_path):
    """Give play(*containers, hosts={}, **role_variables): capture.yml, started; files come to tmp_path/here."""

    def start(*containers, hosts=None, options=(), env=None, **variables):
        names = {"container": [target.name for target in containers], "path": str(captures.path), "dest": str(tmp_path / "here"), "filter": TRAFFIC}
        values = {f"capture_{name}": value for name, value in {**names, "interval": 1, **variables}.items() if value is not None}
        return cli.start_playbook("capture.yml", *options, hosts=hosts, extra_vars=values, env=env)

    return start


def fetched(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files that have come, and nothing half."""
    assert not list(folder.rglob("*.part"))
    return [path for path in folder.rglob("*") if path.is_file()]


def test_two_hosts_start_at_the_same_instant(play, container, tmp_path):
    """As two, this machine has two storage paths. The interval is the role's own: a line at least every ten seconds."""
    target = container()
    where = reach(target)
    with contextlib.ExitStack() as stack:
        both = {name: stack.enter_context(contextlib.closing(Captures(tmp_path / name))) for name in ("a", "b")}
        hosts = {name: {**LOCAL, "capture_path": str(captures.path)} for name, captures in both.items()}
        running = play(target, hosts=hosts, path=None, duration=20, interval=None)
        sessions = {name: captures.until_started() for name, captures in both.items()}
        started = {name: session["started_at"] for name, session in sessions.items()}
        assert sessions["a"]["start_at"] == sessions["b"]["start_at"]
        # On a busy machine the instant may have passed when a host is ready, and that is told.
        assert started["a"] == started["b"] == sessions["a"]["start_at"] or wait_for(lambda: " s after start_at" in running.output, 30), started
        send(where, [1, 2, 3])
        # Two lines of each host while it still captures.
        assert wait_for(lambda: len(PROGRESS.findall(running.output)) >= 4, 30)
        assert all(captures.info()["status"] == "running" for captures in both.values())
        done = running.wait()
        assert done.rc == 0, done.output
        for name, captures in both.items():
            assert {(line[0], line[1]) for line in PROGRESS.findall(done.output)} >= {(name, target.name)}
            assert (name, target.name, "3") in PROGRESS.findall(done.output)
            [file] = fetched(tmp_path / "here" / name)
            assert lengths(file) == [1, 2, 3]
            assert done.result("Show what was captured", name)["msg"] == [
                f"{target.name} any (container): 3 packets, 0 dropped, ended by duration", f"file: {file}"
            ]  # fmt: skip
            stats = done.result("Publish the summary", name)["ansible_stats"]["data"]["nettap_capture"]
            assert (stats[name]["files"][0]["dest"], stats[name]["segments"][0]["packets_captured"]) == (str(file), 3)
            first = datetime.datetime.fromisoformat(done.result("Fetch", name)["capture"]["segments"][0]["first_packet"])
            assert first >= datetime.datetime.fromisoformat(started[name])
            assert os.listdir(captures.path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("fetch", [True, False])
def test_interrupted(play, captures, container, tmp_path, number, fetch):
    target = container()
    where = reach(target)
    running = play(target, duration=0, fetch=fetch)
    captures.until_started()
    send(where, [4])
    assert wait_for(lambda: (("local", target.name, "1") in PROGRESS.findall(running.output)), 30)
    running.interrupt(number)
    assert running.wait().rc != 0
    # SIGTERM ends Ansible at once, while its worker finishes.
    assert wait_for(lambda: not captures.processes() and "interrupted: the capture session default was" in running.output, 30)
    assert "Start capturing" in running.output and PROGRESS.search(running.output), "what was printed before is lost"
    if fetch:
        [file] = fetched(tmp_path / "here")
        assert lengths(file) == [4] and os.listdir(captures.path) == []
        assert f"interrupted: the capture session default was stopped and fetched to {file}" in running.output
    else:
        capture = captures.info()
        assert (capture["status"], only(capture)["stop_reason"], lengths(*only(capture)["files"])) == ("stopped", "user", [4])
        assert f"stopped; its captures are on the host under {captures.path}/default" in running.output
        assert not fetched(tmp_path / "here")


def test_capture_that_fails_in_the_middle(play, captures, container, tmp_path):
    """What was captured until then is fetched, and the play fails with the reason."""
    target, other = container(), container()
    addresses = [reach(target), reach(other)]
    running = play(target, other, duration=15)
    started = captures.until_started()
    for number, where in enumerate(addresses, start=5):
        send(where, [number])
    captures.until(lambda capture: all(segment["packets_captured"] for segment in capture["segments"]))
    os.kill(by(started, "container")[target.name]["pid"], signal.SIGKILL)
    done = running.wait()
    assert done.rc != 0 and done.results[-1]["task"].endswith("Fail if the capture did not end well")
    [file] = fetched(tmp_path / "here")
    assert 6 in lengths(file) and set(lengths(file)) <= {5, 6}
    summary = done.result("Show what was captured")["msg"]
    assert any(line.startswith(f"{target.name} any") and line.endswith("ended by error: tcpdump was ended by SIGKILL") for line in summary)
    assert os.listdir(captures.path) == []


def test_too_many_drops_fail_the_play(play, captures, container, tmp_path):
    target = container()
    where = reach(target)
    running = play(target, duration=10, buffer_size=128, max_drop_percent=1)
    pid = only(captures.until_started())["pid"]
    os.kill(pid, signal.SIGSTOP)
    sent = flood(where, 2)
    os.kill(pid, signal.SIGCONT)
    done = running.wait()
    assert done.rc != 0
    message = done.result("Fail if")["msg"]
    dropped = re.search(rf"More than 1 % of the packets were dropped \({target.name} any (\d+) of {len(sent)}\)", message)
    assert dropped, message
    [file] = fetched(tmp_path / "here")
    assert count(file) == len(sent) - int(dropped[1])


@pytest.mark.parametrize("limit", [None, 1])
def test_what_the_ring_overwrote_is_told(play, captures, container, tmp_path, limit):
    """By the same figure while it captures, in the summary, in the file, and by a limit that fails the play."""
    target = container()
    where = reach(target)
    running = play(target, duration=600, packet_count=6666, file_size=1, file_count=2, max_overwritten_percent=limit)
    captures.until_started()
    sent = flood(where, 4)
    assert wait_for(lambda: f"of {len(sent)} packets are in the file, the ring overwrote the rest" in running.output, 60), running.output
    sent += flood(where, 4)
    assert len(sent) == 6666
    total = f"of {len(sent)} packets are in the file, the ring overwrote the rest"
    done = running.wait()
    [file] = fetched(tmp_path / "here")
    kept = count(file)
    assert sent[-kept:] == lengths(file) and kept < len(sent) / 3
    told = f"{kept} {total}"
    assert done.result("Show what was captured")["msg"][0] == f"{target.name} any (container): {told}, 0 dropped, ended by packet_count"
    assert f"[local] {target.name} any: {told}" in done.output
    segment = only(done.result("Fetch")["capture"])
    assert [segment[f"packets_{name}"] for name in ("captured", "kept", "overwritten", "dropped")] == [len(sent), kept, len(sent) - kept, 0]
    assert f"overwritten: {len(sent) - kept} packets, by the ring" in capinfos(file)
    clock = done.result("Publish the summary")["ansible_stats"]["data"]["nettap_capture"]["local"]["clock"]
    assert abs(clock["offset"]) <= clock["bound"] + 0.001
    assert (done.rc == 0) == (limit is None)
    if limit is None:
        assert done.output.count(f"{told}; give the ring more room (file_size, file_count)") == 1, "as one warning"
    else:
        share = f"{target.name} any {len(sent) - kept} of {len(sent)}"
        assert f"More than 1 % of the packets were overwritten by the ring ({share})" in done.result("Fail if")["msg"]


def test_clock_of_a_host_that_is_hours_behind(play, captures, container, tmp_path):
    """A date that is moved stands in for the host's clock: this machine has one clock."""
    target = container()
    (tmp_path / "bin").mkdir()
    for path, line in (("bin/date", "exec /bin/date -d '-3 hours' \"$@\""), ("sh", f"PATH={tmp_path}/bin:$PATH exec /bin/sh \"$@\"")):
        (tmp_path / path).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / path).chmod(0o755)
    both = {name: captures.path / name for name in ("right", "behind")}
    hosts = {name: {**LOCAL, "capture_path": str(path)} for name, path in both.items()}
    hosts["behind"]["ansible_shell_executable"] = str(tmp_path / "sh")
    waits = r"^\[{}\] default waits until 03:00:00 UTC on 2100-01-31{}$"
    off = r"10\d{3}\.\d{3} s behind the controller's \(± \d+\.\d{3} s\)"
    with contextlib.ExitStack() as stack:
        sessions = {name: stack.enter_context(contextlib.closing(Captures(path))) for name, path in both.items()}
        running = play(target, hosts=hosts, path=None, start_at="2100-01-31T03:00:00Z")
        said = (waits.format("right", ""), waits.format("behind", f" by the host's clock, which is {off}"))
        assert wait_for(lambda: all(len(re.findall(line, running.output, re.MULTILINE)) == 1 for line in said), 60), running.output
        assert re.search(rf"The host's clock is {off}; .* start_at .* is not the same instant there", running.output)
        clocks = {name: captures.info()["clock"] for name, captures in sessions.items()}
        assert abs(clocks["right"]["offset"]) <= clocks["right"]["bound"] + 0.001
        assert abs(clocks["behind"]["offset"] + 3 * 3600) <= clocks["behind"]["bound"] + 0.001
        assert re.fullmatch(f"clock: {off}", sessions["behind"].info()["summary"][-1]) and len(sessions["right"].info()["summary"]) == 1
        running.interrupt(signal.SIGINT)
        assert running.wait().rc != 0
    [file] = fetched(tmp_path / "here" / "behind")
    assert re.search(r"clock: -10\d{3}\.\d{6} s against the controller's", capinfos(file))


def test_one_host_of_two_cannot_start(play, captures, container, tmp_path):
    target = container()
    where = reach(target)
    hosts = {"good": LOCAL, "bad": {**LOCAL, "capture_docker_host": f"unix://{tmp_path}/nowhere"}}
    running = play(target, hosts=hosts, duration=600, packet_count=1)
    captures.until_started()
    send(where, [7])
    done = running.wait()
    assert done.rc != 0 and "is not there" in done.result("Start capturing", "bad")["msg"]
    assert [entry["task"] for entry in done.results if entry["host"] == "bad"][-1].endswith("Finish")
    [file] = fetched(tmp_path / "here")
    assert file.parent.name == "good" and lengths(file) == [7]


def test_session_of_somebody_else_is_left_alone(play, captures, container, tmp_path):
    """The run has a session of its own beside it, also where the other one captures the same."""
    target = container()
    where = reach(target)
    theirs = captures.start(target, filter="udp")["capture"]
    captures.start(target, name="same", filter=TRAFFIC, packet_count=2, duration=600)
    done = {}
    for number, name in enumerate(("default", "same"), start=1):
        running = play(target, name=name, packet_count=1, duration=600)
        captures.until_started(f"{name}-2")
        send(where, [number])
        done[name] = running.wait()
    for number, (name, run) in enumerate(done.items(), start=1):
        assert run.rc == 0, run.output
        [file] = (tmp_path / "here").rglob(f"{name}-2-2*.pcapng")
        assert lengths(file) == [number]
        said = run.result("Show what was captured")["msg"]
        assert said[-1] == f"session: {name}-2, for {name} is the session of another run"
    assert sorted(os.listdir(captures.path)) == ["default", "same"] and len(fetched(tmp_path / "here")) == 2
    capture = captures.info()
    assert (capture["status"], only(capture)["pid"]) == ("running", only(theirs)["pid"])
    assert lengths(*only(captures.stop())["files"]) == lengths(*only(captures.info("same"))["files"]) == [1, 2]


def test_runs_at_the_same_time(play, captures, container, tmp_path):
    """Of four runs, one is killed: the others have all their packets, its session ends by itself, and another run of that name goes on."""
    target = container()
    where = reach(target)
    runs = [play(target, packet_count=3, duration=600) for _number in range(4)]
    names = ["default", "default-2", "default-3", "default-4"]
    sessions = {name: captures.until_started(name) for name in names}
    assert len({session["owner"] for session in sessions.values()}) == 4
    assert wait_for(lambda: all(PROGRESS.search(run.output) for run in runs), 120)
    runs[0].kill()
    send(where, [1, 2, 3])
    done = [run.wait() for run in runs[1:]]
    assert [run.rc for run in done] == [0] * 3, [run.output for run in done]
    files = fetched(tmp_path / "here")
    assert [lengths(file) for file in files] == [[1, 2, 3]] * 3
    [left] = os.listdir(captures.path)
    capture = captures.until_ended(left)
    assert (capture["status"], capture["owner"], only(capture)["packets_captured"]) == ("stopped", sessions[left]["owner"], 3)
    again = play(target, duration=0.2).wait()
    assert again.rc == 0 and len(fetched(tmp_path / "here")) == 4, again.output
    [left] = os.listdir(captures.path)
    assert lengths(*only(captures.info(left))["files"]) == [1, 2, 3]
    assert captures.task(name=left, state="absent")["changed"], "its run waits no longer"


def test_session_that_a_run_waits_for(play, captures, container, tmp_path):
    """It is ended by somebody else only by force. What the run captured until then is fetched."""
    target = container()
    where = reach(target)
    running = play(target, duration=600)
    captures.until_started()
    assert wait_for(lambda: bool(PROGRESS.search(running.output)), 120)
    send(where, [1])
    for state in ("stopped", "absent"):
        refused = captures.task(state=state)
        words = f"Session default cannot be {state.replace('absent', 'removed')}, for another run of Ansible waits for it"
        assert refused["failed"] and words in refused["msg"]
    assert captures.task(state="stopped", force=True)["changed"]
    done = running.wait()
    assert done.rc == 0, done.output
    [file] = fetched(tmp_path / "here")
    assert lengths(file) == [1] and os.listdir(captures.path) == []


def test_session_whose_name_another_one_takes(play, captures, container, tmp_path):
    """The run finds its own, for it has a name of its own when another task starts one between two tasks of the run."""
    target = container()
    where = reach(target)
    running = play(target, packet_count=1, duration=600, interval=60)
    captures.until_started()
    assert wait_for(lambda: bool(PROGRESS.search(running.output)), 120)
    send(where, [1])
    captures.until_ended()
    theirs = captures.start(target, filter="udp")
    assert theirs["kept"]
    done = running.wait()
    assert done.rc == 0, done.output
    [file] = fetched(tmp_path / "here")
    assert lengths(file) == [1] and os.listdir(captures.path) == ["default"] and captures.info()["status"] == "running"


def test_destination_that_goes_with_the_job(play, captures, container, tmp_path):
    """As in AWX: what lies in the job's private data folder is deleted with it. So the session stays, however the job ends."""
    target = container()
    where = reach(target)
    job = {"AWX_PRIVATE_DATA_DIR": str(tmp_path / "job")}
    folder = str(tmp_path / "job" / "project" / "captures")
    done = play(target, duration=0.2, dest=folder, env=job).wait()
    assert done.rc == 0, done.output
    said = done.result("Show what was captured")["msg"][-1]
    words = f"Session default stays on local, because {folder} is in the private data folder of the job and is deleted with it: fetch it by ansible "
    assert said.startswith(words)
    assert len(fetched(tmp_path / "job")) == 1 and captures.info()["status"] == "stopped" and not done.result("Fetch the captures")["removed"]
    assert captures.task(state="absent")["changed"]

    running = play(target, duration=0, dest=folder, env=job)
    captures.until_started()
    assert wait_for(lambda: bool(PROGRESS.search(running.output)), 120)
    send(where, [4])
    running.interrupt(signal.SIGKILL)  # as a cancelled job: its worker is in another group, and lives on
    running.wait()
    capture = captures.until_ended()
    assert lengths(*only(capture)["files"]) == [4]
    assert wait_for(lambda: "was stopped; its captures are on the host" in running.output, 120), running.output
    assert len(fetched(tmp_path / "job")) == 1 and captures.task(state="absent")["changed"]

    done = play(target, duration=0.2, dest=folder, dest_lasts=True, env=job).wait()
    assert done.rc == 0 and len(fetched(tmp_path / "job")) == 2 and os.listdir(captures.path) == [], done.output


def test_empty_texts_of_a_survey(play, captures, container, tmp_path):
    """Every variable that has no answer has its default."""
    target = container()
    options = yaml.safe_load((ROOT / "roles/capture/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    empty = {name.removeprefix("capture_"): "" for name in options} | {"container": target.name, "path": str(captures.path)}
    plain, surveyed = (play(options=["--check"], **variables).wait() for variables in
                       ({**dict.fromkeys(("dest", "filter", "interval")), "container": target.name}, empty))  # fmt: skip
    assert plain.rc == surveyed.rc == 0, surveyed.output
    first, second = (done.result("Start capturing")["capture"] for done in (plain, surveyed))
    own = dict.fromkeys(("owner", "clock"))  # each run has its own
    assert {**first, **own} == {**second, **own} and first["duration"] == 30


def test_check_mode_and_hosts_without_a_match(play, captures, container, tmp_path):
    target = container()
    done = play(target, options=["--check"]).wait()
    assert done.rc == 0 and done.result("Start capturing")["changed"], done.output
    done = play(container=["none"], allow_missing=True).wait()
    assert done.rc == 0 and not done.result("Start capturing")["changed"], done.output
    assert not captures.path.exists() and not captures.processes() and fetched(tmp_path / "here") == []


def test_connection_cut_while_waiting(play, captures, container, sshd, tmp_path):
    """The capture goes on without it, and so does the play once the host is there again."""
    target = container()
    where = reach(target)
    running = play(target, hosts={"node": sshd.host_vars}, packet_count=2, duration=0, merge="segment", compress=True)
    captures.until_started()
    send(where, [1])
    assert wait_for(lambda: bool(PROGRESS.search(running.output)), 30)
    sshd.cut()
    try:
        assert wait_for(lambda: "the capture goes on, and so does the waiting" in running.output, 30), running.output
        send(where, [2])
        captures.until_ended()
    finally:
        sshd.listen()
    done = running.wait()
    assert done.rc == 0, done.output
    [file] = fetched(tmp_path / "here")
    assert file.name.endswith(".pcap.gz") and count(file) == 2
    assert os.listdir(captures.path) == []


@pytest.mark.parametrize("text", ["{}, {}", " {}\n{} \n"])
def test_containers_that_somebody_typed(play, container, tmp_path, text):
    """A survey brings one text."""
    names = sorted(container().name for _number in range(2))
    done = play(container=text.format(*names), interface="lo, eth0", duration=0.2).wait()
    assert done.rc == 0, done.output
    segments = [segment for entry in done.results if entry["task"].endswith("Start capturing") for segment in entry["result"]["capture"]["segments"]]
    assert [(segment["container"], segment["interface"]) for segment in segments] == [(name, link) for name in names for link in ("lo", "eth0")]
