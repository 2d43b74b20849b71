#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the namespace, the service links and the engine of a dataplane."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_dataplane
short_description: Make or remove the dataplane that steered traffic passes through
description:
  - A dataplane is a named network namespace with service links, on which an engine such as Suricata reads
    packets and returns them. M(nettap.containers.container_steering) redirects containers' packets to it.
  - In O(mode=bridge) there are two service links, V(vth0) (on the containers' side) and V(vth1) (on the network's side). The engine copies the frames
    that it lets pass from one to the other. In O(mode=tag) there is one, V(vth), and the engine returns each frame on it.
  - This module can run the engine, as a systemd unit where systemd runs, and elsewhere by a keeper, a process that starts the engine again when it ends.
    Or the engine is started in the namespace by other means (C(ip netns exec)).
  - A reboot removes the whole dataplane.
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
      - V(present) makes the missing parts and runs O(engine), if it is given. When the engine does not forward in time, it is stopped, and the parts
        that were made are removed.
      - V(absent) stops the engine and removes links and namespace. The module refuses this while containers are steered.
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
      - The topology that the service links serve; see O(nettap.containers.container_steering#module:topology).
    type: str
    choices: [inplace, takeover]
    default: inplace
  mode:
    description:
      - How the engine forwards; see O(nettap.containers.container_steering#module:mode).
    type: str
    choices: [bridge, tag]
    default: bridge
  mtu:
    description:
      - MTU of the service links, in bytes. Interfaces with a larger MTU cannot be steered.
      - The default is 9216 in O(mode=bridge), and 2048 in O(mode=tag), which NeuVector's dp handles in its fast path.
      - It takes effect only when the links are made.
    type: int
  engine:
    description:
      - The engine's program and its arguments. The program must stay in the foreground. It is started again when it ends.
      - If this is not given, a running engine is left as it is.
    type: list
    elements: str
  private_tmp:
    description:
      - Whether O(engine) gets a C(/tmp) and a C(/dev/shm) of its own. NeuVector's dp has its sockets and its shared memory at fixed paths there, so
        two of them on one host need this.
      - On the host these folders are C(/run/nettap/private/NAME/tmp) and C(/run/nettap/private/NAME/shm), with the O(name) of the dataplane.
        V(absent) removes them. C(/dev/shm/dp_mnt.shm), without which dp does not start, is there.
    type: bool
    default: false
    version_added: 0.2.0
  restart:
    description:
      - Whether to start O(engine) again even if it runs, such as after a change of its configuration.
      - Before an engine is stopped, the traffic of the steered containers is sent past it, unless they are steered with C(fail_mode=closed).
    type: bool
    default: false
  engine_timeout:
    description:
      - Seconds to wait, once O(engine) was started, until frames come through it. V(0) does not wait.
      - In O(mode=tag) an engine forwards only for the containers that it was configured for, so the module waits only for its process.
    type: float
    default: 60
  engine_socket:
    description:
      - Path of NeuVector dp's control socket. If it is given, O(engine) is up once dp answers there, because dp reads the service link only when
        M(nettap.containers.neuvector_dataplane) has configured it.
    type: path
seealso:
  - module: nettap.containers.container_steering
  - module: nettap.containers.container_steering_info
"""

EXAMPLES = r"""
- name: Make the dataplane and run Suricata in it
  nettap.containers.container_dataplane:
    engine: [suricata, -c, /etc/nettap/suricata/nettap/suricata.yaml, --af-packet]

- name: Remove the dataplane
  nettap.containers.container_dataplane:
    state: absent
"""

RETURN = r"""
dataplane:
  description: The dataplane; empty where there is none (any more).
  returned: always
  type: dict
  contains:
    name:
      description: Name of the dataplane.
      type: str
    netns:
      description: Path and inode number of its network namespace; the number is null in check mode if the namespace is to be made.
      type: dict
    topology:
      description: The topology that the service links serve.
      type: str
    mode:
      description: How the engine forwards.
      type: str
    mtu:
      description: MTU of the service links in bytes.
      type: int
    links:
      description: The service links, the one on the containers' side first, with the names and indices of both ends; indices are null
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
      description: The place of the engine's output.
      type: str
reason:
  description: Why a change was made, or would be in check mode; it describes the state that was found.
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
            "private_tmp": {"type": "bool", "default": False},
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
                params["name"], params["topology"], params["mode"], mtu=params["mtu"], engine=params["engine"], private=params["private_tmp"],
                restart=params["restart"], timeout=params["engine_timeout"], control=params["engine_socket"], check=module.check_mode,
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
