# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's view of names and links, for a program of the host that enters no more than its network namespace: as ip-netns(8) exec gives one.

Which hosts and resolvers a name leads to is in files of /etc, and /sys shows the links of the namespace in which it was mounted. So the program
gets a mount namespace of its own, with these files of the container's and another /sys. The host never sees these mounts.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _untrusted

# The files, each with what stands for it where the container has none. glibc finds names by files and dns where there is no nsswitch.conf;
# the host's may ask the host's systemd-resolved.
FILES = {"/etc/resolv.conf": b"", "/etc/hosts": b"", "/etc/nsswitch.conf": b"hosts: files dns\n"}
NAMED = "/etc/netns"  # the files of a named namespace, see ip-netns(8)
# Services of the host that glibc asks for names: nscd, systemd-resolved, Avahi. They would answer for the host.
_RESOLVERS = ("/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket")
# linux/mount.h, linux/sched.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 2, 4, 8, 4096, 16384, 1 << 19
_MNT_DETACH = 2
_CLONE_NEWNS = 0x20000
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass(frozen=True)
class View:
    """files are contents by the paths that they are to have. missing are the paths that the host does not have, so that nothing can be shown there."""

    files: t.Mapping[str, bytes]
    missing: tuple[str, ...]


def of(namespace: _netns.Namespace, resolver: str | None = None) -> View:
    """Return the view of the process that a namespace was opened for; of a named namespace, that of its folder below NAMED. Raise NamespaceError.

    resolver is the path of the resolv.conf for a namespace without a process.
    """
    root = namespace.root()
    found: dict[str, bytes] = {}
    if root is not None:
        try:
            for path, otherwise in FILES.items():
                with refused_as(NamespaceError, f"{path} of process {namespace.pid} cannot be read", "set container_files: false to do without"):
                    content = _untrusted.content_inside(root, path)
                found[path] = otherwise if content is None else content
        finally:
            os.close(root)
    elif resolver:
        with refused_as(NamespaceError, f"{resolver} cannot be read", "set container_files: false to do without"):
            found = {**FILES, "/etc/resolv.conf": _untrusted.content(resolver)}
    elif os.path.dirname(os.path.normpath(namespace.path)) == _netns.NAMED:
        for path in FILES:
            own = os.path.join(NAMED, os.path.basename(namespace.path), os.path.basename(path))
            with refused_as(NamespaceError, f"{own} cannot be read", "set container_files: false to do without"):
                if os.path.exists(own):
                    found[path] = _untrusted.content(own)
    if found:
        found.update((path, b"") for path in _RESOLVERS if os.path.exists(path))
    missing = tuple(path for path in found if not os.path.exists(path))
    return View({path: content for path, content in found.items() if path not in missing}, missing)


class Preparation:
    """What a child process calls before it becomes a program (preexec_fn of subprocess.Popen), to see a view from then on."""

    def __init__(self, view: View, fd: int) -> None:
        """Take the view, and the descriptor of the network namespace whose links are to be seen."""
        self._view = view
        self._fd = fd
        self._said, self._say = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __del__(self) -> None:
        os.close(self._said)
        os.close(self._say)

    def __call__(self) -> None:
        """Enter a mount namespace with the view. Raise OSError."""
        try:
            _enter(self._view, self._fd)
        except OSError as error:
            os.write(self._say, str(error.strerror or error).encode())
            raise

    def problem(self) -> str:
        """Return what went wrong in the child process."""
        try:
            return os.read(self._said, 4096).decode(errors="replace")
        except BlockingIOError:
            return "it could not be prepared"


def _enter(view: View, fd: int) -> None:
    _done(_LIBC.unshare(_CLONE_NEWNS), "no mount namespace can be made")
    _mount(None, "/", None, _MS_REC | _MS_SLAVE)  # from here on, no mount of ours reaches the host
    _done(_LIBC.setns(fd, _netns.CLONE_NEWNET), "the network namespace cannot be entered")
    read_only = _MS_RDONLY if os.statvfs("/sys").f_flag & os.ST_RDONLY else 0
    below = _mounts_below("/sys")
    old = os.open("/sys", os.O_PATH | os.O_CLOEXEC)
    # The contents need a file system that is in this mount namespace; /sys is about to be covered anyway.
    _mount("tmpfs", "/sys", "tmpfs", _MS_NOSUID | _MS_NODEV)
    for number, (path, content) in enumerate(view.files.items()):
        with open(f"/sys/{number}", "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), 0o644)
        _mount(f"/sys/{number}", path, None, _MS_BIND)
    _done(_LIBC.umount2(b"/sys", _MNT_DETACH), "/sys cannot be uncovered")  # the files stay
    _mount("sysfs", "/sys", "sysfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | read_only)
    for point in below:
        _mount(f"/proc/self/fd/{old}/{point}", f"/sys/{point}", None, _MS_BIND | _MS_REC)


def _mounts_below(folder: str) -> list[str]:
    """Return the mount points below a folder, relative to it, without those below another."""
    found: list[str] = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        points = sorted({line.split(" ")[4] for line in stream})
    for point in points:
        name = point[len(folder) + 1:]
        if point.startswith(f"{folder}/") and not any(name.startswith(f"{other}/") for other in found):
            found.append(name)
    return found


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    words = [word.encode("utf-8", "surrogateescape") if word else None for word in (source, target, kind)]
    _done(_LIBC.mount(*words, ctypes.c_ulong(flags), None), f"nothing can be mounted at {target}")


def _done(code: int, failure: str) -> None:
    if code != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{failure}: {os.strerror(error)}")
