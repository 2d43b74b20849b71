# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Target options to verified namespaces: a real Docker engine, real processes and namespaces, and all that can go wrong between."""

from __future__ import annotations

import collections.abc as c
import contextlib
import dataclasses
import os
import pathlib
import socket
import socketserver
import subprocess
import threading
import typing as t

import docker
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import EngineError, NamespaceError, NettapError, TargetError
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _netns, _process
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _docker
from ansible_collections.nettap.containers.plugins.module_utils._targets._target import resolved
from waiting import wait_for

Running = t.Any  # a docker.models.containers.Container, of which the SDK's types say that it may have no name
IDLE = ["sleep", "600"]
HOST = socket.gethostname()
OWN = os.stat("/proc/self/ns/net").st_ino  # the host's network namespace: the tests run in it


def engine_address() -> str:
    """Where the tests' engine is: DOCKER_HOST names it, unless the machine's own is used."""
    return os.environ.get("DOCKER_HOST", _docker.DEFAULT_SOCKET)


def target_options(**given: t.Any) -> dict[str, t.Any]:
    return {"runtime": "auto", "allow_missing": False, **given}


def found(**given: t.Any) -> list[dict[str, t.Any]]:
    """What a module would return of the targets."""
    with resolved(target_options(**given)) as targets:
        return [target.describe() for target in targets]


def names(**given: t.Any) -> list[str]:
    return [target["name"] for target in found(**given)]


def refused(kind: type[NettapError], **given: t.Any) -> str:
    """The sentence with which the target options are refused."""
    with pytest.raises(kind) as caught, resolved(target_options(**given)):
        pass
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", "?"))
    return text


def handles() -> int:
    """How many namespaces and pidfds this process holds open."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum(link.startswith("net:[") or "pidfd" in link for link in links)


def pid_of(container: Running) -> int:
    container.reload()
    return int(container.attrs["State"]["Pid"])


def inode(path: str) -> int:
    return os.stat(path).st_ino


@contextlib.contextmanager
def nobody() -> c.Iterator[None]:
    """Without root, as a task is that forgot become."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# --- the ways to name a container

def test_every_way_to_name_a_container(container: c.Callable[..., Running]) -> None:
    tag = f"t{os.getpid()}"
    one = container(IDLE, name=f"{tag}-web-1", labels={"tag": tag, "tier": "front"}, network="none")
    two = container(IDLE, name=f"{tag}-web-2", labels={"tag": tag, "tier": "front", "ready": "true"}, network="none")
    db = container(IDLE, name=f"{tag}-db", labels={"tag": tag, "tier": "back"}, network="none")
    cases: list[tuple[dict[str, t.Any], list[Running]]] = [
        ({"container": [one.name]}, [one]),
        ({"container": [two.id]}, [two]),
        ({"container": [db.id[:12]]}, [db]),
        ({"container": [f"{tag}-web-*"]}, [one, two]),
        ({"container": [f"{tag}-*"]}, [db, one, two]),
        ({"container": [f"{tag}-web-?", db.id[:16], one.name]}, [db, one, two]),
        ({"labels": {"tag": tag, "tier": "front"}}, [one, two]),
        ({"labels": {"tag": tag, "ready": True}}, [two]),
        ({"container": [f"{tag}-*"], "labels": {"tier": "back"}}, [db]),
        ({"container": [db.name], "runtime": "docker"}, [db]),
    ]
    for given, expected in cases:
        assert names(**given) == [each.name for each in expected], given
    assert set(names(container=["*"])) >= {one.name, two.name, db.name}
    told, = found(container=[two.name])
    pid = pid_of(two)
    assert told == {
        "runtime": "docker", "id": two.id, "name": two.name, "image": told["image"], "pod": None, "pid": pid,
        "labels": {"tag": tag, "tier": "front", "ready": "true"},
        "host_network": False, "netns": {"path": f"/proc/{pid}/ns/net", "inode": inode(f"/proc/{pid}/ns/net")},
    }
    assert told["image"].startswith("nettap/test")
    assert "nearest of" in (text := refused(TargetError, container=[f"{tag}-wep-1"])) and one.name in text and HOST in text
    assert "tag=none" in refused(TargetError, labels={"tag": "none"})


