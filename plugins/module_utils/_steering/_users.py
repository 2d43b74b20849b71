# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steered interfaces of a dataplane that is known by its network namespace alone."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.nettap.containers.plugins.module_utils._steering import _journal
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns


def steered_through(inode: int) -> dict[str, str]:
    """Return the interfaces that are steered through the network namespace of that inode number: their names, by their MAC addresses. Raise NettapError."""
    found: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):  # nothing was steered yet
        for name in os.listdir(_journal.ROOT):
            if _netns.leads_to(os.path.join(_netns.NAMED, name), inode):
                found.update((record.mac, record.where()) for record in _journal.Journal(name).records() if record.status != "restoring")
    return found
