# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The options that name the capture session."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of plugins/module_utils/_arguments/_session.py."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name of the session on that host, 1 to 64 letters, digits, dots, underscores and hyphens, of which a letter or a digit comes first.
    type: str
    default: default
  path:
    description:
      - Folder on the host that holds the sessions. It must belong to root alone, and no part of it may be a symbolic link.
    type: path
    default: /var/lib/nettap/captures
"""
