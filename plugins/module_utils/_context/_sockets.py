# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TCP and UDP sockets of network namespaces, with the processes that have them open."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink import _inet
from ansible_collections.nettap.containers.plugins.module_utils._system._netns import Namespace

Process = dict[str, t.Any]
_SOCKET = "socket:["  # what proc(5) shows of a socket among the files of a process; then its inode


def read(namespaces: t.Sequence[Namespace]) -> list[list[dict[str, t.Any]]]:
    """Return the sockets of each namespace. processes are those of the same namespace, with the PIDs of the host. Raise NettapError."""
    owners = _owners({namespace.inode for namespace in namespaces})
    return [
        [_describe(one, owners.get(one.inode, [])) for protocol in _inet.PROTOCOLS for one in _inet.dump(namespace.fd, protocol)] for namespace in namespaces
    ]


def _describe(one: _inet.Socket, processes: list[Process]) -> dict[str, t.Any]:
    return {
        "protocol": one.protocol,
        "local": {"address": one.own, "port": one.port},
        "peer": {"address": one.peer, "port": one.peer_port},
        "state": one.state,
        "receive_queue": one.receive_queue,
        "send_queue": one.send_queue,
        "uid": one.uid,
        "inode": one.inode,
        "processes": processes,
    }


def _owners(inodes: t.Collection[int]) -> dict[int, list[Process]]:
    """Return the processes in these network namespaces by the sockets that they have open. A process that ends meanwhile is passed over."""
    found: dict[int, list[Process]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/net").st_ino in inodes:
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
                    process = {"pid": int(pid), "command": stream.read().strip()}
                for inode in sorted(_sockets(pid)):
                    found.setdefault(inode, []).append(process)
    return found


def _sockets(pid: str) -> set[int]:
    """Return the inodes of the sockets that a process has open. Raise OSError."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            file = os.readlink(f"/proc/{pid}/fd/{name}")
            if file.startswith(_SOCKET):
                found.add(int(file[len(_SOCKET):-1]))
    return found
