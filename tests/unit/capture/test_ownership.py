# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several runs and one session: whose it is, who waits for it, and whose staged files are needed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _control, _staging, _storage, _waiting
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process, start_time
from ansible_collections.nettap.containers.plugins.module_utils._system._runner import Runner

OWN = Runner.of(os.getpid())
DEAD = dataclasses.replace(OWN, started=1)
ELSEWHERE = dataclasses.replace(OWN, boot="another machine")
UNKNOWN = Runner()


@pytest.fixture(name="sessions")
def make_sessions(tmp_path: pathlib.Path) -> _control.Sessions:
    sessions = _control.Sessions(str(tmp_path / "captures"))
    for name, owner in (("x", "a"), ("y", "b"), ("z", None)):
        with sessions.storage.locked(name, create=True):
            _storage.save(sessions.storage.directory(name), Session("stopped", owner=owner))
    return sessions


def test_runner() -> None:
    assert [runner.alive() for runner in (OWN, DEAD, ELSEWHERE, UNKNOWN, dataclasses.replace(OWN, namespace=1))] == [True, False, None, None, None]


# --- owners


def test_session_is_found_by_its_owner(sessions: _control.Sessions) -> None:
    storage = sessions.storage
    assert [storage.find(*what) for what in (("x", None), ("x", "a"), ("x", "b"), ("x", "c"), ("n", None))] == ["x", "x", "y", None, "n"]
    storage.rename("x", "x.20260131T030000Z")
    with storage.locked("x", create=True):
        _storage.save(storage.directory("x"), Session("running", owner="c"))
    with storage.held("x", "a") as name:
        assert name == "x.20260131T030000Z"
    assert [told["owner"] for told in sessions.about("x", "a")] == ["a"] and sessions.about("x", "nobody") == []
    pathlib.Path(storage.directory("y"), "session.json").write_text("{")
    assert storage.find("x", "c") == "x", "a damaged session of somebody else is no hindrance"


def test_only_the_owners_session_is_ended(sessions: _control.Sessions) -> None:
    """Another run's session has the name now."""
    with pytest.raises(CaptureError, match=r"There is no capture session 'z' of this run under .* \(there are: x, y, z\)"):
        sessions.stop("z", owner="c")
    assert not sessions.remove("z", owner="c").changed and not sessions.stop("x", owner="a").changed
    assert sessions.remove("z", owner="a").changed and sessions.storage.names() == ["y", "z"]
    assert sessions.remove("z").changed and sessions.storage.names() == ["y"]


# --- runs that wait


@pytest.mark.parametrize(
    ("runner", "promise", "waits"),
    [(OWN, 0, True), (DEAD, 1000, False), (ELSEWHERE, 1000, True), (ELSEWHERE, -1, False), (UNKNOWN, 1000, True)],
)
def test_session_that_another_run_waits_for(sessions: _control.Sessions, runner: Runner, promise: float, waits: bool) -> None:
    directory = sessions.storage.directory("x")
    _storage.save(directory, Session("running", owner="a", supervisor=Process(1 << 30, 1)))
    _waiting.note(directory, runner, "a", promise)
    if not waits:
        assert sessions.stop("x").changed and sessions.remove("x").changed
        return
    for check in (True, False):
        for work, done in ((sessions.stop, "stopped"), (sessions.remove, "removed")):
            with pytest.raises(CaptureError, match=f"Session x cannot be {done}, for another run of Ansible waits for it"):
                work("x", check)
    assert sessions.stop("x", owner="a").changed, "its own run"
    assert not _waiting.others(directory, None) and sessions.remove("x").changed


def test_force_ends_what_another_run_waits_for(sessions: _control.Sessions) -> None:
    directory = sessions.storage.directory("z")
    _waiting.note(directory, OWN, None, 0)
    words = rf"Session z cannot be removed, .* \(process {os.getpid()} on {os.uname().nodename}\): let it end, or set force: true"
    with pytest.raises(CaptureError, match=words):
        sessions.remove("z")
    assert sessions.remove("z", force=True).changed


