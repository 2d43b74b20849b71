# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several tasks for one dp, each with containers of its own; and what is refused because dp would not hold it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _policy as model
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _refusal
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._joining import joined

Config = dict[str, t.Any]
# The web server's MAC comes after the client's, so that order of arrival and order of MACs differ.
WEB: Config = {"mac": "02:42:0a:63:00:09", "tag_mac": "4e:65:75:56:00:01", "addresses": ["10.99.0.9"]}
CLI: Config = {"mac": "02:42:0a:63:00:02", "tag_mac": "4e:65:75:56:00:02", "addresses": ["10.99.0.2"]}
PORT_80 = [{"action": "allow", "source": "10.99.0.1", "port": "80"}, {"action": "deny", "port": "80"}]
PORT_22 = [{"action": "deny", "port": "22"}]


def task(config: Config, workloads: list[Config], policy: list[Config], **more: t.Any) -> Config:
    options = {"service_port": "vth", "workloads": workloads, "policy": policy, "internal_networks": ["10.99.0.1/24"], **more}
    return model.merged(config, joined(config, options))


def rules(config: Config, workload: Config) -> list[tuple[str, str]]:
    return [(rule["action"], rule["port"]) for rule in config["policy"] if workload["mac"] in rule["workloads"]]


def test_each_keeps_its_own_policy() -> None:
    both = task(task(dict(model.EMPTY), [WEB], PORT_80), [CLI], PORT_22)
    assert rules(both, WEB) == [("allow", "80"), ("deny", "80")] and rules(both, CLI) == [("deny", "22")]
    assert len({rule["id"] for rule in both["policy"]}) == 3, "each rule has a number of its own"
    assert task(both, [WEB], PORT_80) == both == task(both, [CLI], PORT_22), "the same again"
    changed = task(both, [WEB], PORT_80[1:])
    assert rules(changed, WEB) == [("deny", "80")] and rules(changed, CLI) == [("deny", "22")]


def test_one_of_several_gets_another_policy() -> None:
    both = task(dict(model.EMPTY), [WEB, CLI], PORT_80)
    assert task(both, [CLI, WEB], PORT_80) == both
    apart = task(both, [CLI], PORT_22)
    assert rules(apart, WEB) == [("allow", "80"), ("deny", "80")] and rules(apart, CLI) == [("deny", "22")]


def test_a_rule_for_all_stays_with_the_others() -> None:
    plain = model.merged(dict(model.EMPTY), {"service_port": "vth", "workloads": [WEB], "policy": PORT_22})
    both = task(plain, [CLI], PORT_80)
    assert rules(both, WEB) == [("deny", "22")] and rules(both, CLI) == [("allow", "80"), ("deny", "80")]


def test_networks_are_added() -> None:
    web = task(dict(model.EMPTY), [WEB], [])
    both = task(web, [{**CLI, "addresses": ["172.17.0.2"]}], [], internal_networks=["172.17.0.1/16"])
    assert both["internal_networks"] == ["10.99.0.0/24", "172.17.0.0/16"] == task(both, [WEB], [])["internal_networks"]
    assert task(web, [CLI], [], internal_networks=None)["internal_networks"] == ["10.99.0.0/24"]
    assert task(web, [CLI], [], internal_networks=[])["internal_networks"] == [], "all are internal"


@pytest.mark.parametrize(("name", "value", "words"), [("default_action", "deny", "It is allow for"), ("icmp_policy", True, "It is False for"),
                                                      ("service_port", "vth9", "It is vth for")])
def test_what_is_one_for_all(name: str, value: t.Any, words: str) -> None:
    web = task(dict(model.EMPTY), [WEB], [])
    with pytest.raises(DataplaneError, match=f"{name} holds for all workloads of one dp. {words} {WEB['mac']}, not {value}: give the same, or"):
        task(web, [CLI], [], **{name: value})
    assert task(web, [WEB], [], **{name: value})[name] == value, "no other is there"


def test_a_workload_outside_of_the_networks_is_refused() -> None:
    with pytest.raises(DataplaneError, match=r"has the address 10.99.0.9, which is in none of the internal_networks \(10.0.0.0/24, 192.0.2.0/24\)"):
        _refusal.outside(task(dict(model.EMPTY), [WEB], [], internal_networks=["10.0.0.0/24", "192.0.2.0/24"]))
    for networks in ([], ["10.99.0.0/29", "10.99.0.8/29"]):
        _refusal.outside(task(dict(model.EMPTY), [WEB], [], internal_networks=networks))


def test_what_is_steered_is_not_cut_off() -> None:
    both = task(dict(model.EMPTY), [WEB, CLI], [])
    steered = {WEB["mac"]: "eth0 of web"}
    for lost in ({**both, "workloads": both["workloads"][:1]}, {**both, "service_port": "vth9"}, dict(model.EMPTY),
                 {**both, "workloads": [{**one, "tap": True} for one in both["workloads"]]}):  # fmt: skip
        with pytest.raises(DataplaneError, match="forward no more packets for eth0 of web, steered through it: take them out first"):
            _refusal.cut_off(both, lost, steered)
    _refusal.cut_off(both, {**both, "workloads": both["workloads"][1:]}, steered)
    _refusal.cut_off(both, dict(model.EMPTY), {})
