# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures from inside of containers, over community.docker's connections and over ssh, that leave no trace."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import typing as t

import engine
import pytest
from capture_tools import TRAFFIC, count, everything_is_private, lengths, processes_naming, reach, send
from ssh_server import wait_for

MODULE = "nettap.containers.container_capture_inside"
SECONDS = 60
MARK = ".nettap-"  # of every path that is made in a container
# A first process that reaps nobody: whatever loses its parent there stays as a zombie.
IDLE = ["sleep", "100000"]


@pytest.fixture
def inside(cli, tmp_path):
    """Give inside(container, connection=…, host_vars={}, **options): a play that captures in a container, started."""

    def start(container: t.Any, connection: str = "community.docker.docker", host_vars: dict | None = None, check: bool = False, **options: t.Any):
        task = {"name": "Capture", MODULE: {"dest": str(tmp_path / "here"), "filter": TRAFFIC, **options}}
        play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
        host = {"ansible_connection": connection, "ansible_host": container.name, **(host_vars or {})} if container else host_vars
        return cli.start_playbook([play], *(["--check"] if check else []), hosts={"inner": host})

    return start


def processes(container: t.Any) -> list[str]:
    """The command lines of all processes in a container but its first; zombies are among them."""
    return [" ".join(row[7:]) for row in container.top()["Processes"][1:]]


def files(container: t.Any) -> list[str]:
    """What differs in a container's file system from its image."""
    return sorted(entry["Path"] for entry in container.diff() or [] if entry["Path"] != "/")


def captures_in(container: t.Any) -> bool:
    """Whether a tcpdump has its socket open in a container."""
    code, said = container.exec_run(["sh", "-c", f"cat /{MARK}*/log"])
    return code == 0 and b"listening on" in said


@pytest.fixture
def image_of(engine):
    """Give image_of(name, {path: file or None for a folder}, changes): an image of just that."""
    with contextlib.ExitStack() as made:

        def build(name: str, content: dict[str, str | None], *changes: str) -> str:
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as tar:
                for path, source in content.items():
                    if source:
                        tar.add(source, path)
                    else:
                        folder = tarfile.TarInfo(path)
                        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                        tar.addfile(folder)
            repository = f"nettap/{name}{os.getpid()}"
            engine.api.import_image_from_data(out.getvalue(), repository=repository, tag="latest", changes=list(changes))
            made.callback(engine.images.remove, f"{repository}:latest", force=True)
            return f"{repository}:latest"

        yield build


@pytest.mark.parametrize("connection", ["community.docker.docker", "community.docker.docker_api"])
def test_nothing_but_busybox(container, inside, tmp_path, connection):
    """No Python, no tcpdump, no library; and afterwards no trace, neither files nor processes nor zombies."""
    target = container(IDLE)
    where = reach(target)
    play = inside(target, connection, interface="eth0", duration=0, packet_count=20)
    assert wait_for(lambda: captures_in(target), SECONDS), play.output
    assert any("tcpdump" in line for line in processes(target)), repr(processes(target))
    send(where, range(1, 31))
    done = play.wait()
    assert done.rc == 0, done.output
    result = done.result("Capture")
    [file], capture = result["files"], result["capture"]
    assert lengths(file["dest"]) == list(range(1, 21)) and count(file["dest"]) == file["packets"] == capture["packets_captured"] == 20
    assert result["changed"] and (capture["stop_reason"], capture["packets_dropped"], file["host"]) == ("packet_count", 0, "inner")
    assert pathlib.Path(file["dest"]).parent == tmp_path / "here" / "inner" and file["size"] == os.path.getsize(file["dest"])
    everything_is_private(tmp_path / "here")
    assert (processes(target), files(target)) == ([], [])


def test_ends_by_duration_with_all_that_came(container, inside):
    target = container(IDLE)
    where = reach(target)
    play = inside(target, duration=2)
    assert wait_for(lambda: captures_in(target), SECONDS), play.output
    send(where, [8, 9])
    done = play.wait()
    assert done.rc == 0, done.output
    result = done.result("Capture")
    assert lengths(result["files"][0]["dest"]) == [8, 9] and result["capture"]["stop_reason"] == "duration"
    assert (processes(target), files(target)) == ([], [])
