# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every runtime returns: a container as its runtime describes it, not yet verified against the kernel."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity


@dataclasses.dataclass(frozen=True)
class Container:
    """A container of a runtime.

    pod is NAMESPACE/NAME of the pod that it is in, pod_container its name there; sandbox tells that it is the one that
    holds the pod's network namespace. pid is 0 when it does not run. record is a path that exists as long as the runtime
    knows the container, running or not (None where there is none to see). identity is what its process must prove.
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

    @property
    def running(self) -> bool:
        """Whether it has a process, so a namespace to look into."""
        return self.state in ("running", "paused")

    @property
    def told_by_user(self) -> bool:
        """Whether a user alone has told of it, who could have told anything."""
        return self.identity is not None and self.identity.owner is not None


def abbreviates(pattern: str, identifier: str) -> bool:
    """Whether a pattern is an ID or the start of one that was generated: somebody's own ID, as containerd has them, is a name."""
    return pattern == identifier or bool(pattern) and identifier.startswith(pattern) and bool(re.fullmatch("[0-9a-f]{64}", identifier))


class Runtime(t.Protocol):
    """What a runtime module offers; a further one is a class like this in _runtimes/__init__.py."""

    name: str
    address: str

    def present(self) -> bool:
        """Whether the host seems to have this runtime at all (cheap: no connection)."""

    def containers(self) -> list[Container]:
        """Every container, running or not; PID, record and identity may be missing. Raises EngineError."""

    def inspect(self, container: Container) -> Container | None:
        """The container as it is now, with PID, record and identity; None when it is gone. Raises EngineError."""
