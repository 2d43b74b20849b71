# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before or while a session starts: one clear sentence, and nothing is left behind."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import typing as t

import docker
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._docker import Docker
from capture_tools import TRAFFIC, Captures, lengths, only, reach, send


def refused(captures: Captures, **options: t.Any) -> str:
    """The one sentence of a task that fails; what was there before is all that is there after."""
    before = os.listdir(captures.path) if captures.path.exists() else []
    result = captures.task(**options)
    assert result.get("failed"), result
    assert "Traceback" not in result["msg"] and "\n" not in result["msg"] and result["msg"][-1] in ".?"
    assert (os.listdir(captures.path) if captures.path.exists() else []) == before
    assert not captures.processes()
    return result["msg"]


def test_invalid_filters_and_option_injection(captures, container, tmp_path):
    """getopt permutes: with -z in its filter, tcpdump runs a program as root. `--` before it stops that."""
    target = container()
    marker, written = tmp_path / "marker", tmp_path / "written"
    marker.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    marker.chmod(0o755)
    for expression, words in {
        "tcp prot 80": "syntax error",
        "vlan 5": "no VLAN support for Linux cooked",  # nor is any of Ethernet's link type
        f"-z {marker}": "syntax error",
        f"-z{marker}": "syntax error",
        f"icmp -z {marker}": "syntax error",
        f"-w {written}": "syntax error",
        f"-w{written}": "syntax error",
        f"icmp -w {written}": "syntax error",
        "-r/etc/passwd": "syntax error",
        "-F/etc/passwd": "syntax error",
        "--version": "syntax error",
        "--": "syntax error",
        "icmp\n-z": "holds a line break or another control character",
        "icmp\x1b": "holds a line break or another control character",
    }.items():
        message = refused(captures, container=[target.name], filter=expression, file_size=1)
        assert re.search(words, message), message
        if "control" not in words:
            assert f"tcpdump does not take the filter {expression!r} on any" in message
    assert set(os.listdir(tmp_path)) == {"marker", captures.path.name}
    assert captures.task(container=[target.name], filter="vlan 5", interface=["eth0"], check=True)["changed"]


def test_values_that_make_no_sense(captures, container):
    target = container()
    for options, words in (
        ({"interface": ["eth1"]}, "has no interface 'eth1' (it has: eth0"),
        ({"interface": ["-w/x"]}, "has no interface '-w/x'"),
        ({"interface": []}, "at least one interface"),
        ({"packet_count": -1}, "packet_count must be at least 0, not -1"),
        ({"file_count": 0}, "file_count must be at least 1, not 0"),
        ({"duration": -0.5}, "duration must be at least 0, not -0.5"),
        ({"buffer_size": 1 << 21}, "buffer_size is in KiB"),
        ({"min_free": "lots"}, "min_free must be an amount"),
        ({"min_free": "100%"}, "min_free keeps"),
        ({"start_at": "soon"}, "start_at must be"),
        ({"path": "relative"}, "is not allowed|must be absolute"),
    ):
        message = refused(captures, **{"container": [target.name], **options})
        assert any(word in message for word in words.split("|")), message


def test_names_that_lead_elsewhere(captures, container):
    target = container()
    captures.path.mkdir(0o700)
    beside = captures.path.parent / "x"
    beside.mkdir()
    names = ("../x", "..", ".", "", "a/b", "x" * 65, "a b", "a\n")
    for name, state in (*((name, "started") for name in names), ("../x", "stopped"), ("..", "absent")):
        message = refused(captures, name=name, state=state, container=[target.name])
        assert f"{name!r} cannot be a session's name" in message
    assert beside.is_dir()
    assert captures.task(name="x" * 64, container=[target.name])["changed"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("sessions", "sessions in the storage path is a symbolic link"),
        ("parent", "parent in the storage path is a symbolic link"),
        ("sessions/default", "is not a session's folder but a symbolic link"),
        ("sessions/default/session.json", "session.json cannot be read"),
    ],
)
def test_planted_links_are_not_followed(captures, container, tmp_path, place, words):
    target = container()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sessions").mkdir(0o700, parents=True)
    (elsewhere / "sessions" / "precious").write_text("{}")
    planted = tmp_path / place
    if place.startswith("sessions/"):
        captures.path.mkdir(0o700)
        planted.parent.mkdir(0o700, exist_ok=True)
    planted.symlink_to(elsewhere / "sessions" / "precious" if place.endswith(".json") else elsewhere)
    if place == "parent":
        captures = Captures(planted / "sessions")
    for state in ("started", "stopped", "absent")[: 2 if place.endswith(".json") else 3]:
        assert words in refused(captures, state=state, container=[target.name])
    if place.endswith(".json"):  # the link is removed, not what it leads to
        assert captures.task(state="absent")["changed"] and not os.listdir(captures.path)
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["precious", "sessions"]
    assert (elsewhere / "sessions" / "precious").read_text() == "{}"


