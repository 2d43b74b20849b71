# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd's programs say where they fail reaches the user: stand-ins for systemctl, journalctl and systemd-run."""

from __future__ import annotations

import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._background import _service
from ansible_collections.nettap.containers.plugins.module_utils._capture import _launch
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Assignment
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NettapError

UNIT = "nettap-engine.service"


@pytest.fixture
def systemd(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., None]:
    """Give systemd(fails="", code=1): a systemd that is active, and fails in one command; its units are in tmp_path/units."""
    (tmp_path / "units").mkdir()
    monkeypatch.setattr(_service, "_UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(_service, "_systemd", lambda: True)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def make(fails: str = "", code: int = 1) -> None:
        program = tmp_path / "systemctl"
        lines = ["#!/bin/sh", 'if [ "$1" = is-active ]; then echo active; fi',
                 f'if [ "$1" = "{fails}" ]; then echo "Failed to {fails}: bus is gone" >&2; exit {code}; fi']
        program.write_text("\n".join(lines) + "\n")
        program.chmod(0o755)

    return make


def test_a_unit_that_cannot_be_stopped_stays_known(systemd: t.Callable[..., None], tmp_path: pathlib.Path) -> None:
    (tmp_path / "units" / UNIT).touch()
    systemd("stop")
    with pytest.raises(NettapError, match=r"^systemctl stop nettap-engine\.service failed \(Failed to stop: bus is gone\): look whether systemd answers"):
        _service.Service("engine").stop()
    assert (tmp_path / "units" / UNIT).exists()
    systemd("stop", 5)  # its starter was killed before systemd knew it
    _service.Service("engine").stop()
    assert not (tmp_path / "units" / UNIT).exists()


@pytest.mark.parametrize("command", ["daemon-reload", "start"])
def test_a_unit_that_cannot_be_started(command: str, systemd: t.Callable[..., None]) -> None:
    systemd(command)
    with pytest.raises(NettapError, match=rf"Failed to {command}: bus is gone"):
        _service.Service("engine", ["true"]).start()


@pytest.mark.parametrize("call", [lambda service: service.running(), lambda service: service.stop()], ids=["running", "stop"])
def test_a_systemd_that_hangs(
    call: t.Callable[[_service.Service], object], systemd: t.Callable[..., None], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "units" / UNIT).touch()
    systemd()

    def late(argv: list[str], **options: t.Any) -> t.NoReturn:
        raise subprocess.TimeoutExpired(argv, options["timeout"])

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(NettapError, match=r"^systemctl .* did not end within 120 s and was killed: look whether systemd answers"):
        call(_service.Service("engine"))
    assert "did not end within 30 s" in _service.Service("engine").tail()[0]


def test_words_of_systemd_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "_scope", lambda name: ["sh", "-c", "echo 'Failed to connect to bus: No such file or directory' >&2; exit 1", "--"])
    with pytest.raises(CaptureError, match=r"ended before it could say why \(Failed to connect to bus: No such file or directory\); see "):
        _launch.launch("x", Assignment(str(tmp_path), "tcpdump", None, [], Session("running")))


def test_a_supervisor_that_cannot_be_started(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "_scope", lambda name: ["/no/such/systemd-run"])
    with pytest.raises(CaptureError, match=r"^The supervisor of session x cannot be started: No such file or directory; "):
        _launch.launch("x", Assignment(str(tmp_path), "tcpdump", None, [], Session("running")))
