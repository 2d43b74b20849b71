#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: what is steered on a host, and how it fares."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_steering_info
short_description: Tell which containers are steered through a dataplane, and how they fare
description:
  - Tells of each steered interface whether its traffic goes through the engine or past it, and how many packets have gone each way, and of the
    dataplane whether its engine forwards.
  - Everything is read from the kernel when it is asked for.
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
- name: How do the steered containers fare?
  nettap.containers.container_steering_info:
  register: protected
"""

RETURN = r"""
steering:
  description:
    - The steered interfaces, as RV(nettap.containers.container_steering#module:steering) has them.
    - The status V(bypassed) is also that of an interface whose traffic the watchdog lets past a dead engine, V(gone) that of a container which has
      ended and will be cleared up, V(lost) that of one whose dataplane was destroyed.
  returned: always
  type: list
  elements: dict
dataplane:
  description: The dataplane, as RV(nettap.containers.container_dataplane#module:dataplane) has it, empty where there is none.
  returned: always
  type: dict
watchdog:
  description: What the watchdog says; empty where nothing was steered yet.
  returned: always
  type: dict
  contains:
    running:
      description: Whether it watches.
      type: bool
    healthy:
      description: Whether the engine forwards.
      type: bool
    reason:
      description: What it saw last.
      type: str
    since:
      description: When it saw it, UTC.
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
