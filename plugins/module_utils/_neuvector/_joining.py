# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several tasks that configure one dp, each for workloads of its own."""

from __future__ import annotations

import contextlib
import ipaddress
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._policy import Config, Rule
from ansible_collections.nettap.containers.plugins.module_utils._system._names import names

_FOR_ALL = ("service_port", "default_action", "icmp_policy")  # options that dp, or this collection, holds for all workloads at once


def joined(config: Config, options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the options with all that the configuration has for workloads that the options do not name. Raise DataplaneError.

    Rules that name no workloads become rules for the workloads of the options alone. The rules of different workloads are
    independent of each other, so they are sorted by workload: the result does not depend on which task was first.
    """
    mine = {workload["mac"].lower() for workload in options.get("workloads") or []}
    if not mine:
        return dict(options)
    others = [workload for workload in config["workloads"] if workload["mac"] not in mine]
    for name in _FOR_ALL if others else ():
        if options.get(name) is not None and options[name] != config[name]:
            raise DataplaneError(f"{name} holds for all workloads of one dp. It is {config[name]} for {', '.join(one['mac'] for one in others)}, not "
                                 f"{options[name]}: give the same, or put the containers behind another dataplane with a dp of its own (dataplane_netns).")
    new: dict[str, t.Any] = {**options, "workloads": sorted([*others, *options["workloads"]], key=lambda one: str(one["mac"].lower()))}
    if options.get("policy") is not None:
        told = [{**rule, "workloads": rule.get("workloads") or sorted(mine)} for rule in options["policy"]]
        new["policy"] = sorted([*_for_others(config["policy"], others, mine), *told], key=lambda rule: sorted(rule["workloads"]))
    # No internal networks at all mean that every address is internal.
    if others and options.get("internal_networks") and config["internal_networks"]:
        given = [one for one in names(options["internal_networks"]) if _network(one) not in config["internal_networks"]]
        new["internal_networks"] = config["internal_networks"] + given
    return new


def _network(text: str) -> str:
    """Return a network as a configuration has it; what is none is refused later."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Network(text, strict=False))
    return text


def _for_others(policy: list[Rule], others: list[Config], mine: set[str]) -> list[Rule]:
    """Return the rules that hold for the others, each with their MAC addresses."""
    every = [workload["mac"] for workload in others]
    left = [{**rule, "workloads": [mac for mac in rule["workloads"] if mac not in mine] if rule["workloads"] else every} for rule in policy]
    return [rule for rule in left if rule["workloads"]]
