# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of container_capture_inside."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arguments._packets import PACKETS
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import LEAST_BUFFER

SPEC: dict[str, t.Any] = {
    "argument_spec": {
        **PACKETS,
        "dest": {"type": "str", "default": "captures"},
        "interface": {"type": "str", "default": "any"},
        "duration": {"type": "float", "default": 30},
        "buffer_size": {"type": "int", "default": LEAST_BUFFER},
        "tcpdump": {"type": "str"},
        "upload_to": {"type": "list", "elements": "str", "default": ["/tmp", "/var/tmp", "/run", "/dev/shm", "/"]},
    }
}
