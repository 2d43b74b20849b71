# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a session while it captures: the next piece of one stream of packets, and the cursor to ask for the piece after it.

An answer depends on the files and the cursor alone. Nothing on the host waits, holds a file open or has to be cleaned up
when the connection breaks. Asking again with the same cursor returns the same packets again.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import sys
import time
import typing as t
import zlib

from ansible_collections.nettap.containers.plugins.module_utils._capture import _session, _stage, _storage
from ansible_collections.nettap.containers.plugins.module_utils._capture._cursor import Cursor, Followed, Place
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NettapError, PcapError
from ansible_collections.nettap.containers.plugins.module_utils._pcap import _blocks, _pcapng
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import CHUNK, HEADER_LENGTH, RECORD_LENGTH, Chunk, Header, PcapFile
from ansible_collections.nettap.containers.plugins.module_utils._pcap._ring import Ring

_PIECE = 4 << 20  # bytes of captured packets in one answer, which the connection plugin holds in memory
_SMALLEST_SHARE = 64 << 10  # bytes of an answer for one segment, however many segments there are
_LOOK = 0.05  # seconds between looks for new packets: file systems send no event that covers all of a session
_FOREVER = 1 << 64  # nanoseconds; later than any packet


@dataclasses.dataclass(frozen=True)
class Order:
    """The order for a stream.

    form is pcapng or pcap. host names the host in the stream. wait is for how many seconds to wait for packets when there
    are none yet. With from_start false, the packets captured before the first answer are left out.
    """

    path: str
    name: str
    host: str
    form: str
    from_start: bool
    wait: float


class _Take:
    """The share of one segment in one answer: chunks, each with its file and the offset in the file at which it ends.

    more is whether the segment has more packets than these.
    """

    def __init__(self, segment: Segment, known: Followed) -> None:
        self.segment = segment
        self.known = known
        self.read: list[tuple[PcapFile, int, Chunk]] = []
        self.more = False
        self.lost = False  # whether packets before these were overwritten unread

    @property
    def reach(self) -> int:
        """Return the time of the last packet, in file order."""
        return self.read[-1][2].last


