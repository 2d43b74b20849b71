# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The options of the modules that ask a NeuVector dp."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of plugins/module_utils/_arguments/_neuvector.py."""

    DOCUMENTATION = r"""
options:
  socket:
    description:
      - The socket on which C(dp) listens. If C(dp) has a file system of its own, such as in a container, give
        C(/proc/PID/root/tmp/dp_listen.sock) with the PID of C(dp) as the host sees it.
    type: path
    default: /tmp/dp_listen.sock
  timeout:
    description:
      - Seconds within which C(dp) must answer. It can take four seconds to remove a workload.
    type: float
    default: 10
"""
