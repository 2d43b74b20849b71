#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin; nothing of it runs on the host but a shell."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_capture_inside
short_description: Capture packets from inside of a container, over any connection
description:
  - For where the container's host cannot be reached. Runs C(tcpdump) inside of the container that the task's connection leads to
    (such as C(community.docker.docker), C(containers.podman.podman) or C(kubernetes.core.kubectl)), and brings the capture
    to the controller. Where the host can be reached, M(nettap.containers.container_capture) needs nothing in the container.
  - The container needs neither Python nor C(tcpdump). A C(tcpdump) is brought along, by default the controller's own with its loader and libraries, some
    10 MB. It needs a shell and C(mkdir), C(rm), C(chmod), C(sleep), as in any busybox, and whatever the connection itself needs to transfer files. Where
    the task becomes another user, it needs C(chown) and C(id), too.
  - When the task ends, nothing of it is left in the container, neither files nor processes. When it is killed or cut off, what runs in the container notices
    within 15 seconds, ends the capture and removes everything, the packets too.
  - The capture lies in the container's file system until it is fetched, and it is one file without limit; O(filter), O(snaplen) and O(packet_count)
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
      - In check mode the container is not touched.
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
      - The file is named by host, as with M(nettap.containers.container_capture_fetch), and by the time at which the capture started.
        A number follows where there is such a file already.
    type: str
    default: captures
  interface:
    description:
      - The interface to capture on; V(any) is all of them.
    type: str
    default: any
  duration:
    description:
      - Ends the capture after so many seconds, whether packets come or not; V(0) is without limit, and needs O(packet_count).
    type: float
    default: 30
  buffer_size:
    description:
      - Kernel buffer in KiB.
    type: int
    default: 4096
  tcpdump:
    description:
      - Path of the C(tcpdump) on the controller that is brought along. It must be for the container's architecture, and then is best a static one.
      - By default the one that is installed on the controller.
    type: str
  upload_to:
    description:
      - Folders in the container, of which the first is used in which files can be made and run.
    type: list
    elements: str
    default: [/tmp, /var/tmp, /run, /dev/shm, /]
seealso:
  - module: nettap.containers.container_capture
"""

EXAMPLES = r"""
- name: Capture inside of a container of a Docker engine
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

    - name: Where is it?
      ansible.builtin.debug:
        msg: "wireshark {{ inside.files[0].dest }}"

- name: Capture inside of a pod on nodes of another architecture
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
      description: Its size in bytes.
      type: int
    sha256:
      description: Its checksum.
      type: str
    packets:
      description: Number of packets in it.
      type: int
    host:
      description: The host that it comes from, by its name in the inventory.
      type: str
capture:
  description: How it went; in check mode, what is not known is null.
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
      description: Time at which it was capturing, UTC.
      type: str
      sample: "2026-01-31T03:00:00.000123Z"
    packets_captured:
      description: Packets in the file.
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
    """Fail: the work is the action plugin's."""
    module = AnsibleModule(**SPEC, supports_check_mode=True)
    module.fail_json(msg="Its action plugin, which does the capturing, was not run: call it by its full name, nettap.containers.container_capture_inside.")


if __name__ == "__main__":
    main()
