#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the capture of 1 and of 50 containers, next to the hand-made way, both as playbooks on this machine.

By hand: for each container a shell task with docker inspect and `nsenter --net ... tcpdump &`, which does not even wait until
tcpdump listens. Ours: one task, which does. Both are timed from the start of ansible-playbook to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
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
    begun = time.perf_counter()
    subprocess.run(
        [pathlib.Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", book, "-e", variables],
        check=True, cwd=CHECKOUT, stdout=subprocess.DEVNULL, env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false"},
    )
    return time.perf_counter() - begun


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
    """Prints one line for each number of containers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--containers", type=int, default=50, help="the larger number (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way, the median counts (default: %(default)s)")
    options = parser.parse_args()
    with engine.engine() as client, engine.image(client) as image:
        containers = []
        try:
            for number in range(options.containers):
                name = f"nettap-bench-{os.getpid()}-{number}"
                containers.append(client.containers.run(image, ["sleep", "100000"], name=name, detach=True, stop_signal="KILL"))
            names = [str(container.name) for container in containers]
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
