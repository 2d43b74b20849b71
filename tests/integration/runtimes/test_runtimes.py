# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every runtime, all at once on one host: Docker, Podman (root and rootless), containerd (plain and CRI) and CRI-O's layout.

The table in docs/runtimes.md names these tests. Nothing but Docker's socket is asked; tests/support/runtime_labs.py tells what is real.
"""

from __future__ import annotations

import collections.abc as c
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import typing as t

import ansible_cli
import capture_tools
import docker
import pytest
import runtime_labs as labs
import steering_tools as tools
from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError, TargetError
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _netns, _process
from ansible_collections.nettap.containers.plugins.module_utils._targets._target import Target, resolved
from capture_tools import only, succeeded
from waiting import wait_for

HOST = socket.gethostname()
OWN = os.stat("/proc/self/ns/net").st_ino
ROOTLESS = ["podman, rootless, slirp4netns", "podman, rootless, bridge"]
ROOT = ["docker", "podman, root", "containerd", "containerd, CRI", "CRI-O"]
EVERY = [*ROOT, *ROOTLESS]
every = pytest.mark.parametrize("kind", EVERY)
Module = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="module", name="fleet")
def make_fleet(engine: docker.DockerClient, image: str) -> c.Iterator[labs.Fleet]:
    """Give containers of every runtime."""
    fleet = labs.Fleet(engine)
    try:
        yield fleet
    finally:
        fleet.close()


@contextlib.contextmanager
def target(**options: t.Any) -> c.Iterator[Target]:
    """The one target of some options."""
    with resolved({"runtime": "auto", "allow_missing": False, **options}) as targets:
        assert len(targets) == 1
        yield targets[0]


def info(**options: t.Any) -> list[dict[str, t.Any]]:
    """What a module would return of the targets."""
    with resolved({"runtime": "auto", "allow_missing": False, **options}) as targets:
        return [target.describe() for target in targets]


def refused(**options: t.Any) -> str:
    """The sentence with which the target options are refused."""
    with pytest.raises(TargetError) as caught:
        info(**options)
    return str(caught.value)


# --- info


@every
def test_info(fleet: labs.Fleet, run_module: Module, kind: str) -> None:
    box = fleet.boxes[kind]
    told, = succeeded(run_module("container_network_info", {"container": [box.name]}))["containers"]
    pid = box.pid()
    assert (told["runtime"], told["id"], told["name"], told["image"], told["pid"]) == (box.runtime, box.id, box.name, box.image, pid)
    assert told["netns"] == {"path": f"/proc/{pid}/ns/net", "inode": os.stat(f"/proc/{pid}/ns/net").st_ino}
    assert not told["host_network"] and told["netns"]["inode"] != OWN
    by_name = {link["name"]: link for link in told["interfaces"]}
    link = by_name["tap0" if "slirp4netns" in kind else "eth0"]
    assert (link["host_peer"] is not None) == box.peer
    if box.peer:
        peer = link["host_peer"]["name"]
        assert link["host_peer"]["ifindex"] == int(pathlib.Path(f"/sys/class/net/{peer}/ifindex").read_text())
        assert pathlib.Path(f"/sys/class/net/{peer}/iflink").read_text() == f"{link['ifindex']}\n"
    if "slirp4netns" not in kind:
        assert link["addresses"][0].startswith(f"{box.address}/")
    del told["interfaces"]
    assert info(container=[box.id[:16]]) == [told] == info(container=[box.name], runtime=box.runtime)


def test_all_at_once(fleet: labs.Fleet) -> None:
    """By one label, Podman's from its database and containerd's from its metadata; and of one runtime alone."""
    labelled = {box.name for kind, box in fleet.boxes.items() if not box.name.startswith("shop/")}
    assert {told["name"] for told in info(labels={"lab": fleet.tag})} == labelled
    assert {told["name"] for told in info(labels={"lab": fleet.tag}, runtime="podman")} == {
        box.name for box in fleet.boxes.values() if box.runtime == "podman"}  # fmt: skip
    told = {one["name"] for one in info(container=["*"])}
    assert told >= {box.name for box in fleet.boxes.values()}
    assert fleet.sandbox.name not in told, "a sandbox is nobody's container"
    text = refused(container=[fleet.boxes["containerd"].name], runtime="crio")
    assert text.startswith(f"No container on {HOST} matches ")


def test_container_in_the_host_s_network_is_told(fleet: labs.Fleet, run_module: Module) -> None:
    names = [f"{fleet.tag}-{user}-host" for user in ("root", "user")]
    fleet.podman.run(names[0], "--network", "host", argv=["sleep", "600"])
    fleet.rootless.run(names[1], "--network", "host", argv=["sleep", "600"])
    fleet.containerd.run(f"{fleet.tag}-ctr-host", None, "--net-host", argv=labs.PAUSE)
    names.append(f"{fleet.tag}-ctr-host")
    names.append(fleet.crio.sandbox("hosted", None).name)
    for told in info(container=names):
        assert told["host_network"] and told["netns"]["inode"] == OWN
        assert "shares the host's network" in run_module("container_steering", {"container": [told["name"]]})["msg"]


def test_container_that_does_not_run(fleet: labs.Fleet) -> None:
    fleet.podman.run(f"{fleet.tag}-dead", argv=["sleep", "600"])
    fleet.podman("kill", f"{fleet.tag}-dead")
    fleet.podman("wait", f"{fleet.tag}-dead")
    text = refused(container=[f"{fleet.tag}-dead"])
    assert text == f"No running container on {HOST} matches '{fleet.tag}-dead': {fleet.tag}-dead (podman) is exited; start it first."
    box = fleet.containerd.run(f"{fleet.tag}-dead-ctr", None)
    fleet.containerd._end("default", box.name)
    text = refused(container=[box.name])
    assert text == f"No running container on {HOST} matches '{box.name}': {box.name} (containerd) is created; start it first."


# --- who is who


@every
def test_monitor_is_not_the_container(fleet: labs.Fleet, kind: str) -> None:
    """conmon and the shims are in the host's namespace, some of them in a cgroup with the container's ID."""
    box = fleet.boxes[kind]
    monitor = box.monitor
    assert os.stat(f"/proc/{monitor}/ns/net").st_ino == OWN
    with target(container=[box.name]) as found:
        assert found.container.identity is not None and found.container.identity.isolated is (kind != "containerd, CRI")
        with pytest.raises(NamespaceError, match=f"Process {monitor} does not belong to container {box.id[:12]} "):
            _netns.open_process(monitor, found.container.identity)
        # As if its cgroup were the container's.
        paths, started = _cgroup.paths(box.pid()), _process.start_time(monitor)
        assert started is not None
        alike = dataclasses.replace(found.container.identity, isolated=True)
        assert alike.doubt(monitor, started, paths if kind in ROOT else [("", f"/user.slice/libpod-{box.id}.scope")], True)


@pytest.mark.parametrize("kind", ["containerd", "CRI-O"])
def test_pid_file_that_names_another(fleet: labs.Fleet, kind: str) -> None:
    """As after a crash, when the number has become another process's: it is taken for nothing but stopped."""
    box = fleet.boxes[kind]
    with target(container=[box.name]) as found:
        assert found.container.identity and found.container.identity.pid_file
        path = pathlib.Path(found.container.identity.pid_file)
    right = path.read_text()
    try:
        for wrong in (box.monitor, fleet.boxes["docker"].pid(), os.getpid(), 1 << 22):
            path.write_text(str(wrong))
            assert "is exited; start it first." in refused(container=[box.name])
        for nonsense in ("", "x", "-1", "1\n2"):
            path.write_text(nonsense)
            assert "is created; start it first." in refused(container=[box.name])
        path.unlink()
        os.mkfifo(path)
        assert "is created; start it first." in refused(container=[box.name]), "and a pipe keeps nobody waiting"
    finally:
        path.unlink()
        path.write_text(right)
    assert info(container=[box.name])


