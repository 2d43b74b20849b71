# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The assignment of a supervisor: the session, and the containers whose namespaces the task has verified and opened."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Session
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _process, _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity


@dataclasses.dataclass
class Watched:
    """A container of a session.

    fd is its open namespace, pidfd its first process (None where no process was named). host is whether the namespace is
    the host's. cgroup and record are paths, None where there is none; record exists as long as the runtime knows the
    container. left_out is a filter of packets not to capture from it. gone_at is set (monotonic seconds) while the container
    does not run. seen is the PID that the last look for its return has found. returns counts its returns.
    """

    id: str
    name: str
    image: str | None = None
    fd: int = -1
    pidfd: int | None = None
    host: bool = False
    identity: Identity | None = None
    cgroup: str | None = None
    record: str | None = None
    left_out: str = ""
    gone_at: float | None = None
    seen: int | None = None
    returns: int = 0

    @classmethod
    def of(cls, stored: dict[str, t.Any]) -> Watched:
        """Return the container that dataclasses.asdict() has made JSON of."""
        identity = stored["identity"]
        return cls(**{**stored, "identity": identity and Identity(**{**identity, "records": tuple(identity["records"])})})

    def ended(self) -> bool:
        """Return whether its first process has ended."""
        return self.gone_at is not None or self.pidfd is not None and _process.has_ended(self.pidfd)

    @property
    def namespace(self) -> int:
        """Return the inode number of its network namespace, which containers can share."""
        return os.fstat(self.fd).st_ino

    def lives_in(self, namespace: int) -> bool:
        """Return whether its first process runs, and in that network namespace."""
        return self.pidfd is not None and not _process.has_ended(self.pidfd) and self.namespace == namespace

    def processes(self) -> list[int]:
        """Return the PIDs that may be the container's now: those in its cgroup or, where it has none, the one in its runtime's PID file."""
        if self.cgroup:
            return _cgroup.processes(self.cgroup)
        if self.identity is None or self.identity.pid_file is None:
            return []
        return [pid for pid in [_untrusted.pid(self.identity.pid_file, self.identity.owner)] if pid]

    def returns_to_view(self) -> bool:
        """Return whether its return can be seen."""
        return self.cgroup is not None or self.identity is not None and self.identity.pid_file is not None


@dataclasses.dataclass
class Assignment:
    """The work of one supervisor.

    directory is the session's folder, tcpdump the program's path. start_at is in seconds since the epoch (None: at once).
    ready is the descriptor on which the supervisor answers the task, once: null, or why the session could not start, as JSON.
    """

    directory: str
    tcpdump: str
    start_at: float | None
    containers: list[Watched]
    session: Session
    ready: int = -1

    @classmethod
    def of(cls, stored: dict[str, t.Any]) -> Assignment:
        """Return the assignment that stored() has made JSON of."""
        return cls(**{**stored, "containers": list(map(Watched.of, stored["containers"])), "session": Session.of(stored["session"])})

    def stored(self) -> dict[str, t.Any]:
        """Return the object that of() reads."""
        return {**dataclasses.asdict(self), "session": self.session.stored()}
