# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rings: the supervisor removes a ring's oldest file when tcpdump begins the newest, so that tcpdump never has to empty one.

When a file that was emptied and filled again is closed, ext4 writes it to the disk (auto_da_alloc, ext4(5)). tcpdump would
wait for the disk at each turn, and the kernel would drop packets meanwhile.

The packets of a removed file are counted from its descriptor, a piece at a time, so that all else goes on.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _session, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, PcapError
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import PcapFile
from ansible_collections.nettap.containers.plugins.module_utils._system import _inotify

_PIECE = 256 << 10  # bytes of a removed file that are counted at a time, in about a millisecond
_PAUSE = 0.001  # seconds from one piece to the next


class _Removed(t.NamedTuple):
    """A file that was removed, its descriptor, and an iterator that counts its packets piece by piece."""

    segment: Segment
    fd: int
    pieces: t.Iterator[int]


class Rings:
    """The rings of the segments that run now; running() returns these."""

    def __init__(self, loop: Loop, directory: str, request: Request, running: t.Callable[[], t.Iterable[Segment]]) -> None:
        self._loop = loop
        self._directory = directory
        self._request = request
        self._running = running
        self._made: _inotify.NewFiles | None = None
        self._begun: dict[str, int] = {}  # how many files of a segment tcpdump has begun
        self._removed: list[_Removed] = []
        self._counting = False  # whether the loop will call _go_on()

    def watch(self) -> None:
        """Remove the oldest files from now on."""
        if self._request.file_size:
            with contextlib.suppress(NettapError):  # without inotify, tcpdump empties the oldest files itself
                self._made = made = _inotify.NewFiles(self._directory)
                self._loop.watch(made.fd, lambda: self._look(made))

    def begin(self, segment: Segment) -> None:
        """Begin to count what is overwritten of a segment that is about to start. It is not known where nobody removes files."""
        segment.packets_overwritten = 0 if self._made or not self._request.file_size else None

    def end(self, segment: Segment) -> None:
        """Remove the oldest files of a segment whose tcpdump has ended, if there are more than file_count, and count what is left to count."""
        if self._made:
            self._look(self._made)
            self._trim(segment)
        while any(one.segment is segment for one in self._removed):
            self._count()

    def _look(self, made: _inotify.NewFiles) -> None:
        names = made.names()
        for segment in self._running():
            digits = [name[len(segment.file):] for name in names if name.startswith(segment.file) and name[len(segment.file):].isdigit()]
            if digits:
                self._turn(segment, digits)

    def _turn(self, segment: Segment, digits: list[str]) -> None:
        """Remove a file for each that tcpdump has begun, by the digits of their names."""
        files = self._request.file_count
        names = files + _tcpdump.SPARE
        first = self._begun.get(segment.file, 0)
        self._begun[segment.file] = first + len(digits)
        begun = range(first, first + len(digits))
        # No event tells of a file that tcpdump empties, because it was there already. Before, it begins SPARE others.
        if len(digits) >= _tcpdump.SPARE or [int(each) for each in digits] != [number % names for number in begun]:
            self._give_up(segment)
        if segment.packets_overwritten is None:
            self._trim(segment)
            return
        for number in begun:
            if number >= files:
                self._remove(segment, _session.output(self._directory, segment) + str((number - files) % names).zfill(len(digits[0])))

    def _trim(self, segment: Segment) -> None:
        for path in _session.files(self._directory, segment)[: -self._request.file_count]:
            self._remove(segment, path)

    def _remove(self, segment: Segment, path: str) -> None:
        """Remove a file and have its packets counted. A file that is not full is the one that tcpdump writes: it stays."""
        with contextlib.suppress(OSError):  # a file too many loses nothing
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if os.fstat(fd).st_size < self._request.file_size * 1_000_000:
                os.close(fd)
                return
            os.unlink(path)
            if segment.packets_overwritten is None:
                os.close(fd)
                return
            self._removed.append(_Removed(segment, fd, _pieces(fd)))
            if not self._counting:
                self._counting = True
                self._loop.after(_PAUSE, self._go_on)
            if sum(one.segment is segment for one in self._removed) > _tcpdump.SPARE:  # they take room on the disk until they are counted
                self._give_up(segment)

    def _go_on(self) -> None:
        self._counting = bool(self._removed)
        if self._counting:
            self._count()
            self._loop.after(_PAUSE, self._go_on)

    def _count(self) -> None:
        """Count one piece of the file that was removed first."""
        one = self._removed[0]
        packets = next(one.pieces, None)
        if packets is None:
            del self._removed[0]
            os.close(one.fd)
            _session.note_overwritten(self._directory, one.segment)
        elif one.segment.packets_overwritten is not None:
            one.segment.packets_overwritten += packets

    def _give_up(self, segment: Segment) -> None:
        """Stop counting what is overwritten of a segment. Then its files are read when it ends."""
        segment.packets_overwritten = None
        _session.note_overwritten(self._directory, segment)
        for one in self._removed:
            if one.segment is segment:
                os.close(one.fd)
        self._removed = [one for one in self._removed if one.segment is not segment]


def _pieces(fd: int) -> t.Iterator[int]:
    """Yield how many packets each piece of an open file holds."""
    with contextlib.suppress(PcapError):
        for chunk in PcapFile(f"/proc/self/fd/{fd}").chunks(_PIECE):
            yield chunk.packets
