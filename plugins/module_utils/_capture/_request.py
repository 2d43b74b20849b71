# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request of a session: what the user asked it to capture, checked and comparable."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError
from ansible_collections.nettap.containers.plugins.module_utils._system import _clock
from ansible_collections.nettap.containers.plugins.module_utils._system._names import names

MIB = 1 << 20
LEAST_BUFFER = 4096  # KiB; twice libpcap's default (pcap-linux.c: 2 MiB)
# KiB. Measured (bench_rate.py): no packet is lost at rates where libpcap's 2 MiB lose a third, also when tcpdump is held up for 0.3 s.
# The kernel allocates the whole buffer before the capture begins: 256 MiB would last 4 times as long, but cost each start 0.1 to 0.6 s.
WANTED_BUFFER = 65536
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:iB|B)?|B|(%))?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of container_capture that decide what a session captures. Two sessions are the same if these are.

    Units: duration in seconds, file_size in MB (1,000,000 bytes, as tcpdump -C), buffer_size in KiB (as tcpdump -B),
    min_free as bytes with a unit or percent of the file system, max_drop_percent and max_overwritten_percent in percent. 0 means no
    limit, but of the last two.
    """

    interface: tuple[str, ...] = ("any",)
    vantage: str = "container"
    filter: str = ""
    snaplen: int = 0
    packet_count: int = 0
    duration: float = 0
    file_size: int = 100
    file_count: int = 10
    buffer_size: int | None = None
    promiscuous: bool = False
    live: bool = False
    on_restart: str = "follow"
    new_containers: str = "ignore"
    min_free: str | None = None
    max_drop_percent: float | None = None
    max_overwritten_percent: float | None = None
    exclude_own_connection: bool = True

    @classmethod
    def of(cls, options: t.Mapping[str, t.Any]) -> Request:
        """Return the request of module parameters or of a stored session. Raise CaptureError for values that make no sense."""
        values = {field.name: options[field.name] for field in dataclasses.fields(cls) if options.get(field.name) is not None}
        values["interface"] = tuple(dict.fromkeys(names(values.get("interface", ("any",)))))
        request = cls(**values)
        request._check()
        return request

    def _check(self) -> None:
        if not self.interface or not all(map(str.strip, self.interface)):
            raise CaptureError("interface must name at least one interface (any captures on all of them).")
        # The filter reaches tcpdump as one argument after --, so it cannot become an option. A line break or control
        # character in it is never intended, and would forge lines in logs and file comments.
        if any(ord(character) < 32 or ord(character) == 127 for character in self.filter):
            raise CaptureError("The filter holds a line break or another control character: write it on one line.")
        least_of = {"file_count": 1}
        for name in ("snaplen", "packet_count", "duration", "file_size", "file_count", "max_drop_percent", "max_overwritten_percent"):
            least = least_of.get(name, 0)
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise CaptureError(f"{name} must be a number, not {value}.")
            if value is not None and value < least:
                raise CaptureError(f"{name} must be at least {least}, not {value}.")
        if self.buffer_size is not None and not 1 <= self.buffer_size <= 2 * MIB - 1:
            raise CaptureError(f"buffer_size is in KiB and must be from 1 to {2 * MIB - 1}, not {self.buffer_size}.")
        self.least_free(0)

    def least_free(self, total: int) -> int:
        """Return how many bytes must stay free on a file system of total bytes: min_free, by default 1 GiB or 5 %, whichever is less.

        Raise CaptureError when min_free is no amount.
        """
        if self.min_free is None:
            return min(1 << 30, total // 20)
        match = _AMOUNT.fullmatch(self.min_free.strip())
        if match is None or match[3] and float(match[1]) > 100:
            raise CaptureError(f"min_free must be an amount such as 1GiB, 500M or 5%, not {self.min_free!r}.")
        if match[3]:
            return int(total * float(match[1]) / 100)
        return int(float(match[1]) * _UNITS[(match[2] or "").upper()])

    def buffer(self, segments: int) -> int:
        """Return the kernel buffer, in KiB, for each of so many segments: buffer_size, if it is given.

        Else as much of WANTED_BUFFER as keeps all segments together within a 32nd of the memory that is available now, but at
        least LEAST_BUFFER. The kernel allocates the buffers at once, and for good.
        """
        if self.buffer_size is not None:
            return self.buffer_size
        with open("/proc/meminfo", encoding="ascii") as stream:
            available = next((int(line.split()[1]) for line in stream if line.startswith("MemAvailable:")), 0)
        return max(LEAST_BUFFER, min(WANTED_BUFFER, available // 32 // max(1, segments)))

    def endless(self) -> bool:
        """Return whether only the user ends the session."""
        return not self.duration and not self.packet_count

    def differences(self, other: Request) -> list[str]:
        """Return the differences as readable texts: "name: theirs, not ours"."""
        return [
            f"{field.name}: {getattr(other, field.name)!r}, not {getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


def start_instant(value: str) -> float:
    """Return start_at in seconds since the epoch. Raise CaptureError."""
    try:
        return _clock.instant(value)
    except ValueError as error:
        raise CaptureError(f"start_at must be an ISO 8601 time (2026-01-31T03:00:00Z) or seconds since the epoch, not {value!r}.") from error


def check_name(name: str) -> str:
    """Return a session's name, which is also its folder's. Raise CaptureError when it cannot be one."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) or name in (os.curdir, os.pardir):
        raise CaptureError(f"{name!r} cannot be a session's name: use 1 to 64 letters, digits, dots, underscores and hyphens.")
    return name


def check_new_name(name: str) -> str:
    """Return the name of a session that is to be made; older releases took more. Raises CaptureError."""
    if not check_name(name)[0].isalnum():
        raise CaptureError(f"{name!r} cannot be a session's name: begin with a letter or a digit.")
    return name
