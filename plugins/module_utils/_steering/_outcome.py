# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a task on steering, and the reasons for its changes."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord

_NAMED_PLACES = 3  # most interfaces that a reason names


@dataclasses.dataclass
class SteeringOutcome:
    """The result of a task on steering.

    reasons maps each reason to the interfaces that it concerns. interfaces are as container_steering returns them. before and after are the
    filters. warnings are for the user.
    """

    reasons: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    interfaces: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    before: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    after: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def because(self, reason: str, record: SteeringRecord) -> None:
        """Record the reason why an interface is changed."""
        self.reasons.setdefault(reason, []).append(record.where())

    @property
    def reason(self) -> str | None:
        """Return one sentence that says why something was changed, None where nothing was."""
        told = []
        for reason, places in self.reasons.items():
            more = f" and {len(places) - _NAMED_PLACES} more" if len(places) > _NAMED_PLACES else ""
            told.append(f"{', '.join(places[:_NAMED_PLACES])}{more}: {reason}")
        return "; ".join(told) + "." if told else None


def difference(before: SteeringRecord | None, record: SteeringRecord) -> str:
    """Return the difference between an interface's present steering and the wanted one."""
    if before is None:
        return "not steered"
    if before.status != "steered":
        return standing(before)
    options = {name: (getattr(before, name), getattr(record, name)) for name in ("ipv6", "fail_mode", "engine_socket")}
    options["drop"] = (" and ".join(before.drop) or "nothing", " and ".join(record.drop) or "nothing")
    found = [f"{name} was {old}, not {new}" for name, (old, new) in options.items() if old != new]
    if before.deadline != record.deadline:
        found.append("not confirmed")
    return ", ".join(found) or "its filters were not in place"


def standing(record: SteeringRecord) -> str:
    """Return the present state of an interface's steering: steered, bypassed or neither."""
    return record.status if record.status in ("steered", "bypassed") else "left half done by a task that was killed"
