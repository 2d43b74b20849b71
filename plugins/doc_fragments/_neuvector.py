# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Where a NeuVector dp is asked."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of plugins/module_utils/_arguments/_neuvector.py."""

    DOCUMENTATION = r"""
options:
  socket:
    description:
      - The socket on which C(dp) listens. Where it runs in a file system of its own, in a container say, give
        C(/proc/PID/root/tmp/dp_listen.sock) with its PID as the host sees it.
    type: path
    default: /tmp/dp_listen.sock
  timeout:
    description:
      - Seconds that C(dp) gets to answer. It can honestly take four to forget a workload.
    type: float
    default: 10
"""
