# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rings: the supervisor removes a ring's oldest file when tcpdump begins the newest, so that tcpdump never has to empty one.

When a file that was emptied and filled again is closed, ext4 writes it to the disk (auto_da_alloc, ext4(5)). tcpdump would
wait for the disk at each turn, and the kernel would drop packets meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _session, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _inotify


class Rings:
    """The rings of the segments that run now; running() returns these."""

    def __init__(self, directory: str, request: Request, running: t.Callable[[], t.Iterable[Segment]]) -> None:
        self._directory = directory
        self._request = request
        self._running = running

    def watch(self, loop: Loop) -> None:
        """Remove the oldest files from now on."""
        if self._request.file_size:
            with contextlib.suppress(NettapError):  # without inotify, tcpdump empties the oldest files itself
                made = _inotify.NewFiles(self._directory)
                loop.watch(made.fd, lambda: self._remove_oldest(made.names()))

    def trim(self, segment: Segment) -> None:
        """Remove the oldest files of a segment whose tcpdump has ended, if there are more than file_count.

        On a busy machine the supervisor reads of several new files at once, and removes one.
        """
        if self._request.file_size:
            for path in _session.files(self._directory, segment)[: -self._request.file_count]:
                with contextlib.suppress(OSError):  # a file too many loses nothing
                    os.unlink(path)

    def _remove_oldest(self, names: list[str]) -> None:
        for segment in self._running():
            number = next((name[len(segment.file):] for name in reversed(names) if name.startswith(segment.file)), "")
            if number.isdigit():
                count = self._request.file_count
                oldest = _session.output(self._directory, segment) + str((int(number) + _tcpdump.SPARE) % (count + _tcpdump.SPARE)).zfill(len(number))
                with contextlib.suppress(FileNotFoundError):
                    # If the file is not full, we are so late that tcpdump has come to its name and is writing it.
                    if os.stat(oldest).st_size >= self._request.file_size * 1_000_000:
                        os.unlink(oldest)
