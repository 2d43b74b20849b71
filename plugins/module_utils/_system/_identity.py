# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a container: the conditions that a process must meet to count as the container's."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import struct

from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _untrusted

_NS_GET_OWNER_UID = 0xB704  # linux/nsfs.h
# Where runc and crun keep the PID and start time (clock ticks since boot) of a container's first process.
_RECORDED = {"state.json": ("init_process_pid", "init_process_start"), "status": ("pid", "process-start-time")}


@dataclasses.dataclass(frozen=True)
class Identity:
    """A container as the kernel shows it.

    id is the ID after which its cgroup is named. records are files in which the OCI runtime may have recorded its process,
    for containers that have no cgroup of their own (rootless ones without delegation). owner is the UID of the user who must
    own the process's user namespace, for a container that only that user's own files describe. isolated is whether it has a
    network namespace of its own: then a process in the host's is not the container's (a runtime's monitor carries the
    container's ID, too). pid_file is the file into which its runtime writes the PID at each start. process is PID and start
    time of a container that has neither cgroup nor record, as its supervisor's only child.
    """

    id: str
    records: tuple[str, ...] = ()
    owner: int | None = None
    isolated: bool = False
    pid_file: str | None = None
    process: tuple[int, int] | None = None

    def doubt(self, pid: int, started: int, cgroups: _cgroup.Paths, host: bool) -> str | None:
        """Return why this process cannot be the container's; None when it is. host is whether it is in the host's network namespace."""
        if not _cgroup.names(cgroups, self.id) and (pid, started) not in self._recorded():
            return "its cgroup names another"
        if self.owner is not None and _owner(pid) != self.owner:
            return f"its user namespace is not one of UID {self.owner}"
        if self.isolated and host:
            return "it is in the host's network namespace, unlike the container"
        return None

    def _recorded(self) -> set[tuple[int, int]]:
        found = {(self.process[0], self.process[1])} if self.process else set()
        for path in self.records:
            names = _RECORDED[os.path.basename(path)]
            content = _untrusted.json_object(path, self.owner)
            if all(isinstance(content.get(name), int) for name in names):
                found.add((content[names[0]], content[names[1]]))
        return found


def _owner(pid: int) -> int | None:
    """Return the UID of the user who made the user namespace of a process, see ioctl_ns(2); None when it cannot be read."""
    try:
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return int(struct.unpack("=I", fcntl.ioctl(fd, _NS_GET_OWNER_UID, bytes(4)))[0])
    except OSError:
        return None
    finally:
        os.close(fd)
