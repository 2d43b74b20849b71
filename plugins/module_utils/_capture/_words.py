# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a session to people: how many packets were captured and where those are that are not in its files, and its host's clock.

A capture and its segments are dicts, as modules return them (_session.tell).
"""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system._clock import instant

_TOLERANCE = 0.05  # seconds by which a host's clock may differ from the controller's, or a start be late, before anybody is told


def named(segment: dict[str, t.Any]) -> str:
    """Return the names of a segment's containers, as Segment.named."""
    return "+".join(segment.get("containers") or [segment["container"]])  # a host may still have the module of an older release


def where(segment: dict[str, t.Any]) -> str:
    """Return where tcpdump listens, as Segment.where."""
    return f"{named(segment)} {segment['interface']}" + (f" ({segment['device']})" if segment["vantage"] == "host" else "")


def packets(segment: dict[str, t.Any]) -> str:
    """Return how many packets tcpdump has captured and, if not all are in the files, how many are there and what became of the others."""
    captured, kept, overwritten = segment["packets_captured"] or 0, segment["packets_kept"], segment["packets_overwritten"] or 0
    if kept is None or kept >= captured:
        return f"{captured} packets"
    others = captured - kept - overwritten
    if others <= 0:
        rest = "the ring overwrote the rest"
    elif not overwritten:
        rest = "the rest is damaged or was not written"
    else:
        rest = f"the ring overwrote {overwritten}, {others} are damaged or were not written"
    return f"{kept} of {captured} packets are in the file, {rest}"


def drops(segment: dict[str, t.Any]) -> str:
    """Return how many packets tcpdump has not captured."""
    unread = segment["packets_unread"] or 0
    return f"{segment['packets_dropped'] or 0} dropped" + (f", {unread} gone unread with the interface" if unread else "")


def summary(capture: dict[str, t.Any]) -> list[str]:
    """Return one line for each segment, and one for a clock that is off."""
    lines = []
    for segment in capture["segments"]:
        ending = f"ended by {segment['stop_reason']}" if segment["stop_reason"] else segment["status"]
        error = f": {segment['error']}" if segment["error"] else ""
        lines.append(f"{named(segment)} {segment['interface']} ({segment['vantage']}): {packets(segment)}, {drops(segment)}, {ending}{error}")
    off = clock_off(capture["clock"])
    return lines + ([f"clock: {off}"] if off else [])


def losses(capture: dict[str, t.Any], overwritten: bool = True, damages: t.Sequence[str] = ()) -> list[str]:
    """Return a sentence for each loss of an ended session that makes no error. overwritten is whether to tell what the ring overwrote.

    A session with a limit of its own for that tolerates what is below. damages are sentences that already tell of damaged files, by their paths.
    """
    overwritten = overwritten and capture["max_overwritten_percent"] is None
    found = []
    for segment in capture["segments"]:
        if segment["packets_overwritten"] and overwritten:
            found.append(f"{where(segment)}: {packets(segment)}; give the ring more room (file_size, file_count), or narrow the filter.")
        elif _unwritten(segment) and not any(path in damage for path in segment["files"] for damage in damages):
            found.append(f"{where(segment)}: {packets(segment)}; look at the host's disk.")
        if segment["packets_unread"]:
            found.append(f"{where(segment)}: {segment['packets_unread']} packets went unread with the interface; the interface any loses none.")
        if segment["stop_reason"] == "disk":
            found.append(f"{where(segment)}: the capture ended before its time, when no more than min_free was left on the disk; make room, or lower min_free.")
    return found


def failure(capture: dict[str, t.Any]) -> str | None:
    """Return one sentence that says why an ended session failed; None if it did not."""
    if capture["status"] != "failed":
        return None
    errors = [f"{where(segment)}: {segment['error']}" for segment in capture["segments"] if segment["error"]]
    return capture["error"] or f"The capture failed ({'; '.join(errors)}): start it again."


def _unwritten(segment: dict[str, t.Any]) -> bool:
    kept, overwritten = segment["packets_kept"], segment["packets_overwritten"]
    return kept is not None and overwritten is not None and kept + overwritten < (segment["packets_captured"] or 0)


def exceeded(capture: dict[str, t.Any], max_drop_percent: float | None, max_overwritten_percent: float | None) -> str | None:
    """Return one sentence that names the segments of which more packets were lost than the limits allow, each in percent; None if there is none."""
    found = []
    # The kernel counts the dropped as received, tcpdump the overwritten as captured.
    for limit, lost, of, how, remedy in (
        (max_drop_percent, "packets_dropped", "packets_received", "were dropped", "raise buffer_size, lower snaplen or narrow the filter"),
        (max_overwritten_percent, "packets_overwritten", "packets_captured", "were overwritten by the ring",
         "raise file_count or file_size, lower snaplen or narrow the filter"),
    ):
        shares = [(segment, segment[lost] or 0, segment[of] or 0) for segment in capture["segments"]]
        over = [f"{named(segment)} {segment['device']} {part} of {whole}"
                for segment, part, whole in shares if limit is not None and part and 100 * part > limit * whole]
        if over:
            found.append(f"More than {limit:g} % of the packets {how} ({', '.join(over)}): {remedy}.")
    return " ".join(found) or None


def clock_off(clock: dict[str, float] | None) -> str | None:
    """Return by how much the host's clock differs from the controller's; None if that may be no more than what is tolerated."""
    if clock is None or abs(clock["offset"]) - clock["bound"] <= _TOLERANCE:
        return None
    return f"{abs(clock['offset']):.3f} s {'ahead of' if clock['offset'] > 0 else 'behind'} the controller's (± {clock['bound']:.3f} s)"


def start_warnings(capture: dict[str, t.Any]) -> list[str]:
    """Return what is wrong with the times of a session that was started, as sentences."""
    found = []
    off = clock_off(capture["clock"])
    if off:
        meaning = "the times of its packets are, too"
        if capture["start_at"]:
            meaning += f", and start_at ({capture['start_at']}, which each host reads from its own clock) is not the same instant there as on other hosts"
        found.append(f"The host's clock is {off}; {meaning}: set it, such as by NTP.")
    if capture["start_at"] and capture["started_at"]:
        late = instant(capture["started_at"]) - instant(capture["start_at"])
        if late > _TOLERANCE:
            found.append(f"The session started {late:.2f} s after start_at, which had passed by the host's clock: start it earlier, or give a later instant.")
    return found


def waits(capture: dict[str, t.Any], now: str) -> str | None:
    """Return until when a session waits for its start_at; None if it does not. now is an ISO 8601 time in UTC."""
    if capture["status"] != "running" or capture["started_at"] or not capture["start_at"]:
        return None
    day, instant = capture["start_at"].split("T")
    off = clock_off(capture["clock"])
    return f"waits until {instant.partition('.')[0].rstrip('Z')} UTC" + (f" on {day}" if day != now.split("T")[0] else "") + (
        f" by the host's clock, which is {off}" if off else "")
