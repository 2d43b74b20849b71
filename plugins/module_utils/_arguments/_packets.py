# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options for the packets to capture, and the part of each to keep. plugins/doc_fragments/_packets.py documents these options."""

from __future__ import annotations

import typing as t

PACKETS: dict[str, dict[str, t.Any]] = {
    "filter": {"type": "str", "default": ""},
    "snaplen": {"type": "int", "default": 0},
    "packet_count": {"type": "int", "default": 0},
    "promiscuous": {"type": "bool", "default": False},
}
