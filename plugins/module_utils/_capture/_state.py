# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of session.json: a session and its segments. Only this file reads and writes their JSON."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._tcpdump import Counts
from ansible_collections.nettap.containers.plugins.module_utils._system import _stored
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process

VERSION = 1  # release 0.1.0 wrote no version, and wrote the counts of a segment beside its other values


@dataclasses.dataclass
class Segment:
    """One tcpdump: what it captures, where it listens and writes, and how it ended.

    container is the one whose namespace it is, containers the names of all of the session's containers in it. interface is the
    container's, device the link that tcpdump opens. file is the name that tcpdump gets, in the session's folder; a ring adds digits to it.
    pid and started (clock ticks since boot) name the process. status is running, stopped or failed. links are the names of
    the namespace's links, by index. first_packet and last_packet are ISO 8601 times.

    packets_kept is how many packets are in the files, known once the segment has ended. packets_overwritten is how many its ring has
    removed; None where they were not counted. packets_unread is how many the kernel took in and tcpdump had not read when its
    interface went; None where that is not known.
    """

    container: str
    id: str
    interface: str
    vantage: str
    device: str
    file: str
    argv: list[str]
    image: str | None = None
    pid: int | None = None
    started: int | None = None
    status: str = "running"
    stop_reason: str | None = None
    error: str | None = None
    link_type: str | None = None
    links: dict[int, str] = dataclasses.field(default_factory=dict)
    counts: Counts = dataclasses.field(default_factory=Counts)
    first_packet: str | None = None
    last_packet: str | None = None
    packets_kept: int | None = None
    packets_overwritten: int | None = None
    packets_unread: int | None = None
    containers: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.containers = self.containers or [self.container]

    @classmethod
    def of(cls, stored: t.Any) -> Segment:
        """Return the segment that this release or an older one stored. Raise ValueError."""
        values = _stored.known(cls, stored)
        values["links"] = {int(index): name for index, name in values.get("links", {}).items()}  # JSON has only strings as keys
        values["counts"] = Counts(**_stored.known(Counts, values.get("counts", stored)))
        return cls(**values)

    @property
    def named(self) -> str:
        """Return the names of its containers in one word."""
        return "+".join(self.containers)

    @property
    def where(self) -> str:
        """Return where tcpdump listens, as messages name it."""
        return f"{self.named} {self.interface}" + (f" ({self.device})" if self.vantage == "host" else "")

    @property
    def filter(self) -> str:
        """Return the filter expression of tcpdump; "" for none."""
        return self.argv[self.argv.index("--") + 1] if "--" in self.argv else ""

    @property
    def names(self) -> int:
        """Return how many names the files of the ring take in turn, which an older release may have chosen; 1 for a single file."""
        return int(self.argv[self.argv.index("-W") + 1]) if "-W" in self.argv else 1

    def fail(self, error: str) -> None:
        """Record that the segment could not start or go on."""
        self.status, self.stop_reason, self.error = "failed", "error", error


@dataclasses.dataclass(frozen=True)
class Clock:
    """By how many seconds the host's clock is ahead of the controller's (offset), give or take so many (bound)."""

    offset: float
    bound: float


@dataclasses.dataclass
class Session:
    """A capture session: its request, its supervisor and its segments.

    status is running, stopped or failed. owner is the run that started it, None where it told none. targets are the requested
    containers, as runtime:ID. buffer_size is in KiB, least_free in bytes. start_at (the instant to wait for), started_at and
    stopped_at are ISO 8601 times. clock was measured when the session was started; None where it was not. waiting says what
    the supervisor waits for, in words. left_out are sentences about what is not captured.
    """

    status: str
    request: Request = dataclasses.field(default_factory=Request)
    error: str | None = None
    started_at: str | None = None
    stopped_at: str | None = None
    supervisor: Process | None = None
    targets: list[str] = dataclasses.field(default_factory=list)
    buffer_size: int = 0
    least_free: int = 0
    segments: list[Segment] = dataclasses.field(default_factory=list)
    start_at: str | None = None
    clock: Clock | None = None
    waiting: list[str] = dataclasses.field(default_factory=list)
    owner: str | None = None
    left_out: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, stored: t.Any) -> Session:
        """Return the session that this release or an older one stored. Raise ValueError, CaptureError."""
        values = _stored.known(cls, stored, VERSION)
        values["request"] = Request.of(values.get("request", {}))
        values["segments"] = [Segment.of(one) for one in values.get("segments", [])]
        if values.get("supervisor"):
            values["supervisor"] = Process(**_stored.known(Process, values["supervisor"]))
        if values.get("clock"):
            values["clock"] = Clock(**_stored.known(Clock, values["clock"]))
        return cls(**values)

    def stored(self) -> dict[str, t.Any]:
        """Return the object that of() reads."""
        return _stored.content(self, VERSION)
