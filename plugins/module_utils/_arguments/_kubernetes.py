# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the Kubernetes API is reached. plugins/doc_fragments/_kubernetes.py documents these options."""

from __future__ import annotations

import typing as t

# Everything else (host, token, certificates) is in the kubeconfig, or in the environment as K8S_AUTH_*, for kubectl too.
KUBERNETES: dict[str, dict[str, t.Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "api_timeout": {"type": "int", "default": 30},
}
