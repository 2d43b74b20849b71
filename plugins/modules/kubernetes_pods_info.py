#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of an action plugin, which runs only kubernetes.core.k8s_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_pods_info
short_description: Find pods through the Kubernetes API, and the nodes and hosts that they run on
description:
  - Looks up pods by name, by labels or by their deployment. Returns for each node which of them run there, and which host of
    the inventory that node is.
  - Runs on the controller, C(localhost), through C(kubernetes.core.k8s_info).
  - Named pods must run. Pods that a glob, O(label_selectors) or O(deployment) finds and that do not run are skipped with a warning. It is an error
    if none of them runs. A pod that is not complete yet runs as soon as one of its containers does.
  - With O(known_pods), it returns what became of pods that an earlier task has found.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.action
  - nettap.containers._attributes.actiongroup
  - nettap.containers._kubernetes
attributes:
  action_group:
    membership:
      - nettap.containers.kubernetes
  check_mode:
    support: full
    details:
      - Does not modify state.
  diff_mode:
    support: N/A
    details:
      - Does not modify state.
  idempotent:
    support: full
options:
  namespace:
    description:
      - Namespace of the pods and deployments that are given without one; V(*) means all namespaces, and so may another glob.
    type: str
    default: default
  pod:
    description:
      - Names of the pods, each C(NAME), C(NAMESPACE/NAME) or C(NAMESPACE/NAME/CONTAINER). Each part may be a glob.
      - Exactly one of O(pod), O(label_selectors) and O(deployment) is needed.
    type: list
    elements: str
  label_selectors:
    description:
      - Selectors as C(kubectl get -l) takes them, such as V(app=web) or V(tier in (front, back\)). A pod must match all of them.
    type: list
    elements: str
  deployment:
    description:
      - The deployments whose pods to find, each C(NAME) or C(NAMESPACE/NAME). Each part may be a glob.
    type: list
    elements: str
  container:
    description:
      - Select only containers of these names, which may be globs, where O(pod) does not name the container. The containers of a pod share its
        network, so nothing is missed without this option.
    type: list
    elements: str
  match_inventory:
    description:
      - Whether each node must be a host of the inventory. The host is the one whose variable O(node_variable) is the node's name, else
        the one with the node's name, else the one with the node's address as its name or as its C(ansible_host).
    type: bool
    default: true
  node_variable:
    description:
      - The host variable that holds the name of a host's node, where names and addresses of both differ.
    type: str
    default: kubernetes_node
  known_pods:
    description:
      - Pods as RV(pods) of an earlier task. The task then returns RV(changes), and RV(nodes) is empty. It is no error if no pod is there any more.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The pod, C(NAMESPACE/NAME).
        type: str
        required: true
      uid:
        description:
          - The UID of the pod.
        type: str
        required: true
      node:
        description:
          - The node of the pod.
        type: str
        required: true
  held_pods:
    description:
      - Those of O(known_pods), as C(NAMESPACE/NAME), of which nothing was missed, whatever became of them. RV(changes) does not mention them.
    type: list
    elements: str
seealso:
  - module: nettap.containers.container_capture
  - module: nettap.containers.kubernetes_helper_pod
"""

EXAMPLES = r"""
- name: Find where the pods of a deployment run
  nettap.containers.kubernetes_pods_info:
    namespace: shop
    deployment: web
  delegate_to: localhost
  register: web

- name: Find out which of them went away since then, and which came
  nettap.containers.kubernetes_pods_info:
    namespace: shop
    deployment: web
    known_pods: "{{ web.pods }}"
  delegate_to: localhost
  register: since
"""

RETURN = r"""
nodes:
  description: The nodes on which the pods run.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The node's name.
      type: str
      sample: worker-1
    address:
      description: Address of the node, as the API returns it for its pods.
      type: str
      sample: 10.0.0.11
    host:
      description: The host of the inventory that the node is; V(none) without O(match_inventory).
      type: str
      sample: worker-1.example.org
    pods:
      description: The pods on the node, as the option O(nettap.containers.container_capture#module:pod) takes them.
      type: list
      elements: str
      sample: [shop/web-7d4b9c-x2x7p]
pods:
  description: The pods that run, each once.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The pod, C(NAMESPACE/NAME).
      type: str
      sample: shop/web-7d4b9c-x2x7p
    uid:
      description: The UID of the pod, which a pod made anew under the same name does not have.
      type: str
    node:
      description: The node of the pod.
      type: str
changes:
  description:
    - Words for each of O(known_pods) that went away, and for each pod that runs and was not known.
  returned: with O(known_pods)
  type: list
  elements: str
  sample: [pod shop/db-0 went away from node worker-1 and runs anew on node worker-2]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes_pods_info import SPEC


def main() -> None:
    """Fail, because the action plugin does the work."""
    module = AnsibleModule(**SPEC, supports_check_mode=True)
    module.fail_json(msg="Its action plugin, which asks the API, was not run: call it by its full name, nettap.containers.kubernetes_pods_info.")


if __name__ == "__main__":
    main()
