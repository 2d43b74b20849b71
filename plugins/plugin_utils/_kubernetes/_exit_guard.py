# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard that runs a command once a run of Ansible has ended, however it ends.

An interrupted run of Ansible runs no `always` section, and a killed one runs nothing at all.
As a program: _exit_guard.py PID MESSAGE COMMAND [ARGUMENT...]. It waits for the process and for its children. After SIGTERM,
these still stop and fetch captures when their parent is gone. The guard sends them SIGTERM in case no one else did.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import typing as t

_LOOK = 0.5  # seconds between looks for new children: workers that have to be waited for live longer
_PATIENCE = 600  # seconds for children to finish


def arm(pid: int, message: str, command: list[str], env: t.Mapping[str, str]) -> int | None:
    """Start the guard of a process, with env added to the environment. Return its PID.

    Return None where the system cannot report the end of a process (pidfd_open(2)).
    """
    if not hasattr(os, "pidfd_open"):
        return None
    with contextlib.ExitStack() as stack:
        # The guard's messages go to the standard error of the run, for its readers. That may be a file, or closed.
        said = stack.enter_context(open(os.devnull, "wb"))
        with contextlib.suppress(OSError):
            said = stack.enter_context(open(f"/proc/{pid}/fd/2", "ab"))
        process = subprocess.Popen(  # the guard outlives us; pylint: disable=consider-using-with
            [sys.executable, os.path.abspath(__file__), str(pid), message, *command],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, env={**os.environ, **env},
        )
    process.returncode = 0  # we do not wait for it: Python must not warn that it still runs
    return process.pid


def disarm(pid: int) -> None:
    """End a guard that is not needed any more. Do nothing to a process that is no guard, or is no guard any more."""
    with contextlib.suppress(OSError):
        guard = os.pidfd_open(pid)
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                if os.path.abspath(__file__).encode() in stream.read().split(b"\0"):
                    signal.pidfd_send_signal(guard, signal.SIGTERM)
        finally:
            os.close(guard)


def wait(pid: int) -> None:
    """Wait until the process has ended, and then the children that it had at its end, which get SIGTERM."""
    running: dict[int, int] = {}
    with contextlib.suppress(ProcessLookupError):
        guarded = os.pidfd_open(pid)
        while not _ended(guarded, _LOOK):
            for child in children(pid) - running.keys():
                with contextlib.suppress(ProcessLookupError):
                    running[child] = os.pidfd_open(child)
            for child in [child for child, descriptor in running.items() if _ended(descriptor, 0)]:
                os.close(running.pop(child))
        for descriptor in running.values():
            # The children do not learn of their parent's SIGKILL. At SIGTERM, they stop and fetch the sessions for which they wait.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        for descriptor in running.values():
            _ended(descriptor, _PATIENCE)


def _ended(descriptor: int, patience: float) -> bool:
    return bool(select.select([descriptor], [], [], patience)[0])


def children(pid: int) -> set[int]:
    """Return the PIDs of the children of a process. Not every kernel has its own list of them (/proc/PID/task/TID/children)."""
    found = set()
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit():
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stream:
                    if int(stream.read().rpartition(")")[2].split()[1]) == pid:
                        found.add(int(name))
    return found


def main(pid: int, message: str, command: list[str]) -> None:
    """Wait, then run the command. Print its output only when it fails."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wait(pid)
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
