#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: list capture sessions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_capture_info
short_description: List capture sessions with their live figures
description:
  - Lists the capture sessions of a host, running and ended ones, with figures that the module reads from C(tcpdump) at that moment.
version_added: 0.1.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
requirements:
  - Linux 5.3 or newer and Python 3.9 or newer on the host
  - root on the host (C(become=true))
attributes:
  action_group:
    membership:
      - nettap.containers.captures
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
  name:
    description:
      - The session to show. By default all sessions are listed.
    type: str
  path:
    description:
      - Folder on the host that holds the sessions.
    type: path
    default: /var/lib/nettap/captures
seealso:
  - module: nettap.containers.container_capture
"""

EXAMPLES = r"""
- name: List the captures on these hosts
  nettap.containers.container_capture_info:
  register: found

- name: Show the progress of one session
  nettap.containers.container_capture_info:
    name: shop
"""

RETURN = r"""
captures:
  description: The sessions, in the order of their names; empty when there is no session, or none with that O(name).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the session.
      type: str
    status:
      description: V(running), V(stopped) or V(failed). A session that waits for its O(nettap.containers.container_capture#module:start_at) is V(running).
      type: str
    path:
      description: Folder of the session on the host.
      type: str
    owner:
      description: The run that the session belongs to, see O(nettap.containers.container_capture#module:owner); null where it was not given.
      type: str
    start_at:
      description: The instant at which the session was to start, UTC; null where none was given.
      type: str
    started_at:
      description: Time at which every tcpdump had its socket open, UTC; null before. It is RV(captures[].start_at) if the session waited for that.
      type: str
    stopped_at:
      description: Time at which the session ended, UTC; null before.
      type: str
    error:
      description: Why the session as a whole failed.
      type: str
    supervisor:
      description: The process that guards the session, and whether it is alive.
      type: dict
      sample:
        pid: 18636
        alive: true
    filter:
      description: The filter expression.
      type: str
    duration:
      description: Requested duration in seconds; 0 means until the session is stopped.
      type: float
    live:
      description: Whether tcpdump writes each packet to its file at once.
      type: bool
    buffer_size:
      description: Kernel buffer of each segment in KiB.
      type: int
    max_overwritten_percent:
      description: Requested limit of the share of packets that a ring may overwrite; null where none was given.
      type: float
    clock:
      description: The host's clock against the controller's, measured when the session was started; null where it was not.
      type: dict
      contains:
        offset:
          description: Seconds by which the host's clock was ahead, negative if it was behind.
          type: float
        bound:
          description: Seconds by which RV(captures[].clock.offset) may be wrong, half of the time that the host took to tell its time.
          type: float
      sample:
        offset: -0.0012
        bound: 0.0091
    summary:
      description: What was captured, a line for each segment, and one for a clock that is off by more than 50 milliseconds.
      type: list
      elements: str
      sample: ["web any (container): 59 of 7356 packets are in the file, the ring overwrote the rest, 0 dropped, ended by duration"]
    waiting:
      description: What the session waits for, in words, such as the start of a container or an interface; empty when there is nothing.
      type: list
      elements: str
      sample: ["web waits for its interface eth0 (it has lo)"]
    left_out:
      description:
        - What the session does not capture although the target options name it, one sentence each. This is the play's own connection to the host, and
          with O(nettap.containers.container_capture#module:vantage=host) interfaces whose other end is not on the host, and what programs of a network
          plugin there (tcx, netkit) redirect.
      type: list
      elements: str
      version_added: 0.2.0
    segments:
      description: One entry for each network namespace, interface and vantage; a container or an interface that came back has further entries.
      type: list
      elements: dict
      contains:
        container:
          description: Name of the container; where several share a network namespace, of the one that made it, or of the first.
          type: str
        containers:
          description: Names of all the session's containers in this network namespace, whose packets are captured once for all of them.
          type: list
          elements: str
          version_added: 0.2.0
        id:
          description: ID of the container.
          type: str
        interface:
          description: The container's interface, or V(any).
          type: str
        vantage:
          description: V(container) or V(host).
          type: str
        device:
          description: The link that tcpdump opened; for the vantage V(host) the interface's peer on the host.
          type: str
        pid:
          description: PID of tcpdump on the host; null before RV(captures[].started_at), and while its container has yet to come back.
          type: int
        argv:
          description: The command line of tcpdump.
          type: list
          elements: str
        status:
          description: V(running), V(stopped) or V(failed).
          type: str
        stop_reason:
          description:
            - Why the segment ended, one of V(user), V(duration), V(packet_count), V(disk), V(container_gone), V(interface_gone) and V(error).
          type: str
        error:
          description: The error of the segment, as tcpdump reported it where it did.
          type: str
        files:
          description: The segment's capture files on the host, in the order of their packets.
          type: list
          elements: str
        bytes:
          description: Size of these files in bytes.
          type: int
        packets_captured:
          description: Packets that tcpdump has read, including those in ring files that were overwritten since.
          type: int
        packets_kept:
          description:
            - Packets that are in the files now; those of a running segment may still be on their way there. Null where it is not known before the
              segment has ended.
          type: int
        packets_overwritten:
          description:
            - Captured packets whose files the ring has removed. Null while the segment has not started, and where it is not known before the segment has ended.
          type: int
        packets_unread:
          description:
            - Packets that the kernel took away with the interface, before tcpdump had read them. Null while the interface is there, and
              for V(any) and V(lo), of which the kernel counts some packets twice.
          type: int
        packets_received:
          description: Packets that passed the filter, as the kernel counts them, dropped ones included.
          type: int
        packets_dropped:
          description: Packets that passed the filter and were lost because the kernel's buffer was full.
          type: int
        packets_dropped_by_interface:
          description: Packets that the interface dropped, where it reports them.
          type: int
        first_packet:
          description: Time of the first packet in the files, UTC.
          type: str
          sample: "2026-01-31T03:00:00.000123Z"
        last_packet:
          description: Time of the last packet in the files, UTC; known once the segment has ended.
          type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._session import SESSION
from ansible_collections.nettap.containers.plugins.module_utils._capture._listing import Listing
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"name": {"type": "str"}, "path": SESSION["path"]},
        supports_check_mode=True,
    )
    try:
        captures = Listing(module.params["path"]).about(module.params["name"])
    except NettapError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, captures=captures)


if __name__ == "__main__":
    main()
