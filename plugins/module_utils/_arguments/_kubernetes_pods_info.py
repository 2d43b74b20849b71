# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of kubernetes_pods_info."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes import KUBERNETES

_WAYS = ("pod", "label_selectors", "deployment")
SPEC: dict[str, t.Any] = {
    "argument_spec": {
        "namespace": {"type": "str", "default": "default"},
        "pod": {"type": "list", "elements": "str"},
        "label_selectors": {"type": "list", "elements": "str"},
        "deployment": {"type": "str"},
        "container": {"type": "list", "elements": "str"},
        "match_inventory": {"type": "bool", "default": True},
        "node_variable": {"type": "str", "default": "kubernetes_node"},
        **KUBERNETES,
    },
    "mutually_exclusive": [_WAYS],
    "required_one_of": [_WAYS],
}
