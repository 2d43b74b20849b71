# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of container_capture_stream."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arguments._session import SESSION

SPEC: dict[str, t.Any] = {
    "argument_spec": {
        **SESSION,
        "dest": {"type": "str"},
        "argv": {"type": "list", "elements": "str"},
        "format": {"type": "str", "choices": ["pcapng", "pcap"], "default": "pcapng"},
        "from_start": {"type": "bool", "default": True},
        "on_close": {"type": "str", "choices": ["keep", "stop", "remove"], "default": "keep"},
        "patience": {"type": "float", "default": 120},
    },
    "mutually_exclusive": [("dest", "argv")],
    "required_one_of": [("dest", "argv")],
}
