# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start of a container that is away: told by inotify or, where the kernel has no more watches to give, found all the same."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor import _restart
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _inotify


class Lab:
    """A container that is a cgroup of no controller: a folder with a list of processes; and all that is told of it."""

    def __init__(self, folder: pathlib.Path, **options: t.Any) -> None:
        self.cgroup, self.record = folder / "cgroup", folder / "record"
        self.record.mkdir()
        self.container = Watched("0" * 64, "web", host=True, cgroup=str(self.cgroup), record=str(self.record), **options)
        self.gone: list[Watched] = []
        self.returned: list[Watched] = []
        self.loop = Loop()
        self.restarts = _restart.Restarts(self.loop, True, self.gone.append, self.returned.append, lambda: True)
        self.restarts.watch(self.container)

    def start(self) -> subprocess.Popen[bytes]:
        """Start it."""
        process = subprocess.Popen(["sleep", "600"])
        self.cgroup.mkdir(exist_ok=True)
        (self.cgroup / "cgroup.procs").write_text(f"{process.pid}\n")
        return process

    def until(self, away: bool) -> None:
        """Let the supervisor's loop run until the container is away, or is not."""
        while self.container.away != away:
            self.loop.step()

    def close(self) -> None:
        """Close what the session would close."""
        if self.container.fd >= 0:
            os.close(self.container.fd)
        if self.container.pidfd is not None:
            os.close(self.container.pidfd)


@pytest.mark.parametrize("events", [True, False])
def test_starts_and_ends(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, events: bool) -> None:
    if not events:
        def refused(_self: object) -> None:
            raise NettapError("no more")

        monkeypatch.setattr(_inotify.Paths, "__init__", refused)
    lab = Lab(tmp_path)
    for number in (1, 2):
        assert lab.container.away and len(lab.returned) == number - 1
        process = lab.start()
        lab.until(away=False)
        assert len(lab.returned) == lab.container.returns == number
        process.kill()
        process.wait()
        (lab.cgroup / "cgroup.procs").write_text("")
        lab.until(away=True)
        assert len(lab.gone) == number
    lab.record.rmdir()
    lab.until(away=False)
    assert len(lab.gone) == 3 and len(lab.returned) == 2
    lab.close()


def test_one_that_never_runs_again(tmp_path: pathlib.Path) -> None:
    """As a container of the CRI: its first start is waited for, its end is for good."""
    lab = Lab(tmp_path, final=True)
    process = lab.start()
    lab.until(away=False)
    process.kill()
    process.wait()
    while not lab.gone:
        lab.loop.step()
    assert not lab.container.away
    lab.close()
