# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures followed live: over ssh from a user who becomes root, into files, FIFOs and programs."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import typing as t

import pytest
from capture_tools import PORT, TRAFFIC, capinfos, count, flood, lengths, only, reach, send, tshark
from ssh_server import wait_for

MODULE = "nettap.containers.container_capture_stream"
SECONDS = 60


class Follower:
    """container_capture_stream on the host `node`, into a file unless told otherwise."""

    def __init__(self, captures, cli, sshd, dest: pathlib.Path) -> None:
        self.captures, self.cli, self.sshd, self.dest = captures, cli, sshd, dest

    def start(self, *tasks_before: dict, host_vars: dict | None = None, **options):
        """Start a play that follows; returns it, running."""
        if "argv" not in options:
            options.setdefault("dest", str(self.dest))
        follow = {"name": "Follow", MODULE: {"path": str(self.captures.path), **options}}
        play = {"hosts": "all", "gather_facts": False, "tasks": [*tasks_before, follow]}
        return self.cli.start_playbook([play], hosts={"node": {**self.sshd.host_vars, **(host_vars or {})}})

    def left(self) -> list[pathlib.Path]:
        """What is left in the login user's temporary folder."""
        return list((self.sshd.home / ".ansible" / "tmp").glob("*"))

    def holds(self, size: int) -> bool:
        """Whether so many bytes have arrived."""
        return self.dest.exists() and self.dest.stat().st_size >= size


@pytest.fixture
def follow(captures, cli, sshd, tmp_path):
    return Follower(captures, cli, sshd, tmp_path / "here" / "live.pcapng")


class Reader:
    """A program that reads the FIFO on its standard input; its lines come with the time at which they came."""

    def __init__(self, fifo: pathlib.Path, *argv: str) -> None:
        self.lines: list[tuple[float, str]] = []
        # Opening waits for the writer, and that must not be this test.
        self._thread = threading.Thread(target=self._run, args=(fifo, argv))
        self.process: subprocess.Popen[str] | None = None
        self.stderr = ""
        self._thread.start()

    def _run(self, fifo: pathlib.Path, argv: tuple[str, ...]) -> None:
        with fifo.open("rb") as stream:
            self.process = subprocess.Popen(argv, stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in t.cast("t.TextIO", self.process.stdout):
            self.lines.append((time.time(), line.strip()))
        self.stderr = t.cast("t.TextIO", self.process.stderr).read()
        self.process.wait()

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive() and self.process
        return self.process.returncode


def test_twenty_thousand_packets_live(captures, container, follow, tmp_path):
    """tshark reads them from a FIFO while they flow, each at most two seconds late, to the end and without complaint."""
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC, live=True)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = Reader(fifo, "tshark", "-l", "-n", "-r", "-", "-T", "fields", "-e", "frame.time_epoch", "-e", "data.len", "-e", "frame.interface_name")
    play = follow.start(dest=str(fifo))
    assert wait_for(lambda: reader.process is not None, SECONDS), play.output
    send(where, [7])
    assert wait_for(lambda: bool(reader.lines), SECONDS), play.output
    sent = [1 + number % 1000 for number in range(20_000)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for start in range(0, len(sent), 50):
            for length in sent[start : start + 50]:
                sender.sendto(bytes(length), (where, PORT))
            time.sleep(0.02)  # 2,500 a second: eight seconds
    assert wait_for(lambda: len(reader.lines) >= 20_001, SECONDS), len(reader.lines)
    stopped = only(captures.stop())
    done = play.wait()
    result = done.result("Follow")
    assert reader.wait() == 0 and re.fullmatch(r'(Running as user "root" and group "root".*\n)?', reader.stderr), reader.stderr
    assert done.rc == 0 and (result["ended_by"], result["packets"], result["missed"], result["lost"]) == ("capture", 20_001, 0, []), done.output
    assert stopped["packets_captured"] == 20_001
    found = [(came, *line.split("\t")) for came, line in reader.lines]
    assert [int(length) for _came, _at, length, _name in found] == [7, *sent]
    assert {name for *_others, name in found} == {f"node/{target.name}/eth0"}
    late = [came - float(at) for came, at, *_others in found]
    print(f"first packet {late[0]:.2f} s late, the others {max(late):.2f} s at most, {sum(late) / len(late):.2f} s on average")
    assert late[0] < 2 and max(late) < 2
    assert follow.left() == []

