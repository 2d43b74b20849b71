#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: configuration of a NeuVector dataplane."""

from __future__ import annotations

DOCUMENTATION = r"""
module: neuvector_dataplane
short_description: Configure a running NeuVector dataplane
description:
  - Brings a running C(dp), the dataplane of NeuVector, to a configuration, over its UNIX datagram socket and without any other
    part of NeuVector.
  - C(dp) confirms no configuration and tells none. So every batch is closed by a keep-alive that C(dp) answers once it is
    done; then its counters must show the workloads and rules, and the kernel the socket on the service link. What was told is recorded in
    C(/run/nettap/dataplane) for that very process. A C(dp) that was started again, or that lost something, is told all anew.
  - An option that is left out stays as it was; an empty list empties.
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
      - nettap.containers.neuvector
  check_mode:
    support: full
    details:
      - C(dp) must be running, it is asked for its counters.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) brings C(dp) to the configuration.
      - V(absent) takes out the O(workloads), of which only the MAC address matters, or where they are left out everything. Where no C(dp)
        runs there is nothing to take out.
    type: str
    choices: [present, absent]
    default: present
  internal_networks:
    description:
      - IPv4 networks of the workloads and their known peers, in CIDR notation. Without any, all addresses are internal.
      - When O(default_action) is not V(allow), C(dp) leaves peers that it has never heard of open for a minute. To prevent it, the
        addresses of networks up to a /22 are named to C(dp) one by one. With larger ones, or without any, tell O(workloads[].addresses);
        where they are missing there is a warning.
    type: list
    elements: str
  service_port:
    description:
      - The link in the network namespace of C(dp) on which the frames of the workloads come and go, such as V(vth). It must exist.
        An empty string closes it.
    type: str
  jumbo_frames:
    description:
      - Whether C(dp) reserves room for frames up to 16 KiB. Otherwise those over 2 KiB take a slow path; it takes 128 MiB of locked memory.
    type: bool
  icmp_policy:
    description:
      - Whether O(policy) and O(default_action) hold for ICMP too. Only newer releases know it. Without it C(dp) lets ICMP pass
        unless a rule of O(policy[].protocol=icmp) says otherwise, and newer releases let it pass in any case.
    type: bool
  workloads:
    description:
      - All containers' interfaces whose frames C(dp) gets. Others that were configured here before are taken out.
    type: list
    elements: dict
    suboptions:
      mac:
        description: MAC address of the interface.
        type: str
        required: true
      tag_mac:
        description:
          - The address that stands for it on the service link, V(4e:65:75:56:HH:LL), different for each. Required with O(state=present).
        type: str
      tap:
        description: Whether C(dp) only listens. On this path it then forwards nothing, so the frames must reach their goal otherwise.
        type: bool
        default: false
      addresses:
        description: IPv4 addresses of the interface, needed for rules that do not name the workload's own side as a single address.
        type: list
        elements: str
        default: []
  policy:
    description:
      - Rules for connections over TCP, UDP and ICMP on IPv4. The first one that matches holds.
    type: list
    elements: dict
    suboptions:
      action:
        description: V(violate) lets pass and logs.
        type: str
        choices: [allow, deny, violate]
        required: true
      direction:
        description: Of the connection, seen from the workload.
        type: str
        choices: [ingress, egress]
        default: ingress
      source:
        description:
          - Who opens the connection. An address, a network in CIDR notation, a range V(FIRST-LAST) or V(any).
          - C(dp) finds a rule by the workload's own address alone. Where the workload's side (the source of an egress rule) is
            more than one address, the rule is made for each of O(workloads[].addresses) in it.
        type: str
        default: any
      destination:
        description: To whom, likewise; the workload's side of an ingress rule.
        type: str
        default: any
      protocol:
        description: V(any) is TCP and UDP, and ICMP with O(icmp_policy=true) only.
        type: str
        choices: [any, tcp, udp, icmp]
        default: any
      port:
        description: Port of the destination, or a range V(FIRST-LAST).
        type: str
        default: any
      workloads:
        description: MAC addresses of the workloads that the rule is for; without any, it is for all.
        type: list
        elements: str
        default: []
      id:
        description: The number by which C(dp) names the rule. By default, its place in the list (or the next that is free).
        type: int
  default_action:
    description:
      - What becomes of connections that no rule matches, in either direction. A C(dp) that has just been started lets them pass.
    type: str
    choices: [allow, deny, violate]
seealso:
  - module: nettap.containers.neuvector_dataplane_info
"""

