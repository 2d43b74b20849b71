# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Become plugin: root on the node of a cluster, from within the helper pod there."""

from __future__ import annotations

DOCUMENTATION = r"""
name: node
short_description: Become root on the node of a Kubernetes cluster, from within a helper pod
description:
  - Runs a task on the node itself, in the namespaces and the cgroups of the node's first process, over the connection to a helper pod. So what
    the task starts goes on when the pod has ended.
  - The role P(nettap.containers.pod_node_access#role) sets this method for its hosts, with
    O(nettap.containers.pod_node_access#role:main:pod_node_access_enter_node).
  - The helper pod needs C(nsenter), the node needs Python.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
options:
  become_user:
    description:
      - The user to become; only root.
    default: root
    keyword:
      - name: become_user
    vars:
      - name: ansible_become_user
"""

import typing as t

from ansible.plugins.become import BecomeBase

from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _helper_pod


class BecomeModule(BecomeBase):
    """The way from a helper pod to its node."""

    name = "nettap.containers.node"

    def build_become_command(self, cmd: str, shell: t.Any) -> str:
        """Return the command that runs cmd on the node."""
        super().build_become_command(cmd, shell)
        return _helper_pod.on_node(f"exec {self._build_success_command(cmd, shell)}") if cmd else cmd
