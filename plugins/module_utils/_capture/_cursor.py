# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cursor of a stream: how far each segment of a session was followed."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _stored
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process


class Place(t.NamedTuple):
    """A place in a ring. A file's name is used again, but not with the same first packet; first is its time (nanoseconds since the epoch)."""

    file: str
    first: int | None
    offset: int


@dataclasses.dataclass
class Followed:
    """How far a segment was followed.

    interface is its number in the stream, -1 while it has none. at is where the next packets begin. latest is the time of the packet
    before that (nanoseconds since the epoch). notes are the sentences about damage and disorder that the stream reported already.
    """

    interface: int = -1
    at: Place | None = None
    packets: int = 0
    latest: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    def note(self, note: str) -> list[str]:
        """Return the note in a list, and [] if it was returned before."""
        if note in self.notes:
            return []
        self.notes.append(note)
        return [note]

    @classmethod
    def of(cls, stored: t.Any) -> Followed:
        """Read what a cursor holds of a segment."""
        values = _stored.known(cls, stored)
        return cls(**{**values, "at": values["at"] and Place(*values["at"])})


@dataclasses.dataclass
class Cursor:
    """Where a stream goes on.

    supervisor is that of the session with which the stream began. interfaces is their number in the stream, link_type that
    of a pcap. segments are named by their file.
    """

    supervisor: Process | None
    interfaces: int = 0
    link_type: int | None = None
    segments: dict[str, Followed] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, stored: t.Any) -> Cursor:
        """Read a cursor that an answer held."""
        values = _stored.known(cls, stored)
        segments = {file: Followed.of(one) for file, one in values["segments"].items()}
        return cls(**{**values, "supervisor": values["supervisor"] and Process(**values["supervisor"]), "segments": segments})
