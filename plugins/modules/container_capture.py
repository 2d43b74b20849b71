#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: life cycle of capture sessions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_capture
short_description: Capture the packets of running containers
description:
  - Starts, stops and removes capture sessions. A session runs one C(tcpdump) of the host for each container, interface
    and vantage, in the container's network namespace; nothing is needed in the container's image.
  - A detached supervisor ends the session on time, also when no packet comes or the connection is lost. It guards the
    disk and follows a restarted container into its new namespace.
  - The filter expression is checked before anything is started.
  - Captures hold secrets. They are kept in a folder that only root can read, until they are removed.
version_added: 0.1.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
  - nettap.containers._target
  - nettap.containers._session
  - nettap.containers._packets
requirements:
  - tcpdump on the host
  - pyroute2 0.5.14 or newer on the host, for O(vantage=host) and O(vantage=both)
attributes:
  action_group:
    membership:
      - nettap.containers.targets
      - nettap.containers.captures
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A session that runs with the same arguments is left alone. One that has ended is started anew; what it had
        captured is kept under the name that RV(kept) tells.
options:
  state:
    description:
      - V(started) sees to it that the session is capturing. The task returns when every C(tcpdump) has its socket open.
      - V(stopped) ends it and keeps its captures.
      - V(absent) ends it and deletes its captures.
    type: str
    choices: [started, stopped, absent]
    default: started
  interface:
    description:
      - The container's interfaces to capture on, each by a C(tcpdump) of its own. V(any) is all of them in one file, its
        loopback included; a named interface costs less.
      - When a container stops, the kernel takes a named interface away with what C(tcpdump) has not read yet, up to a second of
        packets; of these, only RV(nettap.containers.container_capture_info#module:captures[].segments[].packets_received) tells. With V(any) nothing is lost.
    type: list
    elements: str
    default: [any]
  vantage:
    description:
      - Where to listen, V(container) inside the container's namespace, V(host) on the host's end of the veth or netkit, or V(both).
    type: str
    choices: [container, host, both]
    default: container
  duration:
    description:
      - Ends the session after so many seconds, whether packets come or not; V(0) is until stopped.
    type: float
    default: 0
  file_size:
    description:
      - Size of one ring file in MB (1,000,000 bytes); V(0) is one file without limit.
    type: int
    default: 100
  file_count:
    description:
      - Number of ring files of a segment. When all are full the oldest is overwritten.
    type: int
    default: 10
  buffer_size:
    description:
      - Kernel buffer of a segment in KiB.
      - By default 65536, and less (but at least 4096) where all segments of the session would take more than a 32nd of the available memory.
      - It holds what arrives while C(tcpdump) waits for the disk or for a processor. 65536 are enough for 0.4 seconds of 120000 packets of 1400 bytes
        a second, 262144 for 1.5 seconds. A capture begins when the kernel has found the memory, which takes up to 2 milliseconds for each 1024.
    type: int
  live:
    description:
      - Whether to write each packet to its file at once, for M(nettap.containers.container_capture_stream) to follow the session within 2 seconds.
        Otherwise C(tcpdump) writes packets in blocks of some KiB, and the last ones when it ends.
      - It costs a system call a packet, so the rate at which packets begin to be dropped is lower.
    type: bool
    default: false
    version_added: 0.2.0
  start_at:
    description:
      - The instant at which to start, the same on every host, as ISO 8601 time (UTC unless it has a zone) or seconds since the epoch.
      - For an instant to come, the task returns when all is checked and the supervisor waits for it. An instant that has
        passed is now.
    type: str
  on_restart:
    description:
      - What to do when a container stops, V(follow) it when it is started again, as new segments, or V(stop) capturing from it.
    type: str
    choices: [follow, stop]
    default: follow
  min_free:
    description:
      - Ends the session before less than this is free on the file system of O(path), such as V(1GiB), V(500M) or V(5%).
      - By default V(1GiB) or V(5%), whichever is less.
    type: str
  max_drop_percent:
    description:
      - Fails the task that sees the end of the session (O(wait=true) or O(state=stopped)) when the kernel dropped more than
        this share of a segment's packets. The captures are kept.
    type: float
  wait:
    description:
      - Whether to return at the end of the session only, with the final figures. Needs O(duration) or O(packet_count).
    type: bool
    default: false
  force:
    description:
      - Restarts a running session that has other arguments, which is an error otherwise. What it has captured is kept.
    type: bool
    default: false
  allow_host_network:
    description:
      - Whether to capture from a container that shares the host's network. Such a capture holds the host's whole traffic.
    type: bool
    default: false
seealso:
  - module: nettap.containers.container_capture_info
  - module: nettap.containers.container_capture_fetch
  - module: nettap.containers.container_capture_stream
"""

EXAMPLES = r"""
- name: Capture 30 seconds of the web container's HTTP, and return the figures
  nettap.containers.container_capture:
    container: web
    filter: tcp port 80
    duration: 30
    wait: true

- name: Capture from all containers of an application until told to stop, at most 5 files of 20 MB each
  nettap.containers.container_capture:
    name: shop
    labels:
      app: shop
    file_size: 20
    file_count: 5

- name: Where does the packet get lost? Listen at both ends of the veth
  nettap.containers.container_capture:
    name: loss
    container: web
    interface: eth0
    vantage: both
    filter: icmp

- name: Stop it
  nettap.containers.container_capture:
    name: shop
    state: stopped

- name: Delete it with its captures
  nettap.containers.container_capture:
    name: shop
    state: absent
"""

RETURN = r"""
capture:
  description: The session, as RV(nettap.containers.container_capture_info#module:captures) has it; null when it is absent.
  returned: success, and when O(max_drop_percent) is exceeded
  type: dict
kept:
  description: The name under which the ended capture is kept that this session takes the place of.
  returned: when there was one
  type: str
  sample: default.20260131T030000Z
reason:
  description: Why something was changed, or would be in check mode, as it was found.
  returned: changed
  type: str
  sample: There was no session default.
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._packets import PACKETS
from ansible_collections.nettap.containers.plugins.module_utils._arguments._session import SESSION
from ansible_collections.nettap.containers.plugins.module_utils._arguments._target import EXCLUSIVE, KINDS, TARGET
from ansible_collections.nettap.containers.plugins.module_utils._capture import _control
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request, start_instant
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target

ARGUMENTS = {
    **TARGET,
    **SESSION,
    **PACKETS,
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "interface": {"type": "list", "elements": "str", "default": ["any"]},
    "vantage": {"type": "str", "choices": ["container", "host", "both"], "default": "container"},
    "duration": {"type": "float", "default": 0},
    "file_size": {"type": "int", "default": 100},
    "file_count": {"type": "int", "default": 10},
    "buffer_size": {"type": "int"},
    "live": {"type": "bool", "default": False},
    "start_at": {"type": "str"},
    "on_restart": {"type": "str", "choices": ["follow", "stop"], "default": "follow"},
    "min_free": {"type": "str"},
    "max_drop_percent": {"type": "float"},
    "wait": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "allow_host_network": {"type": "bool", "default": False},
}


def start(sessions: _control.Sessions, module: AnsibleModule) -> _control.CaptureOutcome:
    """state: started."""
    params = module.params
    request = Request.of(params)
    if params["wait"] and request.endless():
        raise CaptureError("wait needs an end to wait for: give duration or packet_count.")
    start_at = start_instant(params["start_at"]) if params["start_at"] else None
    with _target.resolved(params, module.warn) as targets:
        if not targets:  # allow_missing
            return _control.CaptureOutcome(None, "absent", None)
        return sessions.start(params["name"], request, targets, start_at, params["force"], params["allow_host_network"], module.check_mode)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        mutually_exclusive=EXCLUSIVE,
        required_if=[("state", "started", KINDS, True)],
        supports_check_mode=True,
    )
    params = module.params
    try:
        sessions = _control.Sessions(params["path"])
        if params["state"] == "started":
            outcome = start(sessions, module)
        elif params["state"] == "stopped":
            outcome = sessions.stop(params["name"], module.check_mode)
        else:
            outcome = sessions.remove(params["name"], module.check_mode)
        capture, drops = outcome.capture, None
        if capture and params["wait"] and not module.check_mode:
            capture = sessions.wait(params["name"])
        if capture and capture["status"] != "running":
            drops = _control.excessive_drops(capture, params["max_drop_percent"])
    except NettapError as error:
        module.fail_json(msg=str(error))
    result: dict[str, t.Any] = {"changed": outcome.changed, "capture": capture}
    if outcome.reason:
        result["reason"] = outcome.reason
    if outcome.kept:
        result["kept"] = outcome.kept
    if module._diff:
        result["diff"] = {"before": {params["name"]: outcome.before}, "after": {params["name"]: outcome.after}}
    if drops:
        module.fail_json(msg=drops, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
