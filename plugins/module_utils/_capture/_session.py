# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session as it is told: session.json, completed by what the kernel, the logs and the files say now."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _storage, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._errors import PcapError
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import PcapFile, scan
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process

State = dict[str, t.Any]
Segment = dict[str, t.Any]

NANO = 1_000_000_000
_NEVER = 1 << 64  # nanoseconds; later than any packet
COUNTS = ("packets_captured", "packets_received", "packets_dropped", "packets_dropped_by_interface")
_TOLD = ("container", "id", "interface", "vantage", "device", "pid", "argv", "status", "stop_reason", "error")
_ANSWER = 0.5  # seconds that tcpdumps get to print their counts


def output(directory: str, segment: Segment) -> str:
    """The path that tcpdump -w is given; ring files add digits."""
    return os.path.join(directory, segment["file"])


def log(directory: str, segment: Segment) -> str:
    """Where its tcpdump's standard error goes: a file, so that the final counts survive everybody else."""
    return output(directory, segment)[: -len("pcap")] + "log"


def paths(directory: str, segment: Segment) -> list[str]:
    """The segment's capture files in no order."""
    base = output(directory, segment)
    return [path for path in glob.glob(glob.escape(base) + "*") if path[len(base):].isdigit() or path == base]


def files(directory: str, segment: Segment) -> list[str]:
    """The segment's capture files in the order of their first packet (a ring's names wrap around); empty ones last."""
    return sorted(paths(directory, segment), key=lambda path: (_first(path) or _NEVER, path))


def _first(path: str) -> int | None:
    """Time of the first packet in a file, in nanoseconds since the epoch."""
    try:
        return PcapFile(path).first
    except PcapError:  # being rewritten right now, or damaged
        return None


def supervisor(state: State) -> Process | None:
    """The session's supervisor, if it is alive."""
    known = state.get("supervisor")
    process = Process(known["pid"], known["started"]) if known else None
    return process if process and process.alive() else None


def tcpdump(segment: Segment) -> Process | None:
    """The segment's tcpdump, if it is alive."""
    process = Process(segment["pid"], segment["started"]) if segment.get("pid") else None
    return process if process and process.alive() else None


def finish(directory: str, segment: Segment, reason: str, error: str | None = None) -> None:
    """Writes into the segment how it ended, with tcpdump's final counts and the times of its first and last packet."""
    segment.update(status="failed" if reason == "error" else "stopped", stop_reason=reason, error=error)
    segment.update(_tcpdump.read(log(directory, segment)).counts)
    with contextlib.suppress(PcapError):  # damaged by a disk that ran full, say: it is still listed and fetched as far as it goes
        found = [path for path in files(directory, segment) if _first(path) is not None]
        segment["first_packet"] = _moment(_first(found[0])) if found else None
        segment["last_packet"] = _moment(scan(found[-1]).last) if found else None


def conclude(state: State, error: str | None = None) -> None:
    """Marks the session as ended."""
    failed = error or any(segment["status"] == "failed" for segment in state["segments"])
    state.update(status="failed" if failed else "stopped", stopped_at=timestamp(time.time()), error=error)


def conclude_killed(directory: str, state: State) -> bool:
    """Concludes, on disk too, a session whose supervisor was killed; False if there was nothing to do. Whoever calls
    holds the session's lock and has made sure that no tcpdump of it runs."""
    if state["status"] != "running":
        return False
    for segment in state["segments"]:
        if segment["status"] == "running":
            finish(directory, segment, "error", "the supervisor was killed, and its captures ended with it")
    conclude(state, f"The supervisor (PID {(state.get('supervisor') or {}).get('pid')}) was killed; what was captured until then can be fetched.")
    _storage.save(directory, state)
    return True


def tell(directory: str, state: State) -> dict[str, t.Any]:
    """The session as modules return it, with live figures of what runs."""
    status, error = state["status"], state.get("error")
    alive = supervisor(state) is not None
    killed = status == "running" and state.get("supervisor") is not None and not alive
    if killed:
        newest = _storage.load(directory)
        if newest is not None and newest != state:
            return tell(directory, newest)  # it was not killed, but ended in order just after state was read
    running = [segment for segment in state["segments"] if segment["status"] == "running"]
    counts = _ask(directory, running) if status == "running" else {}
    segments = [_tell_segment(directory, segment, counts.get(segment["file"], {}), killed) for segment in state["segments"]]
    if killed:
        status = "running" if any(segment["status"] == "running" for segment in segments) else "failed"
        error = f"The supervisor (PID {state['supervisor']['pid']}) was killed; what was captured until then can be fetched."
    return {
        "name": os.path.basename(directory),
        "status": status,
        "path": directory,
        "started_at": state.get("started_at"),
        "stopped_at": state.get("stopped_at"),
        "error": error,
        "supervisor": {"pid": state["supervisor"]["pid"], "alive": alive} if state.get("supervisor") else None,
        "filter": state["request"]["filter"],
        "duration": state["request"].get("duration", 0),
        "live": state["request"].get("live", False),
        "buffer_size": state["buffer_size"],
        "segments": segments,
    }


def _tell_segment(directory: str, segment: Segment, counts: dict[str, int], killed: bool) -> dict[str, t.Any]:
    found = files(directory, segment)
    told = {key: segment.get(key) for key in _TOLD}
    told["files"] = found
    told["bytes"] = sum(_size(path) for path in found)
    told.update({key: counts.get(key, segment.get(key)) for key in COUNTS})
    told["first_packet"] = segment.get("first_packet") or next((_moment(_first(path)) for path in found[:1]), None)
    told["last_packet"] = segment.get("last_packet")
    if killed and segment["status"] == "running" and tcpdump(segment) is None:
        told.update(_tcpdump.read(log(directory, segment)).counts)  # nobody has read its last words
        told.update(status="failed", stop_reason="error", error="the supervisor was killed, and its captures ended with it")
    return told


def _ask(directory: str, segments: t.Sequence[Segment]) -> dict[str, dict[str, int]]:
    """Has every running tcpdump print its counts (SIGUSR1), and reads them: file to counts."""
    waiting = {}
    for segment in segments:
        path, process = log(directory, segment), tcpdump(segment)
        size, report = _size(path), _tcpdump.read(path)
        # Before it listens, SIGUSR1 would end it. SIGUSR2, which flushes, is never sent: tcpdump flushes inside the signal
        # handler, which corrupts the file when it interrupts a write.
        if process is not None and report.ready and process.send(signal.SIGUSR1):
            waiting[segment["file"]] = (path, size, report.answers)
    deadline = time.monotonic() + _ANSWER
    # The size is cheap to look at, but a log that has grown may hold half of an answer.
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
