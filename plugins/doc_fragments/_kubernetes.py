# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The options of the modules that ask the Kubernetes API."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of plugins/module_utils/_arguments/_kubernetes.py."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of a kubeconfig file on the controller. Without it, the file that the environment names (E(K8S_AUTH_KUBECONFIG), E(KUBECONFIG)),
        the account of the pod that Ansible runs in, or C(~/.kube/config) is used.
      - Host, token and certificates are taken from there, or from the other variables of C(kubernetes.core), E(K8S_AUTH_HOST),
        E(K8S_AUTH_API_KEY) and so on, which both its modules and its connection plugin read.
    type: path
  context:
    description:
      - Context of the kubeconfig file to use instead of the file's current one.
    type: str
  api_timeout:
    description:
      - Seconds that each answer of the API may take.
    type: int
    default: 30
requirements:
  - the collection C(kubernetes.core) on the controller
  - the library C(kubernetes) for the Python of the controller
"""
