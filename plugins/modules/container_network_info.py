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
  - On request, it also returns routes, rules, neighbours, sockets with their processes, counters, queueing disciplines and the packet filter.
  - Nothing is needed in the container's image.
options:
  gather_subset:
    description:
      - What to return of each container. V(all) is everything.
      - Each needs the same rights and nothing on the host but what is named here. V(firewall) is what C(nft) of the host prints, and C(iptables-save)
        where the namespace has tables of the older kind.
      - V(sockets) looks at the open files of the processes in the namespace.
    type: list
    elements: str
    choices: [all, interfaces, routes, rules, neighbours, sockets, counters, qdiscs, firewall]
    default: [interfaces]
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

- name: Find the processes that listen in the web container
  nettap.containers.container_network_info:
    container: web
    gather_subset: [sockets]
  register: web

- name: Show them
  ansible.builtin.debug:
    msg: "{{ web.containers[0].sockets | selectattr('state', 'eq', 'listen') }}"
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
      returned: O(gather_subset) has V(interfaces) or V(all)
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
    routes:
      description: The routes, an entry for each next hop, without those of the table V(local).
      returned: O(gather_subset) has V(routes) or V(all)
      type: list
      elements: dict
      sample:
        - {family: ipv4, destination: default, gateway: 172.17.0.1, interface: eth0, source: null, metric: null, table: main, type: unicast}
    rules:
      description: The rules that choose a routing table, those of each family in the order in which the kernel looks at them.
      returned: O(gather_subset) has V(rules) or V(all)
      type: list
      elements: dict
      sample:
        - {family: ipv4, priority: 32766, source: null, destination: null, incoming: null, outgoing: null, mark: null, action: lookup, table: main}
    neighbours:
      description: The entries of ARP and neighbour discovery.
      returned: O(gather_subset) has V(neighbours) or V(all)
      type: list
      elements: dict
      sample:
        - {address: 172.17.0.1, mac: "02:42:8f:11:d0:5e", interface: eth0, state: reachable}
    sockets:
      description:
        - The TCP and UDP sockets. C(state) is V(established), V(listen) and so on, for UDP V(established) or V(close).
        - C(receive_queue) and C(send_queue) are in bytes; of a listening TCP socket they are the connections that wait, and how many may wait.
        - C(processes) are those processes of the namespace that have the socket open, with the PIDs of the host.
      returned: O(gather_subset) has V(sockets) or V(all)
      type: list
      elements: dict
      sample:
        - protocol: tcp
          local: {address: 0.0.0.0, port: 80}
          peer: {address: 0.0.0.0, port: 0}
          state: listen
          receive_queue: 0
          send_queue: 511
          uid: 0
          inode: 41822
          processes: [{pid: 8931, command: nginx}]
    counters:
      description:
        - What links and protocols have counted since the namespace was made. C(links) has a dictionary for each link, C(protocols) one for each
          protocol, with the kernel's own names.
        - C(protocols) has V(conntrack), with V(count) and V(max), where the kernel tracks connections.
      returned: O(gather_subset) has V(counters) or V(all)
      type: dict
      sample:
        links: {eth0: {rx_packets: 12, tx_packets: 9, rx_bytes: 1032, tx_bytes: 726, rx_errors: 0, tx_errors: 0, rx_dropped: 0, tx_dropped: 0}}
        protocols: {Tcp: {RetransSegs: 0, InErrs: 0}, TcpExt: {ListenOverflows: 0}, Udp: {RcvbufErrors: 0}}
    qdiscs:
      description: The queueing disciplines of the links, with what each has sent and dropped.
      returned: O(gather_subset) has V(qdiscs) or V(all)
      type: list
      elements: dict
      sample:
        - {interface: eth0, kind: netem, handle: "8001:", parent: root, bytes: 726, packets: 9, drops: 1, overlimits: 0, queue_length: 0, backlog: 0}
    firewall:
      description:
        - What each tool of the host prints of the packet filter. C(error) says why there are no lines, and is null where there are.
      returned: O(gather_subset) has V(firewall) or V(all)
      type: list
      elements: dict
      sample:
        - {tool: nft, lines: ["table inet filter {", "}"], error: null}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._target import EXCLUSIVE, KINDS, TARGET
from ansible_collections.nettap.containers.plugins.module_utils._context import _subsets
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._targets import _links, _target


def main() -> None:
    """Run the module."""
    choices = [_subsets.ALL, _subsets.INTERFACES, *_subsets.SUBSETS]
    module = AnsibleModule(
        argument_spec={**TARGET, "gather_subset": {"type": "list", "elements": "str", "choices": choices, "default": [_subsets.INTERFACES]}},
        mutually_exclusive=EXCLUSIVE, required_one_of=[KINDS], supports_check_mode=True,
    )
    wanted = module.params["gather_subset"]
    try:
        with _target.resolved(module.params, module.warn) as targets:
            containers = [target.describe() for target in targets]
            namespaces = [target.namespace for target in targets]
            if {_subsets.ALL, _subsets.INTERFACES}.intersection(wanted):
                for container, links in zip(containers, _links.interfaces(namespaces)):
                    container["interfaces"] = links
            for container, found in zip(containers, _subsets.gather(namespaces, wanted)):
                container.update(found)
    except NettapError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, containers=containers)


if __name__ == "__main__":
    main()
