# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Suricata's log of events, eve.json: one JSON object a line (docs.suricata.io, "EVE JSON format").

The log grows while it is read and is rotated away under the reader; a line can be half written. It is read as a stream: memory
does not grow with it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import functools
import glob
import heapq
import ipaddress
import itertools
import json
import os
import re
import time
import typing as t
import zlib

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import instant, timestamp

Event = dict[str, t.Any]
_Part = tuple[t.BinaryIO, int, int]  # a log, and the offsets to read from and to
MEBIBYTE = 1 << 20
# The links of a dataplane: what the engine reads on the first one comes from a container, what it reads on the second goes to one.
FROM_CONTAINER = "vth0"
_LINE = MEBIBYTE  # the longest line that is looked at; Suricata's are below 64 KiB
_FIRST = 256  # bytes by which a file is known again: its first line begins with a time in microseconds
_TEXT = 512  # characters of a value that whoever sends packets can choose
# Suricata writes each event when it is done with the packet, which can be after those of later ones in other threads.
_DISORDER = 60.0
_ALERT, _STATS = b'"event_type":"alert"', b'"event_type":"stats"'
_APPLICATION = {
    "http": {"hostname": "hostname", "url": "url", "http_method": "method", "http_user_agent": "user_agent", "status": "status"},
    "tls": {"sni": "sni", "subject": "subject", "version": "version"},
    "dns": {"rrname": "name", "rrtype": "type"},
}


@dataclasses.dataclass
class Container:
    """Whose traffic it is: a name, and what its packets are known by."""

    name: str
    mac: str = ""
    addresses: t.Sequence[str] = ()


@dataclasses.dataclass
class Summary:
    """What a reading found: the newest alerts, newest last; how many there were of each kind; a cookie to go on from.

    complete: all that was asked for has been read; truncated: alerts does not hold all.
    """

    alerts: list[Event]
    counts: list[Event]
    stats: Event | None
    cookie: str
    complete: bool
    truncated: bool


@dataclasses.dataclass
class _Cookie:
    """A place in a log: file number, offset behind the last line that was read, checksum of the file's first bytes."""

    inode: int
    offset: int
    checksum: int

    def __str__(self) -> str:
        return f"eve:{self.inode}:{self.offset}:{self.checksum:08x}"

    @classmethod
    def parse(cls, text: str) -> _Cookie | None:
        found = re.fullmatch(r"eve:(\d+):(\d+):([0-9a-f]{8})", text)
        return cls(int(found[1]), int(found[2]), int(found[3], 16)) if found else None

    def of(self, stream: t.BinaryIO) -> bool:
        """Whether this is the file, and still as long: an inode number is used again, and a file can be truncated."""
        about = os.fstat(stream.fileno())
        return about.st_ino == self.inode and about.st_size >= self.offset and _checksum(stream, self.offset) == self.checksum


