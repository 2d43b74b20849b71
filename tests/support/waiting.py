# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what becomes true, for as long as a busy machine may take."""

from __future__ import annotations

import collections.abc as c
import time
import typing as t


def wait_for(condition: c.Callable[[], t.Any], seconds: float = 120) -> bool:
    """Return whether the condition came to hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
