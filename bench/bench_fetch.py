#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching a capture of 256 MiB over ssh: container_capture_fetch under sudo next to ansible.builtin.fetch without and with it.

The server is a real sshd on loopback, the login user becomes root by sudo. The session is a real one whose empty file is replaced by
one of that size. Wall time is that of the whole ansible-playbook; memory is the peak of any single process (VmHWM), on the
controller's side (ansible-playbook, its workers, ssh) and on the host's (what runs below sshd).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "tests/support"), str(CHECKOUT / "collections")]

import ssh_server  # noqa: E402  # pylint: disable=wrong-import-position
from ansible_collections.nettap.containers.plugins.module_utils._capture import _control  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target  # noqa: E402

MIB = 1 << 20
STORAGE = f"/var/lib/nettap-bench-{os.getpid()}"


class Peak(threading.Thread):
    """Watches the peak memory of every process below two roots: that of the controller and that of the host."""

    def __init__(self, controller: int, host: int) -> None:
        super().__init__()
        self.roots = {controller: "controller", host: "host"}
        self.peaks = {"controller": 0.0, "host": 0.0}
        self.over = threading.Event()

    def run(self) -> None:
        """Until over is set."""
        while not self.over.wait(0.02):
            parents, peaks = {}, {}
            for path in pathlib.Path("/proc").glob("[0-9]*/status"):
                try:
                    lines = dict(line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines())
                except (OSError, ValueError):
                    continue
                if "VmHWM" in lines:
                    parents[int(lines["Pid"])] = int(lines["PPid"])
                    peaks[int(lines["Pid"])] = int(lines["VmHWM"].split()[0]) / 1024
            for pid, peak in peaks.items():
                while pid in parents and pid not in self.roots:
                    pid = parents[pid]
                if pid in self.roots:
                    side = self.roots[pid]
                    self.peaks[side] = max(self.peaks[side], peak)


def measure(folder: pathlib.Path, server: ssh_server.SSHServer, sshd: int, task: dict[str, t.Any], become: bool) -> tuple[float, dict[str, float]]:
    """Seconds and peaks (MiB) of a playbook with this one task."""
    book, inventory = folder / "play.json", folder / "inventory.json"
    interpreter = "{{ ansible_playbook_python }}" if become else "/usr/bin/python3"
    variables = {**server.host_vars, "ansible_become": become, "ansible_python_interpreter": interpreter}
    inventory.write_text(json.dumps({"all": {"hosts": {"node": variables}}}), encoding="utf-8")
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]), encoding="utf-8")
    begun = time.perf_counter()
    with subprocess.Popen(
        [pathlib.Path(sys.executable).parent / "ansible-playbook", "-i", inventory, book], cwd=CHECKOUT, stdout=subprocess.DEVNULL
    ) as process:
        peak = Peak(process.pid, sshd)
        peak.start()
        code = process.wait()
        seconds = time.perf_counter() - begun
        peak.over.set()
        peak.join()
    if code:
        sys.exit(f"The playbook failed with {code}: {task}")
    return seconds, peak.peaks


def session(size: int) -> str:
    """A session that has captured so many bytes; returns the path of its file."""
    subprocess.run(["ip", "netns", "add", "nettap-bench-fetch"], check=True)
    try:
        sessions = _control.Sessions(STORAGE)
        with _target.resolved({"netns": "nettap-bench-fetch"}) as targets:
            sessions.start("bench", Request(), targets)
        capture = sessions.stop("bench").capture
    finally:
        subprocess.run(["ip", "netns", "del", "nettap-bench-fetch"], check=True)
    assert capture
    path = capture["segments"][0]["files"][0]
    records = b"".join(struct.pack("<4I", 1_700_000_000 + second, 0, 1400, 1400) + os.urandom(1400) for second in range(740))  # about 1 MiB
    with open(path, "ab") as stream:
        while stream.tell() < size:
            stream.write(records)
    return path


def main() -> None:
    """Prints a line for each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mebibytes", type=int, default=256, help="size of the capture (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way, the median counts (default: %(default)s)")
    parser.add_argument("--slurp", action="store_true", help="also measure builtin.fetch under become, which takes minutes and gigabytes")
    options = parser.parse_args()
    server = ssh_server.SSHServer()
    try:
        server.start()
        sshd = int((server.folder / "pid").read_text(encoding="ascii"))
        path = session(options.mebibytes * MIB)
        plain = pathlib.Path(server.home) / "plain.pcap"  # what a user without root can fetch
        plain.write_bytes(pathlib.Path(path).read_bytes())
        plain.chmod(0o644)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            fetch = {"name": "bench", "path": STORAGE}
            ways: dict[str, tuple[dict[str, t.Any], bool]] = {
                "builtin.fetch": ({"ansible.builtin.fetch": {"src": str(plain), "dest": f"{name}/RUN/", "flat": True}}, False),
                "builtin.fetch, become (slurp)": ({"ansible.builtin.fetch": {"src": path, "dest": f"{name}/RUN/", "flat": True}}, True),
                "ours, merge=segment, become": ({"nettap.containers.container_capture_fetch": {**fetch, "merge": "segment", "dest": f"{name}/RUN"}}, True),
                "ours, merge=host, become": ({"nettap.containers.container_capture_fetch": {**fetch, "merge": "host", "dest": f"{name}/RUN"}}, True),
            }
            if not options.slurp:
                del ways["builtin.fetch, become (slurp)"]
            measure(folder, server, sshd, {"ansible.builtin.ping": {}}, True)  # the connection is open for all of them
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            peaks: dict[str, dict[str, float]] = {way: {"controller": 0, "host": 0} for way in ways}
            for number in range(options.runs):
                for way, (task, become) in ways.items():
                    text = json.dumps(task).replace("/RUN", f"/{number}-{len(seconds[way])}-{list(ways).index(way)}")
                    took, peak = measure(folder, server, sshd, json.loads(text), become)
                    seconds[way].append(took)
                    peaks[way] = {side: max(peaks[way][side], peak[side]) for side in peak}
        base = statistics.median(seconds["builtin.fetch"])
        for way, values in seconds.items():
            median = statistics.median(values)
            print(f"{options.mebibytes} MiB, {way:28} {median:6.2f} s ({median / base:.2f} of builtin.fetch), "
                  f"peak memory controller {peaks[way]['controller']:.0f} MiB, host {peaks[way]['host']:.0f} MiB")
    finally:
        if os.path.isdir(STORAGE):
            _control.Sessions(STORAGE).remove("bench")
            os.rmdir(STORAGE)
        server.stop()


if __name__ == "__main__":
    main()
