# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of container_capture_fetch."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arguments._session import OWNER, SESSION

# The options for bringing a session to the controller.
TRANSFER: dict[str, dict[str, t.Any]] = {
    "dest": {"type": "str", "default": "captures"},
    "merge": {"type": "str", "choices": ["segment", "host"], "default": "host"},
    "compress": {"type": "bool", "default": False},
    "remove": {"type": "bool", "default": False},
    "dest_lasts": {"type": "bool"},
}
SPEC: dict[str, t.Any] = {"argument_spec": {**SESSION, **OWNER, **TRANSFER}}
