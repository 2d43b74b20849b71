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
  - Brings a running C(dp), NeuVector's engine, to a configuration, over its UNIX datagram socket and without any other
    part of NeuVector.
  - C(dp) neither confirms nor shows a configuration. So the module closes every batch with a keep-alive, which C(dp) answers once the batch is
    done. Then C(dp)'s counters must show the workloads and rules, and the kernel must show the socket on the service link. The module records the
    configuration that it sent in C(/run/nettap/dataplane), for that very process. It sends the whole configuration again to a C(dp) that was
    started again or that lost a part.
  - An option that is left out keeps its earlier configuration. An empty list removes all entries.
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
      - C(dp) must be running, because the module asks it for its counters.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) brings C(dp) to the configuration.
      - V(absent) removes the O(workloads), of which only the MAC address matters, or everything if O(workloads) is left out. Where no C(dp)
        runs, there is nothing to remove.
      - Both refuse to remove a workload that M(nettap.containers.container_steering) steers through C(dp), because all its traffic would stop.
    type: str
    choices: [present, absent]
    default: present
  internal_networks:
    description:
      - IPv4 networks of the workloads and their known peers, in CIDR notation. Without any, all addresses are internal.
      - All O(workloads[].addresses) must be in them. C(dp) does not hold a workload outside of them to the policy.
      - When O(default_action) is not V(allow), C(dp) lets peers that it does not know pass for up to eleven minutes. To prevent this, the
        module switches on C(dp)'s strict group mode. For releases of C(dp) without one, it also gives C(dp) the addresses of networks up to a /22 one
        by one. With larger networks, or without any, give O(workloads[].addresses); where they are missing, there is a warning.
    type: list
    elements: str
  service_port:
    description:
      - The link in the network namespace of C(dp) on which C(dp) receives and sends the frames of the workloads, such as V(vth). The link must exist.
        With an empty string, C(dp) closes the link.
    type: str
  jumbo_frames:
    description:
      - Whether C(dp) reserves room for packets up to 16304 bytes, which takes 128 MiB of locked memory. Otherwise C(dp) loses packets of more than
        1968 bytes, and does not count them.
      - By default, the MTU of O(service_port) decides. The module refuses a link whose MTU is larger than what C(dp) can take.
    type: bool
  icmp_policy:
    description:
      - Whether rules of O(policy[].protocol=any) and O(default_action) hold for ICMP too. Only newer releases of C(dp) know this option. Without it,
        C(dp) lets ICMP pass unless a rule of O(policy[].protocol=icmp) forbids it.
    type: bool
  workloads:
    description:
      - All containers' interfaces whose frames C(dp) gets. Others that this module configured before are removed, unless O(join=true).
    type: list
    elements: dict
    suboptions:
      mac:
        description: MAC address of the interface.
        type: str
        required: true
      tag_mac:
        description:
          - The address that replaces O(workloads[].mac) on the service link, V(4e:65:75:56:HH:LL), different for each. Required with O(state=present).
          - V(4e:65:75:56:ff:ff) is for the heartbeats that the watchdog of M(nettap.containers.container_steering) sends through C(dp), of which C(dp) is
            told with the workloads.
        type: str
      tap:
        description: Whether C(dp) only listens. It then forwards nothing on this path, so the frames must reach their destination otherwise.
        type: bool
        default: false
      addresses:
        description: IPv4 addresses of the interface, needed for rules that do not name the workload's own side as a single address.
        type: list
        elements: str
        default: []
  join:
    description:
      - Whether workloads that are configured already and that O(workloads) does not name stay, with the rules for them. Rules of O(policy)
        that name no workloads are then for O(workloads) alone, and O(internal_networks) are added to those that are there.
      - C(dp) has one O(default_action), O(icmp_policy) and O(service_port) for all. A task that gives another value is refused while other workloads stay.
    type: bool
    default: false
  policy:
    description:
      - Rules for connections over TCP, UDP and ICMP on IPv4. The first one that matches holds. C(dp) lets IPv6, other protocols and link-local
        addresses (169.254.0.0/16) pass before any rule, so that the module refuses rules that would deny these addresses. See O(default_action).
      - C(dp) is told the ports that ingress rules name one by one, because it takes a workload for the server of UDP only on ports that it was told.
        M(nettap.containers.container_steering) tells it the ports of the containers' sockets (O(nettap.containers.container_steering#module:engine_socket)).
    type: list
    elements: dict
    suboptions:
      action:
        description: V(violate) lets the connection pass and logs it.
        type: str
        choices: [allow, deny, violate]
        required: true
      direction:
        description: Direction of the connection, seen from the workload.
        type: str
        choices: [ingress, egress]
        default: ingress
      source:
        description:
          - The side that opens the connection, as an address, a network in CIDR notation, a range V(FIRST-LAST) or V(any). V(0.0.0.0) is in none of them.
          - C(dp) finds a rule by the workload's own address alone. Where the workload's side (the source of an egress rule) is
            more than one address, the module makes the rule for each of O(workloads[].addresses) in it.
        type: str
        default: any
      destination:
        description: The other side of the connection, in the same notation; it is the workload's side of an ingress rule.
        type: str
        default: any
      protocol:
        description: V(any) means TCP and UDP, and with O(icmp_policy=true) ICMP too.
        type: str
        choices: [any, tcp, udp, icmp]
        default: any
      port:
        description: Port of the destination, or a range V(FIRST-LAST).
        type: str
        default: any
      workloads:
        description: MAC addresses of the workloads that the rule is for; without any, the rule is for all (with O(join=true), for all of O(workloads)).
        type: list
        elements: str
        default: []
      id:
        description: The number by which C(dp) names the rule. The default is the rule's place in the list (or the next free number).
        type: int
  default_action:
    description:
      - Action for connections that no rule matches, in either direction. A C(dp) that has just been started lets them pass.
      - It does not hold for IPv6, for protocols other than TCP, UDP and (with O(icmp_policy)) ICMP, and for link-local addresses. To have these denied
        too, drop them before C(dp), with O(nettap.containers.container_steering#module:ipv6=drop) and O(nettap.containers.container_steering#module:drop).
    type: str
    choices: [allow, deny, violate]
seealso:
  - module: nettap.containers.neuvector_dataplane_info
"""

EXAMPLES = r"""
- name: Let only the proxy reach the web container's port 80
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

- name: Remove the whole configuration
  nettap.containers.neuvector_dataplane:
    state: absent
"""

RETURN = r"""
pid:
  description: PID of C(dp), as the kernel confirms it; null where no C(dp) runs.
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
  description: Why a change was made, or would be in check mode; it describes the state that was found.
  returned: changed
  type: str
  sample: "Not as asked for: policy, workloads."
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._neuvector import NEUVECTOR
from ansible_collections.nettap.containers.plugins.module_utils._errors import MissingError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp
from ansible_collections.nettap.containers.plugins.module_utils._steering import _users
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

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
    """Bring dp to the requested state, and return the outcome. Raise NettapError."""
    params = module.params
    path, timeout = params["socket"], params["timeout"]
    try:
        within = _netns.inode_of(params["dataplane_netns"]) if params["dataplane_netns"] else None
    except MissingError:
        if params["state"] != "absent":
            raise
        within = None  # a dp can outlive its namespace's name
    if params["state"] == "absent":
        macs = None if params["workloads"] is None else [workload["mac"] for workload in params["workloads"]]
        return _dp.withdraw(macs, path, timeout, module.check_mode, within=within, users=_users.steered_through)
    return _dp.configure(params, path, timeout, module.check_mode, within=within, join=params["join"], users=_users.steered_through)


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
            "join": {"type": "bool", "default": False},
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
