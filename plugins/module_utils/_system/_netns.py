# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces: opening them with proof of whose they are, and entering them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import MissingError, NamespaceError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _process
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity

CLONE_NEWNET = 0x40000000  # linux/sched.h
NAMED = "/run/netns"  # where ip-netns(8) binds named namespaces
_ROOT = "run as root of the host itself (become: true), with room for open files (ulimit -n)"
_LIBC = ctypes.CDLL(None, use_errno=True)


def host_path() -> str:
    """Path of the host's own network namespace: that of init, or ours where a sandbox hides init from root."""
    try:
        os.stat("/proc/1/ns/net")
    except PermissionError:
        return "/proc/self/ns/net"
    return "/proc/1/ns/net"


@contextlib.contextmanager
def host() -> t.Iterator[int]:
    """A descriptor of the host's own network namespace, for the block. Raises NamespaceError."""
    with refused_as(NamespaceError, "The host's network namespace cannot be opened", _ROOT):
        fd = os.open(host_path(), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class Namespace:
    """An open network namespace: the descriptor pins it, so that what was verified is what gets entered.

    Attributes: fd, inode (number of the namespace), path (how it was reached), host (is it the host's own),
    pid, started (clock ticks since boot), pidfd and cgroups of the process it belongs to; None and [] for a bare path.
    """

    def __init__(self, fd: int, path: str, pid: int | None = None, started: int | None = None, pidfd: int | None = None,
                 cgroups: _cgroup.Paths | None = None) -> None:
        self.fd = fd
        self.path = path
        self.pid = pid
        self.started = started
        self.pidfd = pidfd
        self.cgroups = cgroups or []
        self.inode = os.fstat(fd).st_ino
        with refused_as(NamespaceError, "The host's network namespace cannot be looked at", _ROOT):
            self.host = self.inode == os.stat(host_path()).st_ino

    def close(self) -> None:
        """Closes the descriptors."""
        os.close(self.fd)
        if self.pidfd is not None:
            os.close(self.pidfd)

    def other(self, kind: str) -> int:
        """Descriptor of another namespace (mnt, uts, ipc, pid, user, cgroup) of the same process; the caller closes it."""
        if self.pid is None or self.pidfd is None:
            raise NamespaceError(f"{self.path} names a network namespace only: it has no {kind} namespace to enter.")
        fd = None
        refusals = refused_as(NamespaceError, f"The {kind} namespace of process {self.pid} cannot be opened", _ROOT)
        with refusals, contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fd = os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        if fd is not None and not _process.has_ended(self.pidfd):  # else the PID may have been another process's while we opened
            return fd
        if fd is not None:
            os.close(fd)
        raise MissingError(f"Process {self.pid} ended while its {kind} namespace was opened.")


def open_process(pid: int, identity: Identity | None = None) -> Namespace:
    """Opens the network namespace of a process.

    The process is held by a pidfd before anything is read of it and must still run after, so all was of one process.
    With an identity it must be that container's: a PID that another process has taken over is refused, and an engine's monitor.
    Raises NamespaceError.
    """
    with contextlib.ExitStack() as undo:
        try:
            pidfd = _process.pidfd_open(pid)
            undo.callback(os.close, pidfd)
            started = _process.start_time(pid)
            cgroups = _cgroup.paths(pid)
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, fd)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise MissingError(f"Process {pid} ended before its network namespace could be opened.") from error
        except PermissionError as error:
            raise NamespaceError(f"The network namespace of process {pid} cannot be opened: root is needed (become: true).") from error
        except OSError as error:
            raise NamespaceError(f"The network namespace of process {pid} cannot be opened: {error.strerror}.") from error
        if started is None or _process.has_ended(pidfd):
            raise MissingError(f"Process {pid} ended before its network namespace could be opened.")
        namespace = Namespace(fd, f"/proc/{pid}/ns/net", pid, started, pidfd, cgroups)
        doubt = identity.doubt(pid, started, cgroups, namespace.host) if identity else None
        if identity and doubt:
            raise NamespaceError(f"Process {pid} does not belong to container {identity.id[:12]} ({doubt}): "
                                 "the PID was reused, or the engine runs on another host; run the task again.")
        undo.pop_all()
    return namespace


def open_path(name: str) -> Namespace:
    """Opens a named namespace (ip-netns(8)) or a path to one. Raises NamespaceError."""
    path = name if "/" in name else os.path.join(NAMED, name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        known = ", ".join(sorted(os.listdir(NAMED))) if os.path.isdir(NAMED) else ""
        raise MissingError(f"There is no network namespace {path} on this host (named ones: {known or 'none'}).") from error
    except OSError as error:
        raise NamespaceError(f"The network namespace {path} cannot be opened: {error.strerror}.") from error
    try:
        with entered(fd):  # the kernel refuses what is no network namespace
            pass
    except NamespaceError:
        os.close(fd)
        raise
    return Namespace(fd, path)


def leads_to(path: str, inode: int) -> bool:
    """Whether a path leads to the namespace of that inode number. Raises NamespaceError."""
    refusals = refused_as(NamespaceError, f"{path} cannot be looked at", _ROOT)
    with refusals, contextlib.suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return os.stat(path).st_ino == inode
    return False


def processes(inode: int) -> list[int]:
    """PIDs of the processes in the network namespace of that inode number."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):  # it may end while we look
            if os.stat(f"/proc/{pid}/ns/net").st_ino == inode:
                found.append(pid)
    return found


@contextlib.contextmanager
def entered(fd: int) -> t.Iterator[None]:
    """Runs the block in the network namespace of fd: sockets opened and processes started in it stay there.

    Only the calling thread moves. /sys keeps showing the links of the namespace it was mounted in: ask netlink instead.
    """
    with refused_as(NamespaceError, "The own network namespace cannot be opened, so no other is entered", _ROOT):
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(fd)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(own)


def _setns(fd: int) -> None:
    """See setns(2); os.setns only came with Python 3.12. Raises NamespaceError."""
    if _LIBC.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise NamespaceError(f"The network namespace {os.readlink(f'/proc/self/fd/{fd}')} cannot be entered: {os.strerror(error)}.")
