# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An error of one interface, or of the moment, keeps no other interface steered or black: undo and watchdog go on, on the real kernel."""

from __future__ import annotations

import collections.abc as c
import contextlib
import errno
import json
import os
import pathlib
import resource
import signal
import time
import typing as t

import pytest
import steering_tools as tools
from ansible_collections.nettap.containers.plugins.module_utils._arguments._target import TARGET
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls
from ansible_collections.nettap.containers.plugins.module_utils._errors import SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._steering import _control
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._filters import Filters
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target
from ping_stream import PingStream
from waiting import wait_for

JOURNAL = pathlib.Path("/run/nettap/steering/nettap")
REQUEST = _control.Request("nettap", "inplace", "bridge", None, "steer", "open", 0, 30, None)


class Steered(t.NamedTuple):
    """A named namespace behind the engine, with the host's end of its link."""

    netns: str
    link: str

    def filters(self) -> int:
        """Return how many filters lead its traffic to the engine."""
        return len(tools.own_filters(self.link))

    def record(self) -> pathlib.Path:
        """Return where its record is."""
        return JOURNAL / f"{os.stat(f'/run/netns/{self.netns}').st_ino}-eth0.json"


def release(*steered: Steered) -> None:
    """Take them out, as container_steering does with state absent."""
    with contextlib.ExitStack() as stack:
        params = dict.fromkeys(TARGET) | {"runtime": "auto"}
        targets = [stack.enter_context(_target.resolved({**params, "netns": one.netns}))[0] for one in steered]
        _control.release(targets, [], REQUEST, False)


@pytest.fixture
def pair(run_module: c.Callable[..., dict[str, t.Any]], netns: c.Callable[..., str], veth: c.Callable[..., tuple[str, str]]) -> c.Iterator[list[Steered]]:
    """Give two namespaces that are steered by the dataplane nettap, in the order of their names; all is given back at the end."""
    made = []
    assert "dataplane" in run_module("container_dataplane", {"engine": [*tools.FORWARDER, "vth0", "vth1"]})
    try:
        for number in (1, 2):
            made.append(Steered(name := netns(), veth(name, address=f"10.77.{number}.2/24", host_address=f"10.77.{number}.1/24")[0]))
            result = run_module("container_steering", {"netns": name})
            assert "steering" in result, result
        assert [one.filters() for one in made] == [2, 2]
        yield made
    finally:
        for one in made:
            result = run_module("container_steering", {"netns": one.netns, "state": "absent", "allow_missing": True})
            assert "msg" not in result, result
            assert one.filters() == 0
        assert "msg" not in run_module("container_dataplane", {"state": "absent"})


def watchdog() -> dict[str, t.Any]:
    """Return what the watchdog says of itself."""
    return json.loads((JOURNAL / "watchdog").read_text())


@contextlib.contextmanager
def stopped(pid: int) -> c.Iterator[None]:
    """Stop a process for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def failing(owner: object, name: str, which: c.Callable[..., bool], error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a fault in the place of those calls."""
    original = getattr(owner, name)

    def call(*arguments: t.Any) -> t.Any:
        if which(*arguments):
            raise error
        return original(*arguments)

    monkeypatch.setattr(owner, name, call)


