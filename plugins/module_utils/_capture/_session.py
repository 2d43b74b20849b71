# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session as modules return it: session.json, completed with the state of the kernel, the logs and the files now."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import signal
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _storage, _tcpdump, _words
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._capture._tcpdump import Counts
from ansible_collections.nettap.containers.plugins.module_utils._errors import PcapError
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import PcapFile, scan
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process

NANO = 1_000_000_000
_NEVER = 1 << 64  # nanoseconds; later than any packet
_ANSWER = 0.5  # seconds that tcpdumps get to print their counts
_KILLED = "the supervisor was killed, and its captures ended with it"
_TAKEN = ("container_gone", "interface_gone")  # how a segment ends whose interface the kernel takes away, with the packets that nobody has read
_LOOPED = ("any", "lo")  # devices of which the kernel counts packets twice that tcpdump reads once


def output(directory: str, segment: Segment) -> str:
    """Return the path for tcpdump -w. Ring files add digits to it."""
    return os.path.join(directory, segment.file)


def log(directory: str, segment: Segment) -> str:
    """Return the path of the standard error of a segment's tcpdump: a file, so that the final counts survive every process."""
    return output(directory, segment)[: -len("pcap")] + "log"


def paths(directory: str, segment: Segment) -> list[str]:
    """Return the segment's capture files in no order."""
    base = output(directory, segment)
    return [path for path in glob.glob(glob.escape(base) + "*") if path[len(base):].isdigit() or path == base]


def files(directory: str, segment: Segment) -> list[str]:
    """Return the segment's capture files in the order of their first packet (a ring's names wrap around), empty ones last."""
    return sorted(paths(directory, segment), key=lambda path: (_first(path) or _NEVER, path))


def _first(path: str) -> int | None:
    """Return the time of the first packet in a file, in nanoseconds since the epoch; None if it has none or cannot be read."""
    try:
        return PcapFile(path).first
    except PcapError:  # removed right now, for the ring to go on
        return None


def supervisor(session: Session) -> Process | None:
    """Return the session's supervisor, if it is alive."""
    return session.supervisor if session.supervisor and session.supervisor.alive() else None


def tcpdump(segment: Segment) -> Process | None:
    """Return the segment's tcpdump, if it is alive."""
    process = Process(segment.pid, segment.started) if segment.pid is not None and segment.started is not None else None
    return process if process and process.alive() else None


def finish(directory: str, segment: Segment, reason: str, error: str | None = None, whole: bool = False) -> None:
    """Record in the segment how it ended, with its final figures and the times of its first and last packet.

    whole is whether tcpdump has told its final counts and has written out all that it captured. Else the files are read.
    """
    segment.status, segment.stop_reason, segment.error = "failed" if reason == "error" else "stopped", reason, error
    segment.counts = segment.counts.updated(_tcpdump.read(log(directory, segment)).counts)
    with contextlib.suppress(PcapError):  # its files were removed meanwhile
        found = [path for path in files(directory, segment) if _first(path) is not None]
        segment.first_packet = _moment(_first(found[0])) if found else None
        segment.last_packet = _moment(scan(found[-1]).last) if found else None
        _count(directory, segment, whole)
    counts = segment.counts
    if whole and reason in _TAKEN and segment.device not in _LOOPED and counts.packets_captured is not None:
        segment.packets_unread = max(0, (counts.packets_received or 0) - (counts.packets_dropped or 0) - counts.packets_captured)


def _count(directory: str, segment: Segment, whole: bool) -> None:
    """Record how many of the captured packets are in the files, and how many the ring has overwritten. Raise PcapError."""
    captured, overwritten = segment.counts.packets_captured, segment.packets_overwritten
    if whole and captured is not None and overwritten is not None:
        segment.packets_kept = captured - overwritten
        return
    segment.packets_kept = kept = sum(scan(path).packets for path in paths(directory, segment))
    segment.packets_overwritten = max(0, (captured or 0) - kept) if overwritten is None else overwritten
    # The counts of a tcpdump that was killed are older than its files.
    segment.counts = dataclasses.replace(segment.counts, packets_captured=max(captured or 0, kept + segment.packets_overwritten))


def note_overwritten(directory: str, segment: Segment) -> None:
    """Note how many packets of a running segment were overwritten, for the tasks that look at it.

    A file of its own costs a microsecond. session.json is written to the disk each time, which may be busy.
    """
    number = "unknown" if segment.packets_overwritten is None else segment.packets_overwritten
    with contextlib.suppress(OSError):  # a full disk: the end of the session tells it
        fd = os.open(_note(directory, segment), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, f"{number:>20}\n".encode(), 0)  # always as long
        finally:
            os.close(fd)


def _noted(directory: str, segment: Segment) -> int | None:
    """Return how many packets of a running segment were overwritten; None where nobody has counted them."""
    try:
        with open(_note(directory, segment), encoding="ascii") as stream:
            number = stream.read().strip()
    except FileNotFoundError:
        return segment.packets_overwritten
    return int(number) if number.isdigit() else None


def _note(directory: str, segment: Segment) -> str:
    return output(directory, segment)[: -len("pcap")] + "overwritten"


