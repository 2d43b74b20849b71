# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups: the ID of a container is found in every form in which an engine writes it."""

from __future__ import annotations

import io
import os
import pathlib

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup

ID = "c572f689cd395f3621ab86b7b72341e3c7f3b46045b4b18fd89266984c1fa173"
OTHER = "0" * 63 + "1"
POD = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6b1e3f02_7c1a_4b1e_9d6e_0a1b2c3d4e5f.slice"
# Where an engine puts the container's own cgroup (FACTS.md): name of the engine and driver to path.
FORMS = {
    "docker, systemd driver": f"/system.slice/docker-{ID}.scope",
    "docker, cgroupfs driver": f"/docker/{ID}",
    "docker, other parent": f"/my.slice/my-team.slice/docker-{ID}.scope",
    "cri-containerd, systemd": f"{POD}/cri-containerd-{ID}.scope",
    "cri-containerd, kubelet in a cgroup": f"/kubelet.slice{POD}:cri-containerd:{ID}",
    "crio, systemd": f"{POD}/crio-{ID}.scope",
    "libpod, root": f"/machine.slice/libpod-{ID}.scope",
    "libpod, rootless": f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",
    "libpod, cgroupfs": f"/libpod_parent/libpod-{ID}",
    "kubepods, cgroupfs": f"/kubepods/burstable/pod6b1e3f02-7c1a-4b1e-9d6e-0a1b2c3d4e5f/{ID}",
    "containerd, ctr": f"/default/{ID}",
    "in a container of an engine": f"/docker/{OTHER}/docker/{ID}",
}
# What a process may add below when it manages cgroups itself.
NESTED = ["/init.scope", "/system.slice/nginx.service", "/container", "/app/x"]


@pytest.mark.parametrize("path", FORMS.values(), ids=FORMS.keys())
def test_forms(path: str) -> None:
    for below in ("", *NESTED):
        assert _cgroup.names([("", path + below)], ID)
        assert _cgroup.names([("cpu,cpuacct", "/"), ("memory", path + below), ("name=systemd", path + below), ("", "/")], ID)
        assert not _cgroup.names([("", path + below)], OTHER[:-1] + "2")


# What carries an ID and is not its container's: an engine's own monitor runs in the host's network namespace.
LOOK_ALIKES = {
    "nothing": "/",
    "a login": "/user.slice/user-0.slice/session-1.scope",
    "a digit less": f"/docker/{ID[:-1]}",
    "a digit more": f"/docker/{ID}0",
    "capital letters": f"/docker/{ID.upper()}",
    "twice": f"/docker/{ID}{ID}",
    "conmon of Podman": f"/machine.slice/libpod-conmon-{ID}.scope",
    "conmon of Podman, a process below": f"/machine.slice/libpod-conmon-{ID}.scope/x",
    "conmon of rootless Podman": f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-conmon-{ID}.scope",
    "conmon of Podman, cgroupfs": f"/libpod_parent/libpod-conmon-{ID}",
    "conmon of Podman, cgroupfs, v1": "/libpod_parent/conmon",
    "conmon of CRI-O": f"{POD}/crio-conmon-{ID}.scope",
    "conmon of CRI-O, cgroupfs": f"/kubepods/burstable/pod6b1e3f02-7c1a-4b1e-9d6e-0a1b2c3d4e5f/crio-conmon-{ID}",
    "shim of containerd": "/system.slice/containerd.service",
    "another of the same pod": f"{POD}/cri-containerd-{OTHER}.scope",
}


@pytest.mark.parametrize("path", LOOK_ALIKES.values(), ids=LOOK_ALIKES.keys())
def test_look_alikes(path: str) -> None:
    """With v1, conmon is in the container's parent in some hierarchies and elsewhere in others."""
    assert not _cgroup.names([("", path)], ID)
    assert not _cgroup.names([("memory", path), ("name=systemd", "/"), ("", path)], ID)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/default/web", True),
        ("/default/web/init.scope", True),
        ("/web", True),
        ("/system.slice/nerdctl-web.scope", True),
        ("/system.slice:nerdctl:web", True),
        ("/kubelet.slice/system.slice:nerdctl:web/x", True),
        ("/default/web2", False),
        ("/default/my-web", False),
        ("/default/web.service", False),
        ("/system.slice/web-server.service", False),
        ("/system.slice/libpod-conmon-web.scope", False),
        ("/my:web:x", False),
    ],
)
def test_id_that_somebody_has_chosen(path: str, found: bool) -> None:
    """As in `ctr run IMAGE web`: it could be part of any name."""
    assert _cgroup.names([("memory", path), ("", "/")], "web") is found
    assert not _cgroup.names([("", path)], "w.b"), "it is no pattern"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", [("", f"/system.slice/docker-{ID}.scope")]),
        (f"12:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n", [("cpu,cpuacct", f"/docker/{ID}"), ("name=systemd", f"/docker/{ID}"), ("", "/")]),
        ("0::/a:b:c\n", [("", "/a:b:c")]),
        ("0::/../docker\n\nnonsense\n", [("", "/../docker")]),
        ("", []),
    ],
)
def test_paths(monkeypatch: pytest.MonkeyPatch, text: str, found: _cgroup.Paths) -> None:
    monkeypatch.setattr(_cgroup, "open", lambda path, **_options: io.StringIO({"/proc/7/cgroup": text}[path]), raising=False)
    assert _cgroup.paths(7) == found


