# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a program of the host in namespaces of a container, with nsenter(1)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, NamespaceError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _program, _view
from ansible_collections.nettap.containers.plugins.module_utils._system._netns import Namespace

# Names of namespaces under /proc/PID/ns, to the options of nsenter(1).
OPTIONS = {"net": "net", "mnt": "mount", "uts": "uts", "ipc": "ipc", "pid": "pid", "user": "user", "cgroup": "cgroup"}
_SEARCH = "/usr/bin:/bin:/usr/sbin:/sbin"


def run(namespace: Namespace, kinds: t.Sequence[str], argv: t.Sequence[str], chdir: str | None = None, stdin: str | None = None,
        timeout: float | None = None, env: t.Mapping[str, str] | None = None, view: _view.View | None = None) -> subprocess.CompletedProcess[str]:
    """Run argv in the namespaces of kinds (keys of OPTIONS). Return its code and output (text).

    nsenter gets open, verified namespaces and no PID, so that it cannot enter those of another process. With mnt, the
    program and chdir are looked up in the container's file system. env is added to the environment of this process.
    timeout is in seconds. With a view, the program sees that instead of the host's files (not together with mnt). Raise NamespaceError, DependencyError.
    """
    nsenter = shutil.which("nsenter", path=_SEARCH) or shutil.which("nsenter")  # NixOS has it only in PATH
    if nsenter is None:
        raise DependencyError("nsenter is not installed on the host: install the package util-linux.")
    with contextlib.ExitStack() as stack:
        entries, descriptors = [], []
        for kind in dict.fromkeys(kinds):
            fd = namespace.fd if kind == "net" else namespace.other(kind)
            if kind != "net":
                stack.callback(os.close, fd)
            descriptors.append(fd)
            entries.append(f"--{OPTIONS[kind]}=/proc/self/fd/{fd}")
        if "user" in kinds and _same(namespace, "user"):
            entries = [entry for entry in entries if not entry.startswith("--user=")]  # the kernel does not let a process enter its own
        command = list(argv)
        if chdir and "mnt" in kinds:
            if _changes_folder_inside(nsenter):
                entries.append(f"--wdns={chdir}")
            else:
                command = ["sh", "-c", 'cd -- "$0" && exec "$@"', chdir, *argv]
        elif chdir and not os.path.isdir(chdir):
            raise NamespaceError(f"The folder {chdir} to change to does not exist on the host.")
        prepare = _view.Preparation(view, namespace.fd) if view else None
        try:
            process = stack.enter_context(subprocess.Popen(  # pylint: disable=ansible-bad-function,subprocess-popen-preexec-fn
                [nsenter, *entries, "--", *command], stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=descriptors, start_new_session=True,
                cwd=chdir if chdir and "mnt" not in kinds else None, env={**os.environ, **(env or {})}, preexec_fn=prepare,
            ))
        except subprocess.SubprocessError as error:
            raise NamespaceError(f"{argv[0]} cannot be shown the container's files and links ({prepare.problem() if prepare else error}): "
                                 "set container_files: false to run it with the host's.") from error
        except (OSError, ValueError) as error:  # an argument is too long, or holds a null byte
            raise NamespaceError(f"{argv[0]!r} could not be started with its arguments: {error}.") from error
        try:
            stdout, stderr = process.communicate(None if stdin is None else stdin.encode("utf-8", "surrogateescape"), timeout)
        except subprocess.TimeoutExpired as error:
            _kill_session(process.pid)
            raise NamespaceError(f"{argv[0]} did not end within {timeout:g} s and was killed.") from error
        # Ansible refuses the whole result if any of it is not UTF-8.
        return subprocess.CompletedProcess(list(argv), process.returncode, *(text.decode("utf-8", "replace") for text in (stdout, stderr)))


def _changes_folder_inside(nsenter: str) -> bool:
    """Return whether nsenter has --wdns, which came with util-linux 2.38: Debian 11 has 2.36, Ubuntu 22.04 and EL 9 have 2.37."""
    return "--wdns" in _program.run([nsenter, "--help"], NamespaceError).stdout


def _kill_session(leader: int) -> None:
    """Kill every process of a session. Its leader must not be reaped yet, so that no other session has its number.

    Killing the process group would not be enough: timeout(1) and shells with job control make groups of their own.
    """
    killed: set[int] = set()
    while found := {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == leader} - killed:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= found


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _same(namespace: Namespace, kind: str) -> bool:
    with refused_as(NamespaceError, f"The {kind} namespace of process {namespace.pid} cannot be looked at", "see whether it still runs"):
        return os.path.samefile(f"/proc/{namespace.pid}/ns/{kind}", f"/proc/self/ns/{kind}")