def test_storage_that_others_could_change(captures, container, tmp_path):
    target = container()
    captures.path.mkdir()
    for mode, owner in ((0o777, 0), (0o720, 0), (0o702, 0), (0o700, 65534)):
        captures.path.chmod(mode)
        os.chown(captures.path, owner, 0)
        assert "belongs to another user or is writable by others" in refused(captures, container=[target.name])
    os.chown(captures.path, 0, 0)
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refused(Captures(tmp_path / "file" / "sessions"), container=[target.name])


def test_start_that_fails_at_its_last_step_leaves_nothing(captures, container):
    """All checks pass, the first tcpdump listens, the second cannot: the first is ended, and an earlier session has its name back."""
    target = container()
    where = reach(target)
    down = ["nsenter", f"--net=/proc/{target.attrs['State']['Pid']}/ns/net", "ip", "link", "set", "lo", "down"]
    subprocess.run(down, check=True)
    options = {"container": [target.name], "interface": ["eth0", "lo"]}
    message = refused(captures, **options)
    assert f"The capture of {target.name} (lo, vantage container) could not start: " in message and "That device is not up" in message
    assert os.listdir(captures.path) == []
    captures.start(target, filter=TRAFFIC)
    send(where, [3])
    captures.stop()
    assert "That device is not up" in refused(captures, **options)
    assert lengths(*only(captures.info())["files"]) == [3]
    captures.start(target, name="other")
    pid = only(captures.info("other"))["pid"]
    assert "That device is not up" in captures.task(**options)["msg"]
    assert only(captures.info("other"))["pid"] == pid and sorted(os.listdir(captures.path)) == ["default", "other"]


def test_targets_that_cannot_be_tapped(captures, container, tmp_path):
    target = container(name=f"shop-web-{os.getpid()}")
    stopped = container()
    stopped.kill()
    dead, unserved = tmp_path / "dead.sock", tmp_path / "unserved.sock"
    with socket.socket(socket.AF_UNIX) as served_by_nobody:
        served_by_nobody.bind(str(unserved))
    for options, words in (
        ({"container": [f"shop-wbe-{os.getpid()}"]}, rf"No container on \S+ matches 'shop-wbe-\d+' \(the nearest of \d+ running: {target.name}"),
        ({"container": [target.name, "none-*"]}, "matches 'none-\\*'"),
        ({"labels": {"app": "none"}}, "with labels app=none"),
        ({"container": [stopped.name]}, rf"{stopped.name} \(docker\) is exited; start it first"),
        ({"container": ["*"], "docker_host": f"unix://{dead}"}, f"Docker at unix://{dead} is not there"),
        ({"container": ["*"], "docker_host": f"unix://{unserved}"}, f"Docker at unix://{unserved} does not answer"),
        ({"netns": "nowhere"}, "no network namespace /run/netns/nowhere"),
        ({"pid": 1 << 22}, f"Process {1 << 22} ended before"),
    ):
        message = refused(captures, **options)
        assert re.search(words, message), message
    nothing = captures.task(container=["none"], allow_missing=True)
    assert (nothing["changed"], nothing["capture"], captures.path.exists()) == (False, None, False)


def test_start_of_several_ids(captures, engine, image):
    made: dict[str, str] = {}
    try:
        while True:
            one = engine.containers.create(image)
            made[one.id] = one.name
            same = [known for known in made if known[0] == one.id[0]]
            if len(same) == 2:
                break
        message = refused(captures, container=[same[0][0]])
        assert f"{same[0][0]!r} is the start of several containers' IDs" in message
        assert all(f"{made[known]} ({known[:12]})" in message for known in same)
    finally:
        for known in made:
            engine.containers.get(known).remove()


def test_pid_of_another_container_is_refused(captures, container, monkeypatch):
    """What an engine says may be old when it is used: the PID can be another container's by then."""
    target, other = container(), container()
    pid = docker.from_env().containers.get(other.id).attrs["State"]["Pid"]
    with pytest.raises(NamespaceError, match=rf"Process {pid} does not belong to container {target.id[:12]}"):
        _netns.open_process(pid, Identity(target.id))
    _netns.open_process(pid, Identity(other.id)).close()
    honest = Docker.inspect
    monkeypatch.setattr(Docker, "inspect", lambda self, known: dataclasses.replace(t.cast(Container, honest(self, known)), pid=pid))
    with pytest.raises(NettapError, match="does not belong to container"):
        captures.start_here(target)
    assert not captures.path.exists()


def test_root_is_needed(captures, container):
    """In a child that gives up being root: the interpreter may lie where nobody else can read."""
    target = container()
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            captures.start_here(target)
        except NettapError as error:
            os.write(said, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(said)
    with open(heard, encoding="utf-8") as told:
        assert re.search("root is needed.*become: true", told.read())


def test_host_network_wants_consent(captures, container):
    target = container(network="host")
    message = refused(captures, container=[target.name])
    assert f"{target.name} shares the host's network" in message and "allow_host_network: true" in message
    captures.start(target, interface=["lo"], filter=TRAFFIC, allow_host_network=True)
    send("127.0.0.1", [11, 12])
    segment = only(captures.stop_here())
    assert lengths(*segment["files"]) == [11, 12]
