# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capture sessions for tests: in a folder of their own, removed with all that runs of them; traffic, and a look into files.

The traffic is UDP from this machine to a container, where nobody listens. A datagram's length is its number, so that
what `tcpdump -r` prints of a file tells which were captured.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import typing as t

import ansible_cli
import engine
from ansible_collections.nettap.containers.plugins.module_utils._capture._control import CaptureOutcome, Sessions
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target
from waiting import wait_for

PORT = 40000
TRAFFIC = f"udp port {PORT}"
SECONDS = 120  # the machine may be busy: how long to wait for what takes milliseconds
Capture = dict[str, t.Any]


class Captures:
    """The sessions under one storage path. task, start and stop run the module; the others look, or do it, from this process."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def task(self, **options: t.Any) -> dict[str, t.Any]:
        """What container_capture returns, a failure too."""
        modes = {mode: options.pop(mode) for mode in ("check", "diff", "env") if mode in options}
        return ansible_cli.run_module("container_capture", {"path": str(self.path), **options}, **modes)

    def start(self, *containers: t.Any, **options: t.Any) -> dict[str, t.Any]:
        """Start a session on containers (of the SDK) and see that it has started; return the module's result."""
        if containers:
            options["container"] = [container.name for container in containers]
        return succeeded(self.task(**options))

    def start_here(self, container: t.Any, **options: t.Any) -> CaptureOutcome:
        """Start a session in this very process: the next line runs as soon as it is ready."""
        with _target.resolved({"container": [container.name], "runtime": "auto", "allow_missing": False}) as targets:
            return Sessions(str(self.path)).start("default", Request.of(options), targets)

    def stop(self, name: str = "default", **options: t.Any) -> Capture:
        """Stop a session and return it."""
        return succeeded(self.task(name=name, state="stopped", **options))["capture"]

    def stop_here(self, name: str = "default") -> Capture:
        """Stop a session from this very process, with no time lost, and return it."""
        capture = Sessions(str(self.path)).stop(name).capture
        assert capture
        return capture

    def find(self, name: str = "default") -> Capture | None:
        """A session, if there is one of that name."""
        return next(iter(Sessions(str(self.path)).about(name)), None)

    def info(self, name: str = "default") -> Capture:
        """A session that is there."""
        found = self.find(name)
        assert found, os.listdir(self.path)
        return found

    def until(self, condition: t.Callable[[Capture], t.Any], name: str = "default") -> Capture:
        """Wait until a session is there and as wanted, and return it."""
        found: Capture | None = None

        def holds() -> bool:
            nonlocal found
            found = self.find(name)
            return bool(found and condition(found))

        assert wait_for(holds, SECONDS), f"{name} did not become as wanted: {json.dumps(found, indent=1)}"
        return t.cast("Capture", found)

    def until_started(self, name: str = "default") -> Capture:
        """Wait until somebody else's task has started a session, and return it."""
        return self.until(lambda capture: capture["started_at"], name)

    def until_ended(self, name: str = "default") -> Capture:
        """Wait until a session has ended by itself, supervisor and all, and return it."""
        return self.until(lambda capture: capture["status"] != "running" and not capture["supervisor"]["alive"], name)

    def processes(self) -> list[int]:
        """Processes that work on these sessions: supervisors and tcpdumps, by their command lines."""
        return processes_naming(self.path)

    def close(self) -> None:
        """Remove all sessions; fail if anything of them is left."""
        if self.path.is_dir() and not self.path.is_symlink():
            for name in os.listdir(self.path):
                # A test may have planted something there; then the processes below tell.
                with contextlib.suppress(Exception):
                    Sessions(str(self.path)).remove(name)
        gone = wait_for(lambda: not self.processes())
        left = [command_line(pid) for pid in self.processes()]
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        assert gone, f"Sessions were removed, and yet these run: {left}"


def succeeded(result: dict[str, t.Any]) -> dict[str, t.Any]:
    """The result of a module that has not failed."""
    assert not result.get("failed"), result.get("msg")
    return result


