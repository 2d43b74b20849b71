# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of every runtime: a container as its runtime describes it, not yet verified against the kernel."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity


@dataclasses.dataclass(frozen=True)
class Container:
    """A container of a runtime.

    pod is NAMESPACE/NAME of the pod that the container is in, pod_container its name there. sandbox is whether it is the one
    that holds the pod's network namespace. pid is 0 when it does not run. record is a path that exists as long as the runtime
    knows the container, running or not (None where there is none to see). identity holds what must be true of its process.
    cgroup is the path that its cgroup will have, for a container that does not run, where that can be known and it will have a network of its own.
    """

    runtime: str
    id: str
    name: str
    image: str | None = None
    pod: str | None = None
    pod_container: str | None = None
    sandbox: bool = False
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    state: str = "running"
    pid: int = 0
    record: str | None = None
    identity: Identity | None = None
    cgroup: str | None = None

    @property
    def final(self) -> bool:
        """Return whether it never runs again once it has ended: Kubernetes makes another one in its place, over the CRI."""
        return self.pod is not None and self.runtime in ("containerd", "crio")

    @property
    def coming(self) -> bool:
        """Return whether it does not run, its runtime will start it again, and that can be seen."""
        return self.state == "restarting" and (self.cgroup is not None or self.identity is None or self.identity.pid_file is not None)

    @property
    def running(self) -> bool:
        """Return whether the container has a process, and so a namespace to open."""
        return self.state in ("running", "paused")

    @property
    def told_by_user(self) -> bool:
        """Return whether only a user's own files describe the container; that user may have written anything into them."""
        return self.identity is not None and self.identity.owner is not None


def abbreviates(pattern: str, identifier: str) -> bool:
    """Return whether a pattern is an ID, or the start of a generated one. An ID that a user has chosen, as in containerd, is a name."""
    return pattern == identifier or bool(pattern) and identifier.startswith(pattern) and bool(re.fullmatch("[0-9a-f]{64}", identifier))


class Runtime(t.Protocol):
    """The interface of every runtime. To add a runtime, list a class with this interface in _runtimes/__init__.py."""

    name: str
    address: str

    def present(self) -> bool:
        """Return whether the host seems to have this runtime at all. This is cheap: it opens no connection."""

    def containers(self) -> list[Container]:
        """Return every container, running or not. PID, record and identity may be missing. Raise EngineError."""

    def inspect(self, container: Container) -> Container | None:
        """Return the container as it is now, with PID, record and identity; None when it is gone. Raise EngineError."""

    def signs(self) -> list[str]:
        """Return the paths, of files or folders, at which something changes when a container is made or started; they need not exist."""
