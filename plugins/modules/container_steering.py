#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: containers behind an inline dataplane, and out of it again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_steering
short_description: Put running containers behind an inline engine, and take them out again
description:
  - Redirects a running container's traffic with C(tc) through an inline dataplane, such as Suricata, and undoes it. The container is not
    restarted, no connection is lost, and the network plugin (CNI) does not matter.
  - Only unicast IP is redirected; ARP, broadcast and multicast go their own way.
  - All that is done is written down first, read back from the kernel afterwards, and undone on any error. Only own filters are touched.
  - A watchdog bypasses an engine that has died or hangs (O(fail_mode)), and undoes what nobody has confirmed (O(confirm_timeout)).
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
      - V(bypassed) takes the redirecting filters out, so that the traffic takes its old way until V(present) is run again.
      - V(absent) gives everything back as it was, from whatever state it is in, also when the dataplane is dead or an earlier run was killed.
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
      - V(inplace) puts BPF filters on the host's end of the container's veth or netkit. Nothing in the container changes, and at most a
        packet or two is lost, when the link's first qdisc comes and its last goes.
      - V(takeover) moves the container's interface into the dataplane's namespace and gives the container a new one like it. For kernels without
        C(cls_bpf), and for interfaces without a peer on the host (macvlan, SR-IOV). The container is off the network when it is put in, and
        again when it is taken out, for up to about a second, because the kernel may report a carrier that is back no sooner.
    type: str
    choices: [inplace, takeover]
    default: inplace
  mode:
    description:
      - V(bridge) has two service links; the engine copies frames from one to the other, as Suricata does.
      - V(tag) has one service link, and the container's MAC is replaced by a tag on it, as NeuVector's dp wants it.
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
      - What happens with IPv6. V(drop) keeps it from being a way around an engine that cannot read it.
    type: str
    choices: [steer, bypass, drop]
    default: steer
  fail_mode:
    description:
      - What happens when the engine is dead or hangs. With V(open) traffic takes its old way until the engine is back; with V(closed) none passes.
    type: str
    choices: [open, closed]
    default: open
  confirm_timeout:
    description:
      - Seconds after which all is undone, unless a task with O(state=present) and O(confirm_timeout=0) for the same containers has confirmed it.
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
      - Pings the interfaces' addresses from the host, before and after. What answered before must answer through the engine, or all is undone.
      - Set it to V(false) where a rule drops pings.
    type: bool
    default: true
  engine_socket:
    description:
      - Path of NeuVector dp's control socket. If it is given, the watchdog also asks there whether dp is alive (O(mode=tag)).
    type: path
notes:
  - A frame with IP from the container whose source MAC is not the interface's is dropped while it is steered in place, for nothing may go past the engine.
  - Interfaces whose MTU is larger than that of the dataplane's service links are refused.
seealso:
  - module: nettap.containers.container_dataplane
  - module: nettap.containers.container_steering_info
"""

EXAMPLES = r"""
- name: Put the web containers behind the engine, to be undone in two minutes
  nettap.containers.container_steering:
    container: web-*
    confirm_timeout: 120

- name: The containers answer, so keep it
  nettap.containers.container_steering:
    container: web-*

- name: Let traffic go its old way for a while
  nettap.containers.container_steering:
    container: web-*
    state: bypassed

- name: Take all containers out, also those that are gone by now
  nettap.containers.container_steering:
    container: "*"
    state: absent
    allow_missing: true
"""

RETURN = r"""
steering:
  description: The interfaces of the containers.
  returned: always
  type: list
  elements: dict
  contains:
    container:
      description: Name of the container.
      type: str
    id:
      description: Its ID.
      type: str
    runtime:
      description: Its runtime.
      type: str
    interface:
      description: Name of the interface in the container.
      type: str
    mac:
      description: Its MAC.
      type: str
    tag:
      description: The MAC that stands for it on the service link, in O(mode=tag).
      type: str
    host_peer:
      description: Name of its peer on the host.
      type: str
    addresses:
      description: Addresses of the interface, with prefix length.
      type: list
      elements: str
    topology:
      description: How it is steered.
      type: str
    mode:
      description: How the engine reads and gives back.
      type: str
    ipv6:
      description: What happens with IPv6.
      type: str
    fail_mode:
      description: What happens when the engine is dead.
      type: str
    status:
      description: V(steered), V(bypassed), or V(absent).
      type: str
    since:
      description: When it was put in, UTC; in check mode, when it would have been.
      type: str
      sample: "2026-01-31T03:00:00.000123Z"
    confirm_before:
      description: When it is undone if it is not confirmed, UTC; null once it is confirmed.
      type: str
    counters:
      description:
        - Packets of each direction, seen from the container, that were sent to the engine and that it returned. What was sent and not returned was
          dropped by the engine. Segments of an offloaded packet count each. Empty in check mode, and where it is not steered.
      type: dict
    filters:
      description: The own filters, read back from the kernel; in check mode those that would be there.
      type: list
      elements: dict
reason:
  description: Why something was changed, or would be in check mode, as it was found.
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
    """Brings the targets into the wanted state."""
    params = module.params
    request = _control.Request(
        dataplane=params["dataplane_netns"], topology=params["topology"], mode=params["mode"], interface=names(params["interface"]), ipv6=params["ipv6"],
        fail_mode=params["fail_mode"], confirm_timeout=params["confirm_timeout"], engine_timeout=params["engine_timeout"],
        engine_socket=params["engine_socket"], verify=params["verify"],
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
        with _target.resolved(params):  # says what was looked for, where, and the nearest names
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
            "fail_mode": {"type": "str", "choices": ["open", "closed"], "default": "open"},
            "confirm_timeout": {"type": "float", "default": 0},
            "engine_timeout": {"type": "float", "default": 5},
            "engine_socket": {"type": "path"},
            "verify": {"type": "bool", "default": True},
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
