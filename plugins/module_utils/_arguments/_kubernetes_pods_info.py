# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of kubernetes_pods_info."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes import KUBERNETES

SPEC: dict[str, t.Any] = {
    "argument_spec": {
        "namespace": {"type": "str", "default": "default"},
        "pod": {"type": "list", "elements": "str"},
        "label_selectors": {"type": "list", "elements": "str"},
        "deployment": {"type": "list", "elements": "str"},
        "container": {"type": "list", "elements": "str"},
        "match_inventory": {"type": "bool", "default": True},
        "node_variable": {"type": "str", "default": "kubernetes_node"},
        "known_pods": {
            "type": "list", "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "uid": {"type": "str", "required": True}, "node": {"type": "str", "required": True}},
        },
        "held_pods": {"type": "list", "elements": "str"},
        **KUBERNETES,
    },
    "mutually_exclusive": [("pod", "label_selectors", "deployment")],
}
