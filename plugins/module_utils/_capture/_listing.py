# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listing of sessions. It is apart from _control.py, so that a task that only lists sends a third of the code to the host."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _session, _storage
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import check_name
from ansible_collections.nettap.containers.plugins.module_utils._errors import StorageError


class Listing:
    """The capture sessions of this host under one storage path."""

    def __init__(self, path: str) -> None:
        self.storage = _storage.Storage(path)

    def about(self, name: str | None = None, owner: str | None = None) -> list[dict[str, t.Any]]:
        """Return all sessions, or the one of that name (and that owner, where one is given), with live figures; [] if there is none."""
        if name is not None:
            check_name(name)
            if owner is not None:
                return self._about_own(name, owner)
        found = (self._about(known) for known in self.storage.names() if name in (None, known))
        return [told for told in found if told]  # a session may have been removed meanwhile

    def _about_own(self, name: str, owner: str) -> list[dict[str, t.Any]]:
        while True:
            found = self.storage.find(name, owner)
            if found is None:
                return []
            told = self._about(found)
            if told.get("owner") == owner:  # else the session was renamed meanwhile
                return [told]

    def _about(self, name: str) -> dict[str, t.Any]:
        directory = self.storage.directory(name)
        try:
            session = _storage.load(directory)
        except StorageError as error:
            unknown = dict.fromkeys(("owner", "started_at", "stopped_at"))
            return {"name": name, "status": "failed", "path": directory, **unknown, "error": str(error), "segments": []}
        return _session.tell(directory, session) if session else {}
