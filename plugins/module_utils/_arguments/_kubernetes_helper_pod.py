# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of kubernetes_helper_pod."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes import KUBERNETES

SPEC: dict[str, t.Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "namespace": {"type": "str", "default": "default"},
        "node": {"type": "list", "elements": "str"},
        "image": {"type": "str"},
        "image_pull_policy": {"type": "str", "choices": ["Always", "IfNotPresent", "Never"], "default": "IfNotPresent"},
        "image_pull_secrets": {"type": "list", "elements": "str", "no_log": False},
        "service_account": {"type": "str"},
        "python": {"type": "str", "default": "/usr/bin/python3"},
        "enter_node": {"type": "bool", "default": False},
        "deadline": {"type": "int", "default": 3600},
        "start_timeout": {"type": "int", "default": 120},
        "name": {"type": "str"},
        "run": {"type": "str"},
        "guard": {"type": "int"},
        **KUBERNETES,
    },
}
