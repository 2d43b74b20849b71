#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the steered interfaces of a host and their state."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_steering_info
short_description: Show which containers are steered through a dataplane, and their state
description:
  - Returns for each steered interface whether its traffic passes through the engine or bypasses it, and how many packets have passed in each direction.
  - Returns for the dataplane whether its engine forwards.
  - Every value is read from the kernel when the task runs.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
requirements:
  - Linux 5.3 or newer, Python 3.9 or newer and pyroute2 on the host
  - root on the host (C(become=true))
attributes:
  action_group:
    membership:
      - nettap.containers.dataplanes
  check_mode:
    support: full
  diff_mode:
    support: N/A
  idempotent:
    support: full
options:
  dataplane_netns:
    description:
      - The name of the dataplane.
    type: str
    default: nettap
seealso:
  - module: nettap.containers.container_steering
"""

EXAMPLES = r"""
- name: Show the state of the steered containers
  nettap.containers.container_steering_info:
  register: protected
"""

RETURN = r"""
steering:
  description:
    - The steered interfaces, as in RV(nettap.containers.container_steering#module:steering).
    - The status V(bypassed) is also that of an interface for which the watchdog bypasses a dead engine. V(gone) means that the container has
      ended and its record will be cleared up. V(lost) means that the dataplane was destroyed.
  returned: always
  type: list
  elements: dict
dataplane:
  description: The dataplane, as in RV(nettap.containers.container_dataplane#module:dataplane); empty where there is none.
  returned: always
  type: dict
watchdog:
  description: State of the watchdog; empty where nothing was steered yet.
  returned: always
  type: dict
  contains:
    running:
      description: Whether the watchdog runs.
      type: bool
    healthy:
      description: Whether the engine forwards.
      type: bool
    reason:
      description: The watchdog's last observation.
      type: str
    since:
      description: Time of that observation, UTC.
      type: str
      sample: "2026-01-31T03:00:00.000123Z"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._steering import _control, _lifecycle
from ansible_collections.nettap.containers.plugins.module_utils._steering._watchdog import _watch
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"dataplane_netns": {"type": "str", "default": "nettap"}}, supports_check_mode=True)
    name = module.params["dataplane_netns"]
    try:
        said = _watch.read(name)
        watchdog = {
            "running": _watch.watching(name), "healthy": said["healthy"], "reason": said["reason"], "since": timestamp(said["since"]),
        } if said else {}
        module.exit_json(changed=False, steering=_control.describe_all(name), dataplane=_lifecycle.describe(name), watchdog=watchdog)
    except NettapError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
