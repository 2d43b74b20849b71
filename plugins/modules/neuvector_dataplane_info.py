#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the figures of a NeuVector dataplane."""

from __future__ import annotations

DOCUMENTATION = r"""
module: neuvector_dataplane_info
short_description: Show the workloads, counters and sessions of a running NeuVector dataplane
description:
  - Asks a running C(dp), NeuVector's engine, for its figures, over its UNIX datagram socket.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
  - nettap.containers._neuvector
attributes:
  action_group:
    membership:
      - nettap.containers.dataplanes
      - nettap.containers.neuvector
  check_mode:
    support: full
    details:
      - This module does not modify state.
  diff_mode:
    support: N/A
    details:
      - This module does not modify state.
  idempotent:
    support: full
options:
  list_sessions:
    description:
      - Whether to return RV(session_list).
    type: bool
    default: false
seealso:
  - module: nettap.containers.neuvector_dataplane
"""

EXAMPLES = r"""
- name: Show the figures of dp
  nettap.containers.neuvector_dataplane_info:
  register: dp

- name: List the sessions, and the rule that let each one pass
  nettap.containers.neuvector_dataplane_info:
    list_sessions: true
"""

RETURN = r"""
pid:
  description: PID of C(dp), as the kernel confirms it.
  returned: success
  type: int
counters:
  description:
    - Packets, sessions and rules of C(dp) since its start. P(ansible.builtin.dict2items#filter) makes a list of them.
    - The number of rules in force is in C(policy_exact_rules) and C(policy_range_rules).
  returned: success
  type: dict
  sample: {rx_packets: 812, no_workload_packets: 0, policy_exact_rules: 1, policy_range_rules: 2}
stats:
  description: Figures of all workloads together, as in RV(workloads).
  returned: success
  type: dict
  sample: {packets_in: 400, bytes_in: 27200, packets_out: 412, bytes_out: 601000, sessions_in: 3, sessions_out: 0}
workloads:
  description: The workloads that M(nettap.containers.neuvector_dataplane) has configured, with their figures.
  returned: success
  type: list
  elements: dict
  contains:
    mac:
      description: MAC address of the interface.
      type: str
    tag_mac:
      description: The address that replaces the interface's on the service link.
      type: str
    tap:
      description: Whether dp only listens.
      type: bool
    addresses:
      description: IPv4 addresses of the workload, as they were configured.
      type: list
      elements: str
    known:
      description: Whether dp knows the workload.
      type: bool
    packets_in:
      description: Packets to the workload. The entry also has C(packets_out), C(bytes_in), C(bytes_out), C(sessions_in) and C(sessions_out).
      type: int
    sessions:
      description: Number of sessions that the workload has now.
      type: int
sessions:
  description: Number of sessions now; RV(session_counts) has the numbers by protocol.
  returned: success
  type: int
session_counts:
  description: Number of sessions now, in all and by protocol.
  returned: success
  type: dict
  sample: {total: 3, tcp: 2, udp: 1, icmp: 0, ip: 0}
session_list:
  description: All sessions with their addresses, ports, packets, the rule that matched and its action.
  returned: with O(list_sessions=true)
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._neuvector import NEUVECTOR
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**NEUVECTOR, "list_sessions": {"type": "bool", "default": False}}, supports_check_mode=True)
    params = module.params
    try:
        within = _netns.inode_of(params["dataplane_netns"]) if params["dataplane_netns"] else None
        figures = _dp.statistics(params["socket"], params["timeout"], params["list_sessions"], within)
    except NettapError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **figures)


if __name__ == "__main__":
    main()
