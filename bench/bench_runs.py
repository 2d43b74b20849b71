#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many runs of the role capture against one host at once, of which some are killed, each in another phase.

Each of the others must have all packets of its own time, and in the end nothing may be left: no process, no staged file, and of sessions
only those of killed runs, which have ended by themselves and can be removed. It prints what was wrong, and ends with 1 then.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "tests/support"), str(CHECKOUT / "collections")]

import ansible_cli  # noqa: E402  # pylint: disable=wrong-import-position
import capture_tools  # noqa: E402  # pylint: disable=wrong-import-position
from ansible_collections.nettap.containers.plugins.module_utils._capture._control import Sessions  # noqa: E402  # pylint: disable=wrong-import-position
from waiting import wait_for  # noqa: E402  # pylint: disable=wrong-import-position

NETNS, LINK, ADDRESS, OWN = "nettap-runs", "nettap-runs0", "192.0.2.2", "192.0.2.1"  # RFC 5737
PHASES = ("Start capturing", "Wait for the end", "Stop capturing", "Fetch the captures", "Show what was captured")
RATE = 100  # datagrams a second
CYCLE = 1400  # the length of a datagram is its number, modulo this
PATIENCE = 3600  # seconds for all runs


class Sender(threading.Thread):
    """Sends datagrams into the namespace until end(). sent has the time and the length of each."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[float, int]] = []
        self._ending = threading.Event()

    def run(self) -> None:
        """Send."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in itertools.count():
                if self._ending.wait(1 / RATE):
                    return
                length = number % CYCLE + 1
                self.sent.append((time.time(), length))
                sender.sendto(bytes(length), (ADDRESS, capture_tools.PORT))

    def end(self) -> None:
        """Send no more."""
        self._ending.set()
        self.join()


@contextlib.contextmanager
def namespace() -> t.Iterator[None]:
    """Make a network namespace with a link to this one."""
    commands = [
        ["netns", "add", NETNS],
        ["link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NETNS],
        ["address", "add", f"{OWN}/30", "dev", LINK],
        ["link", "set", LINK, "up"],
        ["-n", NETNS, "address", "add", f"{ADDRESS}/30", "dev", "eth0"],
        ["-n", NETNS, "link", "set", "eth0", "up"],
    ]
    try:
        for command in commands:
            subprocess.run(["ip", *command], check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", NETNS], check=False)


def moment(text: str) -> float:
    """Return an ISO 8601 time in seconds since the epoch."""
    return datetime.datetime.fromisoformat(text).timestamp()


def missing(run: ansible_cli.Finished, sent: list[tuple[float, int]], duration: float) -> list[int]:
    """Return the datagrams that a run should have and has not. What is sent in the last half second does not count."""
    fetched = run.result("Fetch the captures")
    begun = moment(fetched["capture"]["started_at"])
    there = set(capture_tools.lengths(fetched["files"][0]["dest"]))
    wanted = [length for when, length in sent if begun <= when <= begun + duration - 0.5]
    assert wanted, "nothing was sent"
    return [length for length in wanted if length not in there]


def kill(runs: list[ansible_cli.Running], victims: dict[int, str]) -> None:
    """Kill each victim as soon as its phase has begun, and some moment later. Return when all runs have ended."""
    left = dict(victims)

    def over() -> bool:
        for number, phase in list(left.items()):
            if phase in runs[number].output:
                time.sleep(random.random() / 2)
                runs[number].kill()
                del left[number]
        return all(run.ended for run in runs)

    if not wait_for(over, PATIENCE):
        raise TimeoutError(f"Runs have not ended within {PATIENCE} s.")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--kill", type=int, default=10)
    parser.add_argument("--duration", type=float, default=10, help="seconds, at most 13")
    options = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="nettap-runs-") as name, namespace():
        folder = pathlib.Path(name)
        captures = capture_tools.Captures(folder / "captures")
        cli = ansible_cli.AnsibleCLI(folder / "ansible")
        variables = {
            "capture_netns": NETNS, "capture_interface": "eth0", "capture_filter": capture_tools.TRAFFIC, "capture_duration": options.duration,
            "capture_path": str(captures.path), "capture_dest": str(folder / "here"), "capture_min_free": "1M", "capture_interval": 1,
            "ansible_remote_tmp": str(folder / "tmp"),
        }  # fmt: skip
        sender = Sender()
        sender.start()
        begun = time.monotonic()
        runs = [cli.start_playbook("capture.yml", extra_vars=variables) for _number in range(options.runs)]
        victims = dict(zip(random.sample(range(options.runs), options.kill), itertools.cycle(PHASES)))
        try:
            kill(runs, victims)
        finally:
            sender.end()
            for run in runs:
                run.kill()
        took = time.monotonic() - begun
        for number, run in enumerate(runs):
            done = run.wait()
            if number in victims:
                continue
            if done.rc != 0:
                wrong.append(f"run {number} ended with {done.rc}:\n{done.output}")
            elif lost := missing(done, sender.sent, options.duration):
                wrong.append(f"run {number} lacks {len(lost)} datagrams")
        wait_for(lambda: not captures.processes(), options.duration + capture_tools.SECONDS)
        wrong += [f"still runs: {capture_tools.command_line(pid)}" for pid in captures.processes()]
        left = Sessions(str(captures.path)).about()
        wrong += [f"session {one['name']} is {one['status']}" for one in left if one["status"] == "running"]
        if len(left) > options.kill:
            wrong.append(f"{len(left)} sessions are left of {options.kill} killed runs")
        removed = [captures.task(name=path.name, state="absent") for path in captures.path.iterdir()]
        wrong += [one["msg"] for one in removed if one.get("failed")]
        wrong += [f"is left: {path}" for place in (captures.path, folder / "tmp") if place.exists() for path in place.rglob("*")
                  if path.name.endswith(".staged") or place == captures.path]  # fmt: skip
        captures.close()
    print(f"{options.runs} runs, {options.kill} killed, {took:.0f} s: {len(left)} sessions of killed runs had ended by themselves; "
          f"{len(wrong)} things are wrong", *wrong, sep="\n  ")  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
