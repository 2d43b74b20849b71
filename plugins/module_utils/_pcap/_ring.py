# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ring files of one segment (tcpdump -C -W) as one sequence of packets."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import PcapError
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import (
    CHUNK,
    LINKTYPE_ETHERNET,
    MAXIMUM_SNAPLEN,
    Chunk,
    Extent,
    Header,
    PcapFile,
)


class Ring:
    """The files that hold packets, in the order of their first packet: once a ring has wrapped, the names do not show the order.

    `header` holds for all files together, and is None when no file has one. `first` is the time of the first packet, None if
    there is none. The constructor raises PcapError.
    """

    def __init__(self, paths: t.Iterable[str]) -> None:
        opened = [PcapFile(path) for path in paths]
        self.files = sorted((file for file in opened if file.first is not None), key=lambda file: file.first or 0)
        self.first = self.files[0].first if self.files else None
        self.header: Header | None = None
        for file in opened:
            if file.header is None:
                continue
            if self.header is None:
                self.header = file.header
            elif file.header.linktype != self.header.linktype:
                raise PcapError(f"{file.path}: link type {file.header.linktype} in a segment of link type {self.header.linktype}")
            elif file.header.snaplen > self.header.snaplen:
                self.header = dataclasses.replace(self.header, snaplen=file.header.snaplen)

    def chunks(self, size: int = CHUNK) -> t.Iterator[Chunk]:
        """Yield all packets, `size` bytes at a time. Raise PcapError."""
        for file in self.files:
            yield from file.chunks(size)


def join_ring(paths: t.Iterable[str], out: t.BinaryIO, linktype: int = LINKTYPE_ETHERNET, snaplen: int = MAXIMUM_SNAPLEN) -> Extent:
    """Write the files of one segment as one pcap: the unchanged bytes of each packet, under one global header.

    Skip files without a packet, and leave out a packet that the end of its file cuts. `linktype` and `snaplen` are for a
    segment of which no file has a header yet. Raise PcapError for input that is no pcap or cannot share one header.
    """
    ring = Ring(paths)
    header = ring.header or Header(linktype, snaplen)
    for file in ring.files:
        if file.header and (file.header.endian, file.header.nanosecond) != (header.endian, header.nanosecond):
            raise PcapError(f"{file.path}: byte order or time unit differs from the other files of its segment")
    size = out.write(header.pack())
    packets, last = 0, None
    for chunk in ring.chunks():
        size += out.write(chunk.data)
        packets += chunk.packets
        last = chunk.last
    return Extent(packets, ring.first, last, size)