def test_user_cannot_claim_another_s_container(fleet: labs.Fleet) -> None:
    """What a user's Podman tells is the user's to write: the process must be in a user namespace of that user."""
    with target(container=[fleet.boxes["podman, rootless, bridge"].name]) as found, target(container=[fleet.boxes["podman, root"].name]) as other:
        assert found.container.identity and other.container.identity and found.container.identity.owner == fleet.rootless.uid
        claimed = dataclasses.replace(other.container.identity, owner=fleet.rootless.uid)
        with pytest.raises(NamespaceError, match=f"its user namespace is not one of UID {fleet.rootless.uid}"):
            _netns.open_process(other.container.pid, claimed)


# --- pods


def lengths_of(capture: capture_tools.Capture) -> list[list[int]]:
    return [capture_tools.lengths(*segment["files"]) for segment in capture["segments"]]


def listens(number: int) -> c.Callable[[capture_tools.Capture], bool]:
    """Whether a session has so many segments, and the last listens: it answers."""
    return lambda capture: len(capture["segments"]) == number and capture["segments"][-1]["packets_captured"] is not None and not capture["waiting"]


def test_pods(fleet: labs.Fleet) -> None:
    sandbox, app = fleet.sandbox, fleet.boxes["containerd, CRI"]
    cases = [
        (["shop/web-7d9f"], [(sandbox.id, "shop/web-7d9f")]),
        (["shop/web-7d9f/app"], [(app.id, "shop/web-7d9f/app")]),
        (["shop/web-*"], [(sandbox.id, "shop/web-7d9f")]),
        (["sh*/*-0", "shop/web-7d9f"], [(fleet.pause.id, "shop/db-0"), (sandbox.id, "shop/web-7d9f")]),
        (["shop/db-0/app"], [(fleet.boxes["CRI-O"].id, "shop/db-0/app")]),
        (["shop/kept"], [(fleet.infra.id, "shop/kept")]),  # a pod with a process for its sandbox
    ]
    for pods, expected in cases:
        told = info(pod=pods)
        assert [(one["id"], one["name"]) for one in told] == expected, pods
        assert all(one["pod"] == "/".join(one["name"].split("/")[:2]) for one in told)
    inodes = {one["netns"]["inode"] for one in [*info(pod=["shop/web-7d9f"]), *info(pod=["shop/web-7d9f/app"])]}
    assert len(inodes) == 1
    bare, = info(pod=["shop/db-0"])
    assert bare["pid"] is None and bare["netns"] == {"path": fleet.pause.netns, "inode": os.stat(fleet.pause.netns).st_ino}
    # The containers of a pod have its labels, which both runtimes keep with the sandbox.
    assert {one["name"] for one in info(labels={"app": "web-7d9f"})} == {app.name}
    assert {one["name"] for one in info(labels={"app": "db-0"})} == {"shop/db-0/app"}
    assert info(pod=["shop/*"], labels={"app": "web-7d9f"})[0]["id"] == sandbox.id


