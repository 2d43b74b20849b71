#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the part of fetching that runs on the host; the action plugin of the same name does the rest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_capture_fetch
short_description: Fetch the packets of a capture session to the controller
description:
  - Brings the captures of a session to the controller, as one pcapng for the host or one pcap for each segment, for
    Wireshark, tshark or tcpdump.
  - Ring files are joined in the order of their packets. With O(merge=host), the packets of all containers are in the order
    of time. Each container is then an interface named C(HOST/CONTAINER/INTERFACE), with the container's ID, image
    and filter as comments.
  - The files are streamed through the connection, also under C(become), so memory use stays flat. They are verified by SHA-256
    and put into place whole; a broken transfer leaves the earlier files as they were. Files that are there already are not sent again.
  - On the host, the files are staged in the login user's temporary folder (C(ansible_remote_tmp)), which needs as much
    space as they take. A running session can be fetched too, as far as its packets are on the disk.
  - Of a damaged file, the packets before the damage come, and those of all other files. A warning tells of it, and in a merged file the comment of the file.
version_added: 0.1.0
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
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  dest:
    description:
      - Folder on the controller, relative to the current working directory. It is made (C(0700)) where it is missing.
      - The files are named by host, session and the time at which the session started, so that no capture replaces another.
      - The folder of a host has the host's name. Characters other than ASCII letters, digits, dots, underscores and hyphens become C(%XX), as in a URL.
        If the name is too long, or the file system cannot tell it from another host's name (it ignores case), a checksum is appended.
      - If another capture's file still has the same name, the file stays as it is and the task fails. The extended attribute
        C(user.nettap.origin) holds the capture that a file belongs to. A file without it is replaced with a warning.
    type: str
    default: captures
  merge:
    description:
      - V(segment) fetches a pcap for each segment, V(host) one pcapng for all.
      - C(tcpdump -r) reads a merged file only if its interfaces share one link type. V(any) and a named interface do not. Wireshark and tshark
        read all of them.
    type: str
    choices: [segment, host]
    default: host
  compress:
    description:
      - Whether to compress the files with gzip. Wireshark and tshark read such files directly.
    type: bool
    default: false
  remove:
    description:
      - Whether to delete the session on the host once its files are on the controller and verified. The session must have ended.
        Damaged files are deleted with it.
      - A session that another run of Ansible waits for is not deleted, and the task fails after the files have arrived.
    type: bool
    default: false
  dest_lasts:
    description:
      - Whether the files in O(dest) outlive the run of Ansible. V(false) keeps the session on the host in spite of O(remove); RV(stays) says so.
      - By default it is V(false) for a folder that is known to go with the job, in AWX and Automation Controller the private data folder
        (E(AWX_PRIVATE_DATA_DIR)), which the project's folder is in, and what is in the job's container only. Set it to V(true) where a later task
        brings the files to another place.
    type: bool
    version_added: 0.2.0
  owner:
    description:
      - The run that the session must belong to, see O(nettap.containers.container_capture#module:owner). The session is then found also where
        another session has taken its name since.
    type: str
    version_added: 0.2.0
  stage_in:
    description:
      - The folder on the host to stage the files in. Set by the action plugin; not for use in a task.
    type: path
  stage_as:
    description:
      - The name of the host in the files. Set by the action plugin; not for use in a task.
    type: str
  stage_for:
    description:
      - The process that fetches the files, and the one that carries its connection. Set by the action plugin; not for use in a task.
    type: dict
seealso:
  - module: nettap.containers.container_capture
"""

EXAMPLES = r"""
- name: Fetch the captures, as one file for each host
  nettap.containers.container_capture_fetch:
    name: shop
    dest: /srv/evidence
    remove: true
  register: fetched

- name: Show how to open the file
  ansible.builtin.debug:
    msg: "wireshark {{ fetched.files[0].dest }}"
"""

RETURN = r"""
files:
  description: The files on the controller.
  returned: success
  type: list
  elements: dict
  contains:
    dest:
      description: Path of the file on the controller.
      type: str
      sample: /home/me/captures/node1/shop-20260131T030000Z.pcapng
    size:
      description: Size of the file in bytes.
      type: int
    sha256:
      description: SHA-256 checksum of the file.
      type: str
    packets:
      description: Number of packets in the file.
      type: int
    damage:
      description: What of the session's files is no packet and so is not in it, one sentence for each damaged file. Each is a warning, too.
      type: list
      elements: str
      sample: ["/var/lib/nettap/shop/000-web-eth0-container.pcap1: no packet at offset 784: a record of zeros, as a power cut leaves it"]
    in_order:
      description:
        - Whether the packets were captured in the order of their times, but for some milliseconds; V(false) with a warning
          when the host's clock was set back while it captured.
      type: bool
    host:
      description: The host that the file comes from, by its name in the inventory.
      type: str
    containers:
      description: The containers whose packets are in the file.
      type: list
      elements: str
removed:
  description: Whether the session was deleted on the host.
  returned: success
  type: bool
stays:
  description: Why the session is still on the host in spite of O(remove), and how to fetch it again.
  returned: when it is, because O(dest) vanishes
  type: str
capture:
  description: The session that was fetched, as M(nettap.containers.container_capture_info) returns it.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_fetch import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._capture import _stage, _staging, _storage, _words
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError


def main() -> None:
    """Run the module: stage the files for the action plugin, which gives stage_in, stage_as and stage_for."""
    staging = {"stage_in": {"type": "path"}, "stage_as": {"type": "str"}, "stage_for": {"type": "dict"}}
    module = AnsibleModule(argument_spec={**SPEC["argument_spec"], **staging}, supports_check_mode=True)
    params = module.params
    if not params["stage_as"]:
        module.fail_json(msg="Its action plugin, which does the fetching, was not run: call it by its full name, nettap.containers.container_capture_fetch.")
    try:
        folder = None if module.check_mode else params["stage_in"]
        storage = _storage.Storage(params["path"])
        fetch = _staging.Fetch.of(params["stage_for"] or {})
        capture, staged = _stage.stage(storage, params["name"], folder, params["stage_as"], params["merge"], params["compress"], params["owner"], fetch)
    except NettapError as error:
        module.fail_json(msg=str(error))
    if capture["status"] != "running":
        for note in _words.losses(capture, damages=[damage for file in staged for damage in file["damage"]]):
            module.warn(note)
    module.exit_json(changed=False, capture=capture, staged=staged)


if __name__ == "__main__":
    main()