EXAMPLES = r"""
- name: Let nobody but the proxy reach the web container's port 80
  nettap.containers.neuvector_dataplane:
    internal_networks: [172.17.0.0/16]
    service_port: vth
    workloads:
      - mac: 02:42:ac:11:00:02
        tag_mac: 4e:65:75:56:00:01
        addresses: [172.17.0.2]
    policy:
      - {action: allow, source: 172.17.0.9, port: 80, protocol: tcp}
      - {action: deny, port: 80, protocol: tcp}
    default_action: allow

- name: Take everything out
  nettap.containers.neuvector_dataplane:
    state: absent
"""

RETURN = r"""
pid:
  description: Process of C(dp), as the kernel vouches for it; null where none runs.
  returned: success
  type: int
counters:
  description: As RV(nettap.containers.neuvector_dataplane_info#module:counters).
  returned: when dp runs
  type: dict
stats:
  description: As RV(nettap.containers.neuvector_dataplane_info#module:stats).
  returned: when dp runs
  type: dict
workloads:
  description: As RV(nettap.containers.neuvector_dataplane_info#module:workloads).
  returned: when dp runs
  type: list
  elements: dict
sessions:
  description: As RV(nettap.containers.neuvector_dataplane_info#module:sessions).
  returned: when dp runs
  type: int
session_counts:
  description: As RV(nettap.containers.neuvector_dataplane_info#module:session_counts).
  returned: when dp runs
  type: dict
reason:
  description: Why something was changed, or would be in check mode, as it was found.
  returned: changed
  type: str
  sample: "Not as asked for: policy, workloads."
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._neuvector import NEUVECTOR
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp

WORKLOAD = {
    "mac": {"type": "str", "required": True},
    "tag_mac": {"type": "str"},
    "tap": {"type": "bool", "default": False},
    "addresses": {"type": "list", "elements": "str", "default": []},
}
RULE = {
    "action": {"type": "str", "choices": ["allow", "deny", "violate"], "required": True},
    "direction": {"type": "str", "choices": ["ingress", "egress"], "default": "ingress"},
    "source": {"type": "str", "default": "any"},
    "destination": {"type": "str", "default": "any"},
    "protocol": {"type": "str", "choices": ["any", "tcp", "udp", "icmp"], "default": "any"},
    "port": {"type": "str", "default": "any"},
    "workloads": {"type": "list", "elements": "str", "default": []},
    "id": {"type": "int"},
}


def run(module: AnsibleModule) -> _dp.ConfigurationOutcome:
    """What the state asks for."""
    params = module.params
    path, timeout = params["socket"], params["timeout"]
    if params["state"] == "absent":
        macs = None if params["workloads"] is None else [workload["mac"] for workload in params["workloads"]]
        return _dp.withdraw(macs, path, timeout, module.check_mode)
    return _dp.configure(params, path, timeout, module.check_mode)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **NEUVECTOR,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "internal_networks": {"type": "list", "elements": "str"},
            "service_port": {"type": "str"},
            "jumbo_frames": {"type": "bool"},
            "icmp_policy": {"type": "bool"},
            "workloads": {"type": "list", "elements": "dict", "options": WORKLOAD},
            "policy": {"type": "list", "elements": "dict", "options": RULE},
            "default_action": {"type": "str", "choices": ["allow", "deny", "violate"]},
        },
        supports_check_mode=True,
    )
    try:
        outcome = run(module)
    except NettapError as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, t.Any] = {"changed": outcome.changed, "pid": outcome.pid, **outcome.statistics}
    if outcome.reason:
        result["reason"] = outcome.reason
    if module._diff:
        result["diff"] = {"before": outcome.before, "after": outcome.after}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
