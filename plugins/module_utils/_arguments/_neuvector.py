# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options for asking a NeuVector dp. plugins/doc_fragments/_neuvector.py documents these options."""

from __future__ import annotations

import typing as t

NEUVECTOR: dict[str, dict[str, t.Any]] = {
    "socket": {"type": "path", "default": "/tmp/dp_listen.sock"},
    "timeout": {"type": "float", "default": 10},
    "dataplane_netns": {"type": "str"},
}
