# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rings: files removed in time, late and far too late, and whether what is told of the packets in them is so.

tcpdump is this test: it writes files of two packets of half a megabyte each, under the names that tcpdump would take.
"""

from __future__ import annotations

import collections.abc as c
import dataclasses
import os
import pathlib
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _session, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._ring import Rings
from ansible_collections.nettap.containers.plugins.module_utils._capture._tcpdump import Counts
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _inotify
from ansible_collections.nettap.containers.tests.unit.pcap import builder

FILES = 3
NAMES = FILES + _tcpdump.SPARE
EACH = 5  # packets of a file
SIZE = 1_000_000 // EACH  # bytes of a packet


class Tcpdump:
    """What writes a ring, in the same process as what removes its files; go_on(n) begins n files more."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.segment = Segment("web", "1", "any", "container", "any", "000-web-any-container.pcap", ["tcpdump"])
        self.begun = 0
        self.loop = Loop()
        self.rings = Rings(self.loop, str(directory), Request(file_size=1, file_count=FILES), lambda: [self.segment])
        self.rings.watch()
        self.rings.begin(self.segment)

    def go_on(self, files: int) -> None:
        for number in range(self.begun, self.begun + files):
            packets = builder.sequence(EACH, start=builder.START + number * 10**9, length=SIZE)
            builder.write(self._path(number), builder.pcap(packets))
        self.begun += files

    def _path(self, number: int) -> pathlib.Path:
        return self.directory / f"{self.segment.file}{number % NAMES:02d}"

    def numbers(self) -> list[int]:
        """Numbers of the files that are left, by the time of their first packet."""
        return [(t.cast("int", _session._first(path)) - builder.START) // 10**9 for path in _session.files(str(self.directory), self.segment)]

    def until_counted(self) -> None:
        self.loop.after(0, lambda: None)
        self.loop.step()
        while self.rings._removed:
            self.loop.step()

    def end(self) -> None:
        self.rings.end(self.segment)
        log = "tcpdump: listening on any, link-type EN10MB (Ethernet)\n{0} packets captured\n{0} packets received by filter\n0 packets dropped by kernel\n"
        pathlib.Path(_session.log(str(self.directory), self.segment)).write_text(log.format(self.begun * EACH))
        _session.finish(str(self.directory), self.segment, "user", whole=True)


@pytest.fixture
def tcpdump(tmp_path: pathlib.Path) -> c.Iterator[Tcpdump]:
    made = Tcpdump(tmp_path)
    yield made
    if made.rings._made:
        os.close(made.rings._made.fd)
    assert not made.rings._removed


def figures(segment: Segment) -> tuple[int | None, int | None]:
    return segment.packets_overwritten, segment.packets_kept


@pytest.mark.parametrize("steps", [[1] * 30, [1, 2, 1, 3, 1], [7, 7, 7], [2], [FILES], [FILES + 1], [1] * NAMES + [5]])
def test_in_time(tcpdump: Tcpdump, steps: list[int]) -> None:
    """No more than SPARE - 1 files late: each file is removed as the oldest, and its packets are counted at once."""
    for step in steps:
        tcpdump.go_on(step)
        tcpdump.until_counted()
        lost = max(0, tcpdump.begun - FILES)
        assert tcpdump.numbers() == list(range(lost, tcpdump.begun))
        assert tcpdump.segment.packets_overwritten == _session._noted(str(tcpdump.directory), tcpdump.segment) == lost * EACH
    tcpdump.end()
    assert figures(tcpdump.segment) == (lost * EACH, min(FILES, tcpdump.begun) * EACH)


@pytest.mark.parametrize("files", [_tcpdump.SPARE, NAMES, NAMES + 1, 2 * NAMES - 1, 2 * NAMES, 3 * NAMES])
@pytest.mark.parametrize("before", [0, 1, FILES + 2])
def test_far_too_late(tcpdump: Tcpdump, before: int, files: int) -> None:
    """tcpdump has come to its names again: nobody can count what it emptied, until the end."""
    for _number in range(before):
        tcpdump.go_on(1)
        tcpdump.until_counted()
    tcpdump.go_on(files)
    tcpdump.until_counted()
    assert tcpdump.segment.packets_overwritten is None and _session._noted(str(tcpdump.directory), tcpdump.segment) is None
    tcpdump.go_on(1)  # and it goes on
    tcpdump.until_counted()
    tcpdump.end()
    assert tcpdump.numbers() == list(range(tcpdump.begun - FILES, tcpdump.begun))
    assert figures(tcpdump.segment) == ((tcpdump.begun - FILES) * EACH, FILES * EACH)


def test_end_in_the_middle_of_counting(tcpdump: Tcpdump) -> None:
    tcpdump.go_on(FILES + 2)
    tcpdump.end()
    assert tcpdump.numbers() == [2, 3, 4] and figures(tcpdump.segment) == (2 * EACH, FILES * EACH)


def test_file_that_is_being_written_stays(tcpdump: Tcpdump) -> None:
    tcpdump.go_on(FILES)
    path = tcpdump._path(tcpdump.begun)
    builder.write(path, builder.header())
    tcpdump.rings.end(tcpdump.segment)
    assert path.exists()


def test_without_inotify_the_files_are_read_at_the_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_folder: str) -> None:
        raise NettapError("no more watches")

    monkeypatch.setattr(_inotify, "NewFiles", refuse)
    tcpdump = Tcpdump(tmp_path)
    assert tcpdump.segment.packets_overwritten is None
    tcpdump.go_on(NAMES + 4)  # all its names are in use
    tcpdump.end()
    assert figures(tcpdump.segment) == (4 * EACH, NAMES * EACH)


def test_one_file_without_limit_overwrites_nothing(tmp_path: pathlib.Path) -> None:
    rings = Rings(Loop(), str(tmp_path), Request(file_size=0), list)
    rings.watch()
    segment = Segment("web", "1", "any", "container", "any", "000-web-any-container.pcap", ["tcpdump"])
    rings.begin(segment)
    rings.end(segment)
    assert segment.packets_overwritten == 0


@pytest.mark.parametrize(
    ("captured", "overwritten", "told"),
    [(None, 0, (4, 0, 4)), (2, 0, (4, 0, 4)), (9, 0, (9, 0, 4)), (9, 2, (9, 2, 4)), (9, None, (9, 5, 4))],
)
def test_tcpdump_that_was_killed(tmp_path: pathlib.Path, captured: int | None, overwritten: int | None, told: tuple[int, int, int]) -> None:
    """Its counts are old or none; what is in the files is there."""
    segment = dataclasses.replace(Tcpdump(tmp_path).segment, packets_overwritten=overwritten, counts=Counts(captured))
    builder.write(tmp_path / f"{segment.file}0", builder.pcap(builder.sequence(4)))
    _session.finish(str(tmp_path), segment, "error", "killed")
    assert (segment.counts.packets_captured, *figures(segment)) == told
