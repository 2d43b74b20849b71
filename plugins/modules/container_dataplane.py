#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the namespace, the service links and the engine of a dataplane."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_dataplane
short_description: Make or remove the dataplane that steered containers go through
description:
  - A dataplane is a named network namespace with service links, on which an inline engine such as Suricata reads
    packets and gives them back. M(nettap.containers.container_steering) sends containers' packets there.
  - In O(mode=bridge) there are two service links, V(vth0) (on the containers' side) and V(vth1) (on the network's side), and the engine copies what it
    lets pass from one to the other. In O(mode=tag) there is one, V(vth), and the engine gives each frame back where it came from.
  - The engine can be run by this module, as a systemd unit where systemd runs and by a process that starts it again elsewhere, or
    be started in the namespace by other means (C(ip netns exec)).
  - A reboot removes all of it.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
requirements:
  - Linux 5.3 or newer, Python 3.9 or newer, pyroute2 and iproute2 on the host
  - root on the host (C(become=true))
attributes:
  action_group:
    membership:
      - nettap.containers.dataplanes
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Not with O(restart=true).
options:
  state:
    description:
      - V(present) makes what is missing and runs O(engine), if it is given. When the engine does not come to forward, it is stopped, and what was made
        is removed.
      - V(absent) stops the engine and removes links and namespace. It is refused while containers are steered.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - The name of the dataplane and of its network namespace.
    type: str
    default: nettap
    aliases: [dataplane_netns]
  topology:
    description:
      - What the service links are for; see O(nettap.containers.container_steering#module:topology).
    type: str
    choices: [inplace, takeover]
    default: inplace
  mode:
    description:
      - How the engine reads and gives back; see O(nettap.containers.container_steering#module:mode).
    type: str
    choices: [bridge, tag]
    default: bridge
  mtu:
    description:
      - MTU of the service links, in bytes. Interfaces with a larger one cannot be steered.
      - By default 9216 in O(mode=bridge), and 2048 in O(mode=tag), which is what NeuVector's dp handles in its fast path.
      - It counts when the links are made.
    type: int
  engine:
    description:
      - The engine's program and its arguments. It stays in the foreground and is started again when it ends.
      - If this is not given, an engine that runs is left as it is.
    type: list
    elements: str
  restart:
    description:
      - Starts O(engine) anew though it runs, as after a change of its configuration.
    type: bool
    default: false
  engine_timeout:
    description:
      - Seconds to wait, once O(engine) was started, until frames come through it; V(0) does not wait.
      - In O(mode=tag) an engine forwards only what it was told of, so there only its process is waited for.
    type: float
    default: 60
  engine_socket:
    description:
      - Path of NeuVector dp's control socket. If it is given, O(engine) is up once dp answers there, for it reads the service link only when
        M(nettap.containers.neuvector_dataplane) has told it to.
    type: path
seealso:
  - module: nettap.containers.container_steering
  - module: nettap.containers.container_steering_info
"""

EXAMPLES = r"""
- name: Make the dataplane and run Suricata in it
  nettap.containers.container_dataplane:
    engine: [suricata, -c, /etc/nettap/suricata/nettap/suricata.yaml, --af-packet]

- name: Remove it
  nettap.containers.container_dataplane:
    state: absent
"""

RETURN = r"""
dataplane:
  description: The dataplane, empty where there is none (any more).
  returned: always
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    netns:
      description: Path and inode number of its network namespace; the number is null in check mode if the namespace is to be made.
      type: dict
    topology:
      description: What the service links are for.
      type: str
    mode:
      description: How the engine reads and gives back.
      type: str
    mtu:
      description: MTU of the service links in bytes.
      type: int
    links:
      description: The service links, that on the containers' side first, with the names and ifindices of both ends; indices are null
        in check mode if the links are to be made.
      type: list
      elements: dict
    engine:
      description: The engine that this module runs, as a list of program and arguments; null where it runs none.
      type: list
      elements: str
    engine_pids:
      description: The processes that read the service links.
      type: list
      elements: int
    log:
      description: Where the engine's output is.
      type: str
reason:
  description: Why something was changed, or would be in check mode, as it was found.
  returned: changed
  type: str
  sample: There was no dataplane nettap.
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._steering import _lifecycle


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str", "default": "nettap", "aliases": ["dataplane_netns"]},
            "topology": {"type": "str", "choices": ["inplace", "takeover"], "default": "inplace"},
            "mode": {"type": "str", "choices": ["bridge", "tag"], "default": "bridge"},
            "mtu": {"type": "int"},
            "engine": {"type": "list", "elements": "str"},
            "restart": {"type": "bool", "default": False},
            "engine_timeout": {"type": "float", "default": 60},
            "engine_socket": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] == "present":
            result = _lifecycle.present(
                params["name"], params["topology"], params["mode"], mtu=params["mtu"], engine=params["engine"], restart=params["restart"],
                timeout=params["engine_timeout"], control=params["engine_socket"], check=module.check_mode,
            )
        else:
            result = _lifecycle.absent(params["name"], module.check_mode)
    except NettapError as error:
        module.fail_json(msg=str(error))
    found: dict[str, t.Any] = {"changed": bool(result.reason), "dataplane": result.after}
    if result.reason:
        found["reason"] = result.reason
    if module._diff:
        found["diff"] = {"before": result.before, "after": result.after}
    module.exit_json(**found)


if __name__ == "__main__":
    main()
