# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts about a container in its OCI bundle (config.json of the OCI runtime specification) and its PID file."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import EngineError
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _host_files, _netns, _process, _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity


class Bundle:
    """The config.json of a container. A container that was never started may have none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._config = _untrusted.json_object(path)

    @property
    def annotations(self) -> dict[str, str]:
        """Return the container's annotations."""
        found = self._config.get("annotations")
        return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}

    @property
    def isolated(self) -> bool:
        """Return whether the container has a network namespace of its own. One with a path below /proc may be another container's, so the host's."""
        if self._network is None or self._network.startswith("/proc/"):
            return False
        with contextlib.suppress(OSError):  # it is not bound any more, or we are not root
            # CRI-O binds the host's to a path like any other, for pods in the host's network.
            return not (self._network and os.path.samefile(_host_files.path(self._network), _netns.host_path()))
        return True

    @property
    def bound(self) -> str | None:
        """Return the path to which the runtime has bound the network namespace that the container joins; None where there is none, or root did not write so."""
        with contextlib.suppress(OSError):
            if self._network and not self._network.startswith("/proc/") and os.stat(self._path).st_uid == 0:
                return _host_files.path(self._network)
        return None

    @property
    def _network(self) -> str | None:
        """Return the path of the network namespace that the container joins, "" where it gets a new one, None where it stays in the runtime's."""
        linux = self._config.get("linux")
        namespaces = linux.get("namespaces") if isinstance(linux, dict) else None
        network = [one for one in namespaces if isinstance(one, dict) and one.get("type") == "network"] if isinstance(namespaces, list) else []
        return str(network[0].get("path", "")) if network else None


def state(pid: int, identity: Identity, bound: str | None = None) -> str:
    """Return the state of a container whose runtime recorded this PID (0: none). If another process has the PID by now, the container has ended.

    A sandbox without a process runs as long as its namespace is bound to the path bound.
    """
    if not pid and bound:
        return "running" if _netns.is_bound(bound) else "exited"
    if not pid:
        return "created"
    started, host = _process.start_time(pid), False
    with contextlib.suppress(OSError):  # the process has ended, or we are not root
        host = os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(_netns.host_path()).st_ino
    return "running" if started is not None and not identity.doubt(pid, started, _cgroup.paths(pid), host) else "exited"


def folders(path: str, what: str) -> list[str]:
    """Return the names in a folder of a runtime; [] where there is no such folder. what is its name in errors. Raise EngineError."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise EngineError(f"{what} refuses access: root is needed on the host (become: true).") from error


def labels(found: t.Any) -> dict[str, str]:
    """Return the labels that a runtime has stored, as texts; {} where they are no mapping."""
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
