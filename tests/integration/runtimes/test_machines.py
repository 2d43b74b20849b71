# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rootless Docker, Docker in Docker, systemd-nspawn, LXC and what Incus and LXD make of it; tests/support/machine_labs.py tells what is real."""

from __future__ import annotations

import collections.abc as c
import contextlib
import os
import pathlib
import shutil
import subprocess
import typing as t

import capture_tools
import machine_labs as labs
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError, TargetError
from ansible_collections.nettap.containers.plugins.module_utils._targets._target import resolved
from capture_tools import only, succeeded
from runtime_labs import Box
from waiting import wait_for

Module = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(name="lab")
def make_lab(monkeypatch: pytest.MonkeyPatch) -> c.Iterator[t.Callable[[type[labs.Lab]], t.Any]]:
    """Give lab(class): it makes one, which is closed at the end. Where Docker is, nobody tells."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    with contextlib.ExitStack() as made:

        def make(kind: type[labs.Lab]) -> t.Any:
            one = kind()
            made.callback(one.close)
            return one

        yield make


def info(**options: t.Any) -> list[dict[str, t.Any]]:
    """What a module would return of the targets."""
    with resolved({"runtime": "auto", "allow_missing": False, **options}) as targets:
        return [target.describe() for target in targets]


def is_found(box: Box, run_module: Module, **options: t.Any) -> dict[str, t.Any]:
    """See that the modules find the container, capture from it and enter it; return what container_network_info tells."""
    told, = succeeded(run_module("container_network_info", {"container": [box.name], **options}))["containers"]
    pid = box.pid()
    assert (told["runtime"], told["id"], told["name"], told["pid"], told["host_network"]) == (box.runtime, box.id, box.name, pid, False)
    assert told["netns"]["inode"] == os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino
    done = run_module("container_nsenter", {"container": [box.name], "argv": ["readlink", "/proc/self/ns/net"], **options})
    assert succeeded(done)["stdout"] == os.readlink(f"/proc/{pid}/ns/net")
    return told


def is_captured(box: Box, captures: capture_tools.Captures, follow: bool = True) -> None:
    """See that its packets are captured, also after a restart."""
    captures.start(container=[box.name], filter=capture_tools.TRAFFIC)
    box.send([101])
    captures.until(lambda capture: only(capture)["packets_captured"] == 1)
    if follow:
        assert box.restart is not None
        box.restart()
        captures.until(lambda capture: len(capture["segments"]) == 2 and capture["segments"][1]["packets_captured"] is not None)
        box.send([102])
        captures.until(lambda capture: capture["segments"][1]["packets_captured"] == 1)
    found = captures.stop()["segments"]
    assert [capture_tools.lengths(*one["files"]) for one in found] == ([[101], [102]] if follow else [[101]])


def test_rootless_docker(lab: t.Any, captures: capture_tools.Captures, run_module: Module) -> None:
    """Nobody says where it is, and without cgroup v2 and systemd its containers have no cgroups."""
    docker = lab(labs.RootlessDocker)
    box = docker.run("web", "--label", "lab=rootless")
    told = is_found(box, run_module)
    eth0, = (link for link in told["interfaces"] if link["name"] == "eth0")
    assert eth0["host_peer"] is None and eth0["peer_netns"].startswith("/proc/"), "its bridge is in a network namespace of the user's"
    assert [one["id"] for one in info(labels={"lab": "rootless"}, runtime="docker")] == [box.id] == [one["id"] for one in info(
        container=["web"], docker_host=docker.address)]  # fmt: skip
    is_captured(box, captures)
    # Of another user's making: the record must be the user's own, and so must the user namespace.
    record, = pathlib.Path(f"/run/user/{docker.uid}/docker").glob(f"runtime-*/moby/{box.id}/state.json")
    os.chown(record, 0, 0)
    with pytest.raises(NamespaceError, match="its cgroup names another"):
        info(container=["web"])
    os.chown(record, docker.uid, docker.uid)
    assert info(container=["web"])
    # One that does not answer hides nothing but its own containers, and a socket that is not the user's is nobody's Docker.
    others = pathlib.Path("/run/user/4242")
    others.mkdir()
    try:
        (others / "docker.sock").symlink_to(docker.address.removeprefix("unix://"))
        assert [one["id"] for one in info(container=["web"])] == [box.id]
    finally:
        shutil.rmtree(others)
    docker.close()
    with pytest.raises(TargetError):
        info(container=["web"])


def test_docker_in_a_pid_namespace_of_its_own(lab: t.Any, captures: capture_tools.Captures, run_module: Module) -> None:
    """As in Docker in Docker and kind: the PIDs that it tells are none of this machine's, or another process's."""
    docker = lab(labs.NestedDocker)
    box = docker.run("inner", "--label", "lab=nested")
    assert int(docker("inspect", "--format", "{{.State.Pid}}", "inner")) != box.pid()
    is_found(box, run_module, docker_host=docker.address)
    captures.start(container=["inner"], docker_host=docker.address, interface=["lo"])
    assert only(captures.stop())["stop_reason"] == "user"


@pytest.mark.parametrize("wrong", [1, 1 << 21])
def test_docker_on_another_host(container: c.Callable[..., t.Any], monkeypatch: pytest.MonkeyPatch, wrong: int) -> None:
    """No process here has its container's ID in its cgroup: one message, whether or not this host has a process of that PID."""
    from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _docker

    one = container(["sleep", "600"], network="none")
    monkeypatch.setattr(_docker, "_pid_here", lambda _pid, _identity: wrong)
    with pytest.raises(NamespaceError) as caught:
        info(container=[one.name])
    reason = f"Process {wrong} " + (f"does not belong to container {one.id[:12]} (its cgroup names another)" if wrong == 1 else
                                    "ended before its network namespace could be opened")  # fmt: skip
    assert str(caught.value) == (
        f"Container {one.name} runs, as docker tells, but process {wrong} of this host is not the container's ({reason}): the engine runs on another host, "
        "or in a PID namespace of its own (Docker in Docker, kind). Run the task where the engine runs, or name a process of the container's on this host "
        "with pid."
    )