def processes_naming(path: pathlib.Path) -> list[int]:
    """PIDs of the processes whose arguments hold the path or something below it."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid() and str(path) in command_line(int(entry))]


def command_line(pid: int) -> str:
    """Arguments of a process, "" when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def only(capture: Capture) -> dict[str, t.Any]:
    """The one segment of a session that has no other."""
    assert len(capture["segments"]) == 1, capture
    return capture["segments"][0]


def by(capture: Capture, *keys: str) -> dict[t.Any, dict[str, t.Any]]:
    """Its segments by the values of some keys; no two have the same."""
    found = {tuple(segment[key] for key in keys) if len(keys) > 1 else segment[keys[0]]: segment for segment in capture["segments"]}
    assert len(found) == len(capture["segments"]), capture["segments"]
    return found


# --- traffic


def reach(container: t.Any) -> str:
    """The container's address, once it answers: what is sent next arrives at once, in no queue for a neighbour's address."""
    address = engine.address(container)
    ping = ["busybox", "ping", "-c", "1", "-W", "1", address]
    assert wait_for(lambda: subprocess.run(ping, stdout=subprocess.DEVNULL, check=False).returncode == 0, SECONDS)
    return address


def send(address: str, lengths: t.Iterable[int], port: int = PORT) -> None:
    """Send a datagram of each length."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for length in lengths:
            sender.sendto(bytes(length), (address, port))


def flood(address: str, megabytes: float) -> list[int]:
    """Send datagrams of 1000 to 1399 bytes, each a byte longer than the one before, again and again; return their lengths."""
    sent = [1000 + number % 400 for number in range(int(megabytes * 1_000_000 / 1200))]
    for start in range(0, len(sent), 100):
        send(address, sent[start : start + 100])
        time.sleep(0.001)  # what a receiver on two busy cores can follow
    return sent


# --- files


def records(file: str | pathlib.Path) -> list[bytes]:
    """Take a pcap of this machine's tcpdump apart: its header, then its packets."""
    content = pathlib.Path(file).read_bytes()
    found, offset = [content[:24]], 24
    while offset < len(content):
        end = offset + 16 + int.from_bytes(content[offset + 8 : offset + 12], sys.byteorder)
        found.append(content[offset:end])
        offset = end
    return found


def count(file: str | pathlib.Path) -> int:
    """The number of packets as capinfos counts them, which refuses what is no capture file."""
    done = subprocess.run(["capinfos", "-c", "-M", "-T", "-r", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split("\t")[1])


def capinfos(file: str | pathlib.Path) -> str:
    """All that capinfos tells of a file."""
    return subprocess.run(["capinfos", str(file)], capture_output=True, text=True, check=True).stdout


def tcpdump(file: str | pathlib.Path, expression: str = "") -> list[str]:
    """The lines of tcpdump -r; the time comes first, in seconds."""
    argv = ["tcpdump", "-n", "-tt", "-r", str(file), *([expression] if expression else [])]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


def lengths(*files: str | pathlib.Path) -> list[int]:
    """The lengths of the datagrams in files, as send() was given them."""
    found = [re.search(r"UDP, length (\d+)", line) for file in files for line in tcpdump(file, TRAFFIC)]
    return [int(match[1]) for match in found if match]


def tshark(file: str | pathlib.Path, *fields: str, expression: str = "") -> list[str]:
    """A line for each packet: its fields, with tabs between."""
    argv = ["tshark", "-n", "-r", str(file), "-T", "fields", *(word for field in fields for word in ("-e", field))]
    return subprocess.run([*argv, "-Y", expression] if expression else argv, capture_output=True, text=True, check=True).stdout.splitlines()


def everything_is_private(folder: pathlib.Path) -> bool:
    """Whether folder and all below it is root's alone: folders 0700, files 0600."""
    for top, _folders, files in os.walk(folder):
        for path, mode in ((top, 0o40700), *((os.path.join(top, file), 0o100600) for file in files)):
            figures = os.lstat(path)
            assert (figures.st_uid, oct(figures.st_mode)) == (0, oct(mode)), path
    return True
