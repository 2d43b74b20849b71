#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin, which runs only container_capture_info on the host."""

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
    fetched before the play ends.
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


def main() -> None:
    """Fail, because the action plugin does the work."""
    module = AnsibleModule(**SPEC, supports_check_mode=True)
    module.fail_json(msg="Its action plugin, which does the waiting, was not run: call it by its full name, nettap.containers.container_capture_wait.")


if __name__ == "__main__":
    main()
