# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LXC, and Incus and LXD, which run their containers with it: each container has a monitor, and a cgroup that is named after it."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _process
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _bundle
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

LXC = "/var/lib/lxc"  # lxc.lxcpath of lxc.system.conf(5); a monitor names the one that it was given
LXC_OF_USERS = "/run/user/*/lxc"
# Incus's, LXD's and the LXD snap's; each has a link or folder PROJECT_NAME, or NAME in the project default.
MANAGED = ("/var/lib/incus/containers", "/var/lib/lxd/containers", "/var/snap/lxd/common/lxd/containers")
# The cgroup of a container's processes (src/lxc/cgroups/cgfsng.c); the monitor is in none of that name.
_PAYLOAD = re.compile(r"(?<![^/])lxc\.payload\.([^/]+)(?![^/])")
_MONITOR = re.compile(r"\[lxc monitor\] (/.*) ([^ ]+)")  # the title of a monitor's process: lxccontainer.c


@dataclasses.dataclass(frozen=True)
class _Running:
    """A container that runs: the folder in which LXC has its configuration, its name there, its first process and what must be true of that."""

    path: str
    name: str
    pid: int
    identity: Identity


class Lxc:
    """LXC, root's and that of users."""

    name = "lxc"
    address = LXC
    _folders: tuple[str, ...] = (LXC,)

    def present(self) -> bool:
        """See Runtime."""
        return os.path.isdir(LXC) or bool(glob.glob(LXC_OF_USERS))

    def containers(self) -> list[Container]:
        """See Runtime."""
        found = {}
        for one in _running():
            if one.path not in MANAGED:
                # Root and each user can have containers of the same name.
                key = one.name if one.path == LXC else f"{one.path}/{one.name}"
                found[key] = self._container(key, one.name, os.path.join(one.path, one.name), one)
        for name in _bundle.folders(LXC, f"LXC's folder {LXC}"):
            if name not in found and os.path.isfile(os.path.join(LXC, name, "config")):
                found[name] = self._container(name, name, os.path.join(LXC, name))
        return list(found.values())

    def inspect(self, container: Container) -> Container | None:
        """See Runtime."""
        # To look for it again takes a look at every process.
        if container.identity and _bundle.state(container.pid, container.identity) == "running":
            return container
        return next((one for one in self.containers() if one.id == container.id), None)

    def signs(self) -> list[str]:
        """See Runtime. The cgroup of a container comes with its first process. Those of users' are in cgroups of theirs, where nobody looks."""
        cgroup = _cgroup.place("", "lxc.payload.*") or ""
        return [*self._folders, os.path.dirname(cgroup), *(f"{path}/{name}" for path in glob.glob(cgroup) for name in ("cgroup.procs", "cgroup.events"))]

    def _container(self, key: str, name: str, folder: str, running: _Running | None = None) -> Container:
        return Container(
            runtime=self.name,
            id=key,
            name=name,
            state="running" if running else "stopped",
            pid=running.pid if running else 0,
            record=folder if os.path.isdir(folder) else None,
            identity=running.identity if running else None,
        )


class Incus(Lxc):
    """Incus and LXD. A container of a project other than default is called PROJECT/NAME."""

    name = "incus"
    address = ", ".join(path.rpartition("/")[0] for path in MANAGED)
    _folders = MANAGED

    def present(self) -> bool:
        """See Runtime."""
        return any(map(os.path.isdir, MANAGED))

    def containers(self) -> list[Container]:
        """See Runtime."""
        running = {(one.path, one.name): one for one in _running()}
        known = [(path, name) for path in MANAGED for name in _bundle.folders(path, f"The folder {path} of Incus or LXD")]
        keys = dict.fromkeys([*known, *(key for key in running if key[0] in MANAGED)])
        # Neither a project's name nor a container's may hold an underscore.
        return [self._container(name, name.replace("_", "/", 1), os.path.join(path, name), running.get((path, name))) for path, name in keys]


def _running() -> t.Iterator[_Running]:
    """Yield the containers whose monitor runs: its child is the first process of their PID namespace, in the cgroup named after them."""
    cgroups: dict[int, str] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        # The first is the outermost: a container may run LXC itself.
        match = next(filter(None, (_PAYLOAD.search(path) for _controllers, path in _cgroup.paths(pid))), None)
        if match:
            cgroups[pid] = match[1]
    for pid, payload in cgroups.items():
        parent = _process.parent(pid)
        # A process that lxc-attach(1) has started has a parent outside, too, but is not the first.
        if not parent or cgroups.get(parent) == payload or _process.numbers(pid)[1:][-1:] != [1]:
            continue
        with contextlib.suppress(OSError):  # it has ended
            with open(f"/proc/{parent}/cmdline", "rb") as stream:
                title = _MONITOR.match(os.fsdecode(stream.read().partition(b"\0")[0]))
            owner = os.stat(f"/proc/{parent}").st_uid  # who may have written anything into the title
            # A container in the foreground (lxc-start -F) has no such title.
            path, name = (title[1], title[2]) if title else (LXC, payload)
            yield _Running(path, name, pid, Identity(f"lxc.payload.{payload}", owner=owner or None))
