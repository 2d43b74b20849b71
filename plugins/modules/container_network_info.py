#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the network of containers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_network_info
short_description: Show the network namespaces, interfaces and host peers of containers
description:
  - Finds the process and the network namespace of running containers, and reads the links in that namespace over netlink.
  - For each veth and netkit, it finds the peer on the host, by C(iflink) and C(link-netnsid), and the bridge that the peer belongs to.
  - Nothing is needed in the container's image.
version_added: 0.1.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
  - nettap.containers._target
requirements:
  - pyroute2 0.5.14 or newer on the host
attributes:
  action_group:
    membership:
      - nettap.containers.targets
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
seealso:
  - module: nettap.containers.container_capture
"""

EXAMPLES = r"""
- name: Find the web container's interfaces and their peers on the host
  nettap.containers.container_network_info:
    container: web
  register: web

- name: Show the host's end of the container's eth0
  ansible.builtin.debug:
    msg: "{{ web.containers[0].interfaces | selectattr('name', 'eq', 'eth0') | map(attribute='host_peer.name') | first }}"

- name: Show every container of one application, on all hosts where it runs
  nettap.containers.container_network_info:
    labels:
      app: shop
    allow_missing: true

- name: Show a network namespace that no runtime knows
  nettap.containers.container_network_info:
    netns: blue
"""

RETURN = r"""
containers:
  description: One entry for each target, in the order of their names.
  returned: success
  type: list
  elements: dict
  contains:
    runtime:
      description: The runtime that knows the container; V(process) or V(netns) for a target that was named by O(pid) or O(netns).
      type: str
      sample: docker
    id:
      description: The container's full ID.
      type: str
      sample: c572f689cd395f3621ab86b7b72341e3c7f3b46045b4b18fd89266984c1fa173
    name:
      description: The container's name.
      type: str
      sample: web
    image:
      description: The image that the container was made from.
      type: str
      sample: nginx:1.27
    pod:
      description: The pod that the container belongs to, if any.
      type: str
    labels:
      description: The container's labels.
      type: dict
    pid:
      description: PID, as the host sees it, of the process that holds the container's namespaces; null for a namespace that was named by O(netns)
        and for a pod whose sandbox has no process (CRI-O's by default).
      type: int
      sample: 8931
    host_network:
      description: Whether the container shares the host's network namespace.
      type: bool
    netns:
      description: The container's network namespace.
      type: dict
      sample:
        path: /proc/8931/ns/net
        inode: 4026532184
    interfaces:
      description: The links in the container's network namespace.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the interface.
          type: str
          sample: eth0
        ifindex:
          description: Index of the interface in the container's namespace.
          type: int
        kind:
          description: Kind of link, such as V(veth), V(netkit), V(macvlan), V(ipvlan), V(loopback) or V(physical).
          type: str
        mac:
          description: Hardware address.
          type: str
        mtu:
          description: MTU in bytes.
          type: int
        state:
          description: Operational state, such as V(up) or V(down); V(unknown) is normal for loopback.
          type: str
        addresses:
          description: IPv4 and IPv6 addresses with their prefix lengths.
          type: list
          elements: str
          sample: [172.17.0.2/16]
        iflink:
          description: Index of the peer (veth, netkit) or of the parent (macvlan, ipvlan), in the namespace of that link.
          type: int
        host_peer:
          description: The host's end of a veth or netkit; null for every other kind, and where the peer is not on the host.
          type: dict
          contains:
            name:
              description: Name of the link on the host.
              type: str
              sample: veth9ba8694
            ifindex:
              description: Index of that link on the host.
              type: int
            master:
              description: The bridge or other device that the link is a port of, if any.
              type: str
              sample: docker0
        peer_netns:
          description:
            - A path to the network namespace that a veth's or netkit's other end is in, if that is neither the host's nor this one, as for an overlay
              network of Docker Swarm. If no path leads there, its number as the container's namespace knows it.
          type: str
          version_added: 0.2.0
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._target import EXCLUSIVE, KINDS, TARGET
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._targets import _links, _target


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=TARGET, mutually_exclusive=EXCLUSIVE, required_one_of=[KINDS], supports_check_mode=True)
    try:
        with _target.resolved(module.params, module.warn) as targets:
            links = _links.interfaces([target.namespace for target in targets])
            containers = [{**target.describe(), "interfaces": found} for target, found in zip(targets, links)]
    except NettapError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, containers=containers)


if __name__ == "__main__":
    main()
