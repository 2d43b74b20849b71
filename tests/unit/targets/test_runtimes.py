# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runtimes leave on disk: bbolt and SQLite databases, annotations, PID files; and whose a process is."""

from __future__ import annotations

import collections.abc as c
import contextlib
import json
import mmap
import os
import pathlib
import pwd
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import typing as t

import docker
import docker.errors
import pytest
import requests
import urllib3
from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, EngineError, NamespaceError
from ansible_collections.nettap.containers.plugins.module_utils._system import _identity, _netns, _process, _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _bolt, _bundle, _containerd, _crio, _docker, _pod, _podman
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container, abbreviates, shows_processes

ID = "c572f689cd395f3621ab86b7b72341e3c7f3b46045b4b18fd89266984c1fa173"
SIZE = 4096
MINE = [("", f"/machine.slice/libpod-{ID}.scope")]
CONMON = [("", f"/machine.slice/libpod-conmon-{ID}.scope")]


# --- whose a process is


@pytest.mark.parametrize(
    ("identity", "cgroups", "host", "doubt"),
    [
        (Identity(ID), MINE, False, None),
        (Identity(ID, isolated=True), MINE, False, None),
        (Identity(ID), MINE, True, None),  # a container in the host's network
        (Identity(ID, isolated=True), MINE, True, "host's network namespace"),
        (Identity(ID), CONMON, True, "cgroup names another"),
        (Identity(ID, isolated=True), CONMON, True, "cgroup names another"),
        (Identity(ID), [], False, "cgroup names another"),
        (Identity(ID, owner=os.geteuid() + 1), MINE, False, "user namespace"),
    ],
)
def test_doubt(identity: Identity, cgroups: list[tuple[str, str]], host: bool, doubt: str | None) -> None:
    found = identity.doubt(os.getpid(), 7, cgroups, host)
    assert found is None if doubt is None else found is not None and doubt in found


@pytest.mark.parametrize(
    ("file", "content", "mine"),
    [
        ("state.json", {"init_process_pid": 42, "init_process_start": 7}, True),
        ("status", {"pid": 42, "process-start-time": 7}, True),
        ("state.json", {"init_process_pid": 42, "init_process_start": 8}, False),  # the PID was reused
        ("state.json", {"init_process_pid": 43, "init_process_start": 7}, False),
        ("status", {"init_process_pid": 42, "init_process_start": 7}, False),
        ("status", {"pid": "42", "process-start-time": "7"}, False),
        ("status", [42, 7], False),
        ("status", None, False),
    ],
)
def test_process_that_the_runtime_has_recorded(tmp_path: pathlib.Path, file: str, content: object, mine: bool) -> None:
    """Of a container without a cgroup of its own."""
    if content is not None:
        (tmp_path / file).write_text(json.dumps(content))
    identity = Identity(ID, records=(f"{tmp_path}/none/state.json", f"{tmp_path}/{file}"))
    assert (identity.doubt(42, 7, [("", "/user.slice")], False) is None) is mine


def test_owner_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _identity._owner(1 << 30) is None
    monkeypatch.setattr(_identity, "_owner", {42: 1000}.get)
    assert Identity(ID, owner=1000).doubt(42, 7, MINE, False) is None
    assert Identity(ID, owner=1001).doubt(42, 7, MINE, False) == "its user namespace is not one of UID 1001"


# --- what another user may have put there


@pytest.mark.parametrize(
    ("content", "pid"),
    [
        ("42", 42), ("42\n", 42), ("", 0), ("-1", 0), ("x", 0), ("1 2", 0), ("9" * 5000, 0), ("4194304", 1 << 22), ("4194305", 0), ("99999999999", 0),
    ],
)  # fmt: skip
def test_pid_file(tmp_path: pathlib.Path, content: str, pid: int) -> None:
    (tmp_path / "pid").write_text(content)
    assert _untrusted.pid(f"{tmp_path}/pid") == pid
    assert _untrusted.pid(f"{tmp_path}/pid", os.geteuid()) == pid
    assert _untrusted.pid(f"{tmp_path}/pid", os.geteuid() + 1) == 0  # another's file, to which a user's link leads


def test_what_is_no_file(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path / "huge", tmp_path, tmp_path / "none"):
        assert _untrusted.pid(str(path)) == 0 and _untrusted.json_object(str(path)) == {}
    for text in ("[]", "nonsense", '"x"', "[" * 100000):
        (tmp_path / "json").write_text(text)
        assert _untrusted.json_object(f"{tmp_path}/json") == {}


@pytest.fixture(name="limits")
def make_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience than in the field."""
    monkeypatch.setattr(_untrusted, "_SECONDS", 1)


def somebody() -> int:
    """A user without root: ourselves, if we are none."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()