def conclude(session: Session, error: str | None = None) -> None:
    """Mark the session as ended, with its error if it has one."""
    failed = error or any(segment.status == "failed" for segment in session.segments)
    session.status, session.stopped_at, session.error = "failed" if failed else "stopped", timestamp(time.time()), error


def conclude_killed(directory: str, session: Session) -> bool:
    """Conclude, on disk too, a session whose supervisor was killed. Return False if there was nothing to do.

    The caller holds the session's lock and has made sure that no tcpdump of the session runs.
    """
    if session.status != "running":
        return False
    for segment in session.segments:
        if segment.status == "running":
            segment.packets_overwritten = None if session.request.file_size else 0  # what the supervisor has counted may be too little
            finish(directory, segment, "error", _KILLED)
    conclude(session, _killed(session))
    _storage.save(directory, session)
    return True


def tell(directory: str, session: Session) -> dict[str, t.Any]:
    """Return the session as modules return it, with live figures of its running segments."""
    status, error = session.status, session.error
    alive = supervisor(session) is not None
    killed = status == "running" and session.supervisor is not None and not alive
    if killed:
        newest = _storage.load(directory)
        if newest is not None and newest != session:
            return tell(directory, newest)  # the supervisor was not killed, but ended in order just after session.json was read
    running = [segment for segment in session.segments if segment.status == "running"]
    counts = _ask(directory, running) if status == "running" else {}
    segments = [_tell_segment(directory, segment, counts.get(segment.file, Counts()), killed) for segment in session.segments]
    if killed:
        status = "running" if any(segment["status"] == "running" for segment in segments) else "failed"
        error = _killed(session)
    told = {
        "name": os.path.basename(directory),
        "status": status,
        "path": directory,
        "owner": session.owner,
        "start_at": session.start_at,
        "started_at": session.started_at,
        "stopped_at": session.stopped_at,
        "error": error,
        "supervisor": {"pid": session.supervisor.pid, "alive": alive} if session.supervisor else None,
        "filter": session.request.filter,
        "duration": session.request.duration,
        "live": session.request.live,
        "buffer_size": session.buffer_size,
        "max_overwritten_percent": session.request.max_overwritten_percent,
        "clock": dataclasses.asdict(session.clock) if session.clock else None,
        "waiting": session.waiting if status == "running" and alive else [],
        "left_out": session.left_out,
        "segments": segments,
    }
    return {**told, "summary": _words.summary(told)}


def _killed(session: Session) -> str:
    pid = session.supervisor.pid if session.supervisor else None
    return f"The supervisor (PID {pid}) was killed; what was captured until then can be fetched."


def _tell_segment(directory: str, segment: Segment, counts: Counts, killed: bool) -> dict[str, t.Any]:
    found = files(directory, segment)
    overwritten, kept = segment.packets_overwritten, segment.packets_kept
    if segment.status == "running":
        overwritten = _noted(directory, segment)
        captured = segment.counts.updated(counts).packets_captured
        kept = None if killed or captured is None or overwritten is None else max(0, captured - overwritten)
    if killed and segment.status == "running" and tcpdump(segment) is None:
        counts = _tcpdump.read(log(directory, segment)).counts  # the supervisor did not live to read the final counts
        segment = dataclasses.replace(segment, status="failed", stop_reason="error", error=_KILLED)
    return {
        "container": segment.container,
        "containers": segment.containers,
        "id": segment.id,
        "interface": segment.interface,
        "vantage": segment.vantage,
        "device": segment.device,
        "pid": segment.pid,
        "argv": segment.argv,
        "status": segment.status,
        "stop_reason": segment.stop_reason,
        "error": segment.error,
        "files": found,
        "bytes": sum(_size(path) for path in found),
        **dataclasses.asdict(segment.counts.updated(counts)),
        "packets_kept": kept,
        "packets_overwritten": overwritten,
        "packets_unread": segment.packets_unread,
        "first_packet": segment.first_packet or next((_moment(_first(path)) for path in found[:1]), None),
        "last_packet": segment.last_packet,
    }


def _ask(directory: str, segments: t.Sequence[Segment]) -> dict[str, Counts]:
    """Have every running tcpdump print its counts (SIGUSR1), and read them. Return the counts by file."""
    waiting = {}
    for segment in segments:
        path, process = log(directory, segment), tcpdump(segment)
        size, report = _size(path), _tcpdump.read(path)
        # SIGUSR1 would end a tcpdump that does not listen yet. SIGUSR2, which flushes, is never sent: tcpdump flushes inside the
        # signal handler, which corrupts the file when the signal interrupts a write.
        if process is not None and report.ready and process.send(signal.SIGUSR1):
            waiting[segment.file] = (path, size, report.answers)
    deadline = time.monotonic() + _ANSWER
    # The size is cheap to check, but a log that has grown may hold half an answer only.
    while time.monotonic() < deadline and any(_size(path) <= size or _tcpdump.read(path).answers <= known for path, size, known in waiting.values()):
        time.sleep(0.005)
    return {name: _tcpdump.read(path).counts for name, (path, _size_before, _known) in waiting.items()}


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _moment(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else timestamp(nanoseconds / NANO)