class Log:
    """An eve.json and, where they are not compressed, those that were rotated away (eve.json.1 …)."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, since: str | None = None, limit: int = 100, containers: t.Sequence[Container] = (), max_bytes: int = 64 * MEBIBYTE) -> Summary:
        """Reads what was logged since a time (ISO 8601 or seconds) or the cookie of an earlier reading; None is from the start of eve.json.

        At most the newest max_bytes are read, and at most the newest `limit` alerts kept. Raises DataplaneError.
        """
        cookie = _Cookie.parse(since) if since else None
        earliest = _earliest(since) if since and cookie is None else 0.0
        names = _Names(containers)
        newest: list[tuple[float, int, Event]] = []
        counts: collections.Counter[tuple[str | None, int, str, str]] = collections.Counter()
        number = itertools.count()
        with contextlib.ExitStack() as files:
            current = files.enter_context(self._newest())
            end = _complete(current)
            parts, found = self._since(cookie, earliest, current, end, files)
            parts, all_of_it = _newest_bytes(parts, max_bytes)
            for stream, start, stop in parts:
                for line in _lines(stream, start, stop):
                    event = _parse(line) if _ALERT in line else None
                    moment = _moment(event) if event else 0.0
                    if event is None or event.get("event_type") != "alert" or moment < earliest:
                        continue
                    name, about = names.of(event), _dictionary(event, "alert")
                    counts[name, about.get("signature_id", 0), about.get("action", ""), _text(about.get("signature", ""))] += 1
                    if limit:
                        (heapq.heappush if len(newest) < limit else heapq.heappushpop)(newest, (moment, next(number), event))
            stats = _latest_stats(current, end, max_bytes)
            after = _Cookie(os.fstat(current.fileno()).st_ino, end, _checksum(current, end))
        return Summary(
            alerts=[_alert(event, moment, names) for moment, _number, event in sorted(newest, key=lambda entry: entry[:2])],
            counts=[
                {"container": name, "sid": sid, "action": action, "signature": signature, "count": count}
                for (name, sid, action, signature), count in sorted(counts.items(), key=lambda entry: (-entry[1], str(entry[0])))
            ],
            stats=stats, cookie=str(after), complete=found and all_of_it, truncated=not (found and all_of_it) or sum(counts.values()) > len(newest),
        )  # fmt: skip

    def _since(self, cookie: _Cookie | None, earliest: float, current: t.BinaryIO, end: int, files: contextlib.ExitStack) -> tuple[list[_Part], bool]:
        """What to read, the oldest log first; and whether it goes back as far as was asked for."""
        parts: list[_Part] = []
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
                # A log that nothing was rotated away from goes back to its beginning; what a cookie names was there once.
                return (parts[-1:], False) if cookie else (parts, not path)
            stream = files.enter_context(self._open(path))
            stop = _complete(stream)

    def _rotated(self, current: t.BinaryIO) -> list[str]:
        """The logs that were rotated away, newest first."""
        return [path for path in self._others() if not os.path.samestat(os.stat(path), os.fstat(current.fileno()))]

    def _others(self) -> list[str]:
        return sorted(filter(os.path.isfile, glob.glob(glob.escape(self.path) + ".*")), key=os.path.getmtime, reverse=True)

    def _newest(self) -> t.BinaryIO:
        """The log. After a rotation Suricata makes the new one when it has something to write; until then it is the one rotated away."""
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


class _Names:
    """Finds the container that an event is about."""

    def __init__(self, containers: t.Sequence[Container]) -> None:
        self._macs = {container.mac.lower(): container.name for container in containers if container.mac}
        self._addresses = {_address(address): container.name for container in containers for address in container.addresses}

    def of(self, event: Event) -> str | None:
        """The sender's name for what comes from a container, the receiver's for what goes to one; else whichever is known."""
        sides = [self._side(event, "src"), self._side(event, "dest")]
        if event.get("in_iface") != FROM_CONTAINER:
            sides.reverse()
        return sides[0] or sides[1]

    def _side(self, event: Event, side: str) -> str | None:
        ether = _dictionary(event, "ether")
        # A flow that has met several (after a restart of its container, say) lists them.
        for mac in [ether.get(f"{side}_mac"), *(ether.get(f"{side}_macs") or ())]:
            if isinstance(mac, str) and mac.lower() in self._macs:
                return self._macs[mac.lower()]
        return self._addresses.get(_address(event.get(f"{side}_ip", ""))) if self._addresses else None


def _earliest(since: str) -> float:
    try:
        return instant(since)
    except ValueError as error:
        raise DataplaneError(f"since must be an ISO 8601 time (2026-01-31T03:00:00Z), seconds since the epoch or a cookie, not {since!r}.") from error


def _alert(event: Event, moment: float, names: _Names) -> Event:
    about = _dictionary(event, "alert")
    return {
        "time": timestamp(moment),
        "container": names.of(event),
        "action": about.get("action"),
        "signature": _text(about.get("signature")),
        "sid": about.get("signature_id"),
        "severity": about.get("severity"),
        "source": _address(event.get("src_ip", "")),
        "source_port": event.get("src_port"),
        "destination": _address(event.get("dest_ip", "")),
        "destination_port": event.get("dest_port"),
        "protocol": event.get("proto"),
        "application": _application(event),
    }


def _application(event: Event) -> Event:
    """What the engine read of the protocol above: its name, and the request."""
    protocol = event.get("app_proto")
    if not isinstance(protocol, str) or protocol == "failed":
        return {}
    found: Event = {"protocol": protocol}
    about = event.get(protocol)
    if protocol == "dns" and isinstance(about, dict) and isinstance(about.get("query"), list) and about["query"]:
        about = about["query"][0]
    if isinstance(about, dict):
        found.update((name, _text(about[key])) for key, name in _APPLICATION.get(protocol, {}).items() if key in about)
    return found


def _latest_stats(stream: t.BinaryIO, end: int, max_bytes: int) -> Event | None:
    """The figures of the last stats event before the offset `end`; None if the last max_bytes hold none."""
    for line in _lines_backwards(stream, end, max_bytes):
        event = _parse(line) if _STATS in line else None
        if event and event.get("event_type") == "stats":
            stats = _dictionary(event, "stats")
            decisions, capture = _dictionary(stats, "ips"), _dictionary(stats, "capture")
            return {
                "time": timestamp(_moment(event)),
                "uptime": stats.get("uptime", 0),
                "accepted": decisions.get("accepted", 0),
                "blocked": decisions.get("blocked", 0),
                "drop_reasons": {name: count for name, count in (decisions.get("drop_reason") or {}).items() if count},
                "kernel_packets": capture.get("kernel_packets", 0),
                "kernel_drops": capture.get("kernel_drops", 0),
                "alerts_suppressed": (stats.get("detect") or {}).get("alerts_suppressed", 0),
            }
    return None


def _lines(stream: t.BinaryIO, start: int, end: int) -> t.Iterator[bytes]:
    """The lines between two offsets; one that is too long to be Suricata's is passed over."""
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


