#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: what a NeuVector dp has reported."""

from __future__ import annotations

DOCUMENTATION = r"""
module: neuvector_events_info
short_description: Show what NeuVector's dp has denied, noticed or dropped, and of which container
description:
  - Returns what a C(dp), NeuVector's engine, reports by itself. These are the connections that the policy denied or let pass with a report
    (C(action=violate)), and the threats that the checks built into C(dp) have found, such as floods of pings.
  - The watchdog of M(nettap.containers.container_steering) receives these reports while containers are steered in C(mode=tag) with C(engine_socket).
    It logs them in memory, in C(/run/nettap/events), up to 4 MiB for each dataplane. Older ones are dropped, and a reboot removes all.
  - Connections that the policy allowed are not logged.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
requirements:
  - Python 3.9 or newer on the host
  - root on the host (C(become=true))
attributes:
  action_group:
    membership:
      - nettap.containers.dataplanes
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
  dataplane_netns:
    description:
      - The name of the dataplane.
    type: str
    default: nettap
  since:
    description:
      - Time from which to return events, an ISO 8601 time (UTC unless it has a zone) or seconds since the epoch.
      - Or the RV(cookie) of an earlier task, for the events that were logged after it.
      - By default the module returns all that is there.
    type: str
  limit:
    description:
      - Number of events to return in RV(events), the newest ones. RV(counts) counts all of them.
    type: int
    default: 100
seealso:
  - module: nettap.containers.neuvector_dataplane
  - module: nettap.containers.suricata_events_info
"""

EXAMPLES = r"""
- name: Show what was denied or dropped in the last hour
  nettap.containers.neuvector_events_info:
    since: "{{ now(utc=true).timestamp() - 3600 }}"
  register: seen

- name: Show what was denied or dropped since then
  nettap.containers.neuvector_events_info:
    since: "{{ seen.cookie }}"
"""

RETURN = r"""
events:
  description: The newest events, in the order in which they were reported.
  returned: success
  type: list
  elements: dict
  contains:
    time:
      description: Time of the report, UTC. C(dp) reports threats within 2 seconds, and connections within 6 seconds.
      type: str
      sample: "2026-01-31T03:00:00.000123Z"
    container:
      description: Name of the container that was steered with this MAC address; null if it was not known.
      type: str
    mac:
      description: MAC address of the container's interface.
      type: str
    kind:
      description: V(connection), or V(threat).
      type: str
    action:
      description:
        - What C(dp) did; V(deny) or V(violate) with connections. With a threat, C(dp) did V(allow), V(drop), V(reset), V(bypass) or V(block) the packet.
      type: str
    rule:
      description: Number of the rule that matched; C(0), or a number above 4294967279, for the default action. Null with a threat.
      type: int
    threat:
      description: Name of the threat, or its number if the name is not known; null with a connection in which no threat was found.
      type: str
      sample: icmp_flood
    severity:
      description: V(info), V(low), V(medium), V(high) or V(critical); null where no threat was found.
      type: str
    message:
      description: What C(dp) says of the threat.
      type: str
    source:
      description: Address of the packet's sender, or of the side that opened the connection.
      type: str
    source_port:
      description: Its port; null where it is not known.
      type: int
    destination:
      description: Address of the other side.
      type: str
    destination_port:
      description: Its port; null where the protocol has none.
      type: int
    protocol:
      description: The protocol above IP.
      type: str
      sample: tcp
    direction:
      description: V(ingress) to the container, or V(egress).
      type: str
    count:
      description: Number of connections or packets that this report stands for.
      type: int
counts:
  description: Number of connections or packets for each container, action, rule and threat, the most frequent first.
  returned: success
  type: list
  elements: dict
  sample: [{container: web, kind: connection, action: deny, rule: 2, threat: null, count: 17}]
cookie:
  description: Position of the log's end, for O(since) of a later task; empty where nothing was reported yet.
  returned: success
  type: str
complete:
  description: Whether all that was logged after the cookie in O(since) was still there.
  returned: success
  type: bool
truncated:
  description: Whether there were more events than RV(events) holds.
  returned: success
  type: bool
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _namespace
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._events import EventLog


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dataplane_netns": {"type": "str", "default": "nettap"},
            "since": {"type": "str"},
            "limit": {"type": "int", "default": 100},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["limit"] < 0:
        module.fail_json(msg=f"limit must not be negative, but is {params['limit']}.")
    try:
        found = EventLog(_namespace.checked(params["dataplane_netns"])).read(params["since"], params["limit"])
    except NettapError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **dataclasses.asdict(found))


if __name__ == "__main__":
    main()
