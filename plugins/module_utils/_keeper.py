# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a program running where no service manager does: the program of a process of its own."""

from __future__ import annotations

import ctypes
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
    """Runs the arguments after the first as a program, again when it fails (on-failure) or always; SIGTERM ends both."""
    signal.signal(signal.SIGTERM, _stop)
    restart, *argv = sys.argv[1:]
    program: subprocess.Popen[bytes] | None = None
    try:
        while True:
            # It is waited for over many turns; and this is no module that has a run_command.
            program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=_end_with_keeper)  # pylint: disable=all
            code = program.wait()
            if code == 0 and restart != "always":
                return
            sys.stderr.write(f"{time.strftime('%FT%T%z')} {argv[0]} ended with {code}; it is started again.\n")
            time.sleep(PAUSE)
    except _Stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if program is not None and program.poll() is None:
            program.terminate()
            try:
                program.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


def _stop(*_arguments: t.Any) -> None:
    raise _Stop


def _end_with_keeper() -> None:
    """A program that nobody keeps any more would be there for good."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setsid()
