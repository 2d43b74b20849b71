#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A soak: captures and protection for as long as asked, while containers come and go and every process of ours is killed at random.

    python bench/soak.py --minutes 30          as root; --seed repeats the order of the faults, not their exact time

It runs on a machine of its own (tests/support/own_machine.py), beside a Docker engine of its own. Workers start, stop and remove captures,
another one puts containers behind an engine and takes them out. Now and then a task, a supervisor, a tcpdump, the watchdog or the engine is
killed with SIGKILL. After each round, and at the end:

    nothing is lost      a capture that nothing was done to holds every datagram that was sent
    nothing is untrue    a session whose status is running runs; no process is left of a session whose status is another
    nothing is left      no process, session, record, filter, link, namespace, mount or file; this process holds no more descriptors

It prints each violation; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc as c
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
import uuid

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "collections"), str(CHECKOUT / "tests/support")]

import capture_tools  # noqa: E402
import docker  # noqa: E402
import engine  # noqa: E402
import leftovers  # noqa: E402
import steering_tools as tools  # noqa: E402
from ansible_cli import RUN_MODULE  # noqa: E402
from waiting import wait_for  # noqa: E402

OWN_MACHINE = "NETTAP_SOAK_MACHINE"
# Containers that nobody touches. Where an engine was killed, packets are lost until it is bypassed: so what captures must not lose goes another way.
STILL, BEHIND = "still", "behind"
DATAGRAMS = list(range(1, 41))  # their lengths
LONGEST_TASK = 0.8  # seconds, within which a task is killed that is to be


