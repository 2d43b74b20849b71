#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the part of following that runs on the host; the action plugin of the same name does the rest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_capture_stream
short_description: Follow a running capture session live, into a file, a FIFO or a program on the controller
description:
  - Brings the packets of a session to the controller while they are captured, as one stream that Wireshark, tshark and C(tcpdump -r -) read.
    The task ends when the capture ends or the reader closes its end; the latter is no error.
  - A session that has ended is streamed as far as it is on the disk.
  - A session that captures all of the host's network, and with it the connection over which it would be followed, is refused, unless it was started
    with O(nettap.containers.container_capture#module:exclude_own_connection=false).
  - Packets are at most 2 seconds behind when the session was started with O(nettap.containers.container_capture#module:live=true), of which up to one
    second is the kernel's, which hands packets to C(tcpdump) in blocks.
  - Works over any connection and under C(become). The host is asked for the next packets again and again; a connection that breaks
    is tried again, and nothing is lost meanwhile that the session's ring holds.
  - Each container, interface and vantage is an interface of the stream, named as M(nettap.containers.container_capture_fetch) does. Containers that
    come back are further interfaces. Packets of different interfaces may be up to a second out of order; fetched ones are not.
  - Packets whose ring file was overwritten before they could be read are told of by a warning at once, in RV(lost), and by number in RV(missed).
  - Of a damaged file, the packets before the damage come, and those of all other files. A warning tells of it at once, and a comment in the pcapng.
  - Memory is flat on the controller and on the host. On the host no packet is staged and nothing keeps running between two questions.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.action
  - nettap.containers._attributes.actiongroup
  - nettap.containers._session
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
      - In check mode there may be no session. The task returns at once; it is changed where it would write O(dest) or O(on_close) would end the session.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run is a stream of its own.
options:
  dest:
    description:
      - A file or FIFO on the controller, relative to the current working directory. A file is made (C(0600)) or emptied. With a FIFO,
        the task waits until a program reads from it.
      - One of O(dest) and O(argv) is needed. With several hosts, each host needs one of its own.
    type: str
  argv:
    description:
      - A program on the controller and its arguments. It gets the stream on its standard input, and is run without a shell.
      - Its output is shown as it comes, with the host's name in front. The task ends when the program has ended, and fails if the program failed.
    type: list
    elements: str
  format:
    description:
      - V(pcapng) names the container and interface of each packet. C(tcpdump -r) reads it only if all its interfaces share one link type.
      - V(pcap) is for a session that captures in one place only.
    type: str
    choices: [pcapng, pcap]
    default: pcapng
  from_start:
    description:
      - Whether to begin with the packets that the session has on the disk already. Otherwise the stream begins with the packets that come from now on.
    type: bool
    default: true
  on_close:
    description:
      - What to do with the session when its reader has closed, the session has ended or the play is interrupted. V(keep) leaves the session as it is,
        capturing if it has not ended. V(stop) stops it and keeps its captures. V(remove) deletes it.
      - This is also done when the connection was broken for longer than O(patience) or O(dest) cannot be written any more, if the host can be reached then.
        It is not done when the stream cannot begin, or when the host has another session of that name by now.
    type: str
    choices: [keep, stop, remove]
    default: keep
  patience:
    description:
      - Seconds for which the task retries an unreachable host before it fails.
    type: float
    default: 120
  stage_in:
    description:
      - The folder on the host for the program that reads the session. Set by the action plugin; not for use in a task.
    type: path
seealso:
  - module: nettap.containers.container_capture
  - module: nettap.containers.container_capture_fetch
"""

EXAMPLES = r"""
- name: Capture for live viewing, in a small ring
  nettap.containers.container_capture:
    name: live
    container: web
    live: true
    file_size: 20
    file_count: 5

- name: View the packets in Wireshark until its window is closed, then end the session and delete it
  nettap.containers.container_capture_stream:
    name: live
    argv: [wireshark, -k, -i, "-"]
    on_close: remove

- name: Print requests as they come
  nettap.containers.container_capture_stream:
    name: live
    argv: [tshark, -l, -n, -r, "-", -Y, http.request]

- name: Write to a FIFO from which another program reads
  nettap.containers.container_capture_stream:
    name: live
    dest: /tmp/live.fifo
"""

RETURN = r"""
packets:
  description: Number of packets in the stream.
  returned: success
  type: int
size:
  description: Bytes written.
  returned: success
  type: int
ended_by:
  description: What ended the stream, V(capture) (the capture ended) or V(reader) (the reader closed its end); null in check mode.
  returned: success
  type: str
  sample: capture
lost:
  description: Places (container and interface) whose packets were overwritten on the host before they could be read.
  returned: success
  type: list
  elements: str
damage:
  description: What of the session's files is no packet and so is not in the stream, one sentence for each damaged file.
  returned: success
  type: list
  elements: str
in_order:
  description: Whether each place's packets were captured in the order of their times; V(false) with a warning when the host's clock was set back meanwhile.
  returned: success
  type: bool
missed:
  description: Exact number of captured packets that are not in the stream; null if the stream ended before the capture or did not begin at its start.
  returned: success
  type: int
dest:
  description: Path of the file or FIFO on the controller; null with O(argv).
  returned: success
  type: str
rc:
  description: Exit code of the program; null in check mode.
  returned: with O(argv)
  type: int
capture:
  description: The session, as M(nettap.containers.container_capture_info) returns it, with its final figures if it has ended; null in check mode.
  returned: success
  type: dict
"""

import sys

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_stream import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._background import _archive
from ansible_collections.nettap.containers.plugins.module_utils._capture import _follow, _stage, _storage, _transport
from ansible_collections.nettap.containers.plugins.module_utils._capture._listing import Listing
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NettapError


def main() -> None:
    """Run the module: stage the program that the action plugin, which gives stage_in, will run again and again."""
    module = AnsibleModule(argument_spec={**SPEC["argument_spec"], "stage_in": {"type": "path"}}, supports_check_mode=True)
    params = module.params
    if not params["stage_in"]:
        module.fail_json(msg="Its action plugin, which does the streaming, was not run: call it by its full name, nettap.containers.container_capture_stream.")
    try:
        sessions = Listing(params["path"])
        found = sessions.about(params["name"])
        if not found:
            known = ", ".join(sessions.storage.names()) or "none"
            raise CaptureError(f"There is no capture session {params['name']!r} under {params['path']} (there are: {known}).")
        session = _storage.load(sessions.storage.directory(params["name"]))
        if session:
            _transport.check_to_follow(params["name"], session)
        program = _stage.write(params["stage_in"], "follow.zip", _archive.build(_follow, compiled=True))
    except NettapError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, capture=found[0], python=sys.executable, program=program)


if __name__ == "__main__":
    main()
