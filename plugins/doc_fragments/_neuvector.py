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
        C(/proc/PID/root/tmp/dp_listen.sock) with the PID of C(dp) as the host sees it. For a C(dp) that was started with
        O(nettap.containers.container_dataplane#module:private_tmp=true), give C(/run/nettap/private/NAME/tmp/dp_listen.sock) with the name of the dataplane.
    type: path
    default: /tmp/dp_listen.sock
  timeout:
    description:
      - Seconds within which C(dp) must answer. It can take four seconds to remove a workload.
    type: float
    default: 10
  dataplane_netns:
    description:
      - The name of the dataplane whose C(dp) is meant. If it is given, a C(dp) in another network namespace is refused, because
        a second C(dp) takes the socket from the first.
    type: str
"""
