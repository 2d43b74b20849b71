#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user waits for: ad hoc commands next to ansible.builtin.ping, and playbooks that start 1 and 50 captures next to the hand-made way.

Ad hoc: start, info and stop of the capture of one container, and what is known of its network, each a call of ansible(1), in turns with
ping, which shows what Ansible itself costs. The stop is that of a quiet interface.

By hand: for each container a shell task with docker inspect and `nsenter --net ... tcpdump &`, which does not even wait until
tcpdump listens. Ours: one task, which does. Both are timed from the start of ansible-playbook to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests/support"))

import engine  # noqa: E402  # pylint: disable=wrong-import-position

BY_HAND = (
    "pid=$(docker inspect -f '{{ '{{' }}.State.Pid{{ '}}' }}' {{ item }}) && "
    "{ nohup nsenter --net=/proc/$pid/ns/net tcpdump -i any -U -Z root -w {{ folder }}/{{ item }}.pcap >/dev/null 2>&1 & echo $! >> {{ folder }}/pids; }"
)


class Cost(t.NamedTuple):
    """Seconds of one command, on the clock and of the processors (user and system, of what it waited for)."""

    wall: float
    cpu: float


def timed(*argv: str | os.PathLike[str]) -> Cost:
    """Runs a program of this environment."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [pathlib.Path(sys.executable).parent / argv[0], *argv[1:]],
        check=True, cwd=CHECKOUT, stdout=subprocess.DEVNULL, env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false"},
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def ad_hoc(module: str, **arguments: str) -> Cost:
    """One module on this machine."""
    return timed("ansible", "localhost", "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}",
                 "-m", module, "-a", " ".join(f"{key}={value}" for key, value in arguments.items()))


def beside_ping(name: str, runs: int) -> None:
    """Prints a line for each command, with its ratio to ping: the median of the ratios of all runs, and that of the best run of each."""
    costs: dict[str, list[Cost]] = {}
    for _run in range(runs):
        # Not in /tmp: every folder above a storage path must be root's alone.
        with tempfile.TemporaryDirectory(dir="/var/lib") as folder:
            session = {"path": folder, "name": "bench"}
            for command, module, arguments in (
                ("ping", "ansible.builtin.ping", {}),
                ("start", "nettap.containers.container_capture", {**session, "container": name}),
                ("info", "nettap.containers.container_capture_info", session),
                ("network info", "nettap.containers.container_network_info", {"container": name}),
                ("stop", "nettap.containers.container_capture", {**session, "state": "stopped"}),
            ):
                costs.setdefault(command, []).append(ad_hoc(module, **arguments))
    for command, found in costs.items():
        parts = []
        for field, unit in (("wall", "s"), ("cpu", "s of CPU")):
            pairs = [(getattr(cost, field), getattr(ping, field)) for cost, ping in zip(found, costs["ping"])]
            ours, theirs = zip(*pairs)
            ratio = statistics.median(one / other for one, other in pairs)
            parts.append(f"{statistics.median(ours):5.2f} {unit}: {ratio:.2f} of ping (best runs {min(ours) / min(theirs):.2f})")
        print(f"  {command:13} {', '.join(parts)}", flush=True)


def play(tasks: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """A play of these tasks on this machine."""
    return [{
        "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks,
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
    }]


def run(folder: pathlib.Path, tasks: list[dict[str, t.Any]], names: list[str]) -> float:
    """Seconds that a playbook takes."""
    book = folder / "play.json"
    book.write_text(json.dumps(play(tasks)), encoding="utf-8")
    variables = json.dumps({"names": names, "folder": str(folder)})
    return timed("ansible-playbook", "-i", "localhost,", book, "-e", variables).wall


def by_hand(folder: pathlib.Path, names: list[str]) -> float:
    """One shell task a container."""
    seconds = run(folder, [{"ansible.builtin.shell": BY_HAND, "loop": "{{ names }}"}], names)
    for pid in (folder / "pids").read_text(encoding="ascii").split():
        os.kill(int(pid), signal.SIGTERM)
    return seconds


def ours(folder: pathlib.Path, names: list[str]) -> float:
    """One task for all."""
    capture = {"container": "{{ names }}", "path": f"{folder}/captures", "name": "bench"}
    seconds = run(folder, [{"nettap.containers.container_capture": capture}], names)
    run(folder, [{"nettap.containers.container_capture": {"path": f"{folder}/captures", "name": "bench", "state": "absent"}}], names)
    return seconds


def main() -> None:
    """Prints a line for each ad hoc command, and one for each number of containers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--containers", type=int, default=50, help="the larger number (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way, the median counts (default: %(default)s)")
    parser.add_argument("--ad-hoc-runs", type=int, default=7, help="runs of the ad hoc commands (default: %(default)s)")
    options = parser.parse_args()
    with engine.engine() as client, engine.image(client) as image:
        containers = []
        try:
            for number in range(options.containers):
                name = f"nettap-bench-{os.getpid()}-{number}"
                containers.append(client.containers.run(image, ["sleep", "100000"], name=name, detach=True, stop_signal="KILL"))
            names = [str(container.name) for container in containers]
            print("ad hoc")
            beside_ping(names[0], options.ad_hoc_runs)
            print("as a play")
            for number in (1, options.containers):
                seconds: dict[str, list[float]] = {"by hand": [], "ours": []}
                for _run in range(options.runs):
                    for name, way in (("by hand", by_hand), ("ours", ours)):
                        # Not in /tmp: every folder above a storage path must be root's alone.
                        with tempfile.TemporaryDirectory(dir="/var/lib") as folder:
                            seconds[name].append(way(pathlib.Path(folder), names[:number]))
                hand, one = (statistics.median(values) for values in seconds.values())
                print(f"{number:3} containers: by hand {hand:6.2f} s, container_capture {one:5.2f} s: {one / hand:.2f} of it")
        finally:
            for container in containers:
                container.remove(force=True, v=True)


if __name__ == "__main__":
    main()
