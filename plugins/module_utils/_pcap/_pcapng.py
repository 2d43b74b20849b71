# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The merge of a session's segments into one pcapng, in the order of time, in bounded memory.

Each segment is a stream, of which one chunk at a time is held. Packets older than the last packet read of every stream can
be written: this time is the horizon. TPACKET lets packets that came in on different CPUs overtake each other, so the
horizon stays behind by a slack.
"""

from __future__ import annotations

import operator
import typing as t
from bisect import bisect_left
from dataclasses import dataclass

from ansible_collections.nettap.containers.plugins.module_utils._pcap import _blocks
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import LINKTYPE_ETHERNET, MAXIMUM_SNAPLEN, SLACK, Header
from ansible_collections.nettap.containers.plugins.module_utils._pcap._ring import Ring

APPLICATION = "nettap.containers"

# What is held for the slack's sake grows with the rate of packets: every so many bytes halve the slack.
_HALVING = 256 << 10
# Bytes of memory that a packet takes beyond its own bytes: a tuple, an integer, a bytes object, the block around it.
_PACKET_COST = 200

# Bytes of input that all chunks hold together, and the bounds of one chunk.
_BUDGET = 1 << 20
_SMALLEST_CHUNK = 4 << 10
_LARGEST_CHUNK = 256 << 10

_TIME = operator.itemgetter(0)
_BLOCK = operator.itemgetter(1)
_FOREVER = 1 << 64


@dataclass(frozen=True)
class SegmentInput:
    """One segment: its ring files, and the facts about it that the pcapng is to hold.

    `linktype` and `snaplen` hold where no file of any segment has a header. With `ended`, nothing writes the files any more.
    `received`, `dropped` and `captured` are tcpdump's final counts; with one of the first two, the file gets a statistics
    block, with `started` and `stopped` (nanoseconds since the epoch) where they are known.
    """

    files: t.Sequence[str]
    if_name: str
    description: str | None = None
    filter: str | None = None
    comments: t.Sequence[str] = ()
    linktype: int = LINKTYPE_ETHERNET
    snaplen: int = MAXIMUM_SNAPLEN
    received: int | None = None
    dropped: int | None = None
    captured: int | None = None
    started: int | None = None
    stopped: int | None = None
    ended: bool = False


@dataclass(frozen=True)
class Merged:
    """The figures of the written file: `packets` in all and `per_segment`, earliest and latest time (nanoseconds), size in bytes.

    `damages` are sentences that say which files hold more that is no packet. `setback` says by how much the clock was set
    back between two packets of a segment (nanoseconds). `in_order` is false when that is more than the slack.
    """

    packets: int
    per_segment: tuple[int, ...]
    first: int | None
    last: int | None
    size: int
    in_order: bool
    damages: tuple[str, ...] = ()
    setback: int = 0


class _Stream:
    """The packets of one segment that are read and not yet written.

    `reach` is the latest time read and not yet written. `held` is the memory of the packets left from before the last chunk.
    """

    def __init__(self, interface: int, ring: Ring, chunk_size: int) -> None:
        self.interface = interface
        self.packets = 0
        # Nothing is read before the merge reaches the first packet: a stream that starts later costs no memory until then.
        self.reach = ring.first or 0
        self.finished = ring.first is None
        self.held = 0
        self._chunks = ring.chunks(chunk_size)
        self._pairs: list[tuple[int, bytes]] = []

    def refill(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            self.finished = True
            self.held = 0
            return
        self.packets += chunk.packets
        self.held = len(self._pairs) * (len(chunk.data) // chunk.packets + _PACKET_COST)
        self._pairs += _blocks.enhanced_packets(self.interface, chunk)
        self._pairs.sort(key=_TIME)
        self.reach = self._pairs[-1][0]

    def take(self, horizon: int) -> list[tuple[int, bytes]]:
        """Remove and return the packets that are not later than the horizon."""
        if not self._pairs or self._pairs[0][0] > horizon:
            return []
        cut = bisect_left(self._pairs, (horizon + 1, b""))
        taken = self._pairs[:cut]
        del self._pairs[:cut]
        return taken


def merge(segments: t.Sequence[SegmentInput], out: t.BinaryIO, comment: str | None = None) -> Merged:
    """Write one pcapng: an interface per segment, all their packets in the order of time, then the statistics.

    Packets of the same time follow the order of `segments`. The same input makes the same bytes. Raises PcapError.
    Wireshark reads any such file; libpcap, and so tcpdump, only one whose segments share link type and snaplen. A segment
    without a header, and so without a packet, is given those of another.
    """
    rings = [Ring(segment.files, segment.ended) for segment in segments]
    other = next((ring.header for ring in rings if ring.header), None)
    size = out.write(_blocks.section_header(APPLICATION, comment))
    size += out.write(b"".join(describe(segment, ring.header or other) for segment, ring in zip(segments, rings)))

    chunk_size = min(_LARGEST_CHUNK, max(_SMALLEST_CHUNK, _BUDGET // max(1, len(rings))))
    streams = [_Stream(interface, ring, chunk_size) for interface, ring in enumerate(rings)]
    first: int | None = None
    last: int | None = None
    in_order = True
    for window in _windows(streams):
        earliest, latest = window[0][0], window[-1][0]
        in_order = in_order and (last is None or last <= earliest)
        first = earliest if first is None else min(first, earliest)
        last = latest if last is None else max(last, latest)
        size += out.write(b"".join(map(_BLOCK, window)))

    size += out.write(b"".join(map(_statistics, segments, streams)))
    per_segment = tuple(stream.packets for stream in streams)
    setback = max((ring.setback for ring in rings), default=0)
    damages = tuple(damage for ring in rings for damage in ring.damages)
    return Merged(sum(per_segment), per_segment, first, last, size, in_order and all(ring.in_order for ring in rings), damages, setback)


def describe(segment: SegmentInput, header: Header | None) -> bytes:
    """Return the block that introduces a segment; `header` is that of its files, or of others, where there is one yet."""
    linktype, snaplen = (header.linktype, header.snaplen) if header else (segment.linktype, segment.snaplen)
    # One comment of several lines, because Wireshark 4.0 shows only the first of several comments.
    comment = "\n".join(segment.comments)
    return _blocks.interface_description(linktype, snaplen, segment.if_name, segment.description, segment.filter, comment)


def _statistics(segment: SegmentInput, stream: _Stream) -> bytes:
    if segment.received is None and segment.dropped is None:
        return b""
    time = stream.reach if segment.stopped is None else segment.stopped
    return _blocks.interface_statistics(
        stream.interface, time, segment.started, segment.stopped, segment.received, segment.dropped, segment.captured
    )


def _windows(streams: t.Sequence[_Stream]) -> t.Iterator[list[tuple[int, bytes]]]:
    """Yield all packets of all streams as sorted lists. Each list begins where the one before ended."""
    live = [stream for stream in streams if not stream.finished]
    while live:
        slack = SLACK >> (sum(stream.held for stream in live) // _HALVING)
        front = min(stream.reach for stream in live) + slack
        for stream in live:
            if stream.reach <= front:
                stream.refill()
        live = [stream for stream in live if not stream.finished]
        horizon = min((stream.reach - slack for stream in live), default=_FOREVER)
        window: list[tuple[int, bytes]] = []
        for stream in streams:
            window += stream.take(horizon)
        if window:
            window.sort(key=_TIME)
            yield window
            # The list has been written. Without this, its packets would stay in memory while the next one is read.
            window.clear()
