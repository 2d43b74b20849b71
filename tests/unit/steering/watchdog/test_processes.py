# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the watchdog looks through /proc for the engine: stand-ins for the kernel's list of sockets, for /proc and for the clock."""

from __future__ import annotations

import select
import types
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _engine
from ansible_collections.nettap.containers.plugins.module_utils._steering._watchdog import _processes
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

BEAT = 0.05


class Host:
    """A host on which sockets are open that no process has; it counts the looks through its processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sockets: set[str] = set()
        self.now = 1000.0
        self.looks = 0
        monkeypatch.setattr(_engine, "sockets", lambda _dataplane: set(self.sockets))
        monkeypatch.setattr(_netns, "processes", self._look)
        monkeypatch.setattr(_processes, "time", types.SimpleNamespace(monotonic=lambda: self.now))
        self.processes = _processes.Processes(t.cast("t.Any", types.SimpleNamespace(inode=1)), select.poll())

    def _look(self, _inode: int) -> list[int]:
        self.looks += 1
        return []

    def after(self, seconds: float) -> int:
        """Return how many looks there were in so many seconds of beats."""
        before = self.looks
        for _beat in range(round(seconds / BEAT)):
            self.processes.look()
            self.now += BEAT
        return self.looks - before


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_no_look_while_nobody_reads(host: Host) -> None:
    assert host.after(10) == 0


def test_a_look_as_soon_as_somebody_reads(host: Host) -> None:
    host.after(10)
    for number in (1, 2):
        host.sockets.add(f"socket:[{number}]")
        assert host.after(BEAT) == 1


def test_fewer_looks_while_nobody_is_found(host: Host) -> None:
    host.sockets.add("socket:[1]")
    assert 4 <= host.after(1) <= 6
    assert 9 <= host.after(10) <= 11
    host.sockets.add("socket:[2]")
    assert host.after(BEAT) == 1
