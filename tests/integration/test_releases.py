# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An update of the collection: what earlier releases have left on a host is told, fetched, removed and given back by this one.

tests/releases holds what each release left (made by tests/support/record_release.py in a checkout of it): its sessions, and the
records of its steering. The kernel objects of a record are gone, and to steer with an old release takes its checkout. So a test of
steering has this release steer, and then gives its record the form that the old release would have written.
"""

from __future__ import annotations

import glob
import json
import pathlib
import subprocess
import typing as t

import capture_tools
import pytest
import steering_tools as tools
from ansible_collections.nettap.containers.plugins.module_utils._background._service import Service
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._record import Store
from engine import address

RELEASES = sorted((pathlib.Path(__file__).resolve().parents[1] / "releases").iterdir())
RECORDED_PATH = "/var/lib/nettap/captures"
LINKS = {"bridge": ["vth0", "vth1"], "tag": ["vth"]}
STEERED = [(release, path.stem.split("-")[1:]) for release in RELEASES for path in sorted(release.glob("steering-*.json"))]


@pytest.fixture(params=RELEASES, ids=lambda release: release.name)
def release(request: pytest.FixtureRequest) -> pathlib.Path:
    """Give the folder of one release."""
    return request.param


@pytest.fixture
def left(release: pathlib.Path, captures: capture_tools.Captures) -> dict[str, dict[str, t.Any]]:
    """Put the sessions of the release where `captures` looks, and give what the release itself told of each."""
    captures.path.mkdir(0o700)
    subprocess.run(["tar", "--extract", "--preserve-permissions", f"--file={release}/sessions.tar.xz", f"--directory={captures.path}"], check=True)
    told = json.loads((release / "captures.json").read_text())
    for session in told:
        session["path"] = session["path"].replace(RECORDED_PATH, str(captures.path))
        for segment in session["segments"]:
            segment["files"] = [path.replace(RECORDED_PATH, str(captures.path)) for path in segment["files"]]
    return {session["name"]: session for session in told}


def with_keys_of(recorded: t.Any, now: t.Any) -> t.Any:
    """Return a value of today without the keys that were not there then, at any depth."""
    if isinstance(recorded, dict):
        return {key: with_keys_of(value, now[key]) for key, value in recorded.items()}
    if isinstance(recorded, list) and len(recorded) == len(now):
        return [with_keys_of(*pair) for pair in zip(recorded, now)]
    return now


def test_sessions_are_told_as_they_were(left, captures, run_module) -> None:
    listed = {one["name"]: one for one in run_module("container_capture_info", {"path": str(captures.path)})["captures"]}
    assert with_keys_of(left, listed) == left
    assert set(listed) == {"ended", "killed", "ring"}
    assert (listed["ended"]["status"], listed["killed"]["status"]) == ("stopped", "failed")


@pytest.mark.parametrize("merge", ["host", "segment"])
def test_sessions_are_fetched(left, captures, playbook, tmp_path, merge) -> None:
    fetch = {"path": str(captures.path), "dest": str(tmp_path / "here"), "merge": merge}
    tasks = [{"name": name, "nettap.containers.container_capture_fetch": {**fetch, "name": name}} for name in left]
    done = playbook([{"hosts": "all", "gather_facts": False, "tasks": tasks}])
    assert done.rc == 0, done.output
    for name, session in left.items():
        files = done.result(name)["files"]
        there = sum(capture_tools.count(path) for segment in session["segments"] for path in segment["files"])
        assert sum(file["packets"] for file in files) == sum(capture_tools.count(file["dest"]) for file in files) == there > 0
        if name == "ended":
            found = {int(length) for file in files for length in capture_tools.tshark(file["dest"], "data.len", expression=f"udp.port == {capture_tools.PORT}")}
            assert found == {*range(10, 15), *range(20, 25)}, "of before and after the container was restarted"


def test_sessions_are_stopped_and_removed(left, captures) -> None:
    assert captures.task(name="killed", state="stopped")["changed"], "nobody has recorded its end yet"
    assert not captures.task(name="killed", state="stopped")["changed"]
    assert captures.info("killed")["segments"][0]["packets_captured"] == left["killed"]["segments"][0]["packets_captured"]
    for name in left:
        assert captures.task(name=name, state="absent")["changed"]
    assert list(captures.path.iterdir()) == []


def test_a_new_session_takes_the_name_of_an_old_one(left, captures, container) -> None:
    for name in left:
        started = captures.start(container(), name=name)
        assert started["changed"] and captures.info(started["kept"])["segments"][0]["files"]


def in_the_old_form(recorded: t.Any, now: t.Any) -> t.Any:
    """Return the values of today under the keys of the recorded form, at any depth; lists are values."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        return {key: in_the_old_form(value, now[key]) for key, value in recorded.items()}
    return now


