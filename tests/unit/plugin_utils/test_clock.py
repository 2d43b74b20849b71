# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's clock, measured over connections that take their time; the host's true offset is never further off than the bound says."""

from __future__ import annotations

import itertools
import subprocess
import types
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.plugin_utils import _clock

NOW = 1_769_828_400.25


class Host:
    """A host whose clock is ahead by offset. Each command takes `there` seconds to the host and `back` from it: the first of the pairs, then the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, offset: float, *ways: tuple[float, float], form: str = "{:.9f}\n") -> None:
        self.now, self.offset, self.form, self.asked = NOW, offset, form, 0
        self.ways = itertools.chain(ways, itertools.repeat(ways[-1]))
        clock = types.SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now - 5000)
        monkeypatch.setattr(_clock, "time", clock)

    def __call__(self) -> str:
        self.asked += 1
        there, back = next(self.ways)
        self.now += there
        answer = self.form.format(self.now + self.offset)
        self.now += back
        return answer


@pytest.mark.parametrize("offset", [0.0, 0.04, -0.04, 0.06, 10_800.0, -10_800.0, -30.0])
@pytest.mark.parametrize(
    ("ways", "asked", "bound"),
    [
        ([(0.001, 0.001)], 1, 0.001),
        ([(0.015, 0.015)], 1, 0.015),
        ([(0.002, 0.028)], 1, 0.015),  # as uneven as can be
        ([(0.4, 0.02), (0.01, 0.01)], 2, 0.01),  # the first opens the connection
        ([(0.1, 0.1)], 3, 0.1),  # slow each time, as through an API
        ([(0.05, 0.05), (0.3, 0.3)], 3, 0.05),  # the best of three
        ([(0.08, 0.01), (0.01, 0.08)], 2, 0.01),  # one tells that it is not later, one that it is not earlier
    ],
)
def test_offset_and_bound(monkeypatch: pytest.MonkeyPatch, offset: float, ways: list[tuple[float, float]], asked: int, bound: float) -> None:
    host = Host(monkeypatch, offset, *ways)
    clock = _clock.measure(host)
    assert clock and host.asked == asked and clock["bound"] == pytest.approx(bound, abs=2e-6)
    assert abs(clock["offset"] - offset) <= clock["bound"] + 2e-6


@pytest.mark.parametrize("form", ["{:.0f}.%N\n", "{:.0f}.N\n"])
def test_date_that_knows_seconds_only(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    host = Host(monkeypatch, 3.0, (0.01, 0.01))
    host.form = form
    clock = _clock.measure(lambda: form.replace("{:.0f}", str(int(float(host().split(".")[0])))))
    assert clock and abs(clock["offset"] - 3.0) <= clock["bound"] + 2e-6 <= 0.52


@pytest.mark.parametrize("answer", ["", "sh: date: not found\n", "Tue Jan 31 03:00:00 UTC 2026\n"])
def test_host_that_does_not_tell_its_time(answer: str) -> None:
    assert _clock.measure(lambda: answer) is None


def test_clock_that_is_set_while_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, 0.0, (0.05, 0.05), (0.04, 0.04))
    offsets = iter([0.0, 5.0, 5.0])

    def ask() -> str:
        host.offset = next(offsets)
        return host()

    assert _clock.measure(ask) == {"offset": 5.0, "bound": 0.04}


def test_words_that_a_login_prints_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    host: t.Any = Host(monkeypatch, 0, (0.001, 0.001), form="Welcome to node 1.2\n{:.9f}\n")
    assert _clock.measure(host) == {"offset": 0.0, "bound": 0.001}


def test_date_of_this_machine() -> None:
    clock = _clock.measure(lambda: subprocess.run(_clock.COMMAND.split(), check=True, capture_output=True, text=True).stdout)
    assert clock and abs(clock["offset"]) <= clock["bound"] + 1e-5
