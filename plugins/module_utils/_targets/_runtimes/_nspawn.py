# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-nspawn: the machines that systemd-machined has registered, and those that run without it, found by their supervisors."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _process, _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _bundle
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

MACHINES = "/run/systemd/machines"  # a file for each, which machined writes: src/machine/machine.c
RUN = "/run/systemd/nspawn"  # where nspawn keeps locks and mounts
SUPERVISOR = "systemd-nspawn"
# Options that take a value and can name the machine: systemd-nspawn(1).
_NAMING = {"-M": "machine", "--machine": "machine", "-D": "path", "--directory": "path", "-i": "path", "--image": "path"}


class Nspawn:
    """Every systemd-nspawn of root's."""

    name = "nspawn"
    address = MACHINES

    def present(self) -> bool:
        """See Runtime."""
        return os.path.isdir(RUN) or bool(_registered())

    def containers(self) -> list[Container]:
        """See Runtime."""
        return list(self._found().values())

    def inspect(self, container: Container) -> Container | None:
        """See Runtime."""
        # To look for it again takes a look at every process.
        if container.identity and _bundle.state(container.pid, container.identity) == "running":
            return container
        return self._found().get(container.id)

    def signs(self) -> list[str]:
        """See Runtime. machined writes its file once the machine has its namespaces; of one without a file nobody tells."""
        return [MACHINES]

    def _found(self) -> dict[str, Container]:
        found = {}
        for name in _registered():
            told = _told(os.path.join(MACHINES, name))
            if told.get("CLASS") == "container" and told.get("SERVICE") == SUPERVISOR and told.get("LEADER", "").isdigit():
                found[name] = self._container(name, int(told["LEADER"]), Identity(told.get("UNIT") or told.get("SCOPE") or name))
        leaders = {one.pid for one in found.values()}
        for leader, name in _supervised():
            if leader not in leaders:
                name = name if name not in found else f"{name}-{leader}"
                found[name] = self._container(name, leader, Identity(name, process=(leader, _process.start_time(leader) or 0)))
        return found

    def _container(self, name: str, pid: int, identity: Identity) -> Container:
        return Container(runtime=self.name, id=name, name=name, state=_bundle.state(pid, identity), pid=pid, identity=identity)


def _registered() -> list[str]:
    """Return the names of the registered machines. The folder also has links named after their units (unit:...)."""
    return [name for name in _bundle.folders(MACHINES, f"systemd-machined's folder {MACHINES}") if ":" not in name and not name.startswith(".")]


def _told(path: str) -> dict[str, str]:
    try:
        lines = _untrusted.content(path).decode(errors="replace").splitlines()
    except OSError:  # it has ended meanwhile
        return {}
    # A unit's name may hold a backslash, which machined writes as two.
    return {key: value.replace("\\\\", "\\") for key, found, value in (line.partition("=") for line in lines) if found}


def _supervised() -> t.Iterator[tuple[int, str]]:
    """Yield the PID of the first process in each machine, and the machine's name as its supervisor was given it.

    Only a supervisor of root's in our mount namespace is believed: any other process can have that name and any argument.
    """
    here = os.readlink("/proc/self/ns/mnt")
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
            parent = _process.parent(pid)
            if not parent or _process.name(parent) != SUPERVISOR or os.stat(f"/proc/{parent}").st_uid:
                continue
            if os.readlink(f"/proc/{parent}/ns/mnt") == here and _process.numbers(pid)[1:][-1:] == [1]:
                yield pid, _machine(parent)


def _machine(supervisor: int) -> str:
    """Return the name of a machine: the one that its supervisor was given, else the last part of its folder's or image's path. Raise OSError."""
    with open(f"/proc/{supervisor}/cmdline", "rb") as stream:
        words = [os.fsdecode(word) for word in stream.read().split(b"\0")]
    given: dict[str, str] = {}
    for word, following in zip(words[1:], [*words[2:], ""]):
        option, joined, value = word.partition("=")
        if word[:2] in _NAMING and not word.startswith("--"):
            given[_NAMING[word[:2]]] = word[2:] or following
        elif option in _NAMING:
            given[_NAMING[option]] = value if joined else following
        elif not word.startswith("-") and "machine" in given:  # the program and its own options
            break
    path = given.get("path") or os.readlink(f"/proc/{supervisor}/cwd")
    return given.get("machine") or os.path.basename(path.rstrip("/")).removesuffix(".raw") or f"pid-{supervisor}"
