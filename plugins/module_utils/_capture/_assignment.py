# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The assignment of a supervisor: the session, and the containers whose namespaces the task has verified and opened."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _netns, _process, _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity

if t.TYPE_CHECKING:
    from ansible_collections.nettap.containers.plugins.module_utils._targets._target import Target


@dataclasses.dataclass
class Watched:
    """A container of a session.

    fd is its open namespace (-1: none was opened yet), pidfd its first process (None where no process was named). host is whether
    the namespace is the host's. cgroup and record are paths, None where there is none; cgroup exists while the container runs,
    record as long as the runtime knows it. final is whether this very container never runs again once it has ended. away is
    whether its start, or its successor, is waited for; gone_since is when it has ended (ISO 8601). seen is the PID that the last
    look has found. returns counts its starts. left_out is a filter of packets not to capture from it.

    bound is the path to which its runtime has bound its namespace, where no process stands for the container. pod is the name
    under which its runtime (for Docker, at the address docker_host) finds its successor: NAMESPACE/NAME for a whole pod,
    NAMESPACE/NAME/CONTAINER for one of its containers; None outside of pods.
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
    final: bool = False
    away: bool = False
    seen: int | None = None
    returns: int = 0
    bound: str | None = None
    runtime: str = ""
    docker_host: str | None = None
    pod: str | None = None
    gone_since: str = ""
    left_out: str = ""

    @classmethod
    def of_target(cls, target: Target, left_out: str = "") -> Watched:
        """Return the container of a target, with the target's descriptors."""
        container, namespace, identity = target.container, target.namespace, target.container.identity
        return cls(container.id, container.name, container.image, namespace.fd, namespace.pidfd, namespace.host, identity,
                   _cgroup.directory(namespace.cgroups, identity.id) if identity else None, container.record, container.final, bound=container.bound,
                   runtime=container.runtime, docker_host=container.docker_host, pod=None if container.told_by_user else container.pod_name,
                   left_out=left_out)  # fmt: skip

    @classmethod
    def of(cls, stored: dict[str, t.Any]) -> Watched:
        """Return the container that dataclasses.asdict() has made JSON of."""
        identity = stored["identity"]
        return cls(**{**stored, "identity": identity and Identity(**{**identity, "records": tuple(identity["records"])})})

    @property
    def whole_pod(self) -> bool:
        """Return whether it stands for a pod with all of its containers."""
        return self.pod is not None and self.pod.count("/") == 1

    def ended(self) -> bool:
        """Return whether it is gone, or is about to be seen so."""
        return self.away or self.lost()

    def lost(self) -> bool:
        """Return whether its first process has ended or, for one without a process, its namespace is not bound to its path any more."""
        if self.bound:
            with contextlib.suppress(NamespaceError):  # it cannot be looked at, so nothing is known to have changed
                return not _netns.leads_to(self.bound, os.fstat(self.fd).st_ino)
            return False
        return self.pidfd is not None and _process.has_ended(self.pidfd)

    @property
    def namespace(self) -> int:
        """Return the inode number of its network namespace, which containers can share; 0 where none was opened yet."""
        return os.fstat(self.fd).st_ino if self.fd >= 0 else 0

    def lives_in(self, namespace: int) -> bool:
        """Return whether it runs in that network namespace."""
        return self.fd >= 0 and self.namespace == namespace and not self.ended()

    def processes(self) -> list[int]:
        """Return the PIDs that may be the container's now: those in its cgroup or, where it has none, the one in its runtime's PID file."""
        if self.cgroup:
            return _cgroup.processes(self.cgroup)
        if self.identity is None or self.identity.pid_file is None:
            return []
        return [pid for pid in [_untrusted.pid(self.identity.pid_file, self.identity.owner)] if pid]

    def signs(self) -> list[str]:
        """Return the paths at which its start, and its removal, can be seen; [] where no start can be seen."""
        file = self.identity.pid_file if self.identity else None
        at = [self.cgroup, *(f"{self.cgroup}/{name}" for name in ("cgroup.procs", "cgroup.events"))] if self.cgroup else [file] if file else []
        return [path for path in [*at, self.record] if path] if at else []

    def forgotten(self) -> bool:
        """Return whether its runtime does not know it any more. Without a record, nobody can tell: it may come as long as we wait."""
        return self.record is not None and not os.path.isdir(self.record)


@dataclasses.dataclass
class Assignment:
    """The work of one supervisor.

    directory is the session's folder, tcpdump the program's path. start_at is in seconds since the epoch (None: at once).
    ready is the descriptor on which the supervisor answers the task, once: null, or why the session could not start, as JSON.
    arrivals is the order of a watch for new containers (options, known, environment), None where none are taken in, and
    watch the descriptor of its archive.
    """

    directory: str
    tcpdump: str
    start_at: float | None
    containers: list[Watched]
    session: Session
    ready: int = -1
    arrivals: dict[str, t.Any] | None = None
    watch: int = -1

    @classmethod
    def of(cls, stored: dict[str, t.Any]) -> Assignment:
        """Return the assignment that stored() has made JSON of."""
        return cls(**{**stored, "containers": list(map(Watched.of, stored["containers"])), "session": Session.of(stored["session"])})

    def stored(self) -> dict[str, t.Any]:
        """Return the object that of() reads."""
        return {**dataclasses.asdict(self), "session": self.session.stored()}