def refuse_forgetting(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have bpf(2) refuse to forget so many containers."""
    left = iter(range(times))
    failing(_calls, "bpf", lambda command, _attributes: command == _calls._MAP_DELETE and next(left, None) is not None,
            OSError(errno.ENOMEM, "Cannot allocate memory"), monkeypatch)


def test_undo_goes_on_past_a_failure(pair: list[Steered], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair
    with stopped(watchdog()["pid"]), monkeypatch.context() as patch:  # it would undo what is left
        refuse_forgetting(1, patch)
        with pytest.raises(SteeringError, match="Cannot allocate memory"):
            release(first, second)
        assert second.filters() == 0 and not second.record().exists()
        assert json.loads(first.record().read_text())["status"] == "restoring"
    assert tools.wait_for(lambda: not first.record().exists())  # the watchdog does the rest


def test_undo_reports_all_failures(pair: list[Steered], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair
    indices = [int(pathlib.Path(f"/sys/class/net/{one.link}/ifindex").read_text()) for one in pair]
    with stopped(watchdog()["pid"]), monkeypatch.context() as patch:
        for index, word in zip(indices, ("one", "two"), strict=True):
            failing(Filters, "delete", lambda _self, filters, index=index: any(one.ifindex == index for one in filters), SteeringError(f"No {word}."), patch)
        with pytest.raises(SteeringError, match=r"^No one\. No two\.$"):
            release(first, second)
        assert all(one.record().exists() for one in pair)
    assert tools.wait_for(lambda: not any(one.record().exists() for one in pair))


def test_undo_goes_on_where_traffic_cannot_be_diverted_first(pair: list[Steered], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held by the engine may be lost then; that the filters go counts more."""
    left = iter(range(1))
    with stopped(watchdog()["pid"]), monkeypatch.context() as patch:
        failing(Filters, "delete", lambda _self, filters: bool(filters) and next(left, None) is not None, OSError(errno.ENOBUFS, "No buffer space"), patch)
        release(*pair)
        assert [one.filters() for one in pair] == [0, 0] and not any(one.record().exists() for one in pair)


def engine(run_module: c.Callable[..., dict[str, t.Any]]) -> int:
    """Return the PID of the engine."""
    return run_module("container_steering_info")["dataplane"]["engine_pids"][0]


def log() -> str:
    """Return what the watchdog has noted."""
    return pathlib.Path("/run/nettap/services/watchdog-nettap.log").read_text()


@contextlib.contextmanager
def without_descriptors(pid: int) -> c.Iterator[None]:
    """Have a process open nothing more for the block; what it has open stays so."""
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(len(used) + 1)) - used), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_watchdog_that_can_open_nothing_bypasses_and_lives_on(pair: list[Steered], run_module: c.Callable[..., dict[str, t.Any]]) -> None:
    pid = watchdog()["pid"]
    with tools.kept_down(engine(run_module)):  # what it has bypassed and resumed it knows, and has not to read
        assert tools.wait_for(lambda: [one.filters() for one in pair] == [0, 0])
    assert tools.wait_for(lambda: [one.filters() for one in pair] == [2, 2])
    assert tools.wait_for(lambda: watchdog()["reason"] == "the engine forwards again")
    with without_descriptors(pid), tools.kept_down(engine(run_module)):
        assert tools.wait_for(lambda: [one.filters() for one in pair] == [0, 0])
        assert tools.wait_for(lambda: "Too many open files" in log())
    assert tools.wait_for(lambda: [one.filters() for one in pair] == [2, 2])
    assert tools.wait_for(lambda: watchdog()["reason"] == "the engine forwards again")
    assert watchdog()["pid"] == pid and "Traceback" not in log()


def test_watchdog_goes_on_past_an_interface_that_it_cannot_resume(pair: list[Steered], run_module: c.Callable[..., dict[str, t.Any]]) -> None:
    first, second = pair
    with tools.kept_down(engine(run_module)):
        assert tools.wait_for(lambda: [one.filters() for one in pair] == [0, 0])
        tools.command("tc", "qdisc", "replace", "dev", first.link, "clsact")
        tools.command("tc", "qdisc", "delete", "dev", first.link, "clsact")
        tools.command("tc", "qdisc", "add", "dev", first.link, "ingress")  # beside which there is no egress filter
    assert tools.wait_for(lambda: second.filters() == 2)
    assert tools.wait_for(lambda: "cannot be added to link" in log())
    tools.command("tc", "qdisc", "delete", "dev", first.link, "ingress")
    assert tools.wait_for(lambda: first.filters() == 2)