def test_pod_that_is_elsewhere(fleet: labs.Fleet, run_module: Module, captures: capture_tools.Captures) -> None:
    """One play over all nodes: where the pod is not, nothing happens."""
    text = refused(pod=["shop/web-7d9e"])
    assert text.startswith(f"No pod on {HOST} matches 'shop/web-7d9e' (the nearest of ") and " running: shop/web-7d9f" in text
    assert "No pod" in refused(pod=["shop/web-7d9f/none"])
    for wrong in ("web-7d9f", "shop/", "/web", "a/b/c/d"):
        assert refused(pod=[wrong], allow_missing=True) == f"{wrong!r} names no pod: give NAMESPACE/NAME or NAMESPACE/NAME/CONTAINER."
    assert info(pod=["shop/none"], allow_missing=True) == []
    assert captures.start(pod=["shop/none"], allow_missing=True)["capture"] is None
    assert "mutually exclusive" in run_module("container_network_info", {"pod": ["shop/none"], "container": ["x"]})["msg"]


def test_pod_of_docker(container: c.Callable[..., t.Any]) -> None:
    """As cri-dockerd labels them."""
    labels = {"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "old-1"}
    pause = container(["sleep", "600"], labels={**labels, "io.kubernetes.docker.type": "podsandbox", "io.kubernetes.container.name": "POD", "app": "old"})
    app = container(["sleep", "600"], labels={**labels, "io.kubernetes.docker.type": "container", "io.kubernetes.container.name": "app"},
                    network=f"container:{pause.name}")  # fmt: skip
    assert [one["id"] for one in info(pod=["shop/old-1"])] == [pause.id]
    assert [one["id"] for one in info(pod=["shop/old-1/app"])] == [app.id]
    assert [one["id"] for one in info(container=["*"], labels={"io.kubernetes.pod.name": "old-1"})] == [app.id]


def test_capture_follows_a_pod_of_docker(container: c.Callable[..., t.Any], captures: capture_tools.Captures) -> None:
    labels = {"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "old-2", "io.kubernetes.docker.type": "podsandbox"}
    pause = container(["sleep", "600"], labels=labels)
    captures.start(pod=["shop/old-2"], filter=capture_tools.TRAFFIC)
    capture_tools.send(capture_tools.reach(pause), [101])
    captures.until(lambda capture: only(capture)["packets_captured"] == 1)
    pause.remove(force=True)
    captures.until(lambda capture: capture["waiting"])
    again = container(["sleep", "600"], labels=labels)
    captures.until(listens(2))
    capture_tools.send(capture_tools.reach(again), [102])
    captures.until(lambda capture: capture["segments"][1]["packets_captured"] == 1)
    stopped = captures.stop()
    assert lengths_of(stopped) == [[101], [102]] and [segment["id"] for segment in stopped["segments"]] == [pause.id, again.id]
    assert (stopped["status"], stopped["error"]) == ("stopped", None)


# --- capture


@every
def test_capture(fleet: labs.Fleet, captures: capture_tools.Captures, kind: str) -> None:
    box = fleet.boxes[kind]
    captures.start(container=[box.name], filter=capture_tools.TRAFFIC)
    box.send(range(100, 120))
    captures.until(lambda capture: only(capture)["packets_captured"] == 20)
    segment = only(captures.stop())
    assert (segment["container"], segment["stop_reason"], segment["packets_captured"], segment["packets_dropped"]) == (box.name, "user", 20, 0)
    # Sorted: what waited for the neighbour's address can be sent after what did not have to.
    assert sorted(capture_tools.lengths(*segment["files"])) == list(range(100, 120))


@pytest.mark.parametrize("kind", ROOT)
def test_capture_at_the_host_s_end(fleet: labs.Fleet, captures: capture_tools.Captures, kind: str) -> None:
    box = fleet.boxes[kind]
    captures.start(container=[box.name], vantage="host", interface=["eth0"], filter=capture_tools.TRAFFIC)
    box.send([111])
    captures.until(lambda capture: only(capture)["packets_captured"] == 1)
    assert capture_tools.lengths(*only(captures.stop())["files"]) == [111]


@pytest.mark.parametrize("kind", ROOTLESS)
def test_capture_at_the_host_s_end_there_is_none(fleet: labs.Fleet, captures: capture_tools.Captures, kind: str) -> None:
    done = captures.task(container=[fleet.boxes[kind].name], vantage="host")
    words = f"No interface of {fleet.boxes[kind].name} has a peer on the host (only veth and netkit have one): "
    words += "use vantage: container (of the role capture: capture_vantage)."
    if "slirp4netns" in kind:
        assert done["msg"] == words
    else:  # its bridge is in a network namespace that is bound in a mount namespace of the user's only
        assert done["msg"].startswith(f"{words} eth0: its other end is in a network namespace that no process and no path of this host leads to (number ")


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind not in ("containerd, CRI", "CRI-O")])
def test_capture_follows_a_restart(fleet: labs.Fleet, captures: capture_tools.Captures, kind: str) -> None:
    """Of the others a restarted container is a new one, in the same sandbox: see below."""
    box = fleet.boxes[kind]
    assert box.restart is not None
    captures.start(container=[box.name], filter=capture_tools.TRAFFIC)
    box.send([101])
    captures.until(lambda capture: only(capture)["packets_captured"] == 1)
    old = box.pid()
    box.restart()
    assert box.pid() != old
    captures.until(lambda capture: [one["status"] for one in capture["segments"]] == ["stopped", "running"]
                   and capture["segments"][1]["packets_captured"] is not None)  # it answers, so it listens
    box.send([102])
    captures.until(lambda capture: capture["segments"][1]["packets_captured"] == 1)
    first, second = captures.stop()["segments"]
    assert first["stop_reason"] == "container_gone"
    assert [capture_tools.lengths(*each["files"]) for each in (first, second)] == [[101], [102]]


