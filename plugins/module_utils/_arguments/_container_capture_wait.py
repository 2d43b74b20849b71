# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of container_capture_wait."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_fetch import TRANSFER
from ansible_collections.nettap.containers.plugins.module_utils._arguments._session import OWNER, SESSION

SPEC: dict[str, t.Any] = {
    "argument_spec": {
        **SESSION,
        **OWNER,
        "interval": {"type": "float", "default": 5},
        "patience": {"type": "float", "default": 120},
        "fetch_on_interrupt": {"type": "dict", "options": TRANSFER},
    }
}
