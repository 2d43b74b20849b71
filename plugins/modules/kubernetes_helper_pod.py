#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin; nothing of it runs but the modules of kubernetes.core."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_helper_pod
short_description: Make privileged helper pods on nodes of a Kubernetes cluster, and delete them
description:
  - A helper pod is privileged, in the node's network and PID namespaces, and has the node's C(/run). What runs in it, over the connection
    C(kubernetes.core.kubectl), sees the node's containers as root on the node does.
  - It ends by itself after O(deadline). Helper pods that have ended, or whose run of Ansible has ended on this same machine, are found
    by label and told to end before new ones are made.
  - When the run of Ansible ends before it has deleted its helper pods - interrupted, cancelled or killed - a process that was left behind
    to watch over it deletes them, once tasks that still fetch captures are done. For this the controller must be a Linux machine, and
    must itself go on - a container that is stopped with everything in it does not, and there remains O(deadline).
  - Runs on the controller, C(localhost), through C(kubernetes.core.k8s) and C(kubernetes.core.k8s_info).
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.action
  - nettap.containers._attributes.actiongroup
  - nettap.containers._kubernetes
requirements:
  - kubectl on the controller
  - C(python3) and C(tcpdump) in the image, and what else M(nettap.containers.container_capture) needs
attributes:
  action_group:
    membership:
      - nettap.containers.kubernetes
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - V(absent) is; V(present) makes new pods each time, since they belong to one run of Ansible.
options:
  state:
    description:
      - V(present) makes a helper pod on each O(node), and returns when all run and answer. When one cannot, none is left.
      - V(absent) deletes the pod O(name), or all of O(run), or without either all that nobody needs any more.
    type: str
    choices: [present, absent]
    default: present
  namespace:
    description:
      - Namespace of the helper pods. It must admit privileged pods (see the Pod Security Standards).
    type: str
    default: default
  node:
    description:
      - Names of the nodes.
      - Required with O(state=present).
    type: list
    elements: str
  image:
    description:
      - Image of the helper pods.
      - Required with O(state=present).
    type: str
  image_pull_policy:
    description:
      - When the node pulls the image.
    type: str
    choices: [Always, IfNotPresent, Never]
    default: IfNotPresent
  image_pull_secrets:
    description:
      - Names of secrets with which the image is pulled.
    type: list
    elements: str
  service_account:
    description:
      - Service account of the pods, where one decides what they may be. None of its tokens is given to them.
    type: str
  python:
    description:
      - Path of Python in the image. It is run once in each pod, so that a missing right or program is told at once.
    type: str
    default: /usr/bin/python3
  deadline:
    description:
      - Seconds after which a helper pod ends by itself, whatever happens.
    type: int
    default: 3600
  start_timeout:
    description:
      - Seconds in which the helper pods must run.
    type: int
    default: 120
  name:
    description:
      - For O(state=absent), the pod.
    type: str
  run:
    description:
      - For O(state=absent), the run as RV(run) told it.
    type: str
  guard:
    description:
      - For O(state=absent), the process as RV(guard) told it; it is ended with the last pod of the run.
    type: int
seealso:
  - module: nettap.containers.kubernetes_pods_info
"""

EXAMPLES = r"""
- name: Make a helper pod
  nettap.containers.kubernetes_helper_pod:
    node: [worker-1]
    image: registry.example.org/nettap-helper:1
  delegate_to: localhost
  register: helpers

- name: Delete what earlier runs have left
  nettap.containers.kubernetes_helper_pod:
    state: absent
  delegate_to: localhost
"""

RETURN = r"""
pods:
  description: The helper pods; none in check mode.
  returned: O(state=present)
  type: list
  elements: dict
  contains:
    name:
      description: The pod's name.
      type: str
    namespace:
      description: Its namespace.
      type: str
    container:
      description: Its container.
      type: str
    node:
      description: Its node.
      type: str
run:
  description: What the pods of this run have in common, the value of their label C(nettap.containers/run).
  returned: O(state=present)
  type: str
guard:
  description: PID of the process that deletes the pods if this run of Ansible does not; null where there cannot be one, and in check mode.
  returned: O(state=present)
  type: int
orphans:
  description: Helper pods of earlier runs that were told to end.
  returned: O(state=present)
  type: list
  elements: str
deleted:
  description: The pods that were deleted.
  returned: O(state=absent)
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes_helper_pod import SPEC


def main() -> None:
    """Fail: the work is the action plugin's."""
    module = AnsibleModule(**SPEC, supports_check_mode=True)
    module.fail_json(msg="Its action plugin, which asks the API, was not run: call it by its full name, nettap.containers.kubernetes_helper_pod.")


if __name__ == "__main__":
    main()
