# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of what dp has reported: one JSON object on each line, in two files of bounded length.

The log is in memory (/run): the watchdog writes it, and must never wait for a disk.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError, StorageError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._notices import Event
from ansible_collections.nettap.containers.plugins.module_utils._system import _clock, _lines

ROOT = "/run/nettap/events"
MOST = 2 << 20  # bytes of each of the two files
_COUNTED = ("container", "kind", "action", "rule", "threat")


@dataclasses.dataclass
class EventSummary:
    """The result of reading a log: the newest events, newest last, the numbers of each sort, and a cookie to continue from.

    complete says that all requested events were still there, truncated that events does not hold all of them.
    """

    events: list[Event]
    counts: list[Event]
    cookie: str
    complete: bool
    truncated: bool


class EventLog:
    """The log of one dataplane."""

    def __init__(self, name: str, root: str = ROOT, most: int = MOST) -> None:
        self._most = most
        self.path = os.path.join(root, f"{name}.json")

    def append(self, events: t.Sequence[Event]) -> None:
        """Append events, each with its container and time. When the file is full, it takes the place of the older one. Raise StorageError."""
        data = b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)
        with refused_as(StorageError, f"{self.path} cannot be written", "look at the free room and the mount of /run"):
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.path).st_size + len(data) > self._most:
                    os.replace(self.path, self.path + ".1")
            with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "ab") as stream:
                stream.write(data)

    def read(self, since: str | None = None, limit: int = 100) -> EventSummary:
        """Read the events since a time (ISO 8601 or seconds) or since the cookie of an earlier call; None means all that is there.

        Keep at most the newest `limit` events. Raise DataplaneError.
        """
        cookie = _lines.Cookie.parse(since) if since else None
        earliest = _instant(since) if since and cookie is None else 0.0
        newest: collections.deque[Event] = collections.deque(maxlen=limit)
        counts: collections.Counter[tuple[t.Any, ...]] = collections.Counter()
        number = 0
        with contextlib.ExitStack() as files:
            streams = [stream for stream in (self._open(path, files) for path in (self.path + ".1", self.path)) if stream is not None]
            starts = [cookie.offset if cookie and cookie.of(stream) else 0 for stream in streams]
            first = max((i for i, stream in enumerate(streams) if cookie and cookie.of(stream)), default=None)
            after = ""
            for stream, start in list(zip(streams, starts))[first or 0:]:
                end = _lines.end_of_lines(stream)
                for event in map(json.loads, _lines.between(stream, start, end)):
                    if event["at"] >= earliest:
                        number += 1
                        newest.append(event)
                        counts[tuple(event[name] for name in _COUNTED)] += event["count"]
                after = str(_lines.Cookie(os.fstat(stream.fileno()).st_ino, end, _lines.checksum(stream, end)))
        return EventSummary(
            events=[{"time": _clock.timestamp(event.pop("at")), **event} for event in newest],
            counts=[{**dict(zip(_COUNTED, values)), "count": count} for values, count in sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))],
            cookie=after, complete=cookie is None or first is not None, truncated=number > len(newest),
        )  # fmt: skip

    @staticmethod
    def _open(path: str, files: contextlib.ExitStack) -> t.BinaryIO | None:
        with refused_as(DataplaneError, f"The log {path} cannot be read", "run as root of the host itself"), contextlib.suppress(FileNotFoundError):
            return files.enter_context(open(path, "rb"))
        return None


def _instant(since: str) -> float:
    try:
        return _clock.instant(since)
    except ValueError as error:
        raise DataplaneError(f"since must be an ISO 8601 time (2026-01-31T03:00:00Z), seconds since the epoch or a cookie, not {since!r}.") from error
