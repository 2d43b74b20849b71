# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch for containers as a program of its own: it reads its order from standard input, and writes a line of JSON for each container that comes.

It ends when its parent ends. It knows nothing of what its parent does with the containers.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arrivals._watch import Watch

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Run the order from standard input: options, known (IDs)."""
    order = json.load(sys.stdin)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == order["parent"]:  # else it has ended meanwhile

        def tell(container: dict[str, t.Any]) -> None:
            sys.stdout.write(json.dumps(container) + "\n")
            sys.stdout.flush()

        Watch(order["options"], order["known"]).run(tell)