def test_containers_of_every_runtime_that_come(fleet: labs.Fleet, captures: capture_tools.Captures, container: t.Callable[..., t.Any]) -> None:
    """One session; nobody is named in full, and all are made after its start."""
    captures.start(container=[f"{fleet.tag}-new-*", "shop/new-*"], filter=capture_tools.TRAFFIC, new_containers="follow")
    boxes = [
        labs.docker_box(container(name=f"{fleet.tag}-new-docker")),
        fleet.podman.run(f"{fleet.tag}-new-podman"),
        fleet.rootless.run(f"{fleet.tag}-new-rootless", "--network", "slirp4netns", gateway="10.0.2.2", peer=False),
        fleet.containerd.run(f"{fleet.tag}-new-ctr", labs.Wire(6)),
        fleet.containerd.pod("new-cri", labs.Wire(7))[1],
        fleet.crio.pod("new-crio", labs.Wire(8))[1],
    ]
    fleet.podman.run(f"{fleet.tag}-other")
    told = captures.until(lambda capture: len(capture["segments"]) == len(boxes) and all(one["packets_captured"] == 0 for one in capture["segments"]))
    assert {segment["container"] for segment in told["segments"]} == {box.name for box in boxes}
    boxes[1].send([107])
    captures.until(lambda capture: sum(segment["packets_captured"] or 0 for segment in capture["segments"]) == 1)
    segments = captures.stop()["segments"]
    assert [capture_tools.lengths(*each["files"]) for each in segments if each["container"] == boxes[1].name] == [[107]]


