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
  - Containers that share a network namespace (C(network_mode=service:...), those of a pod) are captured once, by one C(tcpdump) that is named after all of
    them. It runs as long as one of them does.
  - A detached supervisor ends the session on time, also when no packet comes or the connection is lost. It guards the
    disk and follows a restarted container into its new namespace.
  - The filter expression is checked before anything is started.
  - Captures hold secrets. They are kept in a folder that only root can read, until they are removed.
version_added: 0.1.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.action
  - nettap.containers._attributes.actiongroup
  - nettap.containers._target
  - nettap.containers._session
  - nettap.containers._packets
  - nettap.containers._coming_and_going
requirements:
  - tcpdump on the host
  - pyroute2 0.5.14 or newer on the host, for O(vantage=host) and O(vantage=both)
attributes:
  action_group:
    membership:
      - nettap.containers.targets
      - nettap.containers.captures
  async:
    support: full
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A session that runs with the same arguments is left alone. One that has ended is started again; its earlier
        captures are kept under the name in RV(kept).
options:
  state:
    description:
      - V(started) starts the session unless it is capturing already. The task returns when every C(tcpdump) has its socket open.
      - V(stopped) ends the session and keeps its captures.
      - V(absent) ends the session and deletes its captures.
    type: str
    choices: [started, stopped, absent]
    default: started
  interface:
    description:
      - The container's interfaces to capture on, each by a C(tcpdump) of its own. V(any) captures on all of them in one file, the
        loopback interface included; a named interface costs less.
      - When a container stops, the kernel removes a named interface together with the packets that C(tcpdump) has not read yet, up to a second of
        them. Only RV(nettap.containers.container_capture_info#module:captures[].segments[].packets_received) counts these. With V(any) nothing is lost.
    type: list
    elements: str
    default: [any]
  vantage:
    description:
      - Where to listen. V(container) is inside the container's namespace, V(host) is at the host's end of the veth or netkit, V(both) is at both.
    type: str
    choices: [container, host, both]
    default: container
  duration:
    description:
      - Seconds after which the session ends, whether packets come or not. With V(0) it runs until it is stopped.
    type: float
    default: 0
  file_size:
    description:
      - Size of one ring file in MB (1,000,000 bytes). V(0) means one file without limit.
    type: int
    default: 100
  file_count:
    description:
      - Number of ring files of a segment. When all are full, the oldest is overwritten.
    type: int
    default: 10
  buffer_size:
    description:
      - Kernel buffer of a segment in KiB.
      - The default is 65536. It is less (but at least 4096) where all segments of the session would take more than a 32nd of the available memory.
      - The buffer holds the packets that arrive while C(tcpdump) waits for the disk or for a processor. At 120000 packets of 1400 bytes a second, 65536 is
        enough for 0.4 seconds, and 262144 for 1.5 seconds. A capture begins when the kernel has found the memory, which takes up to 2 milliseconds
        for each 1024.
    type: int
  live:
    description:
      - Whether to write each packet to its file at once, for M(nettap.containers.container_capture_stream) to follow the session within 2 seconds.
        Otherwise C(tcpdump) writes packets in blocks of some KiB, and the last ones when it ends.
      - This costs a system call for each packet, so the kernel begins to drop packets at a lower rate.
    type: bool
    default: false
    version_added: 0.2.0
  min_free:
    description:
      - Space to keep free on the file system of O(path), such as V(1GiB), V(500M) or V(5%). The session ends before less than this is free.
      - The default is V(1GiB) or V(5%), whichever is less.
    type: str
  max_drop_percent:
    description:
      - Largest share of a segment's packets that the kernel may drop. If it dropped more, the task that sees the end of the session
        (O(wait=true) or O(state=stopped)) fails. The captures are kept.
    type: float
  max_overwritten_percent:
    description:
      - Largest share of a segment's packets that its ring (O(file_size), O(file_count)) may overwrite. If it overwrote more, the task that sees
        the end of the session (O(wait=true) or O(state=stopped)) fails. The files are kept.
      - Without this option, that task warns of packets that were overwritten. V(100) allows them without a warning, for a ring that is meant to
        keep the newest packets only.
    type: float
    version_added: 0.2.0
  wait:
    description:
      - Whether the task waits for the end of the session and returns its final figures. Needs O(duration) or O(packet_count). It fails if the
        session has failed.
    type: bool
    default: false
  owner:
    description:
      - The run of Ansible that the session belongs to, as any text of its own, such as C(job 42). The session records it.
      - With V(started), a session that runs for another owner, or for none, is never joined. The new session then takes the next of the names
        C(NAME-2), C(NAME-3) that is free; RV(capture) has the name. O(force=true) restarts the session that has O(name), whoever it belongs to.
      - With V(stopped) and V(absent), only a session of this owner is ended, also where another session has taken its name since.
    type: str
    version_added: 0.2.0
  force:
    description:
      - With V(started), whether to restart a running session that has other arguments. Otherwise such a session is an error. Its earlier captures are kept.
      - With V(stopped) and V(absent), whether to end a session although another run of Ansible waits for it, in M(nettap.containers.container_capture_wait)
        or with O(wait=true). Otherwise this is an error.
    type: bool
    default: false
  allow_host_network:
    description:
      - Whether to capture from a container that shares the host's network. Such a capture holds all of the host's traffic.
    type: bool
    default: false
  clock:
    description:
      - By how many seconds the host's clock is ahead of the controller's. Set by the action plugin; not for use in a task.
    type: dict
    version_added: 0.2.0
    suboptions:
      offset:
        description: The seconds, negative if the host's clock is behind.
        type: float
        required: true
      bound:
        description: The seconds by which O(clock.offset) may be wrong.
        type: float
        required: true
  exclude_own_connection:
    description:
      - Whether to leave the play's own connection out of what is captured, where the host, or a bastion or VPN in a container, carries it. Otherwise a
        capture that is followed live captures what it sends, again and again.
      - This is SSH between the controller (or the last host before this one) and this host, and in a helper pod, the port of kubelet and those of the
        container runtime's streams. RV(nettap.containers.container_capture_info#module:captures[].left_out) tells what was left out.
      - A container that carries the connection inside another one (VPN, bastion) cannot be captured with O(live=true) unless O(filter) is set.
    type: bool
    default: true
    version_added: 0.2.0
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

- name: Capture from all containers of an application until the session is stopped, in at most 5 files of 20 MB each
  nettap.containers.container_capture:
    name: shop
    labels:
      app: shop
    file_size: 20
    file_count: 5

- name: Find where a packet gets lost, by listening at both ends of the veth
  nettap.containers.container_capture:
    name: loss
    container: web
    interface: eth0
    vantage: both
    filter: icmp

- name: Stop the session
  nettap.containers.container_capture:
    name: shop
    state: stopped

- name: Capture for this job alone, whatever other jobs capture at the same time
  nettap.containers.container_capture:
    name: shop
    container: web
    owner: job 42
  register: started

- name: Stop that session
  nettap.containers.container_capture:
    name: "{{ started.capture.name }}"
    owner: job 42
    state: stopped

- name: Delete the session with its captures
  nettap.containers.container_capture:
    name: shop
    state: absent
"""

RETURN = r"""
capture:
  description: The session, as in RV(nettap.containers.container_capture_info#module:captures); null when it is absent.
  returned: success, when O(max_drop_percent) or O(max_overwritten_percent) is exceeded, and when the session that O(wait) waited for has failed
  type: dict
kept:
  description: The name under which the ended session that this one replaces is kept.
  returned: when there was one
  type: str
  sample: default.20260131T030000Z
reason:
  description: Why a change was made, or would be in check mode; it describes the state that was found.
  returned: changed
  type: str
  sample: There was no session default.
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._packets import PACKETS
from ansible_collections.nettap.containers.plugins.module_utils._arguments._session import OWNER, SESSION
from ansible_collections.nettap.containers.plugins.module_utils._arguments._target import EXCLUSIVE, KINDS, TARGET
from ansible_collections.nettap.containers.plugins.module_utils._capture import _control, _words
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request, start_instant
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Clock
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

ARGUMENTS = {
    **TARGET,
    **SESSION,
    **OWNER,
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
    "new_containers": {"type": "str", "choices": ["ignore", "follow"], "default": "ignore"},
    "min_free": {"type": "str"},
    "max_drop_percent": {"type": "float"},
    "max_overwritten_percent": {"type": "float"},
    "wait": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "allow_host_network": {"type": "bool", "default": False},
    "clock": {"type": "dict", "options": {"offset": {"type": "float", "required": True}, "bound": {"type": "float", "required": True}}},
    "exclude_own_connection": {"type": "bool", "default": True},
}


def start(sessions: _control.Sessions, module: AnsibleModule) -> _control.CaptureOutcome:
    """Bring the session to state: started. Raise NettapError."""
    params = module.params
    request = Request.of(params)
    if params["wait"] and request.endless():
        raise CaptureError("wait needs an end to wait for: give duration or packet_count.")
    start_at = start_instant(params["start_at"]) if params["start_at"] else None
    clock = Clock(**params["clock"]) if params["clock"] else None
    arrivals = _target.selection(params) if request.new_containers == "follow" else None
    coming: list[Container] | None = [] if request.on_restart == "follow" else None
    with _target.resolved({**params, "allow_missing": params["allow_missing"] or arrivals is not None}, module.warn, coming) as targets:
        if not targets and not coming and arrivals is None:  # allow_missing
            return _control.CaptureOutcome(None, "absent", None)
        return sessions.start(params["name"], request, targets, start_at, params["force"], params["allow_host_network"], module.check_mode,
                              params["owner"], clock, coming or (), arrivals)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, mutually_exclusive=EXCLUSIVE, required_if=[("state", "started", KINDS, True)], supports_check_mode=True)
    params = module.params
    try:
        sessions = _control.Sessions(params["path"])
        if params["state"] == "started":
            outcome = start(sessions, module)
        elif params["state"] == "stopped":
            outcome = sessions.stop(params["name"], module.check_mode, params["owner"], params["force"])
        else:
            outcome = sessions.remove(params["name"], module.check_mode, params["owner"], params["force"])
        capture, failed, notes = outcome.capture, None, []
        if capture and params["state"] == "started":
            notes += [*(capture["left_out"] if outcome.changed else ()), *_words.start_warnings(capture)]
        if capture and params["wait"] and not module.check_mode:
            capture = sessions.wait(capture["name"], params["owner"])
        if capture and capture["status"] != "running":
            failed = _words.exceeded(capture, params["max_drop_percent"], params["max_overwritten_percent"])
            notes += _words.losses(capture, params["max_overwritten_percent"] is None)
            if params["wait"]:
                failed = _words.failure(capture) or failed
    except NettapError as error:
        module.fail_json(msg=str(error))
    for note in notes:
        module.warn(note)
    result: dict[str, t.Any] = {"changed": outcome.changed, "capture": capture}
    if outcome.reason:
        result["reason"] = outcome.reason
    if outcome.kept:
        result["kept"] = outcome.kept
    if module._diff:
        result["diff"] = {"before": {params["name"]: outcome.before}, "after": {params["name"]: outcome.after}}
    if failed:
        module.fail_json(msg=failed, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