def test_prefix_of_several_ids(container: c.Callable[..., Running]) -> None:
    """More containers than there are hexadecimal digits: two of them start alike."""
    made = [container(IDLE, network="none") for _round in range(2)]
    digits = "0123456789abcdef"
    while len({each.id[0] for each in made}) == len(made):
        made.append(container(IDLE, network="none"))
    shared = next(digit for digit in digits if sum(each.id.startswith(digit) for each in made) > 1)
    text = refused(TargetError, container=[shared])
    assert f"{shared!r} is the start of several containers' IDs" in text and all(each.name in text for each in made if each.id.startswith(shared))
    longer = refused(TargetError, container=[shared], allow_missing=True)
    assert longer == text, "ambiguous is not missing"


@pytest.mark.parametrize("state", ["exited", "created"])
def test_container_that_does_not_run(container: c.Callable[..., Running], engine: docker.DockerClient, state: str) -> None:
    one = container(IDLE, network="none")
    if state == "exited":
        one.kill()
        one.wait()
        name = one.name
    else:
        made = engine.containers.create(one.image, IDLE, name=f"{one.name}-created")
        name = made.name
    try:
        assert refused(TargetError, container=[name]) == f"No running container on {HOST} matches {name!r}: {name} (docker) is {state}; start it first."
        assert found(container=[name], allow_missing=True) == []
    finally:
        if state == "created":
            made.remove()


def test_paused_container_has_a_namespace(container: c.Callable[..., Running]) -> None:
    one = container(IDLE, network="none")
    one.pause()
    try:
        assert found(container=[one.name])[0]["pid"] == pid_of(one)
    finally:
        one.unpause()


# --- between look-up and entry

def meanwhile(monkeypatch: pytest.MonkeyPatch, act: c.Callable[[], object], before: bool = False) -> None:
    """Something happens to the container right after (or before) the engine has told of it, once."""
    inspect = _docker.Docker.inspect
    acted: list[bool] = []

    def hooked(self: _docker.Docker, one: t.Any) -> t.Any:
        if before and not acted:
            acted.append(True)
            act()
        answer = inspect(self, one)
        if not acted:
            acted.append(True)
            act()
        return answer

    monkeypatch.setattr(_docker.Docker, "inspect", hooked)


def kill(container: Running) -> None:
    container.kill()
    container.wait()


@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("how", [kill, lambda one: one.remove(force=True)], ids=["stops", "is removed"])
def test_container_goes_between_look_up_and_entry(
    container: c.Callable[..., Running], monkeypatch: pytest.MonkeyPatch, how: c.Callable[[Running], None], before: bool
) -> None:
    """One that was named is an error; one that only matched a glob is simply not there; the other is found."""
    stays, named, matched = (container(IDLE, name=f"t{os.getpid()}{letter}", network="none", labels={"of": str(os.getpid())}) for letter in "zab")
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: how(named), before)
        text = refused(TargetError, container=[named.name])
        assert text.startswith(f"Container {named.name} (docker) stopped between look-up and entry (") and text.endswith("start it, then run the task again.")
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: how(matched), before)
        assert names(container=[f"t{os.getpid()}*"], labels={"of": os.getpid()}) == [stays.name]