@pytest.mark.parametrize(("release", "made"), STEERED, ids=lambda value: value.name if isinstance(value, pathlib.Path) else "-".join(value))
def test_what_is_steered_is_given_back(release, made, container, run_module) -> None:
    topology, mode = made
    web = container()
    assert tools.wait_for(lambda: tools.get(address(web), timeout=1) == 200)
    tools.settle()
    pid = web.attrs["State"]["Pid"]
    host, inside = tools.snapshot(), tools.snapshot(pid)

    def steer(**options: t.Any) -> dict[str, t.Any]:
        return capture_tools.succeeded(run_module("container_steering", {"container": [web.name], "topology": topology, "mode": mode, **options}))

    def go_back() -> None:
        """Give the records the form that the release wrote."""
        (record,) = glob.glob("/run/nettap/steering/nettap/*.json")
        for path, name in ((record, f"steering-{topology}-{mode}"), ("/run/nettap/steering/nettap/watchdog", "watchdog"),
                           ("/run/nettap/services/engine-nettap.json", "service")):  # fmt: skip
            recorded, now = json.loads((release / f"{name}.json").read_text()), json.loads(pathlib.Path(path).read_text())
            pathlib.Path(path).write_text(json.dumps(in_the_old_form(recorded, now)))

    def watchdog() -> list[str]:
        return Service("watchdog-nettap").argv_running() or []

    engine = [*tools.FORWARDER, *LINKS[mode]]
    capture_tools.succeeded(run_module("container_dataplane", {"topology": topology, "mode": mode, "engine": engine}))
    try:
        steer(interface=["eth0"])
        go_back()
        told = run_module("container_steering_info")
        assert [(one["status"], one["container"], one["topology"], one["mode"]) for one in told["steering"]] == [("steered", web.name, topology, mode)]
        assert not steer(interface=["eth0"])["changed"]
        # The last argument stands for the code. The watchdog of 0.1.0 took no record that has a version.
        Service("watchdog-nettap", [*watchdog()[:-1], release.name]).start()
        assert steer(state="bypassed")["changed"] and watchdog()[-1] != release.name
        assert steer(interface=["eth0"])["changed"]
        assert tools.get(address(web)) == 200
        go_back()
    finally:
        released = steer(state="absent")
        run_module("container_dataplane", {"state": "absent"})
    assert released["changed"]
    assert tools.get(address(web)) == 200
    assert not tools.differences(inside, tools.snapshot(pid))
    assert not tools.differences(host, tools.snapshot())


def test_the_record_of_a_dp_is_read(release: pathlib.Path, tmp_path: pathlib.Path) -> None:
    recorded = json.loads((release / "neuvector.json").read_text())
    (tmp_path / "neuvector-1-2.json").write_text(json.dumps(recorded))
    found = Store(1, 2, str(tmp_path)).load()
    if "jumbo" not in recorded:
        recorded["config"]["jumbo_frames"] = None  # nobody may have asked for it: now the link's MTU decides
    assert {name: getattr(found, name) for name in recorded} == recorded
