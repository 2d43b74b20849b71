# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services whose starter was killed before anything ran."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._background import _service


def test_half_written_files_of_a_killed_starter_go_too(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "services"
    monkeypatch.setattr(_service, "_FOLDER", str(folder))
    monkeypatch.setattr(_service, "_systemd", lambda: False)
    folder.mkdir()
    for name in ("engine.pyz", "engine.pyz.new", "engine.json.new", "other.pyz"):
        (folder / name).touch()
    assert not _service.Service("engine").stop() and [path.name for path in folder.iterdir()] == ["other.pyz"]
    (folder / "other.pyz").rename(folder / "other.pyz.new")
    assert not _service.Service("other").stop() and not folder.exists()
