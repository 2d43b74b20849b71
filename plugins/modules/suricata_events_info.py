#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the packets that Suricata has blocked, and their containers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: suricata_events_info
short_description: Show the traffic that Suricata has blocked or noticed, and of which container
description:
  - Reads the log of events (C(eve.json)) that the Suricata of a dataplane writes, also across its rotation.
  - The module reads the log as a stream, and continues where an earlier task ended, so the size of the log does not matter.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
requirements:
  - Python 3.9 or newer on the host
  - root on the host (C(become=true))
attributes:
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
  path:
    description:
      - Path of the log.
    type: path
    default: /var/log/nettap/suricata/nettap/eve.json
  since:
    description:
      - Time from which to return events, an ISO 8601 time (UTC unless it has a zone) or seconds since the epoch.
      - Or the RV(cookie) of an earlier task, for the events that were logged after it.
      - By default the module reads all of the current log, but no rotated ones.
    type: str
  limit:
    description:
      - Number of alerts to return in RV(alerts), the newest ones. RV(counts) counts all alerts.
    type: int
    default: 100
  max_size:
    description:
      - Largest number of MiB to read, the newest ones; see RV(complete). Reading 64 MiB takes some seconds.
    type: int
    default: 64
  containers:
    description:
      - The containers to name in the results.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the container.
        type: str
        required: true
      mac:
        description:
          - MAC address of the container's interface.
        type: str
      addresses:
        description:
          - The container's addresses, with or without a prefix length. They are used where the MAC address does not identify the container.
        type: list
        elements: str
        default: []
seealso:
  - module: nettap.containers.container_dataplane
  - module: nettap.containers.container_network_info
"""

EXAMPLES = r"""
- name: Show what was blocked in the last hour
  nettap.containers.suricata_events_info:
    since: "{{ now(utc=true).timestamp() - 3600 }}"
    containers:
      - name: web
        mac: 02:42:ac:11:00:02
        addresses: [172.17.0.2]
  register: seen

- name: Show what was blocked since then
  nettap.containers.suricata_events_info:
    since: "{{ seen.cookie }}"
"""

RETURN = r"""
alerts:
  description: The newest alerts, in the order of their time.
  returned: success
  type: list
  elements: dict
  contains:
    time:
      description: Time of the packet, UTC.
      type: str
      sample: "2026-01-31T03:00:00.000123Z"
    container:
      description: Name of the container that sent or received the packet; null if it is not in O(containers).
      type: str
    action:
      description: V(blocked) or V(allowed).
      type: str
    signature:
      description: The C(msg) of the rule.
      type: str
    sid:
      description: The C(sid) of the rule.
      type: int
    severity:
      description: The priority of the rule; V(1) is the highest.
      type: int
    source:
      description: Address of the sender.
      type: str
    source_port:
      description: Its port; null where the protocol has none.
      type: int
    destination:
      description: Address of the receiver.
      type: str
    destination_port:
      description: Its port; null where the protocol has none.
      type: int
    protocol:
      description: The protocol above IP.
      type: str
      sample: TCP
    application:
      description: The application's protocol, where Suricata knows it, and what Suricata read of the request.
      type: dict
      sample:
        protocol: http
        hostname: shop.example
        url: /cgi-bin/evil
        method: GET
counts:
  description: Number of alerts for each rule and container, the most frequent first.
  returned: success
  type: list
  elements: dict
  contains:
    container:
      description: Name of the container; null if it is not in O(containers).
      type: str
    sid:
      description: The C(sid) of the rule.
      type: int
    signature:
      description: The C(msg) of the rule.
      type: str
    action:
      description: V(blocked) or V(allowed).
      type: str
    count:
      description: Number of alerts that were logged.
      type: int
stats:
  description: Suricata's latest figures since its start; null if it has not logged any yet.
  returned: success
  type: dict
  contains:
    time:
      description: Time of the figures, UTC.
      type: str
    uptime:
      description: Seconds since Suricata's start.
      type: int
    accepted:
      description: Packets that Suricata passed on.
      type: int
    blocked:
      description: Packets that Suricata did not pass on.
      type: int
    drop_reasons:
      description: Reasons for blocking, with the number of packets. V(rules) counts packets that a rule matched, V(flow_drop) the later ones of their flows.
      type: dict
      sample:
        rules: 3
        flow_drop: 12
    kernel_packets:
      description: Packets that the kernel had for Suricata.
      type: int
    kernel_drops:
      description: Packets that were lost because Suricata was late.
      type: int
    alerts_suppressed:
      description: Alerts that were not logged because a rule had too many of them.
      type: int
cookie:
  description: Position of the log's end, for O(since) of a later task.
  returned: success
  type: str
complete:
  description: Whether all that O(since) asks for was read, so that RV(counts) is complete. V(false) if O(max_size) was not enough, or a log is gone.
  returned: success
  type: bool
truncated:
  description: Whether there were more alerts than RV(alerts) holds.
  returned: success
  type: bool
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._suricata import _eve
from ansible_collections.nettap.containers.plugins.module_utils._suricata._events import KnownContainer
from ansible_collections.nettap.containers.plugins.module_utils._system._lines import MEBIBYTE


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/log/nettap/suricata/nettap/eve.json"},
            "since": {"type": "str"},
            "limit": {"type": "int", "default": 100},
            "max_size": {"type": "int", "default": 64},
            "containers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "mac": {"type": "str"},
                    "addresses": {"type": "list", "elements": "str", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    for name in ("limit", "max_size"):
        if params[name] < 0:
            module.fail_json(msg=f"{name} must not be negative, but is {params[name]}.")
    containers = [KnownContainer(entry["name"], entry["mac"] or "", entry["addresses"]) for entry in params["containers"]]
    try:
        found = _eve.Log(params["path"]).read(params["since"], params["limit"], containers, params["max_size"] * MEBIBYTE)
    except NettapError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **dataclasses.asdict(found))


if __name__ == "__main__":
    main()
