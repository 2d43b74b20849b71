# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a program running where no service manager does: the program of a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import typing as t

STOP_SECONDS = 10.0  # from SIGTERM to SIGKILL
PAUSE = 0.5  # seconds between an end and the next start

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Stop(Exception):
    """We are told to end."""


def main() -> None:
    """Runs the arguments after the second as a program, again when it fails (on-failure) or always; SIGTERM ends both.

    The first names the record of this process. Who starts us closes our standard input once that is written, and the kernel does if they are killed.
    """
    program: subprocess.Popen[bytes] | None = None
    try:
        signal.signal(signal.SIGTERM, _stop)
        record, restart, *argv = sys.argv[1:]
        sys.stdin.buffer.read()
        if not _recorded(record):  # nobody would find us
            return
        while True:
            try:
                # It is waited for over many turns; and this is no module that has a run_command.
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
    with contextlib.suppress(OSError):  # of a full disk
        sys.stderr.write(f"{time.strftime('%FT%T%z')} {text}\n")


def _stop(*_arguments: t.Any) -> None:
    raise _Stop


def _wait(program: subprocess.Popen[bytes], seconds: float | None) -> None:
    """Until it has ended, or for so many seconds. It stays a zombie, so that its number is still that of its group."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT | (0 if deadline is None else os.WNOHANG)) is None:
        if deadline is not None and time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _send(program: subprocess.Popen[bytes], number: int) -> None:
    """To it and to what it has started, as systemd does."""
    try:
        os.killpg(program.pid, number)
    except ProcessLookupError:
        pass


def _end_with_keeper() -> None:
    """A program that nobody keeps any more would be there for good."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setsid()
