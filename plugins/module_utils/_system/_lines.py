# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a log that grows and can be rotated away while it is read. The last line can be half written."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t
import zlib

MEBIBYTE = 1 << 20
_LINE = MEBIBYTE  # bytes of the longest line that is read; those of engines are below 64 KiB
_FIRST = 256  # bytes that identify a file: its first line begins with a time in microseconds

Part = tuple[t.BinaryIO, int, int]  # a log, and the offsets to read from and to


@dataclasses.dataclass
class Cookie:
    """A position in a log: inode number, offset behind the last line that was read, checksum of the file's first bytes."""

    inode: int
    offset: int
    checksum: int

    def __str__(self) -> str:
        return f"eve:{self.inode}:{self.offset}:{self.checksum:08x}"

    @classmethod
    def parse(cls, text: str) -> Cookie | None:
        """Return the cookie that a text holds, None if the text is no cookie."""
        found = re.fullmatch(r"eve:(\d+):(\d+):([0-9a-f]{8})", text)
        return cls(int(found[1]), int(found[2]), int(found[3], 16)) if found else None

    def of(self, stream: t.BinaryIO) -> bool:
        """Return whether this is the cookie's file, and still as long. Inode numbers are reused, and a file can be truncated."""
        about = os.fstat(stream.fileno())
        return about.st_ino == self.inode and about.st_size >= self.offset and checksum(stream, self.offset) == self.checksum


def between(stream: t.BinaryIO, start: int, end: int) -> t.Iterator[bytes]:
    """Yield the lines between two offsets. Skip a line that is too long to be an event."""
    stream.seek(start)
    whole = True
    while start < end:
        line = stream.readline(min(_LINE, end - start))
        if not line:
            return
        start += len(line)
        if whole and line.endswith(b"\n"):
            yield line
        whole = line.endswith(b"\n")


def backwards(stream: t.BinaryIO, end: int, max_bytes: int) -> t.Iterator[bytes]:
    """Yield the lines before an offset that is behind a newline, the last one first."""
    first = max(0, end - max_bytes)
    rest = b""
    while end > first:
        start = max(first, end - 65536)
        stream.seek(start)
        lines = (stream.read(end - start) + rest).split(b"\n")
        end, rest = start, lines[0][:_LINE]
        yield from reversed(lines[1:])
    if first == 0:
        yield rest


def newest(parts: list[Part], max_bytes: int) -> tuple[list[Part], bool]:
    """Return the last max_bytes of the parts, and whether that is all of them."""
    kept: list[Part] = []
    complete = True
    for stream, start, end in reversed(parts):
        if end - start > max_bytes:
            start, complete = next_start(stream, end - max_bytes, end), False
        max_bytes -= end - start
        kept.insert(0, (stream, start, end))
    return kept, complete


def next_start(stream: t.BinaryIO, offset: int, end: int) -> int:
    """Return the offset of the first line that starts at or behind an offset, at most end."""
    if offset == 0:
        return 0
    stream.seek(offset - 1)
    while offset - 1 < end:
        rest = stream.readline(65536)
        offset += len(rest)
        if not rest or rest.endswith(b"\n"):
            break
    return min(offset - 1, end)


def end_of_lines(stream: t.BinaryIO) -> int:
    """Return the offset behind the last complete line, 0 if there is none."""
    end = os.fstat(stream.fileno()).st_size
    while end:
        start = max(0, end - 65536)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def checksum(stream: t.BinaryIO, offset: int) -> int:
    """Return the checksum of the first bytes of a file that is read up to an offset."""
    stream.seek(0)
    return zlib.crc32(stream.read(min(_FIRST, offset)))
