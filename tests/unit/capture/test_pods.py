# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the supervisor asks a runtime for a pod that is gone, and which answers it takes. The child process that asks is a stand-in."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
import time
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor import _pods
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

NETNS = "/proc/self/ns/net"
HOST = os.stat(NETNS).st_ino == os.stat(_netns.host_path()).st_ino
INODE = os.stat(NETNS).st_ino


def watched(folder: pathlib.Path, pod: str = "shop/web-0", **values: t.Any) -> Watched:
    return Watched("1", pod, fd=os.open(NETNS, os.O_RDONLY), host=HOST, record=str(folder / "1"), bound=NETNS, runtime="crio", pod=pod, **values)


@pytest.fixture(name="answers")
def make_answers(monkeypatch: pytest.MonkeyPatch) -> list[t.Any]:
    """Give the answers of the runtime, taken one by one."""
    found: list[t.Any] = []

    def run(argv: list[str], *_arguments: object) -> subprocess.CompletedProcess[str]:
        assert argv[-1] == "successor"
        return subprocess.CompletedProcess(argv, 0, json.dumps(found.pop(0)), "")

    monkeypatch.setattr(_pods, "_program", type("Program", (), {"run": staticmethod(run)}))
    monkeypatch.setattr(sys, "path", ["/proc/self/fd/0"])
    return found


def answer(folder: pathlib.Path, **values: t.Any) -> dict[str, t.Any]:
    stored = dataclasses.asdict(Watched("2", "shop/web-0", "i:2", host=HOST, record=str(folder / "2"), bound=NETNS, runtime="crio", pod="shop/web-0"))
    return {"container": stored, "pid": None, "inode": INODE, "sandbox": True, **values}


@pytest.mark.parametrize(
    ("pod", "told", "taken"),
    [
        ("shop/web-0", {}, True),
        ("shop/web-0", {"sandbox": False}, False),  # a container of the pod whose sandbox has ended, in the namespace of before
        ("shop/web-0/app", {"sandbox": False}, True),
        ("shop/web-0", {"inode": INODE + 1}, False),  # another by now
    ],
)
def test_answer(tmp_path: pathlib.Path, answers: list[t.Any], pod: str, told: dict[str, t.Any], taken: bool) -> None:
    container = watched(tmp_path, pod, away=True, gone_since="then", returns=3)
    answers.append(answer(tmp_path, **told))
    namespace = _pods.Pods._ask(container)
    assert (namespace is not None) is taken
    with contextlib.closing(os.fdopen(container.fd)):
        assert (container.id, container.returns, container.away, container.gone_since) == (("2", 4, True, "then") if taken else ("1", 3, True, "then"))


def test_pod_that_comes_back_in_the_host_s_network_is_left_alone(tmp_path: pathlib.Path, answers: list[t.Any]) -> None:
    container = watched(tmp_path)
    container.host = not HOST
    answers.append(answer(tmp_path))
    assert _pods.Pods._ask(container) is None
    os.close(container.fd)


def test_runtime_is_asked_when_something_changes(tmp_path: pathlib.Path, answers: list[t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """And once more a while later, since the runtime may have been at work still; now and then where nothing can be seen to change."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    timers: list[t.Callable[[], None]] = []
    loop = Loop()
    monkeypatch.setattr(loop, "after", lambda _delay, action: timers.append(action))
    found: list[Watched] = []
    pods = _pods.Pods(loop, lambda container, _namespace: found.append(container), lambda: True)
    container = watched(tmp_path)

    def step(seconds: float) -> int:
        """Let time pass; give how many answers are left."""
        now[0] += seconds
        timers.pop()()
        return len(answers)

    answers += [None] * 6
    pods.look_for(container, None, math.inf)
    assert len(answers) == 5 and step(0.1) == 5 and step(_pods.UNSEEN) == 4
    (tmp_path / "1").mkdir()
    assert step(0.1) == 3
    assert step(0.1) == 3 and step(_pods.SETTLED) == 2 and step(60) == 2
    (tmp_path / "2" / "userdata").mkdir(parents=True)
    assert step(0.1) == 1 and step(0.1) == 1
    (tmp_path / "2" / "userdata" / "config.json").touch()
    answers.append(answer(tmp_path))
    answers.pop(0)
    assert step(0.1) == 0 and found == [container] and container.id == "2" and not timers
    os.close(container.fd)


@pytest.mark.parametrize(
    ("bound", "lost"), [(NETNS, False), ("/proc/self/ns/mnt", True), ("/nowhere", True), (None, False)],
)  # fmt: skip
def test_namespace_that_is_not_bound_any_more(tmp_path: pathlib.Path, bound: str | None, lost: bool) -> None:
    container = dataclasses.replace(watched(tmp_path), bound=bound)
    assert container.lost() is lost and container.ended() is lost
    assert dataclasses.replace(container, away=True).ended()
    os.close(container.fd)


@pytest.mark.parametrize(("pod", "whole"), [("shop/web", True), ("shop/web/app", False), (None, False)])
def test_whole_pod(pod: str | None, whole: bool) -> None:
    assert Watched("1", "x", pod=pod).whole_pod is whole
