# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dataplane is made and removed by one process at a time, on the real kernel."""

from __future__ import annotations

import collections.abc as c
import concurrent.futures
import fcntl
import glob
import os
import sys
import typing as t

import dp_peer
import pytest
import steering_tools as tools
from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _namespace
from ansible_collections.nettap.containers.plugins.module_utils._steering import _lifecycle

NAME = "nettap"
RunModule = c.Callable[..., dict[str, t.Any]]


@pytest.fixture(autouse=True)
def removed(run_module: RunModule) -> c.Iterator[None]:
    """Leave no dataplane behind."""
    yield
    assert "msg" not in run_module("container_dataplane", {"state": "absent"})


def present() -> bool:
    """Make the dataplane; return whether anything was missing."""
    return _lifecycle.present(NAME, "inplace", "bridge").reason is not None


def absent() -> bool:
    """Remove the dataplane; return whether there was one."""
    return _lifecycle.absent(NAME, False).reason is not None


class Process:
    """A fork that does the work, and says in words of one letter on a pipe how far it has come; the last is Y or N: what the work returned."""

    def __init__(self, work: c.Callable[[c.Callable[[bytes], None]], bool]) -> None:
        self.heard, said = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.write(said, b"Y" if work(lambda word: t.cast("None", os.write(said, word))) else b"N")
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(0)
        os.close(said)

    def word(self) -> bytes:
        """Return its next word, b"" when it has ended."""
        return os.read(self.heard, 1)

    def close(self) -> None:
        """Wait for its end."""
        os.waitpid(self.pid, 0)
        os.close(self.heard)


def halfway(act: c.Callable[[], bool], owner: t.Any, step: str, go: int) -> c.Callable[[c.Callable[[bytes], None]], bool]:
    """Return work that stops before a step of its act, says so, and goes on when something is written to go."""

    def work(say: c.Callable[[bytes], None]) -> bool:
        original = getattr(owner, step)

        def waiting(*arguments: t.Any) -> t.Any:
            say(b"h")
            os.read(go, 1)
            return original(*arguments)

        setattr(owner, step, waiting)
        return act()

    return work


def in_turn(act: c.Callable[[], bool]) -> c.Callable[[c.Callable[[bytes], None]], bool]:
    """Return work that says when another holds the dataplane."""

    def work(say: c.Callable[[bytes], None]) -> bool:
        original, waited = fcntl.flock, False

        def flock(fd: int, operation: int) -> None:
            nonlocal waited
            try:
                original(fd, operation)
            except BlockingIOError:
                if not waited:
                    waited = True
                    say(b"w")
                raise

        setattr(fcntl, "flock", flock)  # noqa: B010
        return act()

    return work


@pytest.mark.parametrize(
    ("first", "step", "second", "whole"),
    [(present, "_make_links", present, True), (present, "_make_links", absent, False), (absent, "_run", present, True), (absent, "_run", absent, False)],
    ids=["present twice", "present, absent", "absent, present", "absent twice"],
)
def test_two_processes_at_once(first: c.Callable[[], bool], step: str, second: c.Callable[[], bool], whole: bool) -> None:
    if first is absent:
        present()
    waits, go = os.pipe()
    one = Process(halfway(first, _namespace, step, waits))
    try:
        assert one.word() == b"h"
        other = Process(in_turn(second))
        try:
            assert other.word() == b"w", "the second has not waited for the first"
            os.write(go, b"g")
            assert one.word() == b"Y"
            assert other.word() == (b"N" if first is second else b"Y")
        finally:
            other.close()
    finally:
        os.write(go, b"g")
        one.close()
        os.close(go)
        os.close(waits)
    with _namespace.opened(NAME) as dataplane:
        assert (dataplane is not None) is whole
    assert os.path.exists(f"/run/netns/{NAME}") is whole
    assert ("vbr0@" in tools.command("ip", "link")) is whole


def test_many_tasks_at_once(run_module: RunModule) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _round in range(3):
            for state in ("present", "absent"):
                results = list(pool.map(lambda _number, state=state: run_module("container_dataplane", {"state": state}), range(4)))
                assert not [result["msg"] for result in results if "msg" in result]
                assert sum(result["changed"] for result in results) == 1


def test_two_dps_on_one_host(run_module: RunModule) -> None:
    """dp, for which tests/support/dp_peer.py stands in, has its socket at a fixed path. So each has a /tmp of its own, and serves its own dataplane."""
    names = ["nettap", "nettap2"]
    sockets = {name: f"/run/nettap/private/{name}/tmp/dp_listen.sock" for name in names}
    try:
        pids = set()
        for name in names:
            options = {"name": name, "mode": "tag", "engine": [sys.executable, dp_peer.__file__], "private_tmp": True, "engine_socket": sockets[name]}
            made = run_module("container_dataplane", options)
            assert made.get("changed") and made["dataplane"]["engine"] == options["engine"], made
            assert not run_module("container_dataplane", options)["changed"]
        for name in names:
            done = run_module("neuvector_dataplane", {"socket": sockets[name], "dataplane_netns": name, "service_port": "vth"})
            assert done.get("changed"), done
            pids.add(done["pid"])
        assert len(pids) == 2 and not os.path.exists("/tmp/dp_listen.sock")
        crossed = run_module("neuvector_dataplane", {"socket": sockets["nettap2"], "dataplane_netns": "nettap", "service_port": "vth"})
        assert "runs in another network namespace than that of the dataplane" in crossed["msg"]
        again = run_module("container_dataplane", {**options, "engine_socket": sockets["nettap"], "restart": True, "engine_timeout": 0.5})
        assert "runs in another network namespace than that of the dataplane" in again["msg"]
    finally:
        for name in names:
            assert "msg" not in run_module("container_dataplane", {"name": name, "state": "absent"})
    assert not os.path.exists("/run/nettap/private") and not glob.glob("/run/nettap/dataplane/neuvector-*")
