#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the part of waiting that runs on the host, one look at the session; the action plugin of the same name does the rest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_capture_wait
short_description: Wait for the end of a capture session and show its progress
description:
  - Waits until a capture session has ended. Meanwhile it shows how many packets of each container were captured, how many of these its ring has
    overwritten, how many bytes its files have, and how many packets were dropped.
  - Of a session that waits for its O(nettap.containers.container_capture#module:start_at), it shows until when.
  - The task retries a connection that breaks; the capture goes on without it.
  - When the play is interrupted (C(Ctrl-C), or a cancelled job), the session is stopped and, with O(fetch_on_interrupt),
    fetched before the play ends. A session that another run waits for, too, is not stopped.
  - Until the session has ended, other tasks stop or remove it only with O(nettap.containers.container_capture#module:force).
version_added: 0.1.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.action
  - nettap.containers._attributes.actiongroup
  - nettap.containers._session
requirements:
  - root on the host (C(become=true))
attributes:
  action_group:
    membership:
      - nettap.containers.captures
  check_mode:
    support: full
    details:
      - In check mode there may be no session; the task returns at once.
  diff_mode:
    support: N/A
    details:
      - Does not modify state.
  idempotent:
    support: full
options:
  interval:
    description:
      - Seconds between two queries, and so between two lines of progress.
    type: float
    default: 5
  patience:
    description:
      - Seconds for which the task retries an unreachable host before it fails.
    type: float
    default: 120
  owner:
    description:
      - The run that the session must belong to, see O(nettap.containers.container_capture#module:owner). The session is then found also where
        another session has taken its name since.
    type: str
    version_added: 0.2.0
  fetch_on_interrupt:
    description:
      - Options of M(nettap.containers.container_capture_fetch) with which to fetch the session when the play is
        interrupted. If this is not set, the session is stopped and stays on the host.
    type: dict
    suboptions:
      dest:
        description:
          - Folder on the controller.
        type: str
        default: captures
      merge:
        description:
          - Whether to fetch one pcap for each segment or one pcapng for the host.
        type: str
        choices: [segment, host]
        default: host
      compress:
        description:
          - Whether to compress the files with gzip.
        type: bool
        default: false
      remove:
        description:
          - Whether to delete the session on the host once it is fetched.
        type: bool
        default: false
      dest_lasts:
        description:
          - Whether the files in O(fetch_on_interrupt.dest) outlive the run of Ansible. V(false) keeps the session on the host in spite of
            O(fetch_on_interrupt.remove); a message says so.
          - By default it is V(false) for a folder that is known to go with the job, in AWX and Automation Controller the private data folder
            (E(AWX_PRIVATE_DATA_DIR)), which the project's folder is in, and what is in the job's container only. Set it to V(true) where a later task
            brings the files to another place.
        type: bool
        version_added: 0.2.0
  waiter:
    description:
      - The process that waits, and for how many seconds it promises to ask again. Set by the action plugin; not for use in a task.
    type: dict
seealso:
  - module: nettap.containers.container_capture
"""

EXAMPLES = r"""
- name: Wait for the end of the capture, and fetch it if the play is interrupted
  nettap.containers.container_capture_wait:
    name: shop
    fetch_on_interrupt:
      dest: /srv/evidence
"""

RETURN = r"""
capture:
  description: The session with its final figures, as M(nettap.containers.container_capture_info) returns it; null in check mode.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_wait import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._capture import _waiting
from ansible_collections.nettap.containers.plugins.module_utils._capture._listing import Listing
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError


def main() -> None:
    """Run the module: look at the session for the action plugin, which gives waiter, and record that it waits."""
    module = AnsibleModule(argument_spec={**SPEC["argument_spec"], "waiter": {"type": "dict"}}, supports_check_mode=True)
    params = module.params
    if not params["waiter"]:
        module.fail_json(msg="Its action plugin, which does the waiting, was not run: call it by its full name, nettap.containers.container_capture_wait.")
    try:
        captures = Listing(params["path"]).about(params["name"], params["owner"])
    except NettapError as error:
        module.fail_json(msg=str(error))
    others = [_waiting.look(capture["path"], params["owner"], params["waiter"], capture["status"] == "running") for capture in captures]
    module.exit_json(changed=False, captures=captures, awaited_by_others=any(others))


if __name__ == "__main__":
    main()
