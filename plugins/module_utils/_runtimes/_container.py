# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every runtime returns: a container as its engine describes it, not yet verified against the kernel."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Container:
    """A container of an engine.

    pid is 0 when it does not run. record is a path that exists as long as the engine knows the container, running or
    not (None where there is none to see).
    """

    runtime: str
    id: str
    name: str
    image: str | None = None
    pod: str | None = None
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    state: str = "running"
    pid: int = 0
    record: str | None = None

    @property
    def running(self) -> bool:
        """Whether it has a process, so a namespace to look into."""
        return self.state in ("running", "paused")


class Runtime(t.Protocol):
    """What a runtime module offers; a further one (Podman, containerd, CRI-O) is a class like this in _runtimes/__init__.py."""

    name: str
    address: str

    def present(self) -> bool:
        """Whether the host seems to have this engine at all (cheap: no connection)."""

    def containers(self) -> list[Container]:
        """Every container, running or not, without PID and record. Raises EngineError."""

    def inspect(self, container: Container) -> Container | None:
        """The container with PID and record; None when it is gone. Raises EngineError."""
