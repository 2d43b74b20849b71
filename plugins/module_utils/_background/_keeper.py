# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper: the program of a process that restarts a service where systemd does not run."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
import typing as t

STOP_SECONDS = 10.0  # seconds from SIGTERM to SIGKILL
PAUSE = 0.5  # seconds between an end and the next start
MOST_OUTPUT = 1 << 20  # bytes: the output is in memory (/run). When it is longer, its newest quarter stays.

_LOOK = 1.0  # seconds between two looks at the length of the output
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Stop(Exception):
    """A request to end the keeper."""


def main() -> None:
    """Run a program, and run it again when it has failed (on-failure) or has ended at all (always). SIGTERM ends both.

    The first argument names the file that records this process, the second is on-failure or always, the others are the
    program. The starter closes our standard input once the record is written; the kernel closes it if the starter is killed.
    """
    program: subprocess.Popen[bytes] | None = None
    try:
        signal.signal(signal.SIGTERM, _stop)
        record, restart, *argv = sys.argv[1:]
        sys.stdin.buffer.read()
        if not _recorded(record):  # the service could not be found or stopped
            return
        while True:
            try:
                # The program is waited for in many steps, and this is no Ansible module with a run_command.
                program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=_end_with_keeper)  # pylint: disable=all
            except OSError as error:
                _note(f"{argv[0]} cannot be started ({error.strerror}); it is tried again.")
                time.sleep(PAUSE)
                continue
            _wait(program, None)
            _send(program, signal.SIGKILL)
            code = program.wait()
            if code == 0 and restart != "always":
                return
            _note(f"{argv[0]} ended with {code}; it is started again.")
            time.sleep(PAUSE)
    except _Stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if program is not None and program.returncode is None:
            _send(program, signal.SIGTERM)
            _wait(program, STOP_SECONDS)
            _send(program, signal.SIGKILL)
            program.wait()


def _recorded(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as stream:
            return bool(json.load(stream)["pid"] == os.getpid())
    except FileNotFoundError:
        return False


def _note(text: str) -> None:
    with contextlib.suppress(OSError):  # the disk may be full
        sys.stderr.write(f"{time.strftime('%FT%T%z')} {text}\n")


def _stop(*_arguments: t.Any) -> None:
    raise _Stop


def _wait(program: subprocess.Popen[bytes], seconds: float | None) -> None:
    """Wait until the program has ended, or for so many seconds (None: as long as it takes).

    The program stays a zombie, so that its PID is still the number of its process group. Meanwhile its output is kept within bounds.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    pidfd = os.pidfd_open(program.pid)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        while not poller.poll(1000 * min(_LOOK, math.inf if deadline is None else max(0.0, deadline - time.monotonic()))):
            if deadline is not None and time.monotonic() >= deadline:
                return
            _trim()
    finally:
        os.close(pidfd)


def _trim() -> None:
    """Bound the file that is the output of the program and of this process. Both append to it, so what comes next follows what stays."""
    with contextlib.suppress(OSError):  # standard error is no file, or the disk is full
        size = os.fstat(sys.stderr.fileno()).st_size
        if size > MOST_OUTPUT:
            with open(f"/proc/self/fd/{sys.stderr.fileno()}", "rb") as stream:
                stream.seek(size - MOST_OUTPUT // 4)
                stay = stream.read(MOST_OUTPUT // 4)
            os.ftruncate(sys.stderr.fileno(), 0)
            os.write(sys.stderr.fileno(), stay[stay.find(b"\n") + 1:])


def _send(program: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the program and to the processes that it has started, as systemd does."""
    try:
        os.killpg(program.pid, number)
    except ProcessLookupError:
        pass


def _end_with_keeper() -> None:
    """Have the program end with its keeper: without one, it would run for good."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setsid()