def test_container_restarts_between_look_up_and_entry(container: c.Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    one = container(IDLE, network="none")
    old = pid_of(one)
    meanwhile(monkeypatch, lambda: one.restart(timeout=0))
    with resolved(target_options(container=[one.name])) as targets:
        new = pid_of(one)
        assert new != old and targets[0].namespace.pid == new and targets[0].namespace.inode == inode(f"/proc/{new}/ns/net")
        assert targets[0].namespace.started == _process.start_time(new)


@pytest.mark.parametrize("whose", ["another container's", "the host's"])
def test_pid_that_is_of_another(container: c.Callable[..., Running], monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    """As after the reuse of a PID, or an engine of another machine behind docker_host: the cgroup of that process does not name the container."""
    one, other = container(IDLE, network="none"), container(IDLE, network="none")
    wrong = pid_of(other) if whose == "another container's" else os.getpid()
    with pytest.raises(NamespaceError, match=f"Process {wrong} does not belong to container {one.id[:12]} "):
        _netns.open_process(wrong, Identity(one.id))
    inspect = _docker.Docker.inspect
    monkeypatch.setattr(_docker.Docker, "inspect", lambda self, known: dataclasses.replace(t.cast("t.Any", inspect(self, known)), pid=wrong))
    before = handles()
    for given in ({"container": [one.name]}, {"container": [one.name + "*"]}, {"container": [one.name], "allow_missing": True}):
        text = refused(NamespaceError, **given)
        assert "its cgroup names another" in text and text.endswith("on this host with pid.")
    assert handles() == before


def test_refused_target_closes_what_was_opened(container: c.Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = (container(IDLE, name=f"t{os.getpid()}{letter}", network="none") for letter in "ab")
    opened: list[_netns.Namespace] = []
    open_process = _netns.open_process

    def remember(pid: int, identity: Identity | None = None) -> _netns.Namespace:
        if opened:
            raise NamespaceError("Simulated.")
        opened.append(open_process(pid, identity))
        return opened[0]

    monkeypatch.setattr(_netns, "open_process", remember)
    refused(NamespaceError, container=[first.name, last.name])
    assert len(opened) == 1
    for fd in (opened[0].fd, opened[0].pidfd):
        assert fd is not None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


# --- the engine

class Sulking(socketserver.BaseRequestHandler):
    """An engine that answers every request in the one way that its server says, or never."""

    def handle(self) -> None:
        answer = t.cast("t.Any", self.server).answer
        self.request.recv(65536)
        if answer is None:
            self.request.recv(1)  # until the client has had enough
        else:
            self.request.sendall(answer)


@pytest.fixture(name="sulking")
def make_sulking(tmp_path: pathlib.Path) -> c.Iterator[c.Callable[[bytes | None], str]]:
    """Give sulking(answer): it starts such an engine and returns its address."""
    with contextlib.ExitStack() as stack:

        def start(answer: bytes | None) -> str:
            server = stack.enter_context(socketserver.ThreadingUnixStreamServer(str(tmp_path / "sulking.sock"), Sulking))
            server.daemon_threads = True
            t.cast("t.Any", server).answer = answer
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"unix://{tmp_path}/sulking.sock"

        yield start


def test_engine_is_not_there(tmp_path: pathlib.Path) -> None:
    address = f"unix://{tmp_path}/none.sock"
    for more in ({}, {"allow_missing": True}, {"runtime": "docker"}):
        text = refused(EngineError, container=["*"], docker_host=address, **more)
        assert text == f"Docker at {address} is not there: is the engine installed and started, and docker_host right?"


def test_engine_that_nobody_serves(tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/dead.sock")
        server.listen()
    text = refused(EngineError, container=["*"], docker_host=f"unix://{tmp_path}/dead.sock")
    assert text == f"Docker at unix://{tmp_path}/dead.sock does not answer: its socket is there but nobody serves it; start the engine."


def test_engine_that_is_not_for_us(engine: docker.DockerClient) -> None:
    with nobody():
        text = refused(EngineError, container=["*"], runtime="docker")
    assert text == f"Docker at {engine_address()} refuses access: root is needed on the host (become: true)."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "did not answer within 0.2 s: the engine hangs; look at its log."),
        (b'HTTP/1.1 500 Internal Server Error\r\nContent-Length: 28\r\nConnection: close\r\n\r\n{"message":"the disk burns"}', "answered with an error: "),
        (b"", "does not answer|answered with an error"),
        (b"220 mail.example.com ESMTP\r\n\r\n", "does not answer|answered with an error"),
    ],
)
def test_engine_that_sulks(sulking: c.Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch, answer: bytes | None, words: str) -> None:
    monkeypatch.setattr(_docker, "TIMEOUT", 0.2 if answer is None else 20)
    address = sulking(answer)
    text = refused(EngineError, container=["*"], docker_host=address)
    assert text.startswith(f"Docker at {address} ") and any(each in text for each in words.split("|"))
    assert answer is None or b"burns" not in answer or "the disk burns" in text


def test_container_that_docker_cannot_inspect(container: c.Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its files are damaged: the engine lists it, and answers with an error when it is asked for it. A glob passes it over."""
    good, bad = container(IDLE), container(IDLE)
    ask = _docker.Docker._ask

    def hooked(self: _docker.Docker, question: t.Any, missing: t.Any = ...) -> t.Any:
        if missing is None and bad.id in repr(question.__closure__[0].cell_contents):
            return ask(self, lambda client: client._raise_for_status(client._get(client._url("/containers/{0}/json?size=x", "a b"))))
        return ask(self, question, missing)

    monkeypatch.setattr(_docker.Docker, "_ask", hooked)
    warnings: list[str] = []
    with resolved(target_options(container=["*"]), warnings.append) as targets:
        assert good.name in (opened := [target.container.name for target in targets]) and bad.name not in opened
    assert len(warnings) == 1 and warnings[0].startswith(f"Container {bad.name} (docker) is left out: Docker at ")
    assert refused(EngineError, container=[bad.name]).startswith("Docker at ") and refused(EngineError, container=["*", bad.name])


def test_docker_host_and_its_option(container: c.Callable[..., Running], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    one = container(IDLE, network="none")
    real = engine_address()
    monkeypatch.setenv("DOCKER_HOST", real)
    assert names(container=[one.name]) == [one.name], "DOCKER_HOST is honoured"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert f"Docker at unix://{tmp_path}/none.sock is not there" in refused(NettapError, container=[one.name])
    assert names(container=[one.name], docker_host=real) == [one.name], "the option comes first"
    monkeypatch.setenv("DOCKER_HOST", real)
    assert f"Docker at unix://{tmp_path}/none.sock is not there" in refused(EngineError, container=[one.name], docker_host=f"unix://{tmp_path}/none.sock")


def test_module_tells_what_failed_without_a_traceback(run_module: c.Callable[..., t.Any], container: c.Callable[..., Running], tmp_path: pathlib.Path) -> None:
    """One module for all of them: the options and errors are shared."""
    one = container(IDLE, network="none")
    dead = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    for args, env, words in [
        ({"container": [one.name]}, dead, "Docker at unix://"),
        ({"container": "no-such-one"}, {}, "No container on "),
        ({"netns": "no-such-one"}, {}, "There is no network namespace /run/netns/no-such-one on this host"),
        ({"container": one.name, "pid": 1}, {}, "mutually exclusive"),
        ({}, {}, "one of the following is required: container, labels, pod, pid, netns"),
    ]:
        done = run_module("container_network_info", args, env=env)
        assert done["failed"] and done["msg"].startswith(words) or words in done["msg"]
        assert "exception" not in done and "Traceback" not in str(done)
    done = run_module("container_network_info", {"container": [one.name], "docker_host": engine_address()}, env=dead)
    assert [each["name"] for each in done["containers"]] == [one.name]


# --- what no engine knows

def test_process(netns: c.Callable[..., str]) -> None:
    inside = netns()
    with subprocess.Popen(["ip", "netns", "exec", inside, "sleep", "600"]) as process:
        try:
            while pathlib.Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":  # until it is inside
                assert process.poll() is None
            told, = found(pid=process.pid)
            assert told["netns"] == {"path": f"/proc/{process.pid}/ns/net", "inode": inode(f"/run/netns/{inside}")}
            started = _process.start_time(process.pid)
            assert (told["runtime"], told["id"], told["name"], told["pid"]) == ("process", f"{process.pid}-{started}", f"pid-{process.pid}", process.pid)
            assert (told["host_network"], told["labels"], told["image"]) == (False, {}, None)
        finally:
            process.kill()
    assert f"Process {process.pid} ended before" in refused(NamespaceError, pid=process.pid)
    assert found(pid=process.pid, allow_missing=True) == []


@pytest.mark.parametrize("pid", [-1, 1 << 22, (1 << 31) - 1])
def test_number_that_is_no_process(pid: int) -> None:
    assert refused(NamespaceError, pid=pid).startswith(f"Process {pid} ended before")


def test_thread_is_no_process() -> None:
    """Its number is one of /proc, yet no PID."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert refused(NamespaceError, pid=thread.native_id).startswith(f"Process {thread.native_id} ")
    finally:
        stop.set()
        thread.join()


def test_zombie_has_no_namespace() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert f"Process {process.pid} ended before" in refused(NamespaceError, pid=process.pid)


def test_named_namespace_and_path(netns: c.Callable[..., str], tmp_path: pathlib.Path) -> None:
    name = netns()
    number = inode(f"/run/netns/{name}")
    for given, short in ((name, name), (f"/run/netns/{name}", name), (f"/var/run/netns/{name}", name)):
        told, = found(netns=given)
        assert (told["runtime"], told["id"], told["name"], told["pid"], told["host_network"]) == ("netns", given, short, None, False)
        assert told["netns"] == {"path": given if "/" in given else f"/run/netns/{given}", "inode": number}
    text = refused(NamespaceError, netns="no-such-one")
    assert text.startswith("There is no network namespace /run/netns/no-such-one on this host (named ones: ") and name in text
    assert found(netns="no-such-one", allow_missing=True) == [] == found(netns=f"{tmp_path}/none", allow_missing=True)
    with resolved(target_options(netns=name)) as targets, pytest.raises(NamespaceError, match="names a network namespace only: it has no mnt namespace"):
        targets[0].namespace.other("mnt")


def test_path_that_is_no_network_namespace(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    before = handles()
    for path in (str(tmp_path / "file"), str(tmp_path), "/proc/self/ns/uts", "/proc/self/ns/mnt", "/dev/null"):
        for more in ({}, {"allow_missing": True}):
            shown = os.readlink(path) if "/ns/" in path else path
            assert refused(NamespaceError, netns=path, **more) == f"The network namespace {shown} cannot be entered: Invalid argument."
    assert refused(NamespaceError, netns=f"{tmp_path}/file/below") == f"The network namespace {tmp_path}/file/below cannot be opened: Not a directory."
    assert handles() == before


def test_without_root(container: c.Callable[..., Running], netns: c.Callable[..., str]) -> None:
    pid, name = pid_of(container(IDLE, network="none")), netns()
    with nobody():
        assert refused(NamespaceError, pid=pid) == f"The network namespace of process {pid} cannot be opened: root is needed (become: true)."
        assert "cannot be entered: Operation not permitted" in refused(NamespaceError, netns=name)


# --- the host's own namespace

def test_host_network_is_told(container: c.Callable[..., Running]) -> None:
    own, shared = container(IDLE, network="none"), container(IDLE, network="host")
    joined = container(IDLE, network=f"container:{own.name}")
    told = {target["name"]: target for target in found(container=[own.name, shared.name, joined.name])}
    assert [told[each.name]["host_network"] for each in (own, shared, joined)] == [False, True, False]
    assert told[shared.name]["netns"]["inode"] == OWN
    assert told[joined.name]["netns"]["inode"] == told[own.name]["netns"]["inode"], "as the containers of a pod share theirs"
    assert found(pid=os.getpid())[0]["host_network"] and found(netns="/proc/self/ns/net")[0]["host_network"]


# --- the handle

def test_handle_pins_the_namespace_of_a_dead_container(container: c.Callable[..., Running]) -> None:
    """What was verified is what is entered, whatever becomes of the container, its PID and the number of its namespace."""
    one = container(IDLE)
    with resolved(target_options(container=[one.name])) as targets:
        target, pid = targets[0], pid_of(one)
        one.remove(force=True)
        assert not os.path.exists(f"/proc/{pid}/ns/net")
        assert target.namespace.pidfd is not None and _process.has_ended(target.namespace.pidfd, None)
        with _netns.entered(target.namespace.fd):
            assert inode("/proc/thread-self/ns/net") == target.namespace.inode != OWN
            assert "lo" in [name for _index, name in socket.if_nameindex()]
        # The kernel gives out the number of a namespace that is gone: it is not given out while the handle is open.
        others = [container(IDLE, network="none") for _round in range(2)]
        assert target.namespace.inode not in {inode(f"/proc/{pid_of(other)}/ns/net") for other in others}
        with pytest.raises(NamespaceError):
            target.namespace.other("mnt")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(target.namespace.fd)


def test_entered_comes_back_and_moves_only_its_thread(netns: c.Callable[..., str]) -> None:
    name = netns()
    inside = inode(f"/run/netns/{name}")
    namespace = _netns.open_path(name)
    asked, answered, seen = threading.Event(), threading.Event(), []

    def look() -> None:
        asked.wait()
        seen.append(inode("/proc/thread-self/ns/net"))
        answered.set()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with contextlib.suppress(ZeroDivisionError), _netns.entered(namespace.fd):
            child = subprocess.Popen(["sleep", "600"])
            asked.set()
            answered.wait()
            assert inode("/proc/thread-self/ns/net") == inside
            raise ZeroDivisionError
        try:
            assert (inode("/proc/thread-self/ns/net"), seen) == (OWN, [OWN])
            assert inode(f"/proc/{child.pid}/ns/net") == inside, "what was started in it stays there"
        finally:
            child.kill()
            child.wait()
    finally:
        asked.set()
        thread.join()
        namespace.close()


# --- control groups of this machine

def test_cgroup_of_a_container_is_found_and_comes_back(container: c.Callable[..., Running]) -> None:
    """By its folder, a session knows when a container is back: the same path, gone in between."""
    one = container(["sh", "-c", "sleep 600 & exec sleep 600"], network="none")
    pid = pid_of(one)
    paths = _cgroup.paths(pid)
    assert _cgroup.names(paths, one.id) and not _cgroup.names(_cgroup.paths(os.getpid()), one.id)
    folder = _cgroup.directory(paths, one.id)
    assert folder is not None and os.path.isdir(folder) and one.id in os.path.basename(folder)
    assert wait_for(lambda: len(_cgroup.processes(folder)) == 2), _cgroup.processes(folder)
    known = _cgroup.processes(folder)
    assert pid in known and os.getpid() not in known
    assert _cgroup.directory(paths, "0" * 64) is None
    one.kill()
    one.wait()
    assert _cgroup.processes(folder) == []
    one.start()
    assert pid_of(one) in _cgroup.processes(folder) and _cgroup.directory(_cgroup.paths(pid_of(one)), one.id) == folder
