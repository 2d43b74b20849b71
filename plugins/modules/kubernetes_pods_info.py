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
  - Named pods must run. Pods that O(label_selectors) or O(deployment) find and that do not run are skipped with a warning. It is an error if none
    of them runs.
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
      - Namespace of the pods; V(*) means all namespaces.
    type: str
    default: default
  pod:
    description:
      - Names of the pods, each C(NAME), C(NAMESPACE/NAME) or C(NAMESPACE/NAME/CONTAINER).
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
      - The deployment whose pods to find.
    type: str
  container:
    description:
      - With O(label_selectors) or O(deployment), select only containers of these names. The containers of a pod share its network, so
        nothing is missed without this option.
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
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes_pods_info import SPEC


def main() -> None:
    """Fail, because the action plugin does the work."""
    module = AnsibleModule(**SPEC, supports_check_mode=True)
    module.fail_json(msg="Its action plugin, which asks the API, was not run: call it by its full name, nettap.containers.kubernetes_pods_info.")


if __name__ == "__main__":
    main()
