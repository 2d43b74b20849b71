# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test` runs every tier, whatever fails, and its last lines name what failed: scripts/tiers.py over a Makefile of the test's own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
from waiting import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[3]
TIERS = ["integration", "unit", "lint", "sanity", "molecule", "node", "distributions", "vm", "measured"]


@pytest.fixture(name="project")
def make_project(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with the script, where each tier says its name and passes."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/tiers.py", tmp_path / "scripts")
    write(tmp_path, {})
    return tmp_path


def write(project: pathlib.Path, recipes: dict[str, str]) -> None:
    """Write the Makefile; the recipes are those of tiers that do something else."""
    text = "".join(f"{tier}:\n\t@{recipes.get(tier, f'echo this is {tier}')}\n" for tier in TIERS)
    (project / "Makefile").write_text(f".PHONY: {' '.join(TIERS)}\n{text}")


def run(project: pathlib.Path, *wanted: str) -> tuple[int, list[str]]:
    """Run the script; return its exit code and lines."""
    done = subprocess.run([sys.executable, "scripts/tiers.py", *wanted], cwd=project, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_names_are_those_of_the_makefile() -> None:
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(TIERS) <= set(targets)


def test_all_pass(project: pathlib.Path) -> None:
    code, lines = run(project)
    assert code == 0 and lines[-1] == "Tiers: 9 passed, 0 failed"
    for tier in TIERS:
        assert f"{tier:13} | this is {tier}" in lines and (project / ".build/log" / tier).read_text() == f"this is {tier}\n"


@pytest.mark.parametrize("failing", [["unit"], ["integration", "vm"], ["measured"]])
def test_all_run_though_some_fail(project: pathlib.Path, failing: list[str]) -> None:
    write(project, dict.fromkeys(failing, "echo broken; false"))
    code, lines = run(project)
    assert code == 1 and lines[-1] == f"Tiers: {9 - len(failing)} passed, {len(failing)} failed"
    assert [line.split()[0] for line in lines if line.endswith(tuple(f"`make {tier}`" for tier in TIERS))] == failing
    told = lines[next(number for number, line in enumerate(lines) if line.startswith("====")) :]
    for tier in TIERS:
        assert any(line.startswith(f"{tier:13} | {'FAILED' if tier in failing else 'passed'} in ") for line in told), lines


def test_the_end_names_the_tests_that_failed(project: pathlib.Path) -> None:
    broken = "FAILED tests/unit/test_x.py::test_y - AssertionError: 1 == 2"
    write(project, {"unit": f"echo '{broken}'; seq 100; false", "vm": "seq 100; false"})
    _code, lines = run(project)
    told = lines[next(number for number, line in enumerate(lines) if line.startswith("====")) :]
    assert [line for line in told if line.startswith("unit  ")][1:] == [f"unit          | {broken}"]
    assert [line for line in told if line.startswith("vm  ")][1:-1] == [f"vm            | {number}" for number in range(87, 101)]


def test_only_some(project: pathlib.Path) -> None:
    assert run(project, "lint", "unit")[1][-1] == "Tiers: 2 passed, 0 failed"
    assert run(project, "nothing")[0] == 1


# The process that is told to end has ended in that very instant.
JUST_ENDED = """
import os, runpy, sys
sys.argv = ["scripts/tiers.py"]
kill = os.killpg
def killpg(*arguments):
    kill(*arguments)
    raise ProcessLookupError
os.killpg = killpg
runpy.run_path("scripts/tiers.py", run_name="__main__")
"""


@pytest.mark.parametrize("argv", [["scripts/tiers.py"], ["-c", JUST_ENDED]], ids=["", "the first has just ended"])
def test_what_is_told_to_end_ends_what_it_has_started(project: pathlib.Path, argv: list[str]) -> None:
    files = [project / name for name in ("integration.pid", "unit.pid")]
    write(project, {file.stem: f"echo $$$$ >{file.name}; exec sleep 600" for file in files})
    with subprocess.Popen([sys.executable, *argv], cwd=project, stdout=subprocess.DEVNULL) as tiers:
        assert wait_for(lambda: all(file.exists() and file.read_text() for file in files))
        tiers.send_signal(signal.SIGTERM)
        try:
            assert tiers.wait(60) == 1
        finally:
            for file in files:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(file.read_text()), signal.SIGKILL)
    assert not any(pathlib.Path("/proc", file.read_text().strip()).exists() for file in files)