def test_paths_of_this_process_and_of_one_that_is_gone() -> None:
    assert "" in dict(_cgroup.paths(os.getpid())) or len(_cgroup.paths(os.getpid())) > 1
    assert _cgroup.paths(1 << 30) == []


# --- the folder of a container's cgroup

V1 = (
    "31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:29 / {top}/systemd rw,nosuid shared:9 - cgroup cgroup rw,{seclabel}xattr,release_agent=/usr/lib/systemd/systemd-cgroups-agent,name=systemd\n"
    "33 31 0:30 / {top}/memory rw,nosuid shared:15 - cgroup cgroup rw,{seclabel}memory\n"
    "34 31 0:31 / {top}/cpu,cpuacct rw,nosuid - cgroup cgroup rw,{seclabel}cpu,cpuacct\n"
    "35 31 0:32 / {top}/cpuset rw - cgroup cgroup rw,{seclabel}cpuset,noprefix,clone_children\n"
)
V2 = "30 23 0:27 / {top}/unified rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,{seclabel}nsdelegate,memory_recursiveprot\n"
# A container's view of the hierarchy, mounted elsewhere: its root is not the hierarchy's.
PART = "99 23 0:27 /docker/x {top}/part rw - cgroup2 cgroup rw\n98 23 0:30 /docker/x {top}/part1 rw - cgroup cgroup rw,memory\n"


@pytest.mark.parametrize("seclabel", ["", "seclabel,"], ids=["", "SELinux"])
@pytest.mark.parametrize(
    ("mounts", "controllers", "below"),
    [
        (V1 + V2, "memory", "memory"),
        (V1 + V2, "name=systemd", "systemd"),
        (V1 + V2, "cpu,cpuacct", "cpu,cpuacct"),
        (V1 + V2, "cpuset", "cpuset"),
        (V1 + V2, "", "unified"),
        (V2, "", "unified"),
        (PART + V2, "", "unified"),
        (V2 + PART, "", "unified"),
        (V1 + PART, "memory", "memory"),
        (V2, "memory", None),
        (PART, "", None),
        ("", "", None),
    ],
)
def test_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, mounts: str, controllers: str, below: str | None, seclabel: str) -> None:
    text = mounts.format(top=tmp_path, seclabel=seclabel)
    path = f"/system.slice/docker-{ID}.scope"
    for top in ("unified", "memory", "systemd", "cpu,cpuacct", "cpuset", "part", "part1"):
        os.makedirs(f"{tmp_path}/{top}{path}/init.scope")
        pathlib.Path(f"{tmp_path}/{top}{path}/cgroup.procs").touch()
    monkeypatch.setattr(_cgroup, "open", lambda name, **_options: io.StringIO({"/proc/self/mountinfo": text}[name]), raising=False)
    wanted = f"{tmp_path}/{below}{path}" if below else None
    assert _cgroup.directory([("pids", "/"), (controllers, path)], ID) == wanted
    assert _cgroup.directory([(controllers, f"{path}/init.scope/x")], ID) == wanted, "the container's own cgroup, not one below"
    assert _cgroup.directory([(controllers, path)], OTHER) is None
    assert _cgroup.directory([(controllers, path.replace("system", "other"))], ID) is None, "it is not there"


def test_directory_takes_the_first_that_can_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "b" / ID).mkdir(parents=True)
    (tmp_path / "b" / ID / "cgroup.procs").touch()
    monkeypatch.setattr(_cgroup, "_mounts", lambda: {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")})
    assert _cgroup.directory([("c", f"/{ID}"), ("a", f"/{ID}"), ("b", f"/{ID}")], ID) == str(tmp_path / "b" / ID)


@pytest.mark.parametrize(("text", "pids"), [("", []), ("1\n", [1]), ("4294\n7\n300\n", [7, 300, 4294])])
def test_processes(tmp_path: pathlib.Path, text: str, pids: list[int]) -> None:
    (tmp_path / "cgroup.procs").write_text(text)
    assert _cgroup.processes(str(tmp_path)) == pids


def test_processes_of_a_cgroup_that_is_gone(tmp_path: pathlib.Path) -> None:
    assert _cgroup.processes(str(tmp_path / "gone")) == []


@pytest.mark.parametrize(("name", "path"), [
    ("system.slice", "system.slice"), ("a-b.slice", "a.slice/a-b.slice"), ("/a.slice/a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
])
def test_slice_path(name: str, path: str) -> None:
    assert _cgroup.slice_path(name) == path


@pytest.mark.parametrize(("mounts", "path"), [
    ({"": "/sys/fs/cgroup"}, "/sys/fs/cgroup/docker/x"),
    ({"": "/sys/fs/cgroup/unified", "name=systemd": "/sys/fs/cgroup/systemd", "memory": "/sys/fs/cgroup/memory"}, "/sys/fs/cgroup/memory/docker/x"),
    ({}, None),
])
def test_place_of_a_cgroup_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, mounts: dict[str, str], path: str | None) -> None:
    monkeypatch.setattr(_cgroup, "_mounts", lambda: mounts)
    assert _cgroup.place("/docker", "x") == path
