# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock of a host against the controller's, from how long a command takes that prints the host's time."""

from __future__ import annotations

import re
import time
import typing as t

COMMAND = "date +%s.%N"
_TIME = re.compile(r"^(\d+)\.(?:(\d{9})|%?N)\s*$", re.MULTILINE)
# Seconds. A command over a connection that is open takes less than twice this as a rule, and tells what 50 ms are; the first one may have to
# open the connection.
_GOOD_BOUND = 0.02


def measure(ask: t.Callable[[], str]) -> dict[str, float] | None:
    """Return by how many seconds the host's clock is ahead (offset), and by how many that may be wrong (bound); None where it does not tell its time.

    ask runs COMMAND on the host and returns what it printed. The host has read its clock while the command ran, so half of that time is the
    bound (RFC 5905, 8, has the same of the round trip of a packet).
    """
    best: dict[str, float] | None = None
    for _try in range(2):
        asked, begun = time.time(), time.monotonic()
        answer = _TIME.search(ask())
        bound = (time.monotonic() - begun) / 2
        if answer is None:
            break
        whole, part = answer.groups()
        offset = int(whole) - asked - bound
        if part:
            offset += int(part) / 1e9
        else:  # a date that knows seconds only, such as some busybox's: it may be anywhere in this second
            offset, bound = offset + 0.5, bound + 0.5
        if best is None or bound < best["bound"]:
            best = {"offset": round(offset, 6), "bound": round(bound, 6)}
        if best["bound"] < _GOOD_BOUND:
            break
    return best
