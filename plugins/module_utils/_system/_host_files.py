# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's files, for a process that has others: a helper pod shares the node's processes, and only few of its folders."""

from __future__ import annotations

import contextlib
import os

_ROOT = "/proc/1/root"  # the root folder of the host's first process, see proc(5)


def apart() -> bool:
    """Return whether our file system is another than that of the host's first process. A user who may not see that one has the same."""
    with contextlib.suppress(OSError):
        return not os.path.samefile(_ROOT, "/")
    return False


def path(name: str) -> str:
    """Return the path by which we reach a path of the host's, with what is mounted there by now.

    Nothing has to be mounted for us: a node would get each folder that it lacks, and later mounts would not come along.
    """
    if not apart():
        return name
    # A link with an absolute target, as /var/run is on many hosts, would lead to our own files.
    return _ROOT + (name[len("/var"):] if name.startswith("/var/run/") else name)
