# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists as people type them, in a survey say."""

from __future__ import annotations

import pytest
from ansible.module_utils.common.validation import check_type_list
from ansible_collections.nettap.containers.plugins.module_utils._system._names import lines, names


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web", ["web"]),
        ("web,db", ["web", "db"]),
        ("web, db", ["web", "db"]),
        ("web\ndb\n", ["web", "db"]),
        ("  web ,\r\n\tdb;cache  worker ,", ["web", "db", "cache", "worker"]),
        ("shop/web-*\nshop/db/app", ["shop/web-*", "shop/db/app"]),
        (["web", "db"], ["web", "db"]),
        ([" web", "db\n"], ["web", "db"]),
        # A name that is empty is no name left out: whoever gives it gets told.
        ("", [""]),
        (" , ", [" "]),
        ([], []),
    ],
)
def test_names(text: str | list[str], wanted: list[str]) -> None:
    assert names(check_type_list(text)) == wanted == names(wanted)


def test_no_names() -> None:
    assert names(None) == [] == lines(None)


@pytest.mark.parametrize(
    ("texts", "wanted"), [(["app in (web, db)", " tier=front\n"], ["app in (web, db)", "tier=front"]), (["app=web\ntier=front"], ["app=web", "tier=front"])]
)
def test_lines(texts: list[str], wanted: list[str]) -> None:
    assert lines(texts) == wanted
