# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ring files of one segment (tcpdump -C -W) as one sequence of packets."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import (
    CHUNK,
    LINKTYPE_ETHERNET,
    MAXIMUM_SNAPLEN,
    SLACK,
    Chunk,
    Extent,
    Header,
    PcapFile,
)


class Ring:
    """The files that hold packets, in the order of their first packet: once a ring has wrapped, the names do not show the order.

    `header` serves all files together and is None when none has one; `first` is the time of the first packet, if any.
    A file that cannot be read, or that cannot have the same header as most of the others, is left out. `ended` is that of PcapFile.
    """

    def __init__(self, paths: t.Iterable[str], ended: bool = False) -> None:
        self._opened = [PcapFile(path, ended) for path in paths]
        kinds = collections.Counter(_kind(file.header) for file in self._opened if file.header)
        kind = max(kinds, key=kinds.__getitem__, default=None)
        for file in self._opened:
            if file.header and _kind(file.header) != kind:
                file.damage = f"{file.path}: left out, since its link type, byte order or unit of time is not that of the other files of its segment"
                file.header = file.first = None
        self.files = sorted((file for file in self._opened if file.first is not None), key=lambda file: file.first or 0)
        self.first = self.files[0].first if self.files else None
        headers = [file.header for file in self._opened if file.header]
        self.header = dataclasses.replace(headers[0], snaplen=max(header.snaplen for header in headers)) if headers else None

    @property
    def damages(self) -> tuple[str, ...]:
        """What of the files is no packet, as far as they were read, as sentences."""
        return tuple(file.damage for file in self._opened if file.damage)

    @property
    def setback(self) -> int:
        """By how many nanoseconds a packet came earlier than one before it, as far as the files were read."""
        return max((file.setback for file in self.files), default=0)

    @property
    def in_order(self) -> bool:
        """Whether no packet is further from the order of time than the kernel brings it."""
        return self.setback <= SLACK

    def chunks(self, size: int = CHUNK) -> t.Iterator[Chunk]:
        """Yield all packets, `size` bytes at a time."""
        latest = 0
        for file in self.files:
            file.latest = latest
            yield from file.chunks(size)
            latest = file.latest


def _kind(header: Header) -> tuple[int, str, bool]:
    """What must be the same in all files of a tcpdump."""
    return header.linktype, header.endian, header.nanosecond


def join_ring(paths: t.Iterable[str], out: t.BinaryIO, linktype: int = LINKTYPE_ETHERNET, snaplen: int = MAXIMUM_SNAPLEN, ended: bool = False) -> Extent:
    """Write the files of one segment as one pcap: each packet's bytes as they are, under one global header.

    Files without a packet are skipped, a packet cut by the end of its file is left out. `linktype` and `snaplen` are for
    a segment of which no file has a header yet, `ended` is that of PcapFile. Raises PcapError.
    """
    ring = Ring(paths, ended)
    header = ring.header or Header(linktype, snaplen)
    size = out.write(header.pack())
    packets, last = 0, None
    for chunk in ring.chunks():
        size += out.write(chunk.data)
        packets += chunk.packets
        last = chunk.last
    return Extent(packets, ring.first, last, size, ring.damages, ring.setback)
