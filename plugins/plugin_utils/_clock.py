# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock of a host against the controller's, from how long a command takes that prints the host's time."""

from __future__ import annotations

import math
import re
import time
import typing as t

COMMAND = "date +%s.%N"
_TIME = re.compile(r"^(\d+)\.(?:(\d{9})|%?N)\s*$", re.MULTILINE)
# Seconds. Over a connection that is open, a command tells the time as well as this as a rule. The first one may have to open the connection.
_GOOD_BOUND = 0.02
_MOST_COMMANDS = 3


def measure(ask: t.Callable[[], str]) -> dict[str, float] | None:
    """Return by how many seconds the host's clock is ahead (offset), and by how many that may be wrong (bound); None where it does not tell its time.

    ask runs COMMAND on the host and returns what it printed. The host read its clock while the command ran, so the bound of one command is half
    of the time that it took. Several commands leave what all of them allow (Marzullo's intersection, as in RFC 5905, 11.2.1).
    """
    least, most = -math.inf, math.inf
    for _try in range(_MOST_COMMANDS):
        asked, begun = time.time(), time.monotonic()
        answer = _TIME.search(ask())
        answered = asked + time.monotonic() - begun
        if answer is None:
            break
        whole, part = answer.groups()
        earliest = int(whole) + int(part or 0) / 1e9
        latest = earliest if part else earliest + 1  # a date that knows seconds only, such as some busybox's
        if earliest - answered > most or latest - asked < least:  # a clock was set meanwhile: what was before does not count
            least, most = -math.inf, math.inf
        least, most = max(least, earliest - answered), min(most, latest - asked)
        if most - least < 2 * _GOOD_BOUND:
            break
    return None if math.isinf(most) else {"offset": round((least + most) / 2, 6), "bound": round((most - least) / 2, 6)}
