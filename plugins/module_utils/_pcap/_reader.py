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

# Packets of one stream may be this much out of order (nanoseconds). TPACKET's are, by microseconds.
SLACK = 10_000_000

_FAR = 366 * 86400 * 1_000_000_000  # nanoseconds; no capture waits for so long for its next packet


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
    def second(self) -> int:
        """Units of a record's fraction in a second."""
        return 1_000_000_000 // self.tick

    def time(self, seconds: int, fraction: int) -> int:
        """Nanoseconds since the epoch of a record's time."""
        return seconds * 1_000_000_000 + fraction * self.tick

    def split(self, time: int) -> tuple[int, int]:
        """Return the fields of a record for a time."""
        seconds, rest = divmod(time, 1_000_000_000)
        return seconds, rest // self.tick

    @property
    def longest(self) -> int:
        """Bytes of the longest record: libpcap's pcap-linux.c cuts what is longer than the snapshot length."""
        return self.snaplen if 0 < self.snaplen < MAXIMUM_SNAPLEN else MAXIMUM_SNAPLEN

    def is_packet(self, fraction: int, captured: int, original: int) -> bool:
        """Whether a record with these fields can be a packet: no link carries one of 0 bytes."""
        return 0 < original >= captured <= self.longest and fraction < self.second

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
    """What files hold: whole packets, time of the first and of the last (nanoseconds), bytes up to the end of the last.

    `damages` are sentences that say which files hold more that is no packet, `setback` by how much the clock was set back
    between two packets (nanoseconds).
    """

    packets: int
    first: int | None
    last: int | None
    size: int
    damages: tuple[str, ...] = ()
    setback: int = 0

    @property
    def in_order(self) -> bool:
        """Whether no packet is further from the order of time than the kernel brings it."""
        return self.setback <= SLACK


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

    It is open only while it is read, so that a merge of a thousand segments needs no thousand file descriptors.
    `header` is None for a file that ends before its header does, `first` (the time of the first packet) for one that ends
    before its first packet does.

    A record that cannot be a packet ends the file: nothing after it can be found. `damage` then says where and why, as far
    as the file was read. With `ended`, when nothing writes the file any more, it tells also of an end in mid-packet.
    `latest` is the highest time that was read, which may be set to that of the file before; `setback` says by how many
    nanoseconds a packet came earlier than that.
    """

    def __init__(self, path: str, ended: bool = False) -> None:
        self.path = path
        self.header: Header | None = None
        self.first: int | None = None
        self.damage: str | None = None
        self.latest = 0
        self.setback = 0
        self.size = 0
        self._ended = ended
        self._start = b""
        try:
            with open(path, "rb", buffering=0) as file:
                self.size = os.fstat(file.fileno()).st_size
                self._start = file.read(HEADER_LENGTH + RECORD_LENGTH) or b""
            self.header = parse_header(self._start, path)
        except FileNotFoundError as exc:
            raise PcapError(f"{path}: cannot be read: {exc.strerror}") from exc
        except OSError as exc:
            self.damage = f"{path}: cannot be read: {exc.strerror}"
        except PcapError as error:
            self.damage = str(error)
        else:
            self._open()

    def _open(self) -> None:
        """Look at the first record."""
        if self.header is None:
            self._cut(0, "its header")
        elif len(self._start) < HEADER_LENGTH + RECORD_LENGTH:
            if self.size > HEADER_LENGTH:
                self._cut(HEADER_LENGTH)
        else:
            seconds, fraction, captured, original = self.header.record.unpack_from(self._start, HEADER_LENGTH)
            if self.header.is_packet(fraction, captured, original):
                if len(self._start) + captured <= self.size:
                    self.first = self.header.time(seconds, fraction)
                else:
                    self._cut(HEADER_LENGTH)
            else:
                self._no_packet(HEADER_LENGTH, self._start[HEADER_LENGTH:])

    def chunks(self, size: int = CHUNK, offset: int = HEADER_LENGTH) -> t.Iterator[Chunk]:
        """Yield the packets from `offset` on, `size` bytes at a time (one packet where that is longer); a packet cut by the end is left out.

        Raises PcapError for a file that its running capture has overwritten meanwhile.
        """
        if self.header is None:
            return
        size = max(size, RECORD_LENGTH)
        length = size
        while offset < self.size:
            data = self._read(offset, min(length, self.size - offset))
            packets, last, end = self._walk(data, offset, self.header)
            if packets:
                times = [self.header.time(*self.header.record.unpack_from(data, position)[:2]) for position in (0, last)]
                yield Chunk(self.header, data if end == len(data) else data[:end], packets, *times)
                offset, length = offset + end, size
            if self.damage:
                return
            if not packets:
                length = RECORD_LENGTH
                if len(data) >= RECORD_LENGTH:
                    length += self.header.record.unpack_from(data)[2]
                if offset + length > self.size:
                    self._cut(offset)
                    return

    def _walk(self, data: bytes, offset: int, header: Header) -> tuple[int, int, int]:
        """Count the whole records in `data`, which stands at `offset`: their number, start of the last, end of the last."""
        record, second, longest = header.record.unpack_from, header.second, header.longest
        size = len(data)
        packets = last = end = 0
        latest_seconds, latest_fraction = header.split(self.latest)
        while end + RECORD_LENGTH <= size:
            seconds, fraction, captured, original = record(data, end)
            # As Header.is_packet(), of which a call would cost as much as all the rest of this loop.
            if not 0 < original >= captured <= longest or fraction >= second:
                self._no_packet(offset + end, data[end:])
                break
            following = end + RECORD_LENGTH + captured
            if following > size:
                break
            if seconds == latest_seconds and fraction >= latest_fraction:
                latest_fraction = fraction
            else:
                self.latest = header.time(latest_seconds, latest_fraction)
                if not self._step(header.time(seconds, fraction), offset + following, header):
                    self._no_packet(offset + end, data[end:])
                    break
                latest_seconds, latest_fraction = header.split(self.latest)
            packets += 1
            last, end = end, following
        self.latest = header.time(latest_seconds, latest_fraction)
        return packets, last, end

    def _step(self, time: int, following: int, header: Header) -> bool:
        """Move on to the time (nanoseconds) of another packet, after which the file goes on at `following`; False for an impossible one."""
        ahead = time - self.latest
        far = bool(self.latest) and abs(ahead) > _FAR
        if far and not self._goes_on(following, time, header):
            return False
        self.setback = max(self.setback, -ahead)
        if far or ahead > 0:
            self.latest = time
        return True

    def _goes_on(self, offset: int, time: int, header: Header) -> bool:
        """Whether the record at `offset` bears out the time (nanoseconds) of the one before, which is far from all others.

        A host without a battery for its clock starts in 1970 and is set right later: then all packets follow.
        """
        if offset + RECORD_LENGTH > self.size:
            return False
        data = self._read(offset, RECORD_LENGTH)
        if len(data) < RECORD_LENGTH:
            return False
        seconds, fraction, captured, original = header.record.unpack_from(data)
        return header.is_packet(fraction, captured, original) and abs(header.time(seconds, fraction) - time) <= _FAR

    def _no_packet(self, offset: int, data: bytes) -> None:
        """Record that there is no packet at `offset`, where `data` stands."""
        seconds, fraction, captured, original = struct.unpack_from((self.header.endian if self.header else "<") + _RECORD, data)
        self.damage = f"{self.path}: no packet at offset {offset}: "
        if not seconds | fraction | captured | original:
            self.damage += "a record of zeros, as a power cut leaves it"
        elif self.header and captured > self.header.longest:
            self.damage += f"a record of {captured} bytes, the longest is {self.header.longest}"
        elif self.header and self.header.is_packet(fraction, captured, original):
            self.damage += f"its time, {seconds} s after 1970, is years from the others"
        else:
            self.damage += f"a record of {captured} bytes of {original}, {fraction} parts of a second after {seconds}"

    def _cut(self, offset: int, what: str = "a packet") -> None:
        """Record that the file ends within what begins at `offset`, if nothing will complete it."""
        if self._ended:
            self.damage = f"{self.path}: ends in {what}, {self.size - offset} bytes after offset {offset}" if self.size else f"{self.path}: is empty"

    def _read(self, offset: int, length: int) -> bytes:
        """Return the bytes at `offset`, or as many as the disk gives."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), length, offset)
                # A running ring empties its oldest file and writes it again. Compare the start after the read: if it is still
                # the same, the data just read was not overwritten.
                start = os.pread(file.fileno(), len(self._start), 0)
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            start, data, size = b"", b"", 0  # removed, for the ring to go on
        except OSError as exc:
            self.damage = f"{self.path}: cannot be read at offset {offset}: {exc.strerror}"
            return b""
        if start != self._start or size < offset + length:
            raise PcapError(f"{self.path}: overwritten by its running capture while it was read: stop the capture first, or give it a larger ring")
        if len(data) < length:  # read(2) tells of a bad sector only when it comes first
            self.damage = f"{self.path}: cannot be read at offset {offset + len(data)}"
        return data


def scan(path: str, ended: bool = False) -> Extent:
    """Walk one file and return what it holds; times are those of its first and last packet in file order."""
    file = PcapFile(path, ended)
    packets, last = 0, None
    size = HEADER_LENGTH if file.header else 0
    for chunk in file.chunks():
        packets += chunk.packets
        last = chunk.last
        size += len(chunk.data)
    return Extent(packets, file.first, last, size, (file.damage,) if file.damage else (), file.setback)
