# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces: opening them with proof of their owner, and entering them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import IdentityError, MissingError, NamespaceError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _process
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity

CLONE_NEWNET = 0x40000000  # linux/sched.h
NAMED = "/run/netns"  # where ip-netns(8) binds named namespaces
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_ROOT = "run as root of the host itself (become: true), with room for open files (ulimit -n)"
_LIBC = ctypes.CDLL(None, use_errno=True)


def host_path() -> str:
    """Return the path of the host's own network namespace: that of init, or ours where a sandbox hides init from root."""
    try:
        os.stat("/proc/1/ns/net")
    except PermissionError:
        return "/proc/self/ns/net"
    return "/proc/1/ns/net"


@contextlib.contextmanager
def host() -> t.Iterator[int]:
    """Open the host's own network namespace for the block. Yield its descriptor. Raise NamespaceError."""
    with refused_as(NamespaceError, "The host's network namespace cannot be opened", _ROOT):
        fd = os.open(host_path(), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class Namespace:
    """An open network namespace. The descriptor pins it, so that the verified namespace is the one that is entered.

    Attributes: fd, inode (number of the namespace), path (how it was reached), host (whether it is the host's own). Of the
    process that it belongs to: pid, started (clock ticks since boot), pidfd and cgroups; None and [] for a bare path.
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
        """Close the descriptors."""
        os.close(self.fd)
        if self.pidfd is not None:
            os.close(self.pidfd)

    def other(self, kind: str) -> int:
        """Return a descriptor of another namespace (mnt, uts, ipc, pid, user, cgroup) of the same process. The caller closes it.

        Raise NamespaceError.
        """
        if self.pid is None or self.pidfd is None:
            raise NamespaceError(f"{self.path} names a network namespace only: it has no {kind} namespace to enter. "
                                 "If it is a pod's, name one of its containers (pod: NAMESPACE/NAME/CONTAINER).")
        return self._opened(f"ns/{kind}", f"{kind} namespace", os.O_RDONLY)

    def root(self) -> int | None:
        """Return a descriptor (O_PATH) of the root folder of the process, which the caller closes; None for a bare path. Raise NamespaceError."""
        return None if self.pid is None or self.pidfd is None else self._opened("root", "root folder", os.O_PATH | os.O_DIRECTORY)

    def _opened(self, name: str, what: str, flags: int) -> int:
        fd = None
        refusals = refused_as(NamespaceError, f"The {what} of process {self.pid} cannot be opened", _ROOT)
        with refusals, contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fd = os.open(f"/proc/{self.pid}/{name}", flags | os.O_CLOEXEC)
        # Once the process has ended, we may have opened that of another process with the same PID.
        if fd is not None and self.pidfd is not None and not _process.has_ended(self.pidfd):
            return fd
        if fd is not None:
            os.close(fd)
        raise MissingError(f"Process {self.pid} ended while its {what} was opened.")


def open_process(pid: int, identity: Identity | None = None) -> Namespace:
    """Open the network namespace of a process.

    A pidfd holds the process before anything about it is read, and the process must still run afterwards: so all was read of one
    process. With an identity, the process must be that container's: refuse another process that has its PID by now, and the
    monitor of a runtime. Raise NamespaceError.
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
            raise IdentityError(f"Process {pid} does not belong to container {identity.id[:12]} ({doubt}): "
                                "the PID was reused, or the engine runs on another host; run the task again.")
        undo.pop_all()
    return namespace


def open_path(name: str) -> Namespace:
    """Open a namespace by its name (ip-netns(8)) or by a path to it. Raise NamespaceError."""
    path = name if "/" in name else os.path.join(NAMED, name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        known = ", ".join(sorted(os.listdir(NAMED))) if os.path.isdir(NAMED) else ""
        raise MissingError(f"There is no network namespace {path} on this host (named ones: {known or 'none'}).") from error
    except OSError as error:
        raise NamespaceError(f"The network namespace {path} cannot be opened: {error.strerror}.") from error
    try:
        with entered(fd):  # the kernel refuses any file that is no network namespace
            pass
    except NamespaceError:
        os.close(fd)
        raise
    return Namespace(fd, path)


def is_bound(path: str) -> bool:
    """Return whether a network namespace is bound to a path. Where a runtime has taken it away, an ordinary file or nothing is left."""
    try:
        open_bound(path).close()
    except NamespaceError:
        return False
    return True


def open_bound(path: str) -> Namespace:
    """Open the namespace that a runtime has bound (mounted) to a path, so that it stays while nobody lives in it. Raise NamespaceError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise MissingError(f"No network namespace is bound to {path} any more.") from error
    except OSError as error:
        raise NamespaceError(f"The network namespace {path} cannot be opened: {error.strerror}.") from error
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) == CLONE_NEWNET:
            return Namespace(fd, path)
    except OSError:  # ENOTTY: a file of another file system than nsfs
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    raise MissingError(f"No network namespace is bound to {path} any more.")


def inode_of(name: str) -> int:
    """Return the inode number of the namespace of that name. Raise NamespaceError."""
    namespace = open_path(name)
    namespace.close()
    return namespace.inode


def leads_to(path: str, inode: int) -> bool:
    """Return whether a path leads to the namespace of that inode number. Raise NamespaceError."""
    refusals = refused_as(NamespaceError, f"{path} cannot be looked at", _ROOT)
    with refusals, contextlib.suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return os.stat(path).st_ino == inode
    return False


def processes(inode: int) -> list[int]:
    """Return the PIDs of the processes in the network namespace of that inode number."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):  # the process may end while we look
            if os.stat(f"/proc/{pid}/ns/net").st_ino == inode:
                found.append(pid)
    return found


@contextlib.contextmanager
def entered(fd: int) -> t.Iterator[None]:
    """Run the block in the network namespace of fd. Sockets opened and processes started in the block stay there.

    Only the calling thread moves. /sys keeps showing the links of the namespace in which it was mounted: ask netlink instead.
    Raise NamespaceError.
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
    """Enter a network namespace, see setns(2); os.setns only came with Python 3.12. Raise NamespaceError."""
    if _LIBC.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise NamespaceError(f"The network namespace {os.readlink(f'/proc/self/fd/{fd}')} cannot be entered: {os.strerror(error)}.")
