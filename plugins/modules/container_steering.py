#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: steering of running containers through a dataplane, and its undoing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_steering
short_description: Steer running containers through an inline engine, and undo it
description:
  - Redirects a running container's traffic with C(tc) through a dataplane with an engine, such as Suricata, and undoes this. The container is not
    restarted, no connection is lost, and the network plugin (CNI) does not matter.
  - Only unicast IP is redirected. ARP, broadcast and multicast keep their original path.
  - Every change is written to a journal first, read back from the kernel afterwards, and undone on any error. The module changes only its own filters.
  - A watchdog bypasses an engine that has died or hangs (O(fail_mode)), and undoes steering that was not confirmed (O(confirm_timeout)).
  - Steering ends with the container, and with a reboot.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
  - nettap.containers._target
requirements:
  - pyroute2 and iproute2 on the host
attributes:
  action_group:
    membership:
      - nettap.containers.targets
      - nettap.containers.dataplanes
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the filters as the kernel has them, before and after.
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) sends the containers' traffic through the dataplane, whose engine must forward already.
      - V(bypassed) removes the redirecting filters, so that the traffic takes its original path until V(present) is run again.
      - V(absent) restores everything as it was, from any state, also when the dataplane is dead or an earlier run was killed.
    type: str
    choices: [present, absent, bypassed]
    default: present
  interface:
    description:
      - The containers' interfaces to steer; by default each veth and netkit with an address (with O(topology=takeover), each interface with an address).
    type: list
    elements: str
  topology:
    description:
      - V(inplace) puts BPF filters on the host's end of the container's veth or netkit. Nothing in the container changes. At most a
        packet or two is lost, when the link's first qdisc is added and when its last one is removed.
      - V(takeover) moves the container's interface into the dataplane's namespace and gives the container a new one like it. It is for kernels without
        C(cls_bpf), and for interfaces without a peer on the host (macvlan, SR-IOV). The container is off the network for up to about a second when steering
        starts, and again when it is undone, because the kernel may take that long to report that the carrier is back.
    type: str
    choices: [inplace, takeover]
    default: inplace
  mode:
    description:
      - V(bridge) has two service links. The engine copies frames from one to the other, as Suricata does.
      - V(tag) has one service link. On it a tag replaces the container's MAC, as NeuVector's dp requires.
    type: str
    choices: [bridge, tag]
    default: bridge
  dataplane_netns:
    description:
      - The name of the dataplane (see M(nettap.containers.container_dataplane)).
    type: str
    default: nettap
  ipv6:
    description:
      - What happens with IPv6. V(drop) prevents IPv6 traffic from evading an engine that cannot read it.
    type: str
    choices: [steer, bypass, drop]
    default: steer
  drop:
    description:
      - IPv4 packets of the containers to drop instead of sending them to the engine. NeuVector's C(dp) lets them pass before any rule and in
        spite of any default action.
      - V(other_protocols) are those of protocols other than TCP, UDP and ICMP, such as GRE, ESP and SCTP.
      - V(link_local) are those from or to 169.254.0.0/16, such as a cloud's metadata service and some clusters' DNS cache.
    type: list
    elements: str
    choices: [other_protocols, link_local]
    default: []
  fail_mode:
    description:
      - What happens when the engine is dead or hangs. With V(open), traffic takes its original path until the engine is back. With V(closed), none passes.
    type: str
    choices: [open, closed]
    default: open
  confirm_timeout:
    description:
      - Seconds after which the watchdog undoes the steering, unless a task with O(state=present) and O(confirm_timeout=0) for the same containers has
        confirmed it.
      - A confirmed interface stays confirmed.
    type: float
    default: 0
  engine_timeout:
    description:
      - Seconds to wait until frames come through the engine, before the first packet is redirected.
    type: float
    default: 5
  verify:
    description:
      - Whether to ping the interfaces' addresses from the host, before and after. Addresses that answered before must answer through the engine;
        otherwise everything is undone.
      - Set it to V(false) where a rule drops pings.
    type: bool
    default: true
  verify_traffic:
    description:
      - Whether O(verify) also sends UDP, UDP packets that fill the interface's MTU, and TCP data over a connection that was established before. Both
        ends of this traffic are the module's own, on the host and in the container's network namespace. What passed before must pass through the engine.
        Of NeuVector's C(dp), only what its policy allows is expected to pass.
      - Set it to V(false) where a rule of the engine drops connections from the host to any port (20000 to 29999) of the container.
    type: bool
    default: true
  engine_socket:
    description:
      - Path of NeuVector dp's control socket (O(mode=tag)). Give it for dp. When steering begins or is resumed, dp is told there on which ports the
        containers serve and which connections they have, because dp cannot see from packets who opened a connection that is older than itself, or who
        began to send UDP. The watchdog looks at the containers' sockets once a second, so dp learns of a new port within about a second.
      - The watchdog also judges dp by it until dp has been told the heartbeats' tag (M(nettap.containers.neuvector_dataplane) does that).
    type: path
notes:
  - While a container is steered in place, its IP frames with a source MAC other than the interface's are dropped, because no packet may evade the engine.
  - The module refuses interfaces whose MTU is larger than that of the dataplane's service links.
seealso:
  - module: nettap.containers.container_dataplane
  - module: nettap.containers.container_steering_info
"""

EXAMPLES = r"""
- name: Steer the web containers through the engine, to be undone in two minutes
  nettap.containers.container_steering:
    container: web-*
    confirm_timeout: 120

