# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging: a session's captures as whole files with checksums, where the login user can read them."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import math
import os
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _session, _staging, _storage, _words
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import StorageError
from ansible_collections.nettap.containers.plugins.module_utils._pcap._pcapng import Merged, SegmentInput, merge
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import LINKTYPE_ETHERNET, MAXIMUM_SNAPLEN, Extent
from ansible_collections.nettap.containers.plugins.module_utils._pcap._ring import join_ring

# Names that tcpdump prints to LINKTYPE_ numbers (https://www.tcpdump.org/linktypes.html), for files without a header.
_LINK_TYPES = {"EN10MB": 1, "PPP": 9, "RAW": 101, "LINUX_SLL": 113, "LINUX_SLL2": 276}


class _Sink:
    """A binary file that hashes the data written to it. Without a descriptor it only hashes."""

    def __init__(self, fd: int | None) -> None:
        self._file = os.fdopen(fd, "wb") if fd is not None else None
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write and hash data, as a binary file's write(). Return its length."""
        self._hash.update(data)
        self.size += len(data)
        if self._file:
            self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing, in the place of a binary file's flush()."""

    def restart(self) -> None:
        """Forget what was written."""
        self._hash = hashlib.sha256()
        self.size = 0
        if self._file:
            self._file.seek(0)
            self._file.truncate()

    def close(self) -> str:
        """Close the file. Return the SHA-256 of all data, as hexadecimal digits."""
        if self._file:
            self._file.close()
        return self._hash.hexdigest()


def stage(storage: _storage.Storage, name: str, folder: str | None, host: str, kind: str,
          compress: bool, owner: str | None = None, fetch: _staging.Fetch | None = None) -> tuple[dict[str, t.Any], list[dict[str, t.Any]]]:
    """Writes the files of a session into folder; returns the session and a record for each: path (in folder), dest
    (relative path for the controller), size, sha256, packets, damage (sentences), in_order, warnings, host, containers.

    A record holds path (in folder), dest (relative path for the controller), size, sha256, packets, host and containers.
    kind is "segment" (a pcap of each segment) or "host" (one pcapng of all). folder belongs to the login user and is
    private to them; its owner becomes the owner of the files. With folder None, write nothing and return the same records,
    with path None. owner is the run whose session it must be, if one is given. fetch is recorded, so that a later task can
    tell whether the files are still needed. Raise CaptureError, StorageError, PcapError.
    """
    with storage.held(name, owner, patience=math.inf) as found:  # another fetch may be staging the same session
        directory = storage.directory(found or name)
        session = _storage.load(directory) if found else None
        if session is None:
            raise storage.missing(name, owner)
        told = _session.tell(directory, session)
        stamp = re.sub(r"[-:]|\.\d+", "", session.started_at or "")
        base = f"{name}-{stamp}" if stamp else name
        ending = ".gz" if compress else ""
        if kind == "host":
            jobs = [(f"{base}.pcapng{ending}", session.segments)]
        else:
            jobs = [(f"{base}/{segment.file}{ending}", [segment]) for segment in session.segments]
        ended = {segment.file for segment, figures in zip(session.segments, told["segments"]) if figures["status"] != "running"}
        records = []
        kept: dict[str, int] = {}
        with _folder(directory, folder, sum(segment["bytes"] for segment in told["segments"]), fetch) as opened:
            for number, (dest, segments) in enumerate(jobs):
                file = f"{number:03d}{_staging.ENDING}"
                sink = _Sink(_create(opened, file) if opened is not None else None)
                inputs = [dataclasses.replace(segment_input(directory, session, segment, host), snaplen=snaplen(session.request),
                                              ended=segment.file in ended) for segment in segments]
                written = _write(inputs, kind, compress, sink)
                counted = written.per_segment if isinstance(written, Merged) else (written.packets,)
                kept.update({segment.file: packets for segment, packets in zip(segments, counted) if segment.file in ended})
                records.append({
                    "path": os.path.join(folder, file) if folder else None, "dest": dest, "size": sink.size, "sha256": sink.close(), "packets": written.packets,
                    "damage": list(written.damages), "in_order": written.in_order, "warnings": [f"{dest}: {note}" for note in _notes(written)],
                    "host": host, "containers": sorted({name for segment in segments for name in segment.containers}),
                })
        for segment, figures in zip(session.segments, told["segments"]):
            _correct(figures, kept.get(segment.file), bool(session.request.file_size))
    return {**told, "summary": _words.summary(told)}, records


def _correct(figures: dict[str, t.Any], kept: int | None, ring: bool) -> None:
    """Tell of an ended segment how many packets its files hold, which were read just now; the disk may have lost some."""
    if kept is not None:
        figures["packets_kept"] = kept
        if figures["packets_overwritten"] is None:  # of an older release, which did not count them
            figures["packets_overwritten"] = max(0, (figures["packets_captured"] or 0) - kept) if ring else 0


