# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchdog's ear for what dp reports by itself."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError, NettapError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _notices
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._events import EventLog

# Datagrams read at once: heartbeats have to go on. dp waits while the kernel's queue is full, so none may stay for long.
_AT_ONCE = 64


class Listener:
    """The socket to which a dp sends its notices, beside the dp's own (control). fd is readable when there are some. The constructor raises DataplaneError."""

    def __init__(self, log: EventLog, control: str) -> None:
        self._log = log
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self.fd = self._socket.fileno()
        path = os.path.join(os.path.dirname(control), _notices.SOCKET)
        try:
            with refused_as(DataplaneError, f"What dp reports cannot be heard at {path}", "look at the folder of dp's socket"):
                if _answered(path):
                    raise DataplaneError(f"What dp reports is heard at {path} by another process already, such as NeuVector's agent: it is not logged here.")
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # left by an earlier watchdog
                os.fchmod(self.fd, 0o600)  # the file gets this mode: only root can report
                self._socket.bind(path)
        except NettapError:
            self._socket.close()
            raise

    def take(self, names: t.Mapping[str, str]) -> None:
        """Log what has been reported. names are the containers' names by their MAC addresses. Raise NettapError."""
        found: list[_notices.Event] = []
        failure: NettapError | None = None
        with contextlib.suppress(BlockingIOError):
            for _count in range(_AT_ONCE):
                try:
                    found += _notices.parse(self._socket.recv(1 << 16))
                except NettapError as error:
                    failure = error
        if found:
            self._log.append([{"at": time.time(), "container": names.get(event["mac"]), **event} for event in found])
        if failure:
            raise failure


def _answered(path: str) -> bool:
    """Return whether a process listens at a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        try:
            one.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True
