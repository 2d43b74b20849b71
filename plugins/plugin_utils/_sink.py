# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sinks of a stream on the controller: a file, a FIFO, or the standard input of a program.

Writing waits for a slow reader, but not for one that has gone, and not after the play is interrupted.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import select
import stat
import subprocess
import threading
import typing as t

from ansible_collections.nettap.containers.plugins.plugin_utils._interruption import Interruption

_STEP = 0.2  # seconds between looks for an interruption
_PATIENCE = 5.0  # seconds that a program has to end after the play is interrupted, before it gets SIGTERM
_LAST_WORDS = 20  # lines of a program's output that are kept for an error message


class SinkError(Exception):
    """The failure to open a sink, in one sentence."""


class ClosedError(Exception):
    """The end of a stream whose reader has closed its end."""


class Sink:
    """An open file, or the writing end of a pipe."""

    def __init__(self, fd: int, interruption: Interruption) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._interruption = interruption
        self.size = 0

    def write(self, data: bytes) -> None:
        """Write all data, or as much as possible until an interruption. Raise ClosedError, and OSError, for example for a full disk."""
        left = memoryview(data)
        while left and not self._interruption.happened:
            self.check(_STEP)
            try:
                written = os.write(self._fd, left)
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise ClosedError from None
            self.size += written
            left = left[written:]

    def check(self, seconds: float = 0) -> None:
        """Wait until the sink can take data, for so many seconds at most. Raise ClosedError if its reader is gone."""
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        if any(events & select.POLLERR for _fd, events in poller.poll(seconds * 1000)):
            raise ClosedError

    def close(self) -> None:
        """Close the sink, which ends the stream for the reader."""
        os.close(self._fd)


def open_file(path: str, interruption: Interruption) -> Sink | None:
    """Open a file, which is made or emptied, or a FIFO, once it has a reader. Return None if interrupted before. Raise SinkError."""
    try:
        before = os.umask(0o077)  # captures hold secrets
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            while True:
                try:
                    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
                    break
                except OSError as error:
                    if error.errno != errno.ENXIO:  # ENXIO: a FIFO that has no reader yet, fifo(7)
                        raise
                    interruption.sleep(_STEP)
                    if interruption.happened:
                        return None
        finally:
            os.umask(before)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchmod(fd, 0o600)
    except OSError as error:
        raise SinkError(f"{path} on the controller cannot be written: {error.strerror}.") from None
    return Sink(fd, interruption)


class Program(Sink):
    """A program that reads the stream. say is called with each line that it prints. The constructor raises SinkError."""

    def __init__(self, argv: list[str], interruption: Interruption, say: t.Callable[[str], None]) -> None:
        self._argv = argv
        try:
            # The program gets a session (setsid(2)) of its own: an interruption reaches us only, and we close its input, so that it can end in order.
            self._process = subprocess.Popen(  # pylint: disable=consider-using-with
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise SinkError(f"{argv[0]} cannot be run on the controller: {getattr(error, 'strerror', None) or error}.") from None
        self._said: collections.deque[str] = collections.deque(maxlen=_LAST_WORDS)
        self._listener = threading.Thread(target=self._listen, args=(say,), daemon=True)
        self._listener.start()
        super().__init__(t.cast("t.BinaryIO", self._process.stdin).fileno(), interruption)

    def _listen(self, say: t.Callable[[str], None]) -> None:
        for line in t.cast("t.BinaryIO", self._process.stdout):
            text = line.decode(errors="replace").rstrip()
            self._said.append(text)
            say(text)

    def close(self) -> None:
        """Close the program's input and wait for its end, without a limit: a person may look at the packets for as long as they like.

        After an interruption, wait for _PATIENCE seconds, then send SIGTERM.
        """
        with contextlib.suppress(BrokenPipeError):
            t.cast("t.BinaryIO", self._process.stdin).close()
        left = _PATIENCE
        while self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STEP)
            if self._interruption.happened:
                left -= _STEP
                if left <= 0:
                    self._process.terminate()
        self._listener.join(_PATIENCE)

    @property
    def rc(self) -> int:
        """Return the program's exit code, once it is closed."""
        return self._process.returncode

    @property
    def complaint(self) -> str:
        """Return the last lines that the program printed."""
        return " ".join(self._said)