def test_watchdog_goes_on_past_a_damaged_record(pair: list[Steered], run_module: c.Callable[..., dict[str, t.Any]]) -> None:
    """The interface of that record is bypassed and resumed too: of it the watchdog knows what it knew."""
    first, second = pair
    pid, down, whole = watchdog()["pid"], engine(run_module), first.record().read_text()
    first.record().write_text("{")
    (JOURNAL / "news").touch()  # it looks at the journal
    try:
        assert tools.wait_for(lambda: "cannot be read" in log())
        with tools.kept_down(down):
            assert tools.wait_for(lambda: [one.filters() for one in pair] == [0, 0])
        assert tools.wait_for(lambda: [one.filters() for one in pair] == [2, 2])
        record = json.loads(second.record().read_text())
        second.record().write_text(json.dumps({**record, "deadline": 1.0}))
        (JOURNAL / "more news").touch()
        assert tools.wait_for(lambda: not second.record().exists()) and second.filters() == 0
        assert watchdog()["pid"] == pid
    finally:
        first.record().write_text(whole)


@contextlib.contextmanager
def idle_processes(number: int) -> c.Iterator[None]:
    """Have so many processes more on the machine, which do nothing."""
    pids = []
    try:
        for _number in range(number):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            pids.append(pid)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, by its clock (CPUCLOCK_SCHED of linux/posix-timers.h)."""
    return time.clock_gettime((~pid << 3) | 2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_dead_engine_costs_next_to_nothing(pair: list[Steered], run_module: c.Callable[..., dict[str, t.Any]]) -> None:
    """Measured with 2,000 processes: 22 to 26 % of a core where all of them are looked at with each beat, 1 % where they are not."""
    pid, down = watchdog()["pid"], engine(run_module)
    with idle_processes(1000), tools.kept_down(down):
        assert tools.wait_for(lambda: [one.filters() for one in pair] == [0, 0])
        begin, used = time.monotonic(), cpu_seconds(pid)
        time.sleep(3)
        share = (cpu_seconds(pid) - used) / (time.monotonic() - begin)
    assert share < 0.04
    assert tools.wait_for(lambda: [one.filters() for one in pair] == [2, 2])


def lingering(run_module: c.Callable[..., dict[str, t.Any]], *options: str) -> dict[str, t.Any]:
    """Run an engine that ends as NeuVector's dp does, in place of the one that runs."""
    return run_module("container_dataplane", {"engine": [*tools.FORWARDER, "--lingers", "vth0", "vth1", *options]})


def test_engine_that_is_stopped_for_another_is_bypassed_first(pair: list[Steered], run_module: c.Callable[..., dict[str, t.Any]]) -> None:
    """No packet goes to an engine that is told to end, whether it is the same engine again, or another one."""
    first, _second = pair
    assert lingering(run_module)["changed"]
    assert wait_for(lambda: first.filters() == 2)
    for options in ({"engine": [*tools.FORWARDER, "--lingers", "vth0", "vth1"], "restart": True}, {"engine": [*tools.FORWARDER, "vth0", "vth1"]}):
        with PingStream("10.77.1.2", 200) as stream:
            assert run_module("container_dataplane", options)["changed"]
            assert wait_for(lambda: first.filters() == 2)
        # It was deaf for a second: 200 pings. A packet or two can be in it when it is killed at last.
        assert stream.result.lost <= 2, stream.result


def test_engine_that_stops_itself_is_bypassed_while_its_process_is_there(pair: list[Steered], run_module: c.Callable[..., dict[str, t.Any]]) -> None:
    first, second = pair
    assert lingering(run_module)["changed"]
    assert wait_for(lambda: (first.filters(), second.filters()) == (2, 2))
    pid = engine(run_module)
    with PingStream("10.77.1.2", 200):
        os.kill(pid, signal.SIGTERM)
        assert wait_for(lambda: first.filters() == 0)
    assert wait_for(lambda: (first.filters(), second.filters()) == (2, 2))
    assert "the engine has closed its sockets" in log() and engine(run_module) != pid
