#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin, which runs only a shell in the container."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_capture_inside
short_description: Capture packets from inside a container, over any connection
description:
  - For containers whose host cannot be reached. Runs C(tcpdump) inside the container that the task's connection leads to
    (such as C(community.docker.docker), C(containers.podman.podman) or C(kubernetes.core.kubectl)), and brings the capture
    to the controller. Where the host can be reached, M(nettap.containers.container_capture) needs nothing in the container.
  - The container needs neither Python nor C(tcpdump). The module brings a C(tcpdump) along, by default the controller's own with its loader and libraries,
    some 10 MB. The container needs a shell and C(mkdir), C(rm), C(chmod), C(sleep), as in any busybox, and the programs that the connection itself needs to
    transfer files. Where the task becomes another user, it also needs C(chown) and C(id).
  - When the task ends, neither files nor processes of it are left in the container. When the task is killed or cut off, its processes in the container notice
    within 15 seconds, end the capture and remove everything, the packets too.
  - The capture stays in the container's file system until it is fetched. It is one file without limit; O(filter), O(snaplen) and O(packet_count)
    keep it small.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.action
  - nettap.containers._packets
requirements:
  - CAP_NET_RAW in the container, which Docker gives by default, and as a rule its user root
  - a shell, mkdir, rm, chmod and sleep in the container
  - tcpdump on the controller, or a static one given by O(tcpdump)
attributes:
  check_mode:
    support: full
    details:
      - In check mode nothing is done in the container.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run is a capture of its own.
options:
  dest:
    description:
      - Folder on the controller, relative to the current working directory. It is made (C(0700)) where it is missing.
      - The file is named by host, as with M(nettap.containers.container_capture_fetch), and by the start time of the capture.
        If that file exists already, a number is appended.
    type: str
    default: captures
  interface:
    description:
      - The interface to capture on; V(any) means all of them.
    type: str
    default: any
  duration:
    description:
      - Seconds after which the capture ends, whether packets come or not. V(0) means without limit, and needs O(packet_count).
    type: float
    default: 30
  buffer_size:
    description:
      - Kernel buffer in KiB.
    type: int
    default: 4096
  tcpdump:
    description:
      - Path on the controller of the C(tcpdump) to bring along. It must be for the container's architecture. A static one is best if that
        is not the controller's.
      - The default is the one that is installed on the controller.
    type: str
  upload_to:
    description:
      - Folders in the container. The module uses the first one in which it can make and run files.
    type: list
    elements: str
    default: [/tmp, /var/tmp, /run, /dev/shm, /]
seealso:
  - module: nettap.containers.container_capture
"""

EXAMPLES = r"""
- name: Capture inside a container of Docker
  hosts: web
  gather_facts: false
  vars:
    ansible_connection: community.docker.docker
  tasks:
    - name: Capture 10 seconds of HTTP
      nettap.containers.container_capture_inside:
        filter: tcp port 80
        duration: 10
      register: inside

    - name: Show how to open the file
      ansible.builtin.debug:
        msg: "wireshark {{ inside.files[0].dest }}"

- name: Capture inside a pod on nodes of another architecture
  hosts: shop_pods
  gather_facts: false
  vars:
    ansible_connection: kubernetes.core.kubectl
  tasks:
    - name: Capture 100 packets, but wait a minute at most
      nettap.containers.container_capture_inside:
        packet_count: 100
        duration: 60
        tcpdump: files/tcpdump-aarch64-static
"""

RETURN = r"""
files:
  description: The file on the controller; none in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    dest:
      description: Path of the file on the controller.
      type: str
      sample: /home/me/captures/web/inside-20260131T030000Z.pcap
    size:
      description: Size of the file in bytes.
      type: int
    sha256:
      description: SHA-256 checksum of the file.
      type: str
    packets:
      description: Number of packets in the file.
      type: int
    host:
      description: The host that the file comes from, by its name in the inventory.
      type: str
capture:
  description: The result of the capture; in check mode, values that are not known are null.
  returned: success
  type: dict
  contains:
    interface:
      description: The interface.
      type: str
    filter:
      description: The filter expression.
      type: str
    stop_reason:
      description: V(duration) or V(packet_count).
      type: str
    started_at:
      description: Time at which tcpdump was capturing, UTC.
      type: str
      sample: "2026-01-31T03:00:00.000123Z"
    packets_captured:
      description: Packets that tcpdump has read.
      type: int
    packets_kept:
      description: Packets in the file, all that were captured.
      type: int
    packets_received:
      description: Packets that passed the filter, as the kernel counts them, dropped ones included.
      type: int
    packets_dropped:
      description: Packets that passed the filter and were lost because the kernel's buffer was full.
      type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_inside import SPEC


def main() -> None:
    """Fail, because the action plugin does the work."""
    module = AnsibleModule(**SPEC, supports_check_mode=True)
    module.fail_json(msg="Its action plugin, which does the capturing, was not run: call it by its full name, nettap.containers.container_capture_inside.")


if __name__ == "__main__":
    main()
