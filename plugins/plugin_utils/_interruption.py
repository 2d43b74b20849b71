# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interruption of a play (Ctrl-C, a cancelled job, a killed Ansible): an action plugin notices it and can end in order."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import types
import typing as t

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STEP = 0.2  # seconds between looks for an interruption


def run_pid() -> int:
    """Return the PID of Ansible's own process, of which we are a worker, also after it has ended and another process has become our parent."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent is not None and parent.pid is not None else os.getppid()


class Interruption:
    """A context in which an interruption is only noted.

    Ansible hands the signal on to its workers. At SIGINT, Ansible waits for them before it exits. SIGTERM ends Ansible at once,
    while we go on. We also go on when Ansible is killed, and must notice this ourselves: its workers have sessions (setsid(2)) of
    their own.
    """

    def __init__(self) -> None:
        self._noted = False
        self._parent = run_pid()
        self._before: dict[signal.Signals, t.Any] = {}
        self._stderr: int | None = None

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        # Ansible also closes the queue for its workers' messages, but its standard error can be kept open. That may be a file.
        with contextlib.suppress(OSError):
            self._stderr = os.open(f"/proc/{self._parent}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._stderr is not None:
            os.close(self._stderr)

    def _note(self, *_arguments: object) -> None:
        self._noted = True

    @property
    def happened(self) -> bool:
        """Return whether the play was interrupted."""
        return self._noted or self.abandoned

    @property
    def abandoned(self) -> bool:
        """Return whether Ansible's own process is gone."""
        return os.getppid() != self._parent

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds, or until an interruption."""
        deadline = time.monotonic() + seconds
        while not self.happened and time.monotonic() < deadline:
            time.sleep(min(_STEP, max(0.0, deadline - time.monotonic())))

    def announce(self, words: str) -> None:
        """Print a message to the user who has interrupted the play: Ansible does not show the task's result any more."""
        if self._stderr is not None:
            with contextlib.suppress(OSError):
                os.write(self._stderr, f"{words}\n".encode())
