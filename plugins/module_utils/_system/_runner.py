# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of Ansible that a task works for. It runs on the controller, which may be this machine or another one."""

from __future__ import annotations

import contextlib
import dataclasses
import os

from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process, start_time


def boot() -> str:
    """Return the ID of this boot of this machine (random(4)); "" where the system has none."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()
    return ""


def _namespace() -> int:
    """Return the inode of the PID namespace that PIDs are told in; 0 where the system has none."""
    with contextlib.suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0


@dataclasses.dataclass(frozen=True)
class Runner:
    """A process, with the machine, boot and PID namespace that its PID belongs to. boot is "" where they cannot be told."""

    machine: str = ""
    boot: str = ""
    namespace: int = 0
    pid: int = 0
    started: int = 0

    @classmethod
    def of(cls, pid: int) -> Runner:
        """Return a process of this machine."""
        return cls(os.uname().nodename, boot(), _namespace(), pid, start_time(pid) or 0)

    def alive(self) -> bool | None:
        """Return whether the process runs; None where its machine or PID namespace is another one, or is not known."""
        if not self.boot or (self.boot, self.namespace) != (boot(), _namespace()):
            return None
        return Process(self.pid, self.started).alive()
