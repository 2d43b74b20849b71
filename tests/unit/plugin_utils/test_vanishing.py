# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destinations that go with the job."""

from __future__ import annotations

import os
import pathlib

import pytest
from ansible_collections.nettap.containers.plugins.plugin_utils import _vanishing


@pytest.fixture(name="job")
def make_job(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "job" / "project").mkdir(parents=True)
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", str(tmp_path / "job"))
    return tmp_path / "job"


def test_private_data_folder(job: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to(job / "project")
    for place in (job, job / "project" / "captures", tmp_path / "link" / "captures", job / ".." / "job" / "x"):
        assert "private data folder" in (_vanishing.reason_to_vanish(str(place), None) or "")
    for place in (tmp_path, tmp_path / "captures", tmp_path / "job2"):
        assert _vanishing.reason_to_vanish(str(place), None) is None


def test_the_users_word(job: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert _vanishing.reason_to_vanish(str(job / "x"), True) is None
    assert _vanishing.reason_to_vanish(str(tmp_path), False) == "dest_lasts is false"


def test_no_job(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("AWX_PRIVATE_DATA_DIR", raising=False)
        else:
            monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", value)
        assert _vanishing.reason_to_vanish(str(tmp_path), None) is None


@pytest.mark.parametrize(
    ("command", "vanishes"),
    [
        ("/usr/bin/python3 /usr/bin/ansible-runner worker --private-data-dir /srv/job --delete", True),
        ("ansible-runner worker", True),
        ("python3 -m ansible_runner worker --private-data-dir=/srv/job", False),
        ("ansible-runner run /srv/job -p play.yml", False),
        ("bash", True),  # it was killed, or it is outside of this container
    ],
)
def test_folder_of_ansible_runner(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, command: str, vanishes: bool) -> None:
    """By itself, it sets no AWX_PRIVATE_DATA_DIR."""
    monkeypatch.delenv("AWX_PRIVATE_DATA_DIR", raising=False)
    monkeypatch.setenv("AWX_ISOLATED_DATA_DIR", str(tmp_path / "artifacts" / "1"))
    monkeypatch.setattr(_vanishing, "_words", lambda pid: command.split() if pid == os.getppid() else ["ansible-playbook"])
    assert bool(_vanishing.reason_to_vanish(str(tmp_path / "project" / "captures"), None)) is vanishes


@pytest.mark.parametrize("inside", [True, False])
def test_container_of_the_job(job: pathlib.Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    """What is on no volume goes with the container. Its first process tells whether it was made for the job."""
    monkeypatch.setattr(_vanishing, "_in_container_of_job", lambda: inside)
    reason = _vanishing.reason_to_vanish("/no/such/folder", None)
    assert (reason is not None and "on no volume" in reason) is inside
    assert _vanishing.reason_to_vanish("/proc/x", None) is None, "another file system"


def test_working_directory_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """The job's folder was deleted while a worker lives on."""
    here = os.getcwd()
    (tmp_path / "gone").mkdir()
    monkeypatch.setenv("PWD", str(tmp_path / "gone"))
    os.chdir(tmp_path / "gone")
    try:
        assert _vanishing.absolute("captures") == str(tmp_path / "gone" / "captures")
        (tmp_path / "gone").rmdir()
        assert _vanishing.absolute("captures") == str(tmp_path / "gone" / "captures")
        assert _vanishing.absolute("/srv/x/../y") == "/srv/y"
    finally:
        os.chdir(here)
