# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options for reaching the Kubernetes API. plugins/doc_fragments/_kubernetes.py documents these options."""

from __future__ import annotations

import typing as t

# All other settings (host, token, certificates) are in the kubeconfig or, as K8S_AUTH_*, in the environment, which kubectl's connection reads too.
KUBERNETES: dict[str, dict[str, t.Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "api_timeout": {"type": "int", "default": 30},
}
