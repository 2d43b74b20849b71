#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin, which runs only modules of kubernetes.core."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_helper_pod
short_description: Make privileged helper pods on nodes of a Kubernetes cluster, and delete them
description:
  - A helper pod is privileged, in the node's network and PID namespaces, and has the node's C(/run). Tasks that run in it, over the connection
    C(kubernetes.core.kubectl), see the node's containers as root on the node does.
  - It ends by itself after O(deadline). Helper pods that have ended, or whose run of Ansible has ended on this same machine, are found
    by label, and their deletion is requested before new ones are made.
  - When the run of Ansible ends before it has deleted its helper pods (interrupted, cancelled or killed), a guard process on the controller
    deletes them, once tasks that still fetch captures are done. For this the controller must be a Linux machine that goes on running. A container
    that is stopped with all its processes does not, and only O(deadline) remains there.
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
  - C(python3), C(tcpdump) and the other requirements of M(nettap.containers.container_capture) in the image; with O(enter_node) only C(nsenter)
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
      - V(absent) is idempotent. V(present) makes new pods each time, since they belong to one run of Ansible.
options:
  state:
    description:
      - V(present) makes a helper pod on each O(node), and returns when all run and answer. When one cannot, all are deleted.
      - V(absent) deletes the pod O(name), or all pods of O(run). Without either, it deletes all that are no longer needed.
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
      - Names of the secrets to pull the image with.
    type: list
    elements: str
  service_account:
    description:
      - Service account of the pods, where the cluster admits privileged pods by account. The pods get none of its tokens.
    type: str
  python:
    description:
      - Path of Python in the image, or with O(enter_node) on the node. It is run once over each pod, so that a missing right or program is
        reported at once.
    type: str
    default: /usr/bin/python3
  enter_node:
    description:
      - Whether tasks are to run on the node itself, by the become method C(nettap.containers.node), and not in the pod.
    type: bool
    default: false
  deadline:
    description:
      - Seconds after which a helper pod ends by itself, whatever happens.
    type: int
    default: 3600
  start_timeout:
    description:
      - Seconds within which the helper pods must run.
    type: int
    default: 120
  name:
    description:
      - For O(state=absent), the name of the pod.
    type: str
  run:
    description:
      - For O(state=absent), the run, as RV(run) returned it.
    type: str
  guard:
    description:
      - For O(state=absent), the guard process, as RV(guard) returned it. It is ended with the last pod of the run.
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

- name: Delete the helper pods that earlier runs have left
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
      description: Namespace of the pod.
      type: str
    container:
      description: Container of the pod.
      type: str
    node:
      description: Node of the pod.
      type: str
run:
  description: The value of the label C(nettap.containers/run), which the pods of this run share.
  returned: O(state=present)
  type: str
guard:
  description: PID of the process that deletes the pods if this run of Ansible does not; null where there can be no such process, and in check mode.
  returned: O(state=present)
  type: int
orphans:
  description: Helper pods of earlier runs whose deletion was requested.
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
    """Fail, because the action plugin does the work."""
    module = AnsibleModule(**SPEC, supports_check_mode=True)
    module.fail_json(msg="Its action plugin, which asks the API, was not run: call it by its full name, nettap.containers.kubernetes_helper_pod.")


if __name__ == "__main__":
    main()
