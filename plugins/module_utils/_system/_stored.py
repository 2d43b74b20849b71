# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dataclasses kept as JSON files: written with a version, and read also when another release wrote them."""

from __future__ import annotations

import dataclasses
import typing as t


def content(record: t.Any, version: int) -> dict[str, t.Any]:
    """Return the JSON object of a dataclass. The version rises when an older release would misread the object."""
    return {"version": version, **dataclasses.asdict(record)}


def known(kind: type, stored: t.Any, version: int | None = None) -> dict[str, t.Any]:
    """Return those values of a JSON object that are fields of a dataclass.

    The dataclass has defaults for the fields that an older release did not write. version is the newest that this release
    understands. Only the outermost object has a version, and objects written before the first version have none.
    Raise ValueError.
    """
    if not isinstance(stored, dict):
        raise ValueError(f"it holds {type(stored).__name__} instead of an object")
    if version is not None and stored.get("version", 0) > version:
        raise ValueError(f"a newer release of nettap.containers wrote it, in version {stored['version']}; this one knows version {version}")
    fields = dataclasses.fields(kind)
    missing = [one.name for one in fields if one.name not in stored and one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return {one.name: stored[one.name] for one in fields if one.name in stored}
