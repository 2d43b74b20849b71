# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classic pcap files as tcpdump writes them, read in chunks of whole packets.

The format is pcap-savefile(5) and draft-ietf-opsawg-pcap. All times are integers: nanoseconds since the epoch.
"""

from __future__ import annotations

import os
import struct
import typing as t
from dataclasses import dataclass

from ansible_collections.nettap.containers.plugins.module_utils._errors import PcapError

CHUNK = 1 << 20

# From libpcap's pcap-int.h and tcpdump's netdissect.h: tcpdump refuses a larger -s, so a longer record is no packet.
MAXIMUM_SNAPLEN = 262144

# From libpcap's pcap/dlt.h. The files hold LINKTYPE_ numbers; that of Ethernet is the same (https://www.tcpdump.org/linktypes.html).
LINKTYPE_ETHERNET = 1

HEADER_LENGTH = 24
RECORD_LENGTH = 16
_HEADER = "IHHiIII"  # magic, major, minor, reserved, reserved, snaplen, linktype
_RECORD = "4I"  # seconds, micro- or nanoseconds, captured length, original length
_VERSION = (2, 4)
_MICROSECOND_MAGIC = 0xA1B2C3D4
_NANOSECOND_MAGIC = 0xA1B23C4D


@dataclass(frozen=True)
class Header:
    """The global header of a pcap file. `endian` is the sign that struct uses: < or >."""

    linktype: int
    snaplen: int = MAXIMUM_SNAPLEN
    endian: str = "<"
    nanosecond: bool = False

    @property
    def tick(self) -> int:
        """Return the nanoseconds in one unit of a record's fraction of a second."""
        return 1 if self.nanosecond else 1000

    @property
    def record(self) -> struct.Struct:
        """Return the layout of a packet's header: seconds, fraction, captured length, original length."""
        return struct.Struct(self.endian + _RECORD)

    def pack(self) -> bytes:
        """Return the 24 bytes that start a file with this header."""
        magic = _NANOSECOND_MAGIC if self.nanosecond else _MICROSECOND_MAGIC
        return struct.pack(self.endian + _HEADER, magic, *_VERSION, 0, 0, self.snaplen, self.linktype)


@dataclass(frozen=True)
class Extent:
    """The content of a file: number of whole packets, times of the first and the last (nanoseconds), bytes up to the end of the last."""

    packets: int
    first: int | None
    last: int | None
    size: int


class Chunk(t.NamedTuple):
    """Whole packets as the file holds them, with the times of the first and the last."""

    header: Header
    data: bytes
    packets: int
    first: int
    last: int


def parse_header(start: bytes, path: str) -> Header | None:
    """Return the global header; None when the file is too short to have one. Raise PcapError when it is no pcap file."""
    if len(start) < HEADER_LENGTH:
        return None
    for endian in "<>":
        magic, dummy, dummy, dummy, dummy, snaplen, linktype = struct.unpack_from(endian + _HEADER, start)
        if magic in (_MICROSECOND_MAGIC, _NANOSECOND_MAGIC):
            # The upper half of the field is about frame check sequences, which Linux never captures.
            return Header(linktype & 0xFFFF, snaplen, endian, magic == _NANOSECOND_MAGIC)
    raise PcapError(f"{path}: not a pcap file: the magic number at offset 0 is {start[:4].hex()}")


class PcapFile:
    """One file, as long as it was when this object was made: packets that a running tcpdump appends later are not read.

    The file is open only while it is read, so that a merge of a thousand segments does not need a thousand file descriptors.
    `header` is None for a file that ends before its header does. `first`, the time of the first packet, is None for a file
    that ends before its first packet does.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.header: Header | None = None
        self.first: int | None = None
        try:
            with open(path, "rb", buffering=0) as file:
                self.size = os.fstat(file.fileno()).st_size
                self._start = file.read(HEADER_LENGTH + RECORD_LENGTH) or b""
        except OSError as exc:
            raise PcapError(f"{path}: cannot be read: {exc.strerror}") from exc
        self.header = parse_header(self._start, path)
        if self.header and len(self._start) == HEADER_LENGTH + RECORD_LENGTH:
            seconds, fraction, length, dummy = self.header.record.unpack_from(self._start, HEADER_LENGTH)
            if len(self._start) + length <= self.size:
                self.first = seconds * 1_000_000_000 + fraction * self.header.tick

    def chunks(self, size: int = CHUNK, offset: int = HEADER_LENGTH) -> t.Iterator[Chunk]:
        """Yield the packets from `offset` on, `size` bytes at a time (one packet where that is longer).

        Leave out a packet that the end of the file cuts. Raise PcapError.
        """
        if self.header is None:
            return
        record, tick = self.header.record, self.header.tick
        size = max(size, RECORD_LENGTH)
        length = size
        while offset < self.size:
            data = self._read(offset, min(length, self.size - offset))
            packets, last, end = self._walk(data, offset, self.header.endian)
            if packets:
                times = [record.unpack_from(data, position)[:2] for position in (0, last)]
                first, latest = (seconds * 1_000_000_000 + fraction * tick for seconds, fraction in times)
                yield Chunk(self.header, data if end == len(data) else data[:end], packets, first, latest)
                offset, length = offset + end, size
                continue
            if len(data) < RECORD_LENGTH:
                return
            length = RECORD_LENGTH + record.unpack_from(data)[2]
            if offset + length > self.size:
                return

    def _walk(self, data: bytes, offset: int, endian: str) -> tuple[int, int, int]:
        """Count the whole records in `data`, which is at `offset` in the file. Return their number, and start and end of the last. Raise PcapError."""
        captured_length = struct.Struct(endian + "8xI").unpack_from
        size = len(data)
        packets = last = end = 0
        while end + RECORD_LENGTH <= size:
            length = captured_length(data, end)[0]
            if length > MAXIMUM_SNAPLEN:
                raise PcapError(f"{self.path}: no packet at offset {offset + end}: a record of {length} bytes, tcpdump's longest is {MAXIMUM_SNAPLEN}")
            following = end + RECORD_LENGTH + length
            if following > size:
                break
            packets += 1
            last, end = end, following
        return packets, last, end

    def _read(self, offset: int, length: int) -> bytes:
        try:
            with open(self.path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), length, offset)
                # A running ring empties its oldest file and writes it again. Compare the start after the read: if it is still
                # the same, the data just read was not overwritten.
                start = os.pread(file.fileno(), len(self._start), 0)
        except FileNotFoundError:
            start = data = b""  # the ring has removed it
        except OSError as exc:
            raise PcapError(f"{self.path}: cannot be read: {exc.strerror}") from exc
        if start != self._start or len(data) < length:
            raise PcapError(f"{self.path}: overwritten by its running capture while it was read: stop the capture first, or give it a larger ring")
        return data


def scan(path: str) -> Extent:
    """Read one file. Return the extent of its content; its times are those of the first and the last packet in file order. Raise PcapError."""
    file = PcapFile(path)
    packets, last = 0, None
    size = HEADER_LENGTH if file.header else 0
    for chunk in file.chunks():
        packets += chunk.packets
        last = chunk.last
        size += len(chunk.data)
    return Extent(packets, file.first, last, size)