- name: Confirm the steering, because the containers answer
  nettap.containers.container_steering:
    container: web-*

- name: Let the traffic take its original path for a while
  nettap.containers.container_steering:
    container: web-*
    state: bypassed

- name: Undo the steering of all containers, also of those that are gone by now
  nettap.containers.container_steering:
    container: "*"
    state: absent
    allow_missing: true
"""

RETURN = r"""
steering:
  description: The interfaces of the containers that the task steered, bypassed or released.
  returned: always
  type: list
  elements: dict
  contains:
    container:
      description: Name of the container.
      type: str
    id:
      description: ID of the container.
      type: str
    runtime:
      description: Runtime of the container.
      type: str
    interface:
      description: Name of the interface in the container.
      type: str
    mac:
      description: MAC of the interface.
      type: str
    tag:
      description: The MAC that replaces the interface's on the service link, in O(mode=tag).
      type: str
    host_peer:
      description: Name of the interface's peer on the host.
      type: str
    addresses:
      description: Addresses of the interface, with prefix length.
      type: list
      elements: str
    topology:
      description: How steering redirects the interface's traffic.
      type: str
    mode:
      description: How the engine forwards.
      type: str
    ipv6:
      description: What happens with IPv6.
      type: str
    drop:
      description: IPv4 packets that are dropped.
      type: list
      elements: str
    fail_mode:
      description: What happens when the engine is dead.
      type: str
    engine_socket:
      description: O(engine_socket), as it was given when steering started; null where it was not.
      type: str
    status:
      description: V(steered), V(bypassed), or V(absent).
      type: str
    since:
      description: Time at which steering started, UTC; in check mode, the time at which it would have started.
      type: str
      sample: "2026-01-31T03:00:00.000123Z"
    confirm_before:
      description: Time at which the watchdog undoes the steering if it is not confirmed, UTC; null once it is confirmed.
      type: str
    counters:
      description:
        - Packets of each direction, seen from the container, that were sent to the engine and that it returned. The engine dropped those that were
          sent and not returned. Each segment of an offloaded packet counts. Empty in check mode, and where the interface is not steered.
      type: dict
    filters:
      description: The collection's own filters, read back from the kernel; in check mode, those that would be there.
      type: list
      elements: dict
reason:
  description: Why a change was made, or would be in check mode; it describes the state that was found.
  returned: changed
  type: str
  sample: "eth0 of web: not steered."
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._target import EXCLUSIVE, KINDS, TARGET
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, TargetError
from ansible_collections.nettap.containers.plugins.module_utils._steering import _control
from ansible_collections.nettap.containers.plugins.module_utils._steering._outcome import SteeringOutcome
from ansible_collections.nettap.containers.plugins.module_utils._system._names import names
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target


def run(module: AnsibleModule) -> SteeringOutcome:
    """Bring the targets into the wanted state, and return the outcome. Raise NettapError."""
    params = module.params
    request = _control.Request(
        dataplane=params["dataplane_netns"], topology=params["topology"], mode=params["mode"], interface=names(params["interface"]), ipv6=params["ipv6"],
        fail_mode=params["fail_mode"], confirm_timeout=params["confirm_timeout"], engine_timeout=params["engine_timeout"],
        engine_socket=params["engine_socket"], drop=params["drop"], verify=params["verify"], verify_traffic=params["verify_traffic"],
    )
    if params["state"] == "present":
        with _target.resolved(params, module.warn) as targets:
            return _control.steer(targets, request, module.check_mode)
    act = _control.release if params["state"] == "absent" else _control.bypass
    # What is steered may have ended since: then only the records know it.
    patterns = names(params["container"] or params["pod"])
    with _target.resolved({**params, "allow_missing": True}, module.warn) as targets:
        outcome = act(targets, patterns, request, module.check_mode)
    if not targets and not outcome.interfaces and not params["allow_missing"]:
        with _target.resolved(params):  # raises an error with the searched names, the places, and the nearest names
            raise TargetError("Nothing that the target options match is there any more.")
    return outcome


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **TARGET,
            "state": {"type": "str", "choices": ["present", "absent", "bypassed"], "default": "present"},
            "interface": {"type": "list", "elements": "str"},
            "topology": {"type": "str", "choices": ["inplace", "takeover"], "default": "inplace"},
            "mode": {"type": "str", "choices": ["bridge", "tag"], "default": "bridge"},
            "dataplane_netns": {"type": "str", "default": "nettap"},
            "ipv6": {"type": "str", "choices": ["steer", "bypass", "drop"], "default": "steer"},
            "drop": {"type": "list", "elements": "str", "choices": ["other_protocols", "link_local"], "default": []},
            "fail_mode": {"type": "str", "choices": ["open", "closed"], "default": "open"},
            "confirm_timeout": {"type": "float", "default": 0},
            "engine_timeout": {"type": "float", "default": 5},
            "engine_socket": {"type": "path"},
            "verify": {"type": "bool", "default": True},
            "verify_traffic": {"type": "bool", "default": True},
        },
        mutually_exclusive=EXCLUSIVE,
        required_one_of=[KINDS],
        supports_check_mode=True,
    )
    try:
        outcome = run(module)
    except NettapError as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, t.Any] = {"changed": bool(outcome.reason), "steering": outcome.interfaces}
    if outcome.reason:
        result["reason"] = outcome.reason
    if module._diff:
        result["diff"] = {"before": {"filters": outcome.before}, "after": {"filters": outcome.after}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