class Cluster:
    """Pods of one runtime, whose containers come and go as the kubelet has them."""

    def __init__(self, fleet: labs.Fleet, kind: str) -> None:
        self.fleet = fleet
        self.crio = kind == "CRI-O"

    def sandbox(self, pod: str, wire: labs.Wire) -> labs.Box:
        return self.fleet.crio.sandbox(pod, wire) if self.crio else self.fleet.containerd.cri(pod, None, wire, f"io.kubernetes.cri.sandbox-name={pod}")

    def container(self, sandbox: labs.Box) -> labs.Box:
        if self.crio:
            return self.fleet.crio.container(sandbox, "app")
        pod = sandbox.name.partition("/")[2]
        box = self.fleet.containerd.cri(pod, "app", None, f"io.kubernetes.cri.sandbox-name={pod}", "--with-ns", f"network:/proc/{sandbox.pid()}/ns/net")
        return dataclasses.replace(box, gateway=sandbox.gateway)

    def kill(self, box: labs.Box) -> None:
        if self.crio:
            self.fleet.crio.kill(box)
        else:
            self.fleet.containerd._end("k8s.io", box.id)

    def remove(self, box: labs.Box) -> None:
        if self.crio:
            self.fleet.crio.remove(box)
        else:
            self.fleet.containerd._remove("k8s.io", box.id)


clusters = pytest.mark.parametrize("kind", ["containerd", "CRI-O"])


@clusters
def test_capture_of_a_pod_goes_on_when_its_container_restarts(fleet: labs.Fleet, captures: capture_tools.Captures, kind: str) -> None:
    """One is captured by its pod, and one by its own name, which the kubelet gives to the next. The last one begins while the container is dead."""
    cluster = Cluster(fleet, kind)
    sandbox = cluster.sandbox("again", labs.Wire(5))
    app = cluster.container(sandbox)
    captures.start(pod=["shop/again"], filter=capture_tools.TRAFFIC)
    captures.start(pod=["shop/again/app"], filter=capture_tools.TRAFFIC, name="app")
    sandbox.send([101])
    captures.until(lambda capture: only(capture)["packets_captured"] == 1, "app")
    cluster.kill(app)
    waiting = captures.until(lambda capture: capture["waiting"], "app")["waiting"]
    assert len(waiting) == 1 and waiting[0].startswith("container shop/again/app is waited for, gone since 20"), waiting
    captures.start(pod=["shop/again"], filter=capture_tools.TRAFFIC, name="loop")
    sandbox.send([102])
    cluster.remove(app)
    again = cluster.container(sandbox)
    captures.until(listens(2), "app")
    again.send([103])
    captures.until(lambda capture: only(capture)["packets_captured"] == 3)
    captures.until(lambda capture: capture["segments"][1]["packets_captured"] == 1, "app")
    captures.until(lambda capture: only(capture)["packets_captured"] == 2, "loop")
    ended = {name: captures.stop(name) for name in ("default", "app", "loop")}
    assert {name: lengths_of(capture) for name, capture in ended.items()} == {"default": [[101, 102, 103]], "app": [[101], [103]], "loop": [[102, 103]]}
    assert [(capture["status"], capture["error"]) for capture in ended.values()] == [("stopped", None)] * 3
    assert [segment["id"] for segment in ended["app"]["segments"]] == [app.id, again.id]
    cluster.remove(again)
    cluster.remove(sandbox)


@clusters
def test_capture_follows_a_pod_that_is_made_anew(fleet: labs.Fleet, captures: capture_tools.Captures, cli: ansible_cli.AnsibleCLI,
                                                 tmp_path: pathlib.Path, kind: str) -> None:
    """As of a StatefulSet: another sandbox of that name. When it goes again and stays away, the play does not end well."""
    cluster = Cluster(fleet, kind)
    sandbox = cluster.sandbox("state-0", labs.Wire(6))
    run = cli.start_playbook("capture.yml", hosts={"node": ansible_cli.LOCAL}, extra_vars={
        "capture_pod": ["shop/state-0"], "capture_filter": capture_tools.TRAFFIC, "capture_duration": 0, "capture_interface": ["eth0"],
        "capture_path": str(captures.path), "capture_dest": str(tmp_path / "here"), "capture_interval": 1,
    })  # fmt: skip
    captures.until_started()
    sandbox.send([101])
    captures.until(lambda capture: only(capture)["packets_captured"] == 1)
    cluster.remove(sandbox)
    captures.until(lambda capture: capture["waiting"])
    again = cluster.sandbox("state-0", labs.Wire(6))
    captures.until(listens(2))
    again.send([102])
    captures.until(lambda capture: capture["segments"][1]["packets_captured"] == 1)
    assert not captures.start(pod=["shop/state-0"], filter=capture_tools.TRAFFIC, interface=["eth0"])["changed"], "it runs as asked for, and on this pod"
    cluster.remove(again)
    captures.until(lambda capture: any(one.startswith("pod shop/state-0 is waited for, gone since 20") for one in capture["waiting"]))
    stopped = captures.stop(force=True)  # the play waits for it
    done = run.wait()
    assert stopped["status"] == "failed" and [segment["id"] for segment in stopped["segments"]] == [sandbox.id, again.id]
    assert done.rc == 2 and "These pods went away, and did not come back to this host until the capture ended: shop/state-0 (at 20" in done.output, done.output
    file, = (tmp_path / "here").rglob("*.pcapng")
    assert sorted(capture_tools.lengths(file)) == [101, 102]


