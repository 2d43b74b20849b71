# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second run changes nothing, check mode changes nothing and tells what would, and no capture takes the place of another."""

from __future__ import annotations

import concurrent.futures
import os
import re

import pytest
from capture_tools import TRAFFIC, Captures, lengths, only, reach, send, succeeded


def picture(captures: Captures) -> tuple[dict[str, tuple[int, int]], list[int]]:
    """What is on the disk and what runs; logs grow with every look at a running session."""
    files = [os.path.join(top, name) for top, folders, names in os.walk(captures.path) for name in (*folders, *names)]
    return {path: (os.stat(path).st_ino, os.stat(path).st_size * (not path.endswith(".log"))) for path in files}, captures.processes()


def test_second_run_and_check_mode(captures, container):
    target = container()
    where = reach(target)
    begin = {"container": [target.name], "filter": TRAFFIC, "interface": ["eth0", "any"], "duration": 600, "buffer_size": 4096}
    for state, before, after, reason in (
        ("started", "absent", "running", "There was no session default."),
        ("stopped", "running", "stopped", "Session default was running."),
        ("absent", "stopped", "absent", "Session default was there (stopped)."),
    ):
        options = {"state": state, "diff": True, **(begin if state == "started" else {})}
        untouched = picture(captures)
        predicted = succeeded(captures.task(check=True, **options))
        assert picture(captures) == untouched
        done = succeeded(captures.task(**options))
        assert predicted["changed"] is done["changed"] is True and predicted["reason"] == done["reason"] == reason
        assert predicted["diff"] == done["diff"] == {"before": {"default": before}, "after": {"default": after}}
        assert [capture and capture["status"] for capture in (predicted["capture"], done["capture"])] == [None if after == "absent" else after] * 2
        if state == "started":
            assert [segment["argv"] for segment in predicted["capture"]["segments"]] == [segment["argv"] for segment in done["capture"]["segments"]]
            send(where, [1])
        touched = picture(captures)
        for check in (False, True):
            again = succeeded(captures.task(check=check, **options))
            assert again["changed"] is False and "reason" not in again
            assert again["diff"] == {"before": {"default": after}, "after": {"default": after}}
            assert picture(captures) == touched
    assert captures.find() is None


def test_stop_without_a_session_names_those_there_are(captures, container):
    assert "There is no capture session 'mine'" in captures.task(name="mine", state="stopped")["msg"]
    captures.start(container(), name="yours")
    assert "(there are: yours)" in captures.task(name="mine", state="stopped")["msg"]


def test_other_arguments_are_an_error_that_tells_them(captures, container):
    target, other = container(), container()
    running = captures.start(target, filter=TRAFFIC, duration=600)["capture"]
    for options, difference in (
        ({"filter": "icmp"}, f"filter: '{TRAFFIC}', not 'icmp'"),
        ({"duration": 60, "snaplen": 99}, "snaplen: 0, not 99; duration: 600.0, not 60.0"),
        ({"container": [target.name, other.name]}, f"containers: {target.name}, not {target.name}, {other.name}"),
    ):
        failed = captures.task(**{"container": [target.name], "filter": TRAFFIC, "duration": 600, **options})
        assert f"({difference})" in failed["msg"] and "force: true" in failed["msg"]
    assert only(captures.info())["pid"] == only(running)["pid"]


def test_force_restarts_and_keeps_the_old_capture(captures, container):
    target = container()
    where = reach(target)
    captures.start(target, filter=TRAFFIC)
    send(where, [1])
    options = {"filter": f"{TRAFFIC} and greater 0", "force": True}
    predicted = captures.task(container=[target.name], check=True, **options)
    done = captures.start(target, **options)
    assert predicted.keys() == done.keys()
    assert done["changed"] and re.fullmatch(r"default\.\d{8}T\d{6}Z", done["kept"])
    send(where, [2])
    again = captures.start(target, **options)
    assert not again["changed"] and "kept" not in again
    assert lengths(*only(captures.stop_here())["files"]) == [2]
    kept = captures.info(done["kept"])
    assert (kept["status"], only(kept)["stop_reason"], lengths(*only(kept)["files"])) == ("stopped", "user", [1])
    # Of one that has ended, check mode knows the name.
    predicted = captures.task(container=[target.name], check=True, **options)
    done = captures.start(target, **options)
    assert predicted.keys() == done.keys() and predicted["kept"] == done["kept"]
    assert only(predicted["capture"]).keys() == only(done["capture"]).keys()


def test_ended_session_is_kept(captures, container):
    """Three in the same second, too."""
    target = container()
    where = reach(target)
    names = set()
    for number in range(1, 4):
        done = captures.start_here(target, filter=TRAFFIC)
        names.add(done.kept)
        send(where, [number])
        captures.stop_here()
    assert len(names - {None}) == 2 and all(name.startswith("default.") for name in names - {None})
    found = sorted(lengths(*only(captures.info(name))["files"]) for name in {*names, "default"} - {None})
    assert found == [[1], [2], [3]]


@pytest.mark.parametrize("options", [[{}] * 4, [{"filter": "tcp"}, {"filter": "udp"}], [{"name": f"n{number}"} for number in range(4)]])
def test_several_tasks_start_at_once(captures, container, options):
    target = container()
    if not options[0]:  # they find an ended one, of which only one may make a kept one
        captures.start_here(target)
        captures.stop_here()
    with concurrent.futures.ThreadPoolExecutor(len(options)) as pool:
        results = list(pool.map(lambda more: captures.task(container=[target.name], **more), options))
    done = [result for result in results if not result.get("failed")]
    changed = sum(result["changed"] for result in done)
    if "name" in options[0]:  # each its own, in a storage path that all of them wanted to make
        assert changed == len(done) == 4
    elif options[0]:
        refused = next(result["msg"] for result in results if result.get("failed"))
        assert changed == len(done) == 1 and "is running with other arguments (filter: " in refused
    else:
        assert len(done) == 4 and changed == 1
        assert sorted(os.listdir(captures.path)) == ["default", next(result["kept"] for result in done if result["changed"])]
    assert len({only(result["capture"])["pid"] for result in done}) == changed
    assert len(captures.processes()) == 2 * changed  # a supervisor and its tcpdump


def test_tasks_that_start_and_remove_at_once(captures, container):
    target = container()
    tasks = [{"container": [target.name]}, {"state": "absent"}] * 3
    with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
        for result in pool.map(lambda options: captures.task(**options), tasks):
            succeeded(result)
    there = captures.find()
    assert len(captures.processes()) == (2 if there else 0)
    assert os.listdir(captures.path) == (["default"] if there else [])