def follow(order: Order, cursor: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the next piece of a stream.

    Its keys are data (bytes), cursor (the next one), packets (so far), lost (the places of which packets were overwritten unread
    just now), damage and disorder (sentences about what was found just now) and capture (as modules return it; None before the end
    of the session). An empty cursor begins the stream. The caller need not look into a cursor. Raise CaptureError, StorageError, PcapError.
    """
    directory = _storage.Storage(order.path).directory(order.name)
    deadline = time.monotonic() + order.wait
    while True:
        seen = _signature(directory)
        answer = _next(directory, order, cursor)
        if any(answer[key] for key in ("data", "lost", "damage", "disorder", "capture")) or time.monotonic() >= deadline:
            return answer
        cursor = answer["cursor"]
        while _signature(directory) == seen and time.monotonic() < deadline:
            time.sleep(_LOOK)


def _signature(directory: str) -> dict[str, tuple[int, int]]:
    """Return sizes and times that change when packets were written, files appeared or were removed, or the session changed."""
    found = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:  # the folder is gone: the next look finds out what happened
        for entry in entries:
            if not entry.name.endswith(".log"):
                figures = entry.stat(follow_symlinks=False)
                found[entry.name] = (figures.st_size, figures.st_mtime_ns)
    return found


def _next(directory: str, order: Order, before: dict[str, t.Any]) -> dict[str, t.Any]:
    session = _storage.load(directory)
    if session is None:
        raise CaptureError(f"There is no capture session {order.name!r} under {order.path}" + (" any more: it was removed." if before else "."))
    cursor = Cursor.of(before) if before else Cursor(session.supervisor)
    if cursor.supervisor != session.supervisor:
        raise CaptureError(f"Session {order.name} was started anew while it was followed: the packets of before can be fetched under its kept name.")
    if order.form == "pcap":
        _check_one_place(session)
    # This is asked before the files are read: once all tcpdumps have ended, the files are complete.
    ended = session.status != "running" or _session.supervisor(session) is None and not any(map(_session.tcpdump, session.segments))
    out: list[bytes] = []
    share = max(_SMALLEST_SHARE, _PIECE // max(1, len(session.segments)))
    takes = []
    damage, disorder = [], []
    for segment in session.segments:
        known = cursor.segments.setdefault(segment.file, Followed())
        ring = _ring(directory, segment, ended)
        header = ring.header or _header(segment, session.request)
        if known.interface >= 0 or _describe(directory, session, segment, order, header, cursor, out):
            if not before and not order.from_start and ring.files:
                known.at = _at(ring.files[-1], HEADER_LENGTH + sum(len(chunk.data) for chunk in ring.files[-1].chunks()))
            takes.append(_Take(segment, known))
            _read(ring, session.request, share, takes[-1])
        damage += [told for one in ring.damages for told in known.note(_stage.damaged(one))]
        if not ring.in_order:
            disorder += known.note(f"{segment.where}: {_stage.disordered(ring.setback)}")
    if order.form == "pcapng" and not before:
        out.insert(0, _blocks.section_header(_pcapng.APPLICATION, "\n".join([*damage, *disorder])))
    _write(takes, order.form, out)
    capture = None
    if ended and not any(take.more for take in takes):
        capture = _session.tell(directory, session)
        for segment, told in zip(session.segments, capture["segments"]):
            told["packets_followed"] = cursor.segments[segment.file].packets
        if order.form == "pcapng":
            out += _statistics(session, capture, cursor)
    return {"data": b"".join(out), "cursor": dataclasses.asdict(cursor), "packets": sum(known.packets for known in cursor.segments.values()),
            "lost": [take.segment.where for take in takes if take.lost], "damage": damage, "disorder": disorder, "capture": capture}


def _check_one_place(session: Session) -> None:
    # What has a slash in its name is a pod's, and gets another ID each time it is made anew.
    places = {(segment.container if "/" in segment.container else segment.id, segment.interface, segment.vantage) for segment in session.segments}
    if len(places) > 1:
        raise CaptureError(f"The session captures in {len(places)} places ({', '.join(segment.where for segment in session.segments)}), and a pcap tells "
                           "only of one: follow it as pcapng.")


def _ring(directory: str, segment: Segment, ended: bool) -> Ring:
    while True:
        paths = _session.paths(directory, segment)
        try:
            return Ring(paths, ended)
        except PcapError:
            if set(paths) <= set(_session.paths(directory, segment)):
                raise
            # else the ring removed a file between the two lines


def _header(segment: Segment, request: Request) -> Header | None:
    """Return the header that the segment's files will have; None while its link type is not known."""
    link_type = _stage.link_type(segment)
    return None if link_type is None else Header(link_type, _stage.snaplen(request))


def _describe(directory: str, session: Session, segment: Segment, order: Order, header: Header | None, cursor: Cursor, out: list[bytes]) -> bool:
    """Introduces a segment to the stream; False while its link type is not known yet."""
    if header is None:
        return False
    if order.form == "pcapng":
        out.append(_pcapng.describe(_stage.segment_input(directory, session, segment, order.host), header))
    elif not cursor.interfaces:
        out.append(header.pack())
        cursor.link_type = header.linktype
    elif header.linktype != cursor.link_type:  # of a container that is back; with the same link type, the first header holds for it too
        raise CaptureError(f"{segment.where} has come back with another link type, and a pcap tells only of one: follow it as pcapng.")
    cursor.segments[segment.file].interface = cursor.interfaces
    cursor.interfaces += 1
    return True


def _at(file: PcapFile, offset: int) -> Place:
    return Place(os.path.basename(file.path), file.first, offset)


def _read(ring: Ring, request: Request, share: int, take: _Take) -> None:
    """Read the new packets of a segment, share bytes at most."""
    index, offset, left = 0, HEADER_LENGTH, share
    at = take.known.at
    if at and ring.files:
        known = [number for number, file in enumerate(ring.files) if _at(file, at.offset) == at]
        if known:
            index, offset = known[0], at.offset
        else:
            take.lost = not _is_next(at, ring.files[0], take.segment, request)
    latest = take.known.latest
    for file in ring.files[index:]:
        file.latest, file.setback = latest, 0
        try:
            for chunk in file.chunks(min(share, CHUNK), offset):
                offset += len(chunk.data)
                left -= len(chunk.data)
                take.read.append((file, offset, chunk))
                if left <= 0:
                    take.more = True
                    return
        except PcapError:
            if _is_there(file):
                raise
            return  # the ring went on meanwhile: the next look tells what was lost
        offset, latest = HEADER_LENGTH, file.latest


def _is_next(at: Place, file: PcapFile, segment: Segment, request: Request) -> bool:
    """Return whether a file comes right after the file of a place, when that one was read to its end and has been removed since."""
    before, after = (name[len(segment.file):] for name in (at.file, os.path.basename(file.path)))
    # tcpdump begins the next file at the first packet after this file has grown larger than file_size.
    whole = at.offset > request.file_size * 1_000_000
    return whole and before.isdigit() and after.isdigit() and (int(before) + 1) % segment.names == int(after)


def _is_there(file: PcapFile) -> bool:
    try:
        return PcapFile(file.path).first == file.first
    except PcapError:
        return False


def _write(takes: t.Sequence[_Take], form: str, out: list[bytes]) -> None:
    """Append the packets that were read, in the order of time, and move the cursor on.

    Packets later than the last one read of a segment that has more wait for the next answer.
    """
    horizon = min((take.reach for take in takes if take.more), default=_FOREVER)
    pairs: list[tuple[int, bytes]] = []
    for take in takes:
        # Packets of one segment may be out of order by microseconds: the segment that sets the horizon gives all its packets.
        limit = _FOREVER if form == "pcap" or take.more and take.reach == horizon else horizon
        for file, end, chunk in take.read:
            if form == "pcap":
                found = [(chunk.first, chunk.data)]
                packets = chunk.packets
                take.known.latest = chunk.last
            else:
                found = _blocks.enhanced_packets(take.known.interface, chunk)
                packets = next((number for number, pair in enumerate(found) if pair[0] > limit), len(found))
                found = found[:packets]
                take.known.latest = found[-1][0] if found else take.known.latest
            pairs += found
            take.known.packets += packets
            take.known.at = _at(file, end - len(chunk.data) + _length(chunk, packets))
            if packets < chunk.packets:
                take.more = True
                break
    pairs.sort(key=lambda pair: pair[0])
    out += [block for _time, block in pairs]


def _length(chunk: Chunk, packets: int) -> int:
    """Return how many bytes the first packets of a chunk take."""
    if packets == chunk.packets:
        return len(chunk.data)
    end = 0
    for _number in range(packets):
        end += RECORD_LENGTH + chunk.header.record.unpack_from(chunk.data, end)[2]
    return end


def _statistics(session: Session, capture: dict[str, t.Any], cursor: Cursor) -> list[bytes]:
    blocks = []
    for segment, told in zip(session.segments, capture["segments"]):
        interface = cursor.segments[segment.file].interface
        comment = "\n".join(cursor.segments[segment.file].notes)
        if interface >= 0 and (told["packets_received"] is not None or comment):
            blocks.append(_blocks.interface_statistics(interface, time.time_ns(), received=told["packets_received"], dropped=told["packets_dropped"],
                                                       captured=told["packets_captured"], comment=comment))
    return blocks


def pack(value: t.Any) -> str:
    """Return a value, as JSON, in one word of a command line."""
    return base64.b64encode(zlib.compress(json.dumps(value).encode())).decode()


def unpack(word: str) -> t.Any:
    """Return the value that was packed."""
    return json.loads(zlib.decompress(base64.b64decode(word)))


def main() -> None:
    """Answer as the program of the archive that the module stages. The arguments are an order and a cursor, packed."""
    try:
        answer = follow(Order(**unpack(sys.argv[1])), unpack(sys.argv[2]))
    except NettapError as error:
        answer = {"failed": True, "msg": str(error)}
    else:
        answer.update(data=base64.b64encode(answer["data"]).decode(), cursor=pack(answer["cursor"]))
    sys.stdout.write(json.dumps(answer) + "\n")
