# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of every runtime: a container as its runtime describes it, not yet verified against the kernel."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity

_OF_THE_HOST = ("runc", "crun", "youki", "nvidia", "io.containerd.runtime.v1.linux")  # nvidia's calls runc


@dataclasses.dataclass(frozen=True)
class Container:
    """A container of a runtime.

    pod is NAMESPACE/NAME of the pod that the container is in, pod_container its name there. sandbox is whether it is the one
    that holds the pod's network namespace. pid is 0 when it does not run. record is a path that exists as long as the runtime
    knows the container, running or not (None where there is none to see). identity holds what must be true of its process.
    bound is the path to which the runtime has bound the namespace of a sandbox that has no process. handler is the OCI runtime,
    as its runtime calls it (None where that does not matter or is not known). docker_host is the address of the Docker that was asked.
    resolver is the path of the resolv.conf of a sandbox that has no process.
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
    bound: str | None = None
    handler: str | None = None
    docker_host: str | None = None
    cgroup: str | None = None
    resolver: str | None = None

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
        """Return whether the container has a namespace to open: by its process or, for a sandbox without one, because it is bound to a path."""
        return self.state in ("running", "paused")

    @property
    def pod_name(self) -> str | None:
        """Return the name by which the option pod chooses it: that of the pod for a sandbox, else with the container's name there. None outside of pods."""
        return "/".join(filter(None, (self.pod, self.pod_container))) if self.pod and (self.sandbox or self.pod_container) else None

    @property
    def told_by_user(self) -> bool:
        """Return whether only a user's own files describe the container; that user may have written anything into them."""
        return self.identity is not None and self.identity.owner is not None


def shows_processes(handler: str | None) -> bool:
    """Return whether the processes of a container under this OCI runtime are the host's own. Those of Kata and the like are a virtual machine's."""
    return handler is None or any(word in handler for word in _OF_THE_HOST)


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
