# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services whose starter was killed before anything ran."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import time
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._background import _keeper, _service
from ansible_collections.nettap.containers.plugins.module_utils._system import _files
from killer import in_a_process

SLEEP = "import time; time.sleep(1000)"
STEPS: list[tuple[t.Any, str]] = [(_files, "replace"), (subprocess, "Popen")]


def running(argument: str) -> list[list[str]]:
    """Return the command lines of the processes that have the argument in theirs, and have come to run it."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                found.append(os.fsdecode((entry / "cmdline").read_bytes()).split("\0")[:-1])
    return [argv for argv in found if argument in argv]


def wait_for(condition: t.Callable[[], bool]) -> bool:
    """Return whether the condition came to hold within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_keeper_whose_starter_was_killed(after: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any step: what runs is known, and there is never a second one of it."""
    monkeypatch.setattr(_service, "_FOLDER", str(tmp_path / "services"))
    monkeypatch.setattr(_service, "_systemd", lambda: False)
    program = [sys.executable, "-c", SLEEP, str(tmp_path)]
    service = _service.Service("engine", program)
    step = 0
    try:
        while True:
            step += 1
            ended = in_a_process(service.start, STEPS, step, after)
            assert wait_for(lambda: service.running() or not running(str(tmp_path))), "a keeper that nobody knows"
            service.start()
            assert wait_for(lambda: program in running(str(tmp_path)))
            assert running(str(tmp_path)).count(program) == 1
            assert service.stop() and not running(str(tmp_path))
            if ended:
                break
        assert step > 3
    finally:
        service.stop()


def test_a_program_that_cannot_be_started_is_tried_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_service, "_FOLDER", str(tmp_path / "services"))
    monkeypatch.setattr(_service, "_systemd", lambda: False)
    service = _service.Service("engine", [str(tmp_path / "program")])
    service.start()
    try:
        assert wait_for(lambda: any("program cannot be started (No such file or directory); it is tried again." in line for line in service.tail()))
        (tmp_path / "program").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (tmp_path / "program").chmod(0o755)
        assert wait_for((tmp_path / "ran").exists)
    finally:
        service.stop()


def test_half_written_files_of_a_killed_starter_go_too(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "services"
    monkeypatch.setattr(_service, "_FOLDER", str(folder))
    monkeypatch.setattr(_service, "_systemd", lambda: False)
    folder.mkdir()
    for name in ("engine.pyz", "engine.pyz.new", "engine.json.new", "other.pyz"):
        (folder / name).touch()
    assert not _service.Service("engine").stop() and [path.name for path in folder.iterdir()] == ["other.pyz"]
    (folder / "other.pyz").rename(folder / "other.pyz.new")
    assert not _service.Service("other").stop() and not folder.exists()


def test_the_output_is_bounded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in memory. The newest lines stay whole, and what comes later follows them."""
    monkeypatch.setattr(_service, "_FOLDER", str(tmp_path / "services"))
    monkeypatch.setattr(_service, "_systemd", lambda: False)
    talker = """
import time
for number in range(200000):
    print("denied", number, flush=number % 1000 == 0)
print("said", flush=True)
time.sleep(1.5)
print("last", flush=True)
time.sleep(1000)
"""
    service = _service.Service("engine", [sys.executable, "-c", talker])
    log = pathlib.Path(service.log())
    service.start()
    try:
        assert wait_for(lambda: service.tail(1) == ["last"])
        assert wait_for(lambda: log.stat().st_size <= _keeper.MOST_OUTPUT)
        lines = log.read_text().splitlines()
        first = int(lines[0].removeprefix("denied "))
        assert lines == [*(f"denied {number}" for number in range(first, 200000)), "said", "last"]
    finally:
        service.stop()