def _lines_backwards(stream: t.BinaryIO, end: int, max_bytes: int) -> t.Iterator[bytes]:
    """The lines before an offset that is behind a newline, last first."""
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


def _newest_bytes(parts: list[_Part], max_bytes: int) -> tuple[list[_Part], bool]:
    """The parts without what is more than max_bytes before their end, and whether that is all of them."""
    kept: list[_Part] = []
    complete = True
    for stream, start, end in reversed(parts):
        if end - start > max_bytes:
            start, complete = _next_line(stream, end - max_bytes, end), False
        max_bytes -= end - start
        kept.insert(0, (stream, start, end))
    return kept, complete


def _first_moment(stream: t.BinaryIO, end: int) -> float:
    """When the first event was; for a log without any, now."""
    return next((_moment(event) for event in map(_parse, _lines(stream, 0, end)) if event and _moment(event)), time.time())


def _seek(stream: t.BinaryIO, end: int, earliest: float) -> int:
    """The offset of a line before which all are older: the log is in the order of time, so half of it is left out again and again."""
    low, high = 0, end
    while high - low > 65536:
        middle = (low + high) // 2
        for line in _lines(stream, _next_line(stream, middle, high), high):
            event = _parse(line)
            if event and _moment(event):
                if _moment(event) < earliest:
                    low = middle
                else:
                    high = middle
                break
        else:
            high = middle
    return _next_line(stream, low, end) if low else 0


def _next_line(stream: t.BinaryIO, offset: int, end: int) -> int:
    """The first start of a line at or behind an offset; at most end."""
    if offset == 0:
        return 0
    stream.seek(offset - 1)
    while offset - 1 < end:
        rest = stream.readline(65536)
        offset += len(rest)
        if not rest or rest.endswith(b"\n"):
            break
    return min(offset - 1, end)


def _complete(stream: t.BinaryIO) -> int:
    """The offset behind the last line that has its end; 0 if there is none."""
    end = os.fstat(stream.fileno()).st_size
    while end:
        start = max(0, end - 65536)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _checksum(stream: t.BinaryIO, offset: int) -> int:
    stream.seek(0)
    return zlib.crc32(stream.read(min(_FIRST, offset)))


def _parse(line: bytes) -> Event | None:
    """The object in a line; None if it is none."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _moment(event: Event) -> float:
    """When it was, in seconds since the epoch; 0 if it does not tell."""
    try:
        text = event["timestamp"]  # 2026-01-31T03:00:00.000123+0000, to which fromisoformat wants a colon; strptime is ten times slower
        return datetime.datetime.fromisoformat(f"{text[:-2]}:{text[-2:]}").timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0


def _dictionary(event: Event, key: str) -> Event:
    value = event.get(key)
    return value if isinstance(value, dict) else {}


def _address(text: t.Any) -> str:
    return _written(text) if isinstance(text, str) else ""


@functools.lru_cache(maxsize=4096)
def _written(address: str) -> str:
    """An address as it is usually written: Suricata writes the zeros of IPv6 out."""
    try:
        return str(ipaddress.ip_interface(address).ip)
    except ValueError:
        return address


def _text(value: t.Any) -> t.Any:
    return value[:_TEXT] if isinstance(value, str) else value