def test_from_inside_over_podman_s_connection(fleet: labs.Fleet, tmp_path: pathlib.Path, cli: ansible_cli.AnsibleCLI) -> None:
    box = fleet.boxes["podman, root"]

    def state() -> list[str]:
        return [fleet.podman("diff", box.name), fleet.podman("top", box.name, "args")]

    before = state()
    task = {"name": "Capture", "nettap.containers.container_capture_inside": {
        "filter": capture_tools.TRAFFIC, "duration": 0, "packet_count": 3, "dest": str(tmp_path / "captures")}}  # fmt: skip
    run = cli.start_playbook(
        [{"hosts": "all", "gather_facts": False, "tasks": [task]}],
        hosts={"inner": {"ansible_connection": "containers.podman.podman", "ansible_host": box.name}}, env=fleet.podman.environment,
    )  # fmt: skip
    while not run.ended:  # when it has its socket open, nobody is told
        box.send([210])
        time.sleep(0.2)
    done = run.wait()
    assert done.rc == 0, done.output
    assert capture_tools.lengths(done.result("Capture")["files"][0]["dest"]) == [210] * 3
    assert wait_for(lambda: state() == before, labs.SECONDS), state()


def test_one_play_captures_from_all(fleet: labs.Fleet, tmp_path: pathlib.Path, cli: ansible_cli.AnsibleCLI) -> None:
    """The play that captures from Docker alone, on one host, in one run."""
    boxes = list(fleet.boxes.values())
    run = cli.start_playbook("capture.yml", hosts={"node": ansible_cli.LOCAL}, extra_vars={
        "capture_container": [box.name for box in boxes], "capture_filter": capture_tools.TRAFFIC, "capture_duration": 0,
        "capture_packet_count": 3, "capture_path": str(tmp_path / "sessions"), "capture_dest": str(tmp_path / "captures"), "capture_merge": "segment",
    })  # fmt: skip
    sessions = capture_tools.Captures(tmp_path / "sessions")
    with contextlib.closing(sessions):
        sessions.until_started()
        for number, box in enumerate(boxes):
            box.send([200 + number] * 3)
        done = run.wait()
    assert done.rc == 0, done.output
    files = {path.name: path for path in (tmp_path / "captures").rglob("*.pcap")}
    assert len(files) == len(boxes)
    for number, box in enumerate(boxes):
        file, = (path for name, path in files.items() if box.name.replace("/", "_") in name)
        assert capture_tools.lengths(file) == [200 + number] * 3


# --- nsenter


@every
def test_nsenter(fleet: labs.Fleet, run_module: Module, kind: str) -> None:
    box = fleet.boxes[kind]
    done = succeeded(run_module("container_nsenter", {"container": [box.name], "argv": ["readlink", "/proc/self/ns/net"]}))
    assert done["stdout"] == os.readlink(f"/proc/{box.pid()}/ns/net")
    namespaces = ["user", "net", "mnt"] if kind in ROOTLESS else ["net", "mnt"]
    argv = ["/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/"]
    done = succeeded(run_module("container_nsenter", {"container": [box.name], "namespaces": namespaces, "argv": argv}))
    assert done["stdout"] == "<h1>nettap</h1>"


def test_names_in_a_pod_without_a_process(fleet: labs.Fleet, run_module: Module) -> None:
    """CRI-O's sandbox: no process shows which resolver is the pod's, but CRI-O has it written down."""
    done = succeeded(run_module("container_nsenter", {"pod": ["shop/db-0"], "argv": ["cat", "/etc/resolv.conf"]}))
    assert done["stdout"] == "nameserver 192.0.2.53"
    done = run_module("container_nsenter", {"pod": ["shop/db-0"], "argv": ["cat", "/etc/resolv.conf"], "container_files": False})
    assert succeeded(done)["stdout"] != "nameserver 192.0.2.53"


# --- steering


@pytest.fixture(name="dataplane")
def make_dataplane(run_module: Module) -> c.Iterator[c.Callable[..., None]]:
    """Give dataplane(topology, mtu=None): one whose engine forwards; all that it steers is taken out at the end."""

    def make(topology: str, mtu: int | None = None) -> None:
        engine = [*tools.FORWARDER, "vth0", "vth1"]
        assert "dataplane" in run_module("container_dataplane", {"mode": "bridge", "topology": topology, "engine": engine, "mtu": mtu})

    yield make
    for one in run_module("container_steering_info", {})["steering"]:
        succeeded(run_module("container_steering", {"container": [one["container"]], "topology": one["topology"], "state": "absent"}))
    succeeded(run_module("container_dataplane", {"state": "absent"}))


