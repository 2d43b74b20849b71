# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that name the capture session. plugins/doc_fragments/_session.py documents these options."""

from __future__ import annotations

import typing as t

SESSION: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "default": "default"},
    "path": {"type": "path", "default": "/var/lib/nettap/captures"},
}
# The options of those that work for one run.
OWNER: dict[str, dict[str, t.Any]] = {"owner": {"type": "str"}}
