# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times as people write them."""

from __future__ import annotations

import collections.abc as c
import time

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import instant, timestamp


@pytest.fixture(name="tokyo")
def make_tokyo() -> c.Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:10z", 10),
        ("1970-01-01T00:01:00", 60),
        ("1970-01-01 00:01:00", 60),
        ("  1970-01-01T00:01:00Z ", 60),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("2026-01-31T03:00:00.250000Z", 1769828400.25),
        ("1970-01-02", 86400),
        ("0", 0),
        ("1769828400", 1769828400),
        ("1769828400.25", 1769828400.25),
        ("-1", -1),
    ],
)
def test_instant(value: str, seconds: float, tokyo: None) -> None:
    """Without a zone it is UTC, also where the host's clock shows another."""
    assert instant(value) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00.000000Z"), (1769828400.25, "2026-01-31T03:00:00.250000Z"), (0.000001, "1970-01-01T00:00:00.000001Z")],
)
def test_timestamp(seconds: float, text: str, tokyo: None) -> None:
    assert timestamp(seconds) == text and instant(text) == seconds