def test_who_has_looked(sessions: _control.Sessions) -> None:
    """A run waits while the session runs, one that owns it until it stops it."""
    directory = sessions.storage.directory("x")

    def look(runner: Runner, owner: str | None, promise: float, running: bool) -> bool:
        return _waiting.look(directory, owner, {"runner": dataclasses.asdict(runner), "promise": promise}, running)

    assert not look(OWN, None, 10, True) and look(ELSEWHERE, None, 10, True)
    assert look(ELSEWHERE, None, 10, False) and not look(OWN, None, 10, True), "the session has ended for the one that has seen it"
    assert not look(OWN, None, 0, True) and os.listdir(directory) == ["session.json"]
    assert not look(OWN, "a", 10, False) and _waiting.others(directory, "b") and not _waiting.others(directory, "a")
    pathlib.Path(directory, "waiting-damaged.json").write_text("{")
    assert len(_waiting.others(directory, None)) == 1 and "waiting-damaged.json" not in os.listdir(directory)


# --- staged files


@contextlib.contextmanager
def process() -> t.Iterator[Process]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield Process(child.pid, start_time(child.pid) or 0)


def staged(directory: str, folder: pathlib.Path, fetch: _staging.Fetch | None) -> None:
    folder.mkdir(mode=0o700)
    (folder / "000.staged").touch()
    _staging.record(directory, str(folder), folder.stat(), fetch)


@pytest.mark.parametrize(
    ("runner", "carried", "kept"),
    [
        (OWN, None, True), (DEAD, True, False), (OWN, False, True), (ELSEWHERE, None, True), (ELSEWHERE, True, True), (ELSEWHERE, False, False),
        (UNKNOWN, False, False),
    ],
)
def test_staged_files_are_kept_for_a_fetch_that_goes_on(tmp_path: pathlib.Path, runner: Runner, carried: bool | None, kept: bool) -> None:
    """Where the host does not see the fetch's process, the one that carries its connection tells; where there is none, nothing does."""
    folder = tmp_path / "folder"
    with process() as child:
        fetch = _staging.Fetch.of({"runner": dataclasses.asdict(runner), "carrier": None if carried is None else child.pid})
        staged(str(tmp_path), folder, fetch)
        if carried:
            _staging.clear(str(tmp_path))
            assert folder.exists() is kept
    if not carried:
        _staging.clear(str(tmp_path))
        assert folder.exists() is kept
    assert bool(list(tmp_path.glob("staging*.json"))) is kept


def test_each_fetch_has_its_own(tmp_path: pathlib.Path) -> None:
    for number, runner in enumerate((OWN, DEAD, OWN)):
        staged(str(tmp_path), tmp_path / str(number), _staging.Fetch(runner))
    _staging.clear(str(tmp_path))
    assert [(tmp_path / str(number)).exists() for number in range(3)] == [True, False, True]
    (tmp_path / "0" / "000.staged").unlink()
    (tmp_path / "0").rmdir()
    _staging.clear(str(tmp_path))
    assert len(list(tmp_path.glob("staging*.json"))) == 1, "of a folder that its fetch has removed, nothing is left"


@pytest.mark.parametrize("old", ["release 0.1.0", "another boot"])
def test_what_was_staged_before(tmp_path: pathlib.Path, old: str) -> None:
    folder = tmp_path / "folder"
    staged(str(tmp_path), folder, _staging.Fetch(ELSEWHERE))
    [record] = tmp_path.glob("staging*.json")
    stored = json.loads(record.read_text())
    if old == "release 0.1.0":
        record.unlink()
        (tmp_path / "staging.json").write_text(json.dumps({key: stored[key] for key in ("folder", "device", "inode")}))
    else:
        record.write_text(json.dumps({**stored, "boot": "before"}))
    _staging.clear(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_has_ended_carries_nothing() -> None:
    with process() as child:
        assert _staging.Fetch.of({"carrier": child.pid}).carrier == child
    assert [_staging.Fetch.of({"carrier": pid}).carrier for pid in (child.pid, 0, 1, None)] == [None] * 4
