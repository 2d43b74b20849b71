# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of names as people type them into one field."""

from __future__ import annotations

import re
import typing as t


def names(given: t.Iterable[str] | None) -> list[str]:
    """Return the names in a list that Ansible has split at commas: blanks, line breaks and semicolons separate names too.

    Only for what has none of these in it: containers, pods, interfaces, nodes, addresses. Empty names are left out unless there is no other.
    """
    return _split(r"[\s;]+", given)


def lines(given: t.Iterable[str] | None) -> list[str]:
    """Return the texts in a list, one a line, blanks around them taken off: for texts that may hold blanks."""
    return _split(r"[\r\n]+", given)


def _split(separators: str, given: t.Iterable[str] | None) -> list[str]:
    given = list(given or [])
    return [part.strip() for text in given for part in re.split(separators, text) if part.strip()] or given[:1]