def test_asked_as_a_user(limits: None) -> None:
    uid = somebody()
    groups = os.getgroups() if uid == os.geteuid() else []
    assert _untrusted.asked_as(uid, lambda: [os.getresuid(), os.getgroups()]) == [[uid] * 3, groups]
    failing: list[c.Callable[[], t.Any]] = [
        lambda: time.sleep(60), lambda: bytes(2 << 30).count(1), lambda: "x" * (17 << 20), lambda: os._exit(0), lambda: os.listdir("/none"), object,
    ]  # fmt: skip
    for work in failing:
        begun = time.monotonic()
        with pytest.raises(OSError, match=f"cannot be read as the user with UID {uid}"):
            _untrusted.asked_as(uid, work)
        assert time.monotonic() - begun < 30


def test_asked_as_a_user_by_a_large_process() -> None:
    """What this process has does not count: only what reading takes. 0x4000 is MAP_NORESERVE (asm-generic/mman.h)."""
    with mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ):
        assert _untrusted.asked_as(somebody(), lambda: len(bytes(64 << 20))) == 64 << 20


# --- bundles and pods


@pytest.mark.parametrize(
    ("config", "isolated"),
    [
        ({"linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]}}, True),
        ({"linux": {"namespaces": [{"type": "network", "path": "/run/netns/cni-1"}]}}, True),
        ({"linux": {"namespaces": [{"type": "network", "path": "/proc/7/ns/net"}]}}, False),
        ({"linux": {"namespaces": [{"type": "pid"}]}}, False),
        ({"linux": {"namespaces": None}}, False),
        ({"linux": {"namespaces": 5}}, False),
        ({"linux": {"namespaces": ["network"]}}, False),
        ({"linux": [], "annotations": []}, False),
        ({}, False),
    ],
)
def test_bundle(tmp_path: pathlib.Path, config: dict[str, t.Any], isolated: bool) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    bundle = _bundle.Bundle(f"{tmp_path}/config.json")
    assert bundle.isolated is isolated and bundle.annotations == {}
    assert bundle.bound in ("/run/netns/cni-1", None) and (bundle.bound is None or os.stat(tmp_path / "config.json").st_uid == 0)


def test_bundle_of_a_pod_in_the_host_s_network(tmp_path: pathlib.Path) -> None:
    """CRI-O binds the host's namespace to a path, like any other."""
    (tmp_path / "host").symlink_to(_netns.host_path())
    config = {"linux": {"namespaces": [{"type": "network", "path": f"{tmp_path}/host"}]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not _bundle.Bundle(f"{tmp_path}/config.json").isolated


def test_bundle_that_is_not_root_s(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"linux": {"namespaces": [{"type": "network", "path": "/run/netns/cni-1"}]}}))
    bundle = _bundle.Bundle(f"{tmp_path}/config.json")
    for uid, path in ((0, "/run/netns/cni-1"), (1000, None)):
        monkeypatch.setattr(os, "stat", lambda _path, uid=uid: os.stat_result((0o100600, 0, 0, 1, uid, 0, 0, 0, 0, 0)))
        assert bundle.bound == path


def test_namespace_that_is_bound_to_a_path(tmp_path: pathlib.Path) -> None:
    """A file is left where it was, and any other kind of namespace is none."""
    (tmp_path / "file").touch()
    assert not any(_netns.is_bound(path) for path in (f"{tmp_path}/file", f"{tmp_path}/none", str(tmp_path), "/proc/self/ns/mnt"))
    with contextlib.closing(_netns.open_bound("/proc/self/ns/net")) as namespace:
        assert (namespace.pid, namespace.path, namespace.inode) == (None, "/proc/self/ns/net", os.stat("/proc/self/ns/net").st_ino)
    with pytest.raises(NamespaceError, match="name one of its containers"), contextlib.closing(_netns.open_bound("/proc/self/ns/net")) as namespace:
        namespace.other("mnt")


@pytest.mark.parametrize(("isolated", "elsewhere", "state"), [(False, False, "running"), (True, False, "exited"), (True, True, "running")])
def test_process_in_the_host_s_namespace(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, isolated: bool, elsewhere: bool, state: str) -> None:
    """A container that has a namespace of its own is not there: whoever claims so is not listed as running."""
    pid = os.getpid()
    started = _process.start_time(pid)
    (tmp_path / "status").write_text(json.dumps({"pid": pid, "process-start-time": started}))
    (tmp_path / "other").touch()
    monkeypatch.setattr(_netns, "host_path", lambda: f"{tmp_path}/other" if elsewhere else f"/proc/{pid}/ns/net")
    assert _bundle.state(pid, Identity(ID, records=(f"{tmp_path}/status",), isolated=isolated)) == state


KUBELET = {"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web"}
CRI = {"io.kubernetes.cri.sandbox-namespace": "shop", "io.kubernetes.cri.sandbox-name": "web"}
CRIO = {"io.kubernetes.cri-o.Namespace": "shop", "io.kubernetes.cri-o.KubeName": "web"}


@pytest.mark.parametrize(
    ("found", "pod", "container", "sandbox"),
    [
        ([{}], None, None, False),
        ([{"io.kubernetes.pod.name": "web"}], None, None, False),
        ([{**KUBELET, "io.kubernetes.container.name": "app", "io.kubernetes.docker.type": "container"}], "shop/web", "app", False),
        ([{**KUBELET, "io.kubernetes.container.name": "POD", "io.kubernetes.docker.type": "podsandbox"}], "shop/web", None, True),
        ([{}, {**CRI, "io.kubernetes.cri.container-name": "app", "io.kubernetes.cri.container-type": "container"}], "shop/web", "app", False),
        ([{}, {**CRI, "io.kubernetes.cri.container-type": "sandbox"}], "shop/web", None, True),
        ([KUBELET, {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-name": "web"}], "shop/web", None, True),
        ([{**KUBELET, "io.cri-containerd.kind": "sandbox"}, {}], "shop/web", None, True),
        ([{}, {**CRIO, "io.kubernetes.container.name": "app", "io.kubernetes.cri-o.ContainerType": "container"}], "shop/web", "app", False),
        ([{}, {**CRIO, "io.kubernetes.cri-o.ContainerType": "sandbox"}], "shop/web", None, True),
        ([{"io.kubernetes.cri-o.ContainerType": "sandbox"}], None, None, True),  # of a pod of Podman's
    ],
)
def test_pod(found: list[dict[str, str]], pod: str | None, container: str | None, sandbox: bool) -> None:
    told = _pod.of(*found)
    assert told == {"pod": pod, "pod_container": container, "sandbox": sandbox}
    assert _pod.name(told) == (None if pod is None else pod if container is None else f"{pod}/{container}")


def test_containers_have_the_labels_of_their_pod() -> None:
    sandbox = Container("crio", "1", "s", pod="a/b", sandbox=True, labels={"app": "x", "kind": "sandbox"})
    app = Container("crio", "2", "c", pod="a/b", labels={"kind": "container"})
    other = Container("crio", "3", "o", pod="a/c", labels={})
    assert [one.labels for one in _pod.completed([app, sandbox, other])] == [{"app": "x", "kind": "container"}, sandbox.labels, {}]
    before = Container("crio", "4", "s", pod="a/b", sandbox=True, labels={"app": "old"}, state="exited")  # of the pod of that name before
    for order in ([app, sandbox, before], [before, sandbox, app]):
        assert next(one for one in _pod.completed(order) if one.id == "2").labels == {"app": "x", "kind": "container"}


@pytest.mark.parametrize(
    ("pattern", "identifier", "holds"),
    [(ID, ID, True), (ID[:4], ID, True), ("web", "web", True), ("web", "web-admin", False), ("", ID, False), ("c", "c572", False), (ID + "0", ID, False)],
)
def test_abbreviation(pattern: str, identifier: str, holds: bool) -> None:
    assert abbreviates(pattern, identifier) is holds


# --- databases


def page(number: int, flags: int, elements: t.Sequence[tuple[t.Any, ...]]) -> bytes:
    """A page as bbolt writes it: leaves (flags, key, value) or branches (key, page)."""
    head, data = b"", b""
    for index, element in enumerate(elements):
        position = 16 * (len(elements) - index) + len(data)
        if len(element) == 3:
            kind, key, value = element
            head += struct.pack("=IIII", kind, position, len(key), len(value))
            data += key + value
        else:
            key, below = element
            head += struct.pack("=IIQ", position, len(key), below)
            data += key
    return struct.pack("=QHHI", number, flags, len(elements), 0) + head + data


def meta(number: int, root: int, transaction: int, good: bool = True, size: int = SIZE) -> bytes:
    """A meta page."""
    fields = (0xED0CDAED, 2, size, 0, root, 0, 2, 9, transaction)
    return struct.pack("=QHHI", number, 4, 0, 0) + struct.pack("=IIIIQQQQQQ", *fields, _bolt._checksum((*fields, 0)) ^ (not good))


def database(path: pathlib.Path, *pages: bytes) -> str:
    path.write_bytes(b"".join(one.ljust(SIZE, b"\0") for one in pages))
    return str(path)


INLINE = struct.pack("=QQ", 0, 0) + page(0, 2, [(0, b"k", b"v")])
OLD_ROOT, NEW_ROOT = page(4, 2, [(0, b"old", b"1")]), page(3, 1, [(b"a", 5), (b"m", 6)])
LEAVES = [page(5, 2, [(0, b"a", b"1"), (1, b"b", INLINE)]), page(6, 2, [(1, b"m", struct.pack("=QQ", 7, 0))]), page(7, 2, [(0, b"x", b"y" * 900)])]
NEW = {b"a": b"1", b"b": {b"k": b"v"}, b"m": {b"x": b"y" * 900}}


@pytest.mark.parametrize(
    ("metas", "found"),
    [
        ((meta(0, 4, 6), meta(1, 3, 7)), NEW),
        ((meta(0, 3, 8), meta(1, 4, 7)), NEW),
        ((meta(0, 4, 6), meta(1, 3, 7, good=False)), {b"old": b"1"}),  # of a transaction that was not finished
        ((meta(0, 4, 6, good=False), meta(1, 3, 5)), NEW),
    ],
)
def test_bolt(tmp_path: pathlib.Path, metas: tuple[bytes, bytes], found: dict[bytes, t.Any]) -> None:
    path = database(tmp_path / "db", *metas, page(2, 16, []), NEW_ROOT, OLD_ROOT, *LEAVES)
    assert _bolt.read(path, lambda root: root.tree()) == found
    if found is NEW:
        assert _bolt.read(path, lambda root: bucket.tree() if (bucket := root.bucket("m")) else {}) == found[b"m"]
        assert _bolt.read(path, lambda root: {b"none": root.bucket("none"), b"a": root.bucket("a"), b"mm": root.bucket("m", "x")}) == {
            b"none": None, b"a": None, b"mm": None}  # fmt: skip


@pytest.mark.parametrize(
    "pages",
    [
        [b""],
        [b"x" * SIZE, b"x" * SIZE],
        [meta(0, 3, 6, good=False), meta(1, 3, 7, good=False)],
        [meta(0, 3, 6), meta(1, 900, 7)],
        [meta(0, 3, 6), meta(1, 3, 7), b"", page(3, 1, [(b"a", 3)])],  # a branch that leads to itself
        [meta(0, 3, 6), meta(1, 3, 7), b"", page(3, 2, [(1, b"a", b"short")])],
        [meta(0, 3, 6), meta(1, 3, 7), b"", page(3, 1, [(b"a", 4)] * 200), page(4, 1, [(b"a", 4)] * 200)],  # more than there are
        [meta(0, 3, 6, size=0), b"", b"", page(3, 2, [])],
        [meta(0, 3, 6, size=700), b"", b"", page(3, 2, [])],
    ],
)
def test_bolt_that_is_damaged(tmp_path: pathlib.Path, pages: list[bytes]) -> None:
    path = database(tmp_path / "db", *pages)
    with pytest.raises(EngineError, match=rf"The database {path} cannot be read \(.*\): run the task again\."):
        _bolt.read(path, lambda root: root.tree())


def test_bolt_that_is_written_meanwhile(tmp_path: pathlib.Path) -> None:
    """What was read while a transaction ended is read again, at the new root."""
    pages = [page(2, 16, []), NEW_ROOT, OLD_ROOT, *LEAVES]
    path = database(tmp_path / "db", meta(0, 4, 6), meta(1, 4, 5), *pages)
    seen = []

    def choose(root: _bolt.Bucket) -> dict[bytes, t.Any]:
        seen.append(root.tree())
        if len(seen) == 1:
            database(tmp_path / "db", meta(0, 4, 6), meta(1, 3, 7), *pages)
        return seen[-1]

    assert _bolt.read(path, choose) == NEW and seen == [{b"old": b"1"}, NEW]


def leaf(number: int, entries: t.Mapping[str, t.Any]) -> bytes:
    """A page of keys and values; dicts are buckets in that very page."""
    rows = [(1, key.encode(), struct.pack("=QQ", 0, 0) + leaf(0, value)) if isinstance(value, dict) else (0, key.encode(), str(value).encode())
            for key, value in sorted(entries.items())]  # fmt: skip
    return page(number, 2, rows)


# --- containerd


def test_containerds_of_a_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """k3s and RKE2 have one state folder and a root folder each; containerd's own may be configured; IDs are unique in a namespace of one."""
    places = {name: tmp_path / name for name in ("state", "root", "k3s", "k3s-root", "rke2-root")}
    (tmp_path / "config.toml").write_text(f'version = 2\nroot = "{places["root"]}"\nstate = \'{places["state"]}\'\n[grpc]\nroot = "/no"\n')
    monkeypatch.setattr(_containerd, "CONFIGURATION", f"{tmp_path}/config.toml")
    monkeypatch.setattr(_containerd, "PLACES", {str(places["k3s"]): [str(places["k3s-root"]), str(places["rke2-root"])]})
    monkeypatch.setattr(_containerd, "_of_shims", set)
    assert not _containerd.Containerd().present()
    for task in ("state/default/web", "state/default/db", "state/other/web", "state/moby/no", "k3s/other/web", "k3s/other/app"):
        state, _slash, name = task.partition("/")
        os.makedirs(places[state] / _containerd.TASKS / name)
    for root, namespaces in (("root", {"default": {"web": {"image": "i:1", "labels": {"app": "web"}}, "stopped": {"image": "i:2"}}}),
                             ("rke2-root", {"other": {"app": {"image": "i:3", "labels": {"app": "app"}}}})):  # fmt: skip
        metadata = places[root] / _containerd.METADATA
        metadata.parent.mkdir(parents=True)
        tree = {"v1": {name: {"containers": containers} for name, containers in namespaces.items()}}
        database(metadata, meta(0, 3, 6), meta(1, 3, 5), page(2, 16, []), leaf(3, tree))
    engine = _containerd.Containerd()
    assert engine.present()
    assert {one.id: (one.image, dict(one.labels), one.running) for one in engine.containers()} == {
        "default/web": ("i:1", {"app": "web"}, False), "db": (None, {}, False), "stopped": ("i:2", {}, False), "app": ("i:3", {"app": "app"}, False),
        f"{places['state']}/other/web": (None, {}, False), f"{places['k3s']}/other/web": (None, {}, False),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "program", "believed"),
    [
        ("default", "containerd-shim-runc-v2", True),
        ("k8s.io", "containerd-shim-kata-v2", True),
        ("moby", "containerd-shim-runc-v2", False),  # Docker's, which Docker is asked for
        ("default", "sleep", False),
    ],
)
def test_containerd_that_a_shim_tells_of(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, place: str, program: str, believed: bool) -> None:
    """The place of its state need not be known; a process of anybody but root's proves nothing."""
    monkeypatch.setattr(_containerd, "PLACES", {})
    state, root = tmp_path / "odd" / "state", tmp_path / "root"
    bundle, work = (folder / _containerd.TASKS / place / "web" for folder in (state, root))
    for folder in (bundle, work):
        folder.mkdir(parents=True)
    (bundle / "work").symlink_to(work)
    pretend = f"import os, sys; open('/proc/self/comm', 'w').write('{program}'); os.setuid(int(sys.argv[1])); print(flush=True); sys.stdin.read()"
    for uid in {os.geteuid(), 65534} if os.geteuid() == 0 else {os.geteuid()}:
        shim = subprocess.Popen([sys.executable, "-c", pretend, str(uid)], cwd=bundle, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with shim:  # closes its input, which ends it
            assert shim.stdout and shim.stdout.readline() == b"\n"
            assert _containerd._places().get(str(state)) == ([str(root)] if believed and uid == 0 else None)


def test_containerd_of_k0s() -> None:
    assert _containerd._places()["/run/k0s/containerd"] == ["/var/lib/k0s/containerd"]


def test_containerd_s_pod_in_a_virtual_machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Kata's pods, no process is the sandbox's. Its namespace is bound to a path as that of every pod is. No Kata runs here: this is its layout."""
    state, root = tmp_path / "state", tmp_path / "root"
    monkeypatch.setattr(_containerd, "_places", lambda: {str(state): [str(root)]})
    names = {"io.kubernetes.cri.sandbox-name": "vm", "io.kubernetes.cri.sandbox-namespace": "shop"}
    for name, more in (("a" * 64, {"io.kubernetes.cri.container-type": "sandbox"}),
                       ("b" * 64, {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "app"})):  # fmt: skip
        bundle = state / _containerd.TASKS / "k8s.io" / name
        bundle.mkdir(parents=True)
        network = [{"type": "network", "path": "/proc/self/ns/net" if more["io.kubernetes.cri.container-type"] == "container" else f"{tmp_path}/netns"}]
        (bundle / "config.json").write_text(json.dumps({"annotations": {**names, **more}, "linux": {"namespaces": network}}))
        (bundle / "shim-binary-path").write_text("/usr/bin/containerd-shim-kata-v2")
    bound = tmp_path / "netns"
    bound.symlink_to("/proc/self/ns/net")
    monkeypatch.setattr(_bundle.Bundle, "bound", property(lambda self: self._network))
    engine = _containerd.Containerd()
    told = {one.name: (one.state, one.bound, one.handler) for one in engine.containers()}
    assert told == {"shop/vm": ("running", str(bound), "containerd-shim-kata-v2"), "shop/vm/app": ("created", None, "containerd-shim-kata-v2")}
    bound.unlink()
    assert {one.name: one.state for one in engine.containers()} == {"shop/vm": "exited", "shop/vm/app": "created"}
    metadata = root / _containerd.METADATA
    metadata.parent.mkdir(parents=True)
    tree = {"v1": {"k8s.io": {"containers": {"b" * 64: {"runtime": {"name": "io.containerd.kata.v2"}}}}}}
    database(metadata, meta(0, 3, 6), meta(1, 3, 5), page(2, 16, []), leaf(3, tree))
    assert [one.handler for one in engine.containers() if one.name == "shop/vm/app"] == ["io.containerd.kata.v2"]


@pytest.mark.parametrize(
    ("handler", "shows"),
    [(None, True), ("runc", True), ("io.containerd.runc.v2", True), ("crun", True), ("containerd-shim-runc-v2", True), ("nvidia", True),
     ("kata", False), ("io.containerd.kata.v2", False), ("io.containerd.runsc.v1", False), ("aws.firecracker", False)],
)  # fmt: skip
def test_runtime_that_shows_processes(handler: str | None, shows: bool) -> None:
    assert shows_processes(handler) is shows


# --- CRI-O


def crio(folder: pathlib.Path, name: str, annotations: dict[str, str], network: str, pid: int = 0) -> None:
    """What CRI-O writes of a container."""
    userdata = folder / name / "userdata"
    userdata.mkdir(parents=True)
    config = {"annotations": {"io.container.manager": "cri-o", **annotations}, "linux": {"namespaces": [{"type": "network", "path": network}]}}
    (userdata / "config.json").write_text(json.dumps(config))
    if pid:
        (userdata / "pidfile").write_text(str(pid))


def test_crio(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod of the kubelet's and one of crictl's, whose container has no label; neither sandbox has a process."""
    monkeypatch.setattr(_crio, "CONTAINERS", str(tmp_path / "containers"))
    monkeypatch.setattr(_bundle.Bundle, "bound", property(lambda self: self._network))
    folder, netns = tmp_path / "containers", tmp_path / "netns"
    netns.symlink_to("/proc/self/ns/net")
    kubelet = {"io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop"}
    for name, (pod, labels) in {"a" * 64: ("web-0", {**kubelet, "io.kubernetes.container.name": "POD"}), "c" * 64: ("plain-1", {"app": "plain"})}.items():
        crio(folder, name, {
            "io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.SandboxID": name, "io.kubernetes.cri-o.Namespace": "shop",
            "io.kubernetes.cri-o.KubeName": pod, "io.kubernetes.cri-o.Labels": json.dumps(labels), "io.kubernetes.cri-o.Spoofed": "true",
            "io.kubernetes.cri-o.Metadata": json.dumps({"name": pod, "namespace": "shop"}), "io.kubernetes.cri-o.RuntimeHandler": "",
        }, str(netns))  # fmt: skip
    for name, sandbox, labels in (("b" * 64, "a" * 64, {**kubelet, "io.kubernetes.container.name": "app"}), ("d" * 64, "c" * 64, {})):
        crio(folder, name, {
            "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": sandbox, "io.kubernetes.cri-o.Labels": json.dumps(labels),
            "io.kubernetes.cri-o.Metadata": json.dumps({"name": "app" if labels else "busy", "attempt": 1}), "io.kubernetes.cri-o.Name": "k8s_busy_plain_0",
        }, str(netns), os.getpid())  # fmt: skip
    crio(folder, "e" * 64, {"io.kubernetes.cri-o.SandboxID": "gone", "io.kubernetes.cri-o.Name": "odd", "io.kubernetes.cri-o.Metadata": "[1]"}, str(netns))
    engine = _crio.Crio()
    told = {one.name: one for one in engine.containers()}
    assert {name: (one.pod, one.sandbox, one.state, one.bound and one.bound == str(netns), one.pod_name) for name, one in told.items()} == {
        "shop/web-0": ("shop/web-0", True, "running", True, "shop/web-0"), "shop/web-0/app": ("shop/web-0", False, "exited", None, "shop/web-0/app"),
        "shop/plain-1": ("shop/plain-1", True, "running", True, "shop/plain-1"),
        "shop/plain-1/busy": ("shop/plain-1", False, "exited", None, "shop/plain-1/busy"),
        "odd": (None, False, "created", None, None),
    }  # fmt: skip
    assert told["shop/plain-1/busy"].labels == {"app": "plain"}
    netns.unlink()
    netns.touch()  # as CRI-O leaves it for a moment
    gone = engine.inspect(told["shop/web-0"])
    assert gone and gone.state == "exited" and not gone.running


# --- Podman


def entry(state: int, **config: t.Any) -> tuple[str, str]:
    static = f"/var/lib/containers/storage/overlay-containers/{ID}/userdata"
    image, run = "docker.io/library/web:1", f"/run/containers/storage/overlay-containers/{ID}/userdata"
    return (json.dumps({"id": ID, "name": "web", "rootfsImageName": image, "labels": {"app": "web"}, "staticDir": static, **config}),
            json.dumps({"state": state, "pid": 42, "runDir": run, "configPath": f"{static}/config.json"}))


def podman_sqlite(path: pathlib.Path, config: t.Any, state: t.Any) -> None:
    """Podman 4.8 and newer keeps SQLite (libpod/sqlite_state.go has the schema); the Podman of the integration tests has bbolt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.executescript(
            "CREATE TABLE DBConfig (ID INTEGER, SchemaVersion INTEGER, OS TEXT, StaticDir TEXT, TmpDir TEXT, GraphRoot TEXT, RunRoot TEXT,"
            " GraphDriver TEXT, VolumeDir TEXT);"
            "CREATE TABLE ContainerConfig (ID TEXT PRIMARY KEY, Name TEXT, PodID TEXT, JSON TEXT);"
            "CREATE TABLE ContainerState (ID TEXT PRIMARY KEY, State INTEGER, ExitCode INTEGER, JSON TEXT);"
        )
        made.execute("INSERT INTO DBConfig VALUES (1, 1, 'linux', '', '/run/user/1000/libpod/tmp', '', '', '', '')")
        made.execute("INSERT INTO ContainerConfig VALUES (?, 'web', NULL, ?)", (ID, config))
        made.execute("INSERT INTO ContainerState VALUES (?, 3, 0, ?)", (ID, state))
        made.commit()


def podman_bolt(path: pathlib.Path, containers: t.Mapping[str, t.Any], more: t.Mapping[str, t.Any]) -> None:
    """What older ones keep."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database(path, meta(0, 3, 6), meta(1, 3, 5), page(2, 16, []), leaf(3, {"ctr": containers, "runtime-config": more}))


@pytest.fixture(name="storage")
def make_storage(monkeypatch: pytest.MonkeyPatch, limits: None) -> c.Iterator[pathlib.Path]:
    """The storage of a user without root, who comes there."""
    with tempfile.TemporaryDirectory(prefix="nettap-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        monkeypatch.setattr(_podman, "_owners", lambda: iter([somebody()]))
        monkeypatch.setattr(_podman, "_storage", lambda uid, own=True: folder)
        yield pathlib.Path(folder)


@pytest.mark.parametrize("kind", ["sqlite", "bbolt"])
@pytest.mark.parametrize(
    ("state", "alive", "told", "running"),
    [
        (3, True, "running", True), (5, True, "paused", True), (8, True, "running", True), (3, False, "exited", False), (5, False, "exited", False),
        (6, False, "exited", False), (1, False, "configured", False), (2, False, "created", False), (99, False, "unknown", False),
    ],
)  # fmt: skip
def test_podman(storage: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str, state: int, alive: bool, told: str, running: bool) -> None:
    config, now = entry(state)
    if kind == "sqlite":
        podman_sqlite(storage / "db.sql", config, now)
    else:
        podman_bolt(storage / "libpod/bolt_state.db", {ID: {"config": config, "state": now}}, {"tmp-dir": "/run/user/1000/libpod/tmp"})
    monkeypatch.setattr(_bundle, "state", lambda _pid, _identity: "running" if alive else "exited")
    engine = _podman.Podman()
    assert engine.present()
    found, = engine.containers()
    assert (found.runtime, found.id, found.name, found.image, found.labels) == ("podman", ID, "web", "docker.io/library/web:1", {"app": "web"})
    assert (found.state, found.running, found.pid, found.record) == (told, running, 42, None)
    assert found.identity is not None and found.identity.owner == somebody() and found.told_by_user
    assert found.identity.records == (f"/run/user/1000/runc/{ID}/state.json", f"/run/user/1000/crun/{ID}/status")
    assert found.identity.pid_file == f"/run/containers/storage/overlay-containers/{ID}/userdata/pidfile"
    assert engine.inspect(found) == found
    (storage / ("db.sql" if kind == "sqlite" else "libpod/bolt_state.db")).write_text("nonsense" * 100)
    assert engine.inspect(found) is None  # the user has spoilt it meanwhile


@pytest.mark.parametrize(
    ("config", "state", "told"),
    [
        ({"id": 7, "labels": [], "rootfsImageName": {}}, {"pid": {}, "state": []}, ("7", 0, "unknown")),
        ({"id": ID, "pid_file": "/x"}, {"pid": "7", "runDir": 5, "configPath": "\0"}, (ID, 0, "unknown")),
        ({"id": ID, "staticDir": "\ud800"}, {"pid": -1, "state": 3}, (ID, 0, "exited")),
        ({"id": ID}, {"pid": 10**300, "state": 3}, (ID, 0, "exited")),
    ],
)
def test_podman_with_odd_entries(storage: pathlib.Path, config: dict[str, t.Any], state: dict[str, t.Any], told: tuple[str, int, str]) -> None:
    podman_sqlite(storage / "db.sql", json.dumps(config), json.dumps(state))
    found, = _podman.Podman().containers()
    assert (found.id, found.pid, found.state) == told


def test_podman_whose_database_is_none(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's: that must be known."""
    (tmp_path / "db.sql").write_text("nonsense" * 100)
    monkeypatch.setattr(_podman, "_owners", lambda: iter([0]))
    monkeypatch.setattr(_podman, "_storage", lambda uid, own=True: str(tmp_path))
    with pytest.raises(EngineError, match=rf"Podman's database {tmp_path}/db\.sql cannot be read \("):
        _podman.Podman().containers()


def endless(storage: pathlib.Path) -> None:
    """A table that is a question without an end."""
    with contextlib.closing(sqlite3.connect(storage / "db.sql")) as made:
        made.executescript("CREATE VIEW ContainerConfig AS WITH RECURSIVE n(ID) AS (SELECT 1 UNION ALL SELECT ID + 1 FROM n) SELECT ID, ID AS JSON FROM n;"
                           "CREATE VIEW ContainerState AS SELECT 0 AS ID, '' AS JSON;")  # fmt: skip


def piped(storage: pathlib.Path) -> None:
    """SQLite opens a journal and waits for its writer."""
    podman_sqlite(storage / "db.sql", *entry(3))
    os.mkfifo(storage / "db.sql-journal")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda storage: podman_bolt(storage / "libpod/bolt_state.db", {"x": {"config": {}, "state": {}}}, {}),
        lambda storage: podman_bolt(storage / "libpod/bolt_state.db", {"x": "config state"}, {}),
        lambda storage: podman_bolt(storage / "libpod/bolt_state.db", {ID: dict(zip(("config", "state"), entry(3)))}, {"tmp-dir": {}}),
        lambda storage: database(storage / "db.sql", b"x" * 9000),
        lambda storage: podman_sqlite(storage / "db.sql", None, None),
        lambda storage: podman_sqlite(storage / "db.sql", 7, 7),
        lambda storage: podman_sqlite(storage / "db.sql", "[" * 100000, "{}"),
        lambda storage: os.symlink("/dev/zero", storage / "db.sql"),
        lambda storage: os.symlink("/etc/shadow", storage / "db.sql"),
        piped,
        endless,
    ],
)
def test_user_s_database_that_is_none_hides_nothing(storage: pathlib.Path, spoil: c.Callable[[pathlib.Path], None]) -> None:
    """Nobody without root may keep root from all other containers, nor make the look-up wait or fill its memory."""
    os.makedirs(storage / "libpod")
    spoil(storage)
    begun = time.monotonic()
    assert _podman.Podman().containers() == []
    assert time.monotonic() - begun < 30


def test_pipe_is_no_database(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EngineError):
        _bolt.read(f"{tmp_path}/pipe", lambda root: root.tree())


def test_name_of_a_folder_is_no_setting_of_sqlite(tmp_path: pathlib.Path) -> None:
    """What follows a ? in its addresses are settings: the file that they lead to must not be made."""
    podman_sqlite(tmp_path / "s?mode=rwc&a=" / "db.sql", *entry(3))
    rows, temporary = _podman._sqlite(f"{tmp_path}/s?mode=rwc&a=/db.sql")
    assert (rows[0][0], temporary) == (ID, "/run/user/1000/libpod/tmp") and not (tmp_path / "s").exists()


def test_podman_with_storage_elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers-storage.conf(5) has it."""
    user = pwd.struct_passwd(("u", "x", 4242, 4242, "", str(tmp_path / "home"), ""))
    (tmp_path / "storage.conf").write_text(
        '[storage]\ndriver = "overlay"\n# graphroot = "/no"\ngraphroot = "/data/containers"\nrootless_storage_path = "$HOME/c/${UID}"\n'
    )
    monkeypatch.setattr(_podman, "CONFIGURATIONS", (f"{tmp_path}/none.conf", f"{tmp_path}/storage.conf"))
    monkeypatch.setattr(_podman, "STORAGE", f"{tmp_path}/root")
    monkeypatch.setattr(_podman, "_users", lambda: {0, 7, 4242})
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {4242: user}[uid])
    home = tmp_path / "home"
    assert [_podman._storage(uid) for uid in (0, 4242)] == ["/data/containers", f"{home}/c/4242"]
    assert list(_podman._owners()) == []  # a user without a place for Podman is not asked
    own = home / _podman.USER_CONFIGURATION
    own.parent.mkdir(parents=True)
    for text, folder in (('graphroot = "$HOME/mine"', f"{home}/mine"), ('rootless_storage_path = "/srv/$USER"', "/srv/u"), ("", f"{home}/c/4242")):
        own.write_text(text)
        assert _podman._storage(4242) == folder
        assert _podman._storage(4242, own=False) == f"{home}/c/4242"
    own.write_bytes(b'graphroot = "\xff"')
    assert _podman._storage(4242) == "\udcff"
    assert list(_podman._owners()) == [4242]
    monkeypatch.setattr(_podman, "CONFIGURATIONS", ())
    own.unlink()
    assert [_podman._storage(uid) for uid in (0, 4242)] == [_podman.STORAGE, f"{home}/{_podman.USER_STORAGE}"]
    (home / _podman.USER_STORAGE).mkdir(parents=True)
    assert list(_podman._owners()) == [4242]
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "db.sql").touch()
    assert list(_podman._owners()) == [0, 4242]


# --- the Docker SDK


@pytest.mark.parametrize("why", ["Not supported URL scheme http+docker", "HTTPConnection.request() got an unexpected keyword argument 'chunked'"])
def test_sdk_that_is_older_than_what_it_stands_on(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """As SDK 5.0.3 says beside requests 2.32, and beside urllib3 2."""

    def refuse(**_options: t.Any) -> None:
        raise docker.errors.DockerException(f"Error while fetching server API version: {why}")

    monkeypatch.setattr(docker, "APIClient", refuse)
    with pytest.raises(DependencyError) as raised:
        _docker.Docker("unix:///run/docker.sock").containers()
    assert str(raised.value) == (
        f"The Docker SDK for Python {docker.__version__} on the host does not work with the requests {requests.__version__} and urllib3 "
        f"{urllib3.__version__} that are there: take all three from the distribution, up to date, or SDK 7.1 or newer with pip."
    )  # fmt: skip
