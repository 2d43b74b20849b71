# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as people write them, and as seconds since the epoch."""

from __future__ import annotations

import datetime
import math
import re


def instant(value: str) -> float:
    """Return seconds since the epoch, from an ISO 8601 time (without a zone: UTC) or from that number as text. Raise ValueError."""
    try:
        seconds = float(value)
    except ValueError:
        # fromisoformat takes the Z of UTC only since Python 3.11.
        moment = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value.strip()))
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()
    if not math.isfinite(seconds):  # float() also takes nan and inf
        raise ValueError(value)
    return seconds


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC with microseconds."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