def passes(box: labs.Box) -> bool:
    """Whether the container is answered by its gateway."""
    ping = ["nsenter", f"--net=/proc/{box.pid()}/ns/net", "busybox", "ping", "-c", "1", "-W", "2", box.gateway]
    return subprocess.run(ping, stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize("topology", ["inplace", "takeover"])
@pytest.mark.parametrize("kind", ROOT)
def test_steering(fleet: labs.Fleet, run_module: Module, dataplane: c.Callable[..., None], kind: str, topology: str) -> None:
    box = fleet.boxes[kind]
    assert wait_for(lambda: tools.get(box.address, timeout=1) == 200)
    tools.settle()
    before = tools.snapshot(box.pid())
    dataplane(topology)
    done = succeeded(run_module("container_steering", {"container": [box.name], "topology": topology}))
    assert done["changed"] and [(one["container"], one["runtime"], one["status"]) for one in done["steering"]] == [(box.name, box.runtime, "steered")]
    assert wait_for(lambda: tools.get(box.address) == 200, labs.SECONDS)
    counters = run_module("container_steering_info", {})["steering"][0]["counters"]
    assert all(counters[way][what] >= 4 for way in ("in", "out") for what in ("sent", "returned"))
    assert not succeeded(run_module("container_steering", {"container": [box.name], "topology": topology}))["changed"]
    assert succeeded(run_module("container_steering", {"container": [box.name], "topology": topology, "state": "absent"}))["changed"]
    assert wait_for(lambda: tools.get(box.address) == 200, labs.SECONDS)
    assert not tools.differences(before, tools.snapshot(box.pid()))


def serves(address: str) -> bool:
    return tools.get(address) == 200


def test_steering_of_a_pod(fleet: labs.Fleet, run_module: Module, dataplane: c.Callable[..., None]) -> None:
    """The sandbox of the second has no process."""
    dataplane("inplace")
    for sandbox in (fleet.sandbox, fleet.pause):
        done = succeeded(run_module("container_steering", {"pod": [sandbox.name]}))
        assert [(one["container"], one["interface"], one["status"]) for one in done["steering"]] == [(sandbox.name, "eth0", "steered")]
        assert wait_for(functools.partial(serves, sandbox.address), labs.SECONDS)
        assert succeeded(run_module("container_steering", {"pod": [sandbox.name], "state": "absent"}))["changed"]


@pytest.mark.parametrize("kind", ROOTLESS)
def test_steering_in_place_is_refused(fleet: labs.Fleet, run_module: Module, dataplane: c.Callable[..., None], kind: str) -> None:
    """A tap, or a veth whose other end is in another namespace of the user: there is nothing on the host to steer at."""
    box = fleet.boxes[kind]
    dataplane("inplace")
    done = run_module("container_steering", {"container": [box.name]})
    words = {"tap0": f"{box.name} has no veth or netkit with an address, which steering in place needs", "eth0": f"eth0 of {box.name} has no peer on the host"}
    assert done.get("failed") and done["msg"].startswith(words["tap0" if "slirp4netns" in kind else "eth0"]) and "topology: takeover" in done["msg"], done
    assert run_module("container_steering_info", {})["steering"] == []


@pytest.mark.parametrize("kind", ROOTLESS)
def test_steering_takes_over(fleet: labs.Fleet, run_module: Module, dataplane: c.Callable[..., None], kind: str) -> None:
    box = fleet.boxes[kind]
    assert wait_for(lambda: passes(box), labs.SECONDS)
    before = tools.snapshot(box.pid())
    dataplane("takeover", 65520)  # slirp4netns's tap has that
    done = succeeded(run_module("container_steering", {"container": [box.name], "topology": "takeover"}))
    assert [(one["container"], one["status"]) for one in done["steering"]] == [(box.name, "steered")]
    assert wait_for(lambda: passes(box), labs.SECONDS)
    counters = run_module("container_steering_info", {})["steering"][0]["counters"]
    assert all(counters[way][what] >= 1 for way in ("in", "out") for what in ("sent", "returned"))
    assert succeeded(run_module("container_steering", {"container": [box.name], "topology": "takeover", "state": "absent"}))["changed"]
    assert wait_for(lambda: passes(box), labs.SECONDS)
    assert not tools.differences(before, tools.snapshot(box.pid()))


# A root folder as a helper pod has it: the node's /run, and nothing of its /etc and /var; and the node's processes.
POD = r"""
mount -t tmpfs tmpfs "$1"
for path in /*; do
    if [ -L "$path" ]; then
        cp -P "$path" "$1$path"
    elif [ -d "$path" ]; then
        mkdir -p "$1$path"
        case $path in /etc|/var) ;; *) mount --rbind "$path" "$1$path" ;; esac
    fi
done
mount -t tmpfs tmpfs "$1/run/netns"  # the namespaces that were bound after the pod had begun
exec chroot "$@"
"""
LOOK = """
import json, sys
from ansible_collections.nettap.containers.plugins.module_utils._targets._target import resolved
with resolved({"runtime": "auto", "allow_missing": False, **json.loads(sys.argv[1])}) as targets:
    print(json.dumps([target.describe() for target in targets]))
"""


def as_in_a_helper_pod(folder: pathlib.Path, **options: t.Any) -> list[dict[str, t.Any]]:
    """What a module would return of the targets in such a pod."""
    environment = {"PYTHONPATH": str(ansible_cli.ROOT / "collections"), "PATH": os.environ["PATH"]}
    program = [sys.executable, "-c", LOOK, json.dumps(options)]
    return t.cast("list[dict[str, t.Any]]", json.loads(labs.command("unshare", "--mount", "sh", "-ec", POD, "sh", str(folder), *program, env=environment)))


def test_crio_s_pod_as_a_helper_pod_sees_it(fleet: labs.Fleet, tmp_path: pathlib.Path) -> None:
    told, = info(pod=["shop/db-0"])
    seen, = as_in_a_helper_pod(tmp_path, pod=["shop/db-0"], runtime="crio")
    assert seen == {**told, "netns": {**told["netns"], "path": f"/proc/1/root/run/netns/{os.path.basename(fleet.pause.netns)}"}}


@pytest.mark.parametrize(("state", "root"), [("/run/k0s/containerd", "/var/lib/k0s/containerd"), ("/run/nettap-odd/state", "/var/lib/nettap-odd/root")])
def test_containerd_with_its_state_elsewhere(fleet: labs.Fleet, tmp_path: pathlib.Path, state: str, root: str) -> None:
    """That of k0s, and one of which nobody has told us where it is."""
    above = [str(pathlib.Path(path).parent) for path in (state, root)]
    socket_path, config = f"{above[0]}/containerd.sock", tmp_path / "config.toml"
    config.write_text(f'version = 2\nroot = "{root}"\nstate = "{state}"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{socket_path}"\n')

    def ctr(*arguments: str) -> str:
        return labs.command("ctr", "--address", socket_path, *arguments)

    with contextlib.ExitStack() as undo:
        for path in above:
            undo.callback(shutil.rmtree, path, ignore_errors=True)
        with (tmp_path / "log").open("wb") as log:
            daemon = subprocess.Popen(["containerd", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        undo.callback(daemon.wait, labs.SECONDS)
        undo.callback(daemon.terminate)
        there = wait_for(lambda: not subprocess.run(["ctr", "--address", socket_path, "version"], capture_output=True, check=False).returncode, labs.SECONDS)
        assert there, (tmp_path / "log").read_text()
        ctr("images", "import", str(fleet.folder / "image.tar"))
        image = fleet.containerd.image
        ctr("run", "--detach", "--label", "odd=1", image, "odd-web", *labs.PAUSE)
        undo.callback(ctr, "containers", "rm", "odd-web")
        undo.callback(ctr, "tasks", "rm", "--force", "odd-web")
        told, = info(labels={"odd": "1"})
        assert (told["runtime"], told["name"], told["image"]) == ("containerd", "odd-web", image)
        assert info(container=["odd-web"]) == [told]
        (tmp_path / "pod").mkdir()
        assert as_in_a_helper_pod(tmp_path / "pod", labels={"odd": "1"}, runtime="containerd") == [told]


@pytest.mark.parametrize("kind", ["podman, root", "containerd", "CRI-O"])
def test_docker_that_is_silent_hides_nobody(fleet: labs.Fleet, run_module: Module, tmp_path: pathlib.Path, kind: str) -> None:
    """Its socket is stale. What is not found may be Docker's."""
    box = fleet.boxes[kind]
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(tmp_path / "docker.sock"))
    silent = {"env": {"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"}}
    words = (f"The runtime docker did not answer: Docker at unix://{tmp_path}/docker.sock does not answer: "
             "its socket is there but nobody serves it; start the engine.")
    found = succeeded(run_module("container_network_info", {"container": [box.name]}, **silent))
    assert [told["name"] for told in found["containers"]] == [box.name] and not found.get("warnings")
    found = succeeded(run_module("container_network_info", {"container": [f"{box.name[:-1]}?"]}, **silent))
    assert [told["name"] for told in found["containers"]] == [box.name] and f"{words} Its containers are left out." in str(found["warnings"])
    missing = run_module("container_network_info", {"container": ["nobody"]}, **silent)
    assert missing["failed"] and missing["msg"].startswith(f"No container on {HOST} matches 'nobody'") and missing["msg"].endswith(f" {words}")
    assert run_module("container_network_info", {"container": [box.name], "runtime": "docker"}, **silent)["failed"]
