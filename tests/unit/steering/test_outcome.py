# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why steering is changed, in one sentence."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord
from ansible_collections.nettap.containers.plugins.module_utils._steering._outcome import SteeringOutcome, difference

STEERED = SteeringRecord(
    runtime="docker", id="c" * 64, name="web", pid=1, started=1, netns_path="/proc/1/ns/net", inode=1, interface="eth0", ifindex=2, mac="02:00:00:00:00:01",
    mtu=1500, topology="inplace", mode="bridge", ipv6="steer", fail_mode="open", status="steered", deadline=2.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "its filters were not in place"),
        ({"ipv6": "drop"}, "ipv6 was steer, not drop"),
        ({"drop": ["link_local", "other_protocols"]}, "drop was nothing, not link_local and other_protocols"),
        ({"ipv6": "drop", "fail_mode": "closed", "deadline": None}, "ipv6 was steer, not drop, fail_mode was open, not closed, not confirmed"),
    ],
)
def test_difference_of_what_is_steered(changes: dict[str, t.Any], reason: str) -> None:
    assert difference(STEERED, dataclasses.replace(STEERED, **changes)) == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [("bypassed", "bypassed"), ("applying", "left half done by a task that was killed"), ("restoring", "left half done by a task that was killed")],
)
def test_difference_of_what_is_not(status: str, reason: str) -> None:
    assert difference(dataclasses.replace(STEERED, status=status), STEERED) == reason
    assert difference(None, STEERED) == "not steered"


def test_reason_is_one_short_sentence() -> None:
    outcome = SteeringOutcome()
    assert outcome.reason is None
    for number in range(1, 6):
        outcome.because("not steered", dataclasses.replace(STEERED, name=f"web-{number}"))
    outcome.because("bypassed", STEERED)
    assert outcome.reason == "eth0 of web-1, eth0 of web-2, eth0 of web-3 and 2 more: not steered; eth0 of web: bypassed."