class Soak:
    """What all workers share: the containers, the sessions, when to end, what was done and what was wrong."""

    def __init__(self, client: docker.DockerClient, image: str, options: argparse.Namespace) -> None:
        self.client, self.image, self.options = client, image, options
        self.captures = capture_tools.Captures(pathlib.Path(tempfile.mkdtemp(prefix="nettap-soak-", dir="/var/lib")) / "sessions")
        self.done: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self._ends = time.monotonic() + 60 * options.minutes
        self._lock = threading.Lock()
        for name in (STILL, BEHIND):
            self.run(name)
        self.address, self.behind = (engine.address(client.containers.get(name)) for name in (STILL, BEHIND))
        for number in range(options.containers):
            self.run(f"churn-{number}")

    def over(self) -> bool:
        """Whether the time is over and enough was done."""
        enough = self.done["captures started"] >= self.options.captures and self.done["containers protected"] >= self.options.protects
        return time.monotonic() > self._ends and enough

    def count(self, what: str) -> None:
        """Count what was done."""
        with self._lock:
            self.done[what] += 1

    def expect(self, condition: object, what: str) -> None:
        """Record a violation unless the condition holds."""
        if not condition:
            with self._lock:
                self.wrong.append(f"{time.strftime('%T')} {what}")
            print(f"WRONG {what}", flush=True)

    def run(self, name: str) -> None:
        """Start a container."""
        self.client.containers.run(self.image, ["sleep", "100000"], name=name, detach=True, stop_signal="SIGKILL")

    def module(self, name: str, arguments: dict[str, t.Any], killed_after: float | None = None) -> dict[str, t.Any] | None:
        """Run a module; None if it was killed, after so many seconds, before it came to its end."""
        with subprocess.Popen(
            [sys.executable, "-c", RUN_MODULE, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / "collections")},
        ) as process:  # fmt: skip
            timer = threading.Timer(killed_after, process.kill) if killed_after is not None else None
            if timer:
                timer.start()
            output, errors = process.communicate(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
            if timer:
                timer.cancel()
        if process.returncode == -signal.SIGKILL:
            self.count("tasks killed")
            return None
        try:
            result: dict[str, t.Any] = json.loads(output.splitlines()[-1])
        except (IndexError, ValueError):
            result = {"failed": True, "msg": f"no result: {output} {errors}"}
        self.expect("Traceback" not in errors + str(result.get("msg")), f"{name} {arguments}: {errors} {result.get('msg')}")
        return result


class Worker(threading.Thread):
    """Does its rounds until the soak is over. A round that fails in itself is something wrong."""

    def __init__(self, soak: Soak, number: int, one_round: c.Callable[[Soak, random.Random, str], None]) -> None:
        super().__init__(name=f"{one_round.__name__}-{number}")
        self._soak, self._round = soak, one_round
        self._random = random.Random(f"{soak.options.seed} {self.name}")

    def run(self) -> None:
        """See threading.Thread."""
        number = 0
        while not self._soak.over():
            number += 1
            try:
                self._round(self._soak, self._random, f"{self.name}-{number:06}")
            except Exception as error:  # whatever it is, the soak goes on and tells it
                self._soak.expect(False, f"{self.name}: {type(error).__name__}: {error}")


def churn(soak: Soak, chance: random.Random, _name: str) -> None:
    """Restart a container, kill and start it, or replace it by a new one."""
    name = f"churn-{chance.randrange(soak.options.containers)}"
    container = soak.client.containers.get(name)
    match chance.randrange(3):
        case 0:
            container.restart(timeout=0)
        case 1:
            container.kill()
            container.start()
        case 2:
            container.remove(force=True)
            soak.run(name)
    soak.count("containers restarted or replaced")
    time.sleep(chance.uniform(0.5, 3))


def capture(soak: Soak, chance: random.Random, name: str) -> None:
    """Start a session, look, stop, remove; in two of five rounds something is killed."""
    still = chance.random() < 0.5
    port = 41000 + int(name.split("-")[1])
    path = soak.captures.path / name
    session = {"path": str(soak.captures.path), "name": name}
    wanted = {
        **session, "container": [STILL if still else "churn-*"], "interface": ["eth0"], "allow_missing": True, "filter": f"udp port {port}",
        "duration": chance.choice([0, 0, 2, 600]),
    }  # fmt: skip
    fault = chance.choice(["start", "stop", "remove", "supervisor", "tcpdump", *[""] * 8])
    late = chance.uniform(0, LONGEST_TASK)
    started = soak.module("container_capture", wanted, late if fault == "start" else None)
    soak.count("captures started")
    if started is not None:
        # A container of those that come and go may have gone in between.
        soak.expect(not started.get("failed") or not still, f"{name} did not start: {started.get('msg')}")
    session_there = started is not None and bool(started.get("capture"))
    if session_there and still and wanted["duration"] != 2:
        capture_tools.send(soak.address, DATAGRAMS, port)
    if session_there and fault in ("supervisor", "tcpdump"):
        found = soak.captures.find(name)
        pids = [found["supervisor"]["pid"]] if fault == "supervisor" and found else [one["pid"] for one in (found or {"segments": []})["segments"]]
        for pid in filter(None, pids[:1]):
            if str(path) in capture_tools.command_line(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                soak.count(f"{fault}s killed")
    soak.expect(wait_for(lambda: truthful(soak, name)), f"{name} differs from its status: {soak.captures.find(name)}")
    stopped = soak.module("container_capture", {**session, "state": "stopped"}, late if fault == "stop" else None)
    if stopped is not None and session_there and still and not fault and wanted["duration"] != 2:
        files = [file for segment in stopped["capture"]["segments"] for file in segment["files"]]
        lengths = [int(found) for file in files for found in re.findall(r"length (\d+)", "\n".join(capture_tools.tcpdump(path / file)))]
        soak.expect(lengths == DATAGRAMS, f"{name} lost packets: {lengths}")
        soak.count("datagrams found again")
    soak.expect(wait_for(lambda: truthful(soak, name)), f"{name}, stopped, differs from its status: {soak.captures.find(name)}")
    soak.module("container_capture", {**session, "state": "absent"}, late if fault == "remove" else None)
    if fault == "remove":
        soak.module("container_capture", {**session, "state": "absent"})
    soak.expect(wait_for(lambda: not path.exists() and not capture_tools.processes_naming(path)), f"{name} was removed, and something is left of it")


def truthful(soak: Soak, name: str) -> bool:
    """Whether a session with the status running runs, and nothing runs of any other."""
    found = soak.captures.find(name)
    running = capture_tools.processes_naming(soak.captures.path / name)
    if found is None:
        return not running
    return found["supervisor"]["pid"] in running if found["status"] == "running" else not running


def protect(soak: Soak, chance: random.Random, name: str) -> None:
    """Put containers behind an engine, and take them out; in every other round something is killed."""
    who = chance.choice([BEHIND, f"churn-{chance.randrange(soak.options.containers)}"])
    fault = chance.choice(["start", "end", "watchdog", "engine", "", "", "", ""])
    late = chance.uniform(0, LONGEST_TASK)
    dataplane = soak.module("container_dataplane", {"engine": [*tools.FORWARDER, "vth0", "vth1"]})
    soak.expect(dataplane and not dataplane.get("failed"), f"{name}: no dataplane: {dataplane}")
    target = {"container": [who], "allow_missing": True}
    steered = soak.module("container_steering", target, late if fault == "start" else None)
    if steered is not None:
        soak.expect(not steered.get("failed") or who != BEHIND, f"{name}: {who} is not protected: {steered.get('msg')}")
    soak.count("containers protected")
    if fault in ("watchdog", "engine"):
        for pid in processes_of(soak, fault)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            soak.count(f"{fault}s killed")
    # Whatever was killed, traffic comes through.
    soak.expect(wait_for(lambda: answers(soak.behind)), f"{name}: {BEHIND} is cut off")
    released = soak.module("container_steering", {**target, "state": "absent"}, late if fault == "end" else None)
    if released is None:
        released = soak.module("container_steering", {**target, "state": "absent"})
    if who == BEHIND:
        soak.expect(released and not released.get("failed"), f"{name}: {who} is not taken out: {released}")
        soak.expect(wait_for(lambda: not filters()), f"{name}: filters are left: {filters()}")
    soak.expect(wait_for(lambda: answers(soak.behind)), f"{name}: {BEHIND} is cut off after it was taken out")


def processes_of(soak: Soak, kind: str) -> list[int]:
    """PIDs of the watchdog, or of the dataplane's engine, as the collection tells them."""
    if kind == "engine":
        found = soak.module("container_steering_info", {}) or {}
        return list((found.get("dataplane") or {}).get("engine_pids", []))
    with contextlib.suppress(OSError, ValueError):
        return [json.loads(pathlib.Path("/run/nettap/steering/nettap/watchdog").read_text())["pid"]]
    return []


def filters() -> list[str]:
    """Our filters on the links of containers; those of the service links, vbr…, are there as long as the dataplane is."""
    return [one for link in os.listdir("/sys/class/net") if not link.startswith("vbr") for one in _filters(link)]


def _filters(link: str) -> list[str]:
    try:
        return tools.own_filters(link)
    except subprocess.CalledProcessError:  # gone in between
        return []


def answers(address: str) -> bool:
    """Whether a container answers a ping."""
    return subprocess.run(["busybox", "ping", "-c", "1", "-W", "1", address], stdout=subprocess.DEVNULL, check=False).returncode == 0


def soak_all(options: argparse.Namespace) -> list[str]:
    """Run all workers to the end, and take everything away; return what was wrong."""
    run = uuid.uuid4().hex
    before = leftovers.scan(run)
    os.environ["NETTAP_TEST_RUN"] = run  # inherited by every process of this run
    with engine.engine() as client, engine.image(client) as image:
        soak = Soak(client, image, options)
        descriptors = len(os.listdir("/proc/self/fd"))
        workers = [Worker(soak, 0, churn), Worker(soak, 0, protect), *(Worker(soak, number, capture) for number in range(options.workers))]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            workers[0].join(60)
            print(time.strftime("%T"), dict(soak.done), f"{len(soak.wrong)} wrong", flush=True)
            for worker in workers:
                worker.join(0 if worker.is_alive() else None)
        soak.module("container_steering", {"container": ["*"], "state": "absent", "allow_missing": True})
        gone = soak.module("container_dataplane", {"state": "absent"})
        soak.expect(gone and not gone.get("failed"), f"The dataplane cannot be removed: {gone}")
        soak.expect(not soak.captures.path.exists() or not os.listdir(soak.captures.path), f"Sessions are left: {soak.captures.path}")
        with contextlib.suppress(OSError):
            soak.captures.path.rmdir()
        soak.captures.path.parent.rmdir()
        # The engine's client keeps connections of its own, one a thread.
        soak.expect(len(os.listdir("/proc/self/fd")) <= descriptors + len(workers), "This process holds more descriptors than before.")
        for container in client.containers.list(all=True):
            container.remove(force=True)
    left: set[str] = set()

    def clean() -> bool:
        nonlocal left
        left = leftovers.scan(run) - before
        return not left

    soak.expect(wait_for(clean), f"Left behind: {sorted(left)}")
    print(f"Done: {dict(soak.done)}")
    return soak.wrong


def main() -> None:
    """Print what was done and what was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30, help="how long at least (default: %(default)s)")
    parser.add_argument("--captures", type=int, default=1000, help="captures to start at least (default: %(default)s)")
    parser.add_argument("--protects", type=int, default=100, help="containers to protect at least (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="workers that capture at the same time (default: %(default)s)")
    parser.add_argument("--containers", type=int, default=6, help="containers that come and go (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the faults (default: another one each time)")
    options = parser.parse_args()
    if OWN_MACHINE not in os.environ:
        machine = str(CHECKOUT / "tests/support/own_machine.py")
        sys.exit(subprocess.run([sys.executable, machine, *sys.argv], check=False, env={**os.environ, OWN_MACHINE: "1"}).returncode)
    print(f"Seed {options.seed}", flush=True)
    wrong = soak_all(options)
    print(*(wrong or ["Nothing lost, nothing untrue, nothing left"]), sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