def _write(inputs: t.Sequence[SegmentInput], kind: str, compress: bool, sink: _Sink) -> Extent | Merged:
    """Write one file, and return what it holds."""
    if kind == "segment":
        with _compressed(sink, compress) as out:
            return join_ring(inputs[0].files, out, inputs[0].linktype, inputs[0].snaplen, inputs[0].ended)
    with _compressed(sink, compress) as out:
        merged = merge(inputs, out)
    notes = _notes(merged)
    if notes:
        # The comment stands before the packets, and what it must tell is known after them.
        sink.restart()
        with _compressed(sink, compress) as out:
            merged = merge(inputs, out, "\n".join(notes))
    return merged


@contextlib.contextmanager
def _compressed(sink: _Sink, compress: bool) -> t.Iterator[t.Any]:
    """Give a file that writes into the sink, with gzip or as it is."""
    if not compress:
        yield sink
        return
    # Level 1: capture files gain little from more. No time and no name inside: the same packets make the same bytes.
    with gzip.GzipFile(filename="", fileobj=t.cast("t.BinaryIO", sink), mode="wb", compresslevel=1, mtime=0) as out:
        yield out


def _notes(found: Extent | Merged) -> list[str]:
    """What a reader of the packets must know, as sentences."""
    return [damaged(damage) for damage in found.damages] + ([] if found.in_order else [disordered(found.setback)])


def damaged(damage: str) -> str:
    """Return the sentence that tells of a damaged capture file."""
    return f"Packets are missing: {damage}. What this file held before, and all other files, are here."


def disordered(setback: int) -> str:
    """Return the sentence that tells of packets out of order, by how many nanoseconds."""
    return f"Packets are not in the order of time: some are {setback / 1e9:.3f} s earlier than others before them, as when the host's clock was set back."


def segment_input(directory: str, session: Session, segment: Segment, host: str) -> SegmentInput:
    """Return the files of a segment, with the facts about it that the merged file is to hold."""
    place = segment.interface if segment.vantage == "container" else f"{segment.interface}@{segment.device}"
    links = ", ".join(f"{index}={link}" for index, link in sorted(segment.links.items()))
    comments = [f"container: {segment.container}", f"id: {segment.id}", f"image: {segment.image or ''}", f"filter: {segment.filter}",
                f"vantage: {segment.vantage}", f"stop_reason: {segment.stop_reason or 'running'}"]
    if len(segment.containers) > 1:
        comments.append(f"containers: {', '.join(segment.containers)}")
    if segment.device == "any":
        # A packet of LINUX_SLL2 names its interface by index only, and the names are gone with the namespace.
        comments.append(f"interfaces: {links}")
    if segment.packets_overwritten:
        comments.append(f"overwritten: {segment.packets_overwritten} packets, by the ring")
    if segment.packets_unread:
        comments.append(f"unread: {segment.packets_unread} packets, gone with the interface")
    if session.clock:
        comments.append(f"clock: {session.clock.offset:+.6f} s against the controller's (± {session.clock.bound:.6f} s)")
    return SegmentInput(
        files=_session.files(directory, segment), if_name=f"{host}/{segment.named}/{place}",
        description=f"{segment.vantage} vantage of {segment.named}, device {segment.device}", filter=segment.filter or None, comments=comments,
        linktype=link_type(segment) or LINKTYPE_ETHERNET, received=segment.counts.packets_received, dropped=segment.counts.packets_dropped,
        captured=segment.counts.packets_captured,
    )


def link_type(segment: Segment) -> int | None:
    """LINKTYPE_ number of a segment of which no file need have a header yet; None while it is not known."""
    return _LINK_TYPES.get(segment.link_type or "")


def snaplen(request: Request) -> int:
    """Snapshot length of a session's segments, of which no file need have a header yet."""
    return request.snaplen or MAXIMUM_SNAPLEN


@contextlib.contextmanager
def _folder(directory: str, folder: str | None, needed: int, fetch: _staging.Fetch | None) -> t.Iterator[int | None]:
    """Remove the files that an earlier, broken fetch has left in its folder. Then open the folder to stage in, for the block. Raise StorageError."""
    if folder is None:
        yield None
        return
    _staging.clear(directory)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"The folder {folder} to stage the capture in cannot be opened: {error.strerror}.") from error
    try:
        figures = os.fstat(fd)
        if figures.st_mode & 0o077:
            raise StorageError(f"The folder {folder} to stage the capture in is open to others: captures hold secrets.")
        space = os.fstatvfs(fd)
        if space.f_bavail * space.f_frsize < needed:
            raise StorageError(f"Staging the capture takes {needed >> 20} MiB and {folder} has {space.f_bavail * space.f_frsize >> 20} MiB free: "
                               "set ansible_remote_tmp to a larger file system, or fetch with compress: true.")
        _staging.record(directory, folder, figures, fetch)
        yield fd
    except OSError as error:
        raise StorageError(f"The capture cannot be staged in {folder}: {error.strerror}.") from error
    finally:
        os.close(fd)


def _create(folder: int, file: str) -> int:
    """Create a new file in the login user's folder: theirs, private, and never a file that another user has put there."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    owner = os.fstat(folder)
    os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


def write(folder: str, file: str, data: bytes) -> str:
    """Write a file into the login user's folder. Return its path. Raise StorageError."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with os.fdopen(_create(fd, file), "wb") as stream:
                stream.write(data)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(f"{file} cannot be written into {folder}: {error.strerror}.") from error
    return os.path.join(folder, file)