def test_nspawn(lab: t.Any, captures: capture_tools.Captures, run_module: Module, tmp_path: pathlib.Path) -> None:
    """First as systemd-nspawn alone shows it, then as systemd-machined has registered it."""
    spawn = lab(labs.Nspawn)
    box, supervisor = spawn.run("box", 21)
    is_found(box, run_module)
    is_captured(box, captures, follow=False)
    named, _other = spawn.run("folder", 22, "--machine=by-name")
    assert [(one["name"], one["pid"]) for one in info(container=["by-*"], runtime="nspawn")] == [("by-name", named.pid())]
    # A process that only looks like a supervisor is none: it is no child of one that is root's first in a PID namespace.
    shutil.copy("/bin/sleep", tmp_path / "systemd-nspawn")
    with subprocess.Popen([str(tmp_path / "systemd-nspawn"), "600", "--machine=fake"]) as fake:
        with pytest.raises(TargetError, match="No container"):
            info(container=["fake"])
        fake.kill()
    # systemd gives a machine a scope of its own, whose name machined keeps. A machine that has gone is not found by its record.
    unit = "machine-web\\x2d1.scope"
    cgroup = pathlib.Path(f"/sys/fs/cgroup{'' if os.path.exists('/sys/fs/cgroup/cgroup.controllers') else '/systemd'}/{unit}")
    cgroup.mkdir()
    record = labs.register("web-1", box.pid(), unit)
    try:
        assert [one["name"] for one in info(container=["*"], runtime="nspawn")] == ["by-name"], "a leader in another unit is not the machine's"
        before = pathlib.Path(f"/proc/{box.pid()}/cgroup").read_text()
        (cgroup / "cgroup.procs").write_text(str(box.pid()))
        assert [(one["name"], one["id"], one["pid"]) for one in info(container=["web-1"])] == [("web-1", "web-1", box.pid())]
        assert before != pathlib.Path(f"/proc/{box.pid()}/cgroup").read_text()
        assert {one["name"] for one in info(container=["*"], runtime="nspawn")} == {"web-1", "by-name"}, "no machine twice"
        supervisor.terminate()
        supervisor.wait()
        with pytest.raises(TargetError, match=r"web-1 \(nspawn\) is exited; start it first"):
            info(container=["web-1"])
    finally:
        record.unlink()
        assert wait_for(lambda: not (cgroup / "cgroup.procs").read_text())
        cgroup.rmdir()


def test_lxc(lab: t.Any, captures: capture_tools.Captures, run_module: Module) -> None:
    lxc = lab(labs.Lxc)
    box = lxc.run("lx-web", 23)
    is_found(box, run_module)
    is_captured(box, captures)
    # What lxc-attach starts has the cgroup and a parent outside, but is not the container's first process.
    with subprocess.Popen(["lxc-attach", "--name", "lx-web", "--", "sleep", "599"]) as attached:
        assert wait_for(lambda: any(pathlib.Path(f"/proc/{pid}/comm").read_text() == "sleep\n" for pid in labs.children(attached.pid)))
        assert [one["pid"] for one in info(container=["lx-*"], runtime="lxc")] == [box.pid()]
        attached.kill()
    # In another folder, as of another user or with lxc.lxcpath; and one of the same name.
    other = lxc.run("lx-web", 24, lxc.folder / "elsewhere")
    assert [(one["id"], one["pid"]) for one in info(container=[f"{lxc.folder}/elsewhere/lx-web"])] == [(f"{lxc.folder}/elsewhere/lx-web", other.pid())]
    assert {one["pid"] for one in info(container=["lx-web"])} == {box.pid(), other.pid()}
    labs.command("lxc-stop", "--name", "lx-web", "--kill")
    text = f"lx-web ({lxc.folder})"
    assert [one["pid"] for one in info(container=["lx-web"])] == [other.pid()], text
    labs.command("lxc-stop", "--lxcpath", str(lxc.folder / "elsewhere"), "--name", "lx-web", "--kill")
    with pytest.raises(TargetError, match=r"lx-web \(lxc\) is stopped; start it first"):
        info(container=["lx-web"])


def test_incus(lab: t.Any, run_module: Module) -> None:
    """Incus and LXD start their containers with LXC, in a folder of theirs: a stand-in for their daemons does the same with the real LXC."""
    lxc, path = lab(labs.Lxc), pathlib.Path("/var/lib/incus/containers")
    box = lxc.run("shop_web", 25, path)
    (path / "idle").mkdir()
    box = labs.dataclasses.replace(box, runtime="incus", id="shop_web", name="shop/web")
    is_found(box, run_module)
    assert [one["name"] for one in info(container=["*"], runtime="incus")] == ["shop/web"]
    with pytest.raises(TargetError, match=r"idle \(incus\) is stopped; start it first"):
        info(container=["idle"])
    with pytest.raises(TargetError):
        info(container=["shop_web"], runtime="lxc")
