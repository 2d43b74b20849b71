# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading of small files that another user may have put there: no device, pipe or endless file keeps or fills us."""

from __future__ import annotations

import json
import os
import stat
import typing as t

_LARGEST = 16 << 20  # bytes; a large OCI bundle has some 100 KiB


def content(path: str) -> bytes:
    """What is in a regular file. Raises OSError, also for one that is none or is too large."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(fd, "rb") as stream:
        figures = os.fstat(fd)
        if not stat.S_ISREG(figures.st_mode) or figures.st_size > _LARGEST:
            raise OSError(f"{path} is no regular file of a usual size")
        return stream.read(_LARGEST)


def json_object(path: str) -> dict[str, t.Any]:
    """The JSON object in a file; {} where there is none."""
    try:
        found = json.loads(content(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def pid(path: str) -> int:
    """The PID in a PID file; 0 where there is none."""
    try:
        return max(int(content(path)), 0)
    except (OSError, ValueError):
        return 0
