# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocks of a pcapng file, little endian, times in nanoseconds.

Numbers and layouts are those of draft-ietf-opsawg-pcapng. Each names its section there.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import Chunk

# Section 4: block types.
_INTERFACE_DESCRIPTION = 0x00000001
_INTERFACE_STATISTICS = 0x00000005
_ENHANCED_PACKET = 0x00000006
_SECTION_HEADER = 0x0A0D0D0A

# Section 4.1: byte-order magic, version, and "section length not specified".
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_VERSION = (1, 0)
_UNKNOWN_LENGTH = -1

# Section 3.5: options of every block, and the most octets that a 16-bit length allows.
_OPT_ENDOFOPT = 0
_OPT_COMMENT = 1
_LONGEST_OPTION = 65535
# Section 4.1, 4.2, 4.6: options of the section header, an interface and its statistics.
_SHB_USERAPPL = 4
_IF_NAME = 2
_IF_DESCRIPTION = 3
_IF_TSRESOL = 9
_IF_FILTER = 11
_ISB_STARTTIME = 2
_ISB_ENDTIME = 3
_ISB_IFRECV = 4
_ISB_IFDROP = 5
_ISB_USRDELIV = 8

_NANOSECONDS = b"\x09"  # 4.2, if_tsresol: a negative power of ten
_FILTER_STRING = b"\x00"  # 4.2, if_filter: the code of a libpcap filter expression
_WORD = 0xFFFFFFFF


def section_header(application: str, comment: str | None = None) -> bytes:
    """Return the block that starts a file."""
    fixed = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, *_VERSION, _UNKNOWN_LENGTH)
    return _block(_SECTION_HEADER, fixed, [*_comment(comment), (_SHB_USERAPPL, _text(application))])


def interface_description(
    linktype: int,
    snaplen: int,
    name: str,
    description: str | None = None,
    capture_filter: str | None = None,
    comment: str | None = None,
) -> bytes:
    """Return the block that describes the next interface. Interfaces are numbered from 0, in the order of the file."""
    options = [*_comment(comment), (_IF_NAME, _text(name))]
    if description:
        options.append((_IF_DESCRIPTION, _text(description)))
    options.append((_IF_TSRESOL, _NANOSECONDS))
    if capture_filter:
        options.append((_IF_FILTER, _FILTER_STRING + _text(capture_filter, _LONGEST_OPTION - 1)))
    return _block(_INTERFACE_DESCRIPTION, struct.pack("<HHI", linktype, 0, snaplen), options)


def enhanced_packets(interface: int, chunk: Chunk) -> list[tuple[int, bytes]]:
    """Return the packets of a chunk of pcap as (time, block) pairs, in the order of the chunk."""
    # One pass of this loop is all that a packet costs in Python: it calls no functions except those of the two structs.
    record, tick, data = chunk.header.record.unpack_from, chunk.header.tick, chunk.data
    head = struct.Struct("<7I").pack
    # Padding to 32 bits, then the block length once more (section 3.1). The index is the number of octets to pad.
    tails = [struct.Struct(f"<{padding}xI").pack for padding in range(4)]
    pairs = []
    offset = 0
    for dummy in range(chunk.packets):
        seconds, fraction, captured, original = record(data, offset)
        time = seconds * 1_000_000_000 + fraction * tick
        length = (captured + 35) & ~3  # 32 octets around the packet, which is padded to 32 bits
        start = offset + 16
        offset = start + captured
        block = head(_ENHANCED_PACKET, length, interface, time >> 32, time & _WORD, captured, original) + data[start:offset] + tails[-captured & 3](length)
        pairs.append((time, block))
    return pairs


def interface_statistics(
    interface: int,
    time: int,
    started: int | None = None,
    stopped: int | None = None,
    received: int | None = None,
    dropped: int | None = None,
    captured: int | None = None,
    comment: str | None = None,
) -> bytes:
    """Return the block of an interface's final counts. They are in the options in which dumpcap writes those of libpcap's pcap_stats()."""
    times = ((_ISB_STARTTIME, started), (_ISB_ENDTIME, stopped))
    options = _comment(comment)
    options += [(code, struct.pack("<II", value >> 32, value & _WORD)) for code, value in times if value is not None]
    counts = ((_ISB_IFRECV, received), (_ISB_IFDROP, dropped), (_ISB_USRDELIV, captured))
    options += [(code, struct.pack("<Q", value)) for code, value in counts if value is not None]
    return _block(_INTERFACE_STATISTICS, struct.pack("<III", interface, time >> 32, time & _WORD), options)


def _block(kind: int, fixed: bytes, options: t.Iterable[tuple[int, bytes]]) -> bytes:
    body = [fixed]
    for code, value in options:
        body.append(struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4))
    body.append(struct.pack("<HH", _OPT_ENDOFOPT, 0))
    length = struct.pack("<I", 12 + sum(map(len, body)))
    return b"".join([struct.pack("<I", kind), length, *body, length])


def _comment(comment: str | None) -> list[tuple[int, bytes]]:
    return [(_OPT_COMMENT, _text(comment))] if comment else []


def _text(value: str, longest: int = _LONGEST_OPTION) -> bytes:
    """Return a text as UTF-8, cut before the first character that does not fit."""
    encoded = value.encode("utf-8", "replace")
    return encoded[:longest].decode("utf-8", "ignore").encode("utf-8")
