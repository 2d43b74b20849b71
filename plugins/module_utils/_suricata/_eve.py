# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Suricata's log of events, eve.json: one JSON object on each line (docs.suricata.io, "EVE JSON format").

The log is read as a stream, so memory does not grow with it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import glob
import heapq
import itertools
import os
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._suricata import _events
from ansible_collections.nettap.containers.plugins.module_utils._suricata._events import Event, KnownContainer
from ansible_collections.nettap.containers.plugins.module_utils._system import _clock, _lines
from ansible_collections.nettap.containers.plugins.module_utils._system._lines import MEBIBYTE, Cookie, Part

# Seconds. Suricata writes an event when it is done with the packet. That can be after the events of later packets in other threads.
_DISORDER = 60.0
_ALERT, _STATS = b'"event_type":"alert"', b'"event_type":"stats"'


@dataclasses.dataclass
class Summary:
    """The result of reading a log: the newest alerts, newest last, the number of each kind, and a cookie to continue from.

    complete says that all requested events were read, truncated that alerts does not hold all of them.
    """

    alerts: list[Event]
    counts: list[Event]
    stats: Event | None
    cookie: str
    complete: bool
    truncated: bool


class Log:
    """An eve.json and, where they are not compressed, its rotated logs (eve.json.1 …)."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, since: str | None = None, limit: int = 100, containers: t.Sequence[KnownContainer] = (), max_bytes: int = 64 * MEBIBYTE) -> Summary:
        """Read the events since a time (ISO 8601 or seconds) or since the cookie of an earlier call. None means from the start of eve.json.

        Read at most the newest max_bytes, and keep at most the newest `limit` alerts. Raise DataplaneError.
        """
        cookie = Cookie.parse(since) if since else None
        earliest = _instant(since) if since and cookie is None else 0.0
        names = _events.Names(containers)
        newest: list[tuple[float, int, Event]] = []
        counts: collections.Counter[tuple[str | None, int, str, str]] = collections.Counter()
        number = itertools.count()
        with contextlib.ExitStack() as files:
            current = files.enter_context(self._newest())
            end = _lines.end_of_lines(current)
            parts, found = self._since(cookie, earliest, current, end, files)
            parts, all_of_it = _lines.newest(parts, max_bytes)
            for stream, start, stop in parts:
                for line in _lines.between(stream, start, stop):
                    event = _events.parse(line) if _ALERT in line else None
                    moment = _events.moment_of(event) if event else 0.0
                    if event is None or event.get("event_type") != "alert" or moment < earliest:
                        continue
                    counts[_events.kind(event, names)] += 1
                    if limit:
                        (heapq.heappush if len(newest) < limit else heapq.heappushpop)(newest, (moment, next(number), event))
            stats = _latest_stats(current, end, max_bytes)
            after = Cookie(os.fstat(current.fileno()).st_ino, end, _lines.checksum(current, end))
        return Summary(
            alerts=[_events.alert(event, moment, names) for moment, _number, event in sorted(newest, key=lambda entry: entry[:2])],
            counts=[
                {"container": name, "sid": sid, "action": action, "signature": signature, "count": count}
                for (name, sid, action, signature), count in sorted(counts.items(), key=lambda entry: (-entry[1], str(entry[0])))
            ],
            stats=stats, cookie=str(after), complete=found and all_of_it, truncated=not (found and all_of_it) or sum(counts.values()) > len(newest),
        )  # fmt: skip

    def _since(self, cookie: Cookie | None, earliest: float, current: t.BinaryIO, end: int, files: contextlib.ExitStack) -> tuple[list[Part], bool]:
        """Return the parts to read, the oldest log first, and whether they go back as far as requested. Raise DataplaneError."""
        parts: list[Part] = []
        stream, stop = current, end
        rotated = iter(self._rotated(current))
        while True:
            if cookie is not None and cookie.of(stream):
                return [(stream, cookie.offset, stop), *parts], True
            if cookie is None and (not earliest or _first_moment(stream, stop) < earliest):
                return [(stream, _seek(stream, stop, earliest - _DISORDER), stop), *parts], True
            parts.insert(0, (stream, 0, stop))
            path = next(rotated, "")
            if not path or path.endswith(".gz"):
                # A log without rotated ones is complete from its beginning. The position of a cookie existed once, so it was lost.
                return (parts[-1:], False) if cookie else (parts, not path)
            stream = files.enter_context(self._open(path))
            stop = _lines.end_of_lines(stream)

    def _rotated(self, current: t.BinaryIO) -> list[str]:
        """Return the paths of the rotated logs, newest first."""
        return [path for path in self._others() if not os.path.samestat(os.stat(path), os.fstat(current.fileno()))]

    def _others(self) -> list[str]:
        return sorted(filter(os.path.isfile, glob.glob(glob.escape(self.path) + ".*")), key=os.path.getmtime, reverse=True)

    def _newest(self) -> t.BinaryIO:
        """Open the newest log. After a rotation Suricata makes the new log with its first event; until then, open the rotated one. Raise DataplaneError."""
        others = self._others()
        return self._open(others[0] if others and not os.path.exists(self.path) else self.path)

    @staticmethod
    def _open(path: str) -> t.BinaryIO:
        try:
            return open(path, "rb")
        except FileNotFoundError as error:
            raise DataplaneError(f"There is no log {path}: Suricata was not started with a configuration that writes it there.") from error
        except OSError as error:
            raise DataplaneError(f"The log {path} cannot be read: {error.strerror}.") from error


def _instant(since: str) -> float:
    try:
        return _clock.instant(since)
    except ValueError as error:
        raise DataplaneError(f"since must be an ISO 8601 time (2026-01-31T03:00:00Z), seconds since the epoch or a cookie, not {since!r}.") from error


def _latest_stats(stream: t.BinaryIO, end: int, max_bytes: int) -> Event | None:
    """Return the figures of the last stats event before the offset `end`, None if the last max_bytes hold none."""
    for line in _lines.backwards(stream, end, max_bytes):
        event = _events.parse(line) if _STATS in line else None
        if event and event.get("event_type") == "stats":
            return _events.figures(event)
    return None


def _first_moment(stream: t.BinaryIO, end: int) -> float:
    """Return the time of the first event, in seconds since the epoch, or the present time for a log without events."""
    return next((_events.moment_of(event) for event in map(_events.parse, _lines.between(stream, 0, end)) if event and _events.moment_of(event)), time.time())


def _seek(stream: t.BinaryIO, end: int, earliest: float) -> int:
    """Return the offset of a line before which all events are older, by binary search: the log is in the order of time."""
    low, high = 0, end
    while high - low > 65536:
        middle = (low + high) // 2
        for line in _lines.between(stream, _lines.next_start(stream, middle, high), high):
            event = _events.parse(line)
            if event and _events.moment_of(event):
                if _events.moment_of(event) < earliest:
                    low = middle
                else:
                    high = middle
                break
        else:
            high = middle
    return _lines.next_start(stream, low, end) if low else 0
