# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module takes is what its documentation says, and what its action plugin takes."""

from __future__ import annotations

import importlib
import types
import typing as t

import ansible_cli
import pytest
import yaml
from ansible.plugins.action import ActionBase
from ansible_cli import ROOT
from ansible_collections.nettap.containers.plugins.module_utils._arguments._session import SESSION
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked

PLUGINS = "ansible_collections.nettap.containers.plugins"
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("[!_]*.py"))
# container_capture's only measures a clock: its module does all the rest, and does it without.
ACTIONS = sorted({path.stem for path in (ROOT / "plugins/action").glob("[!_]*.py")} - {"container_capture"})
GROUPS: dict[str, list[str]] = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]

# Options without which a module is not run at all.
NEEDED: dict[str, dict[str, t.Any]] = {
    "container_capture_stream": {"argv": ["cat"]},
    "kubernetes_helper_pod": {"node": ["worker"], "image": "helper"},
    "kubernetes_pods_info": {"deployment": "web"},
}


class Asked(Exception):
    """What a module asks of AnsibleModule."""


def asked(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    """Return the arguments with which a module makes its AnsibleModule."""

    def ask(**arguments: t.Any) -> None:
        raise Asked(arguments)

    module = importlib.import_module(f"{PLUGINS}.modules.{name}")
    monkeypatch.setattr(module, "AnsibleModule", ask)
    with pytest.raises(Asked) as caught:
        module.main()
    return caught.value.args[0]


def documented(name: str) -> dict[str, t.Any]:
    """Return a module's options as its documentation and the fragments that it extends have them."""
    documentation = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION)
    options = documentation.get("options", {})
    for fragment in documentation["extends_documentation_fragment"]:
        file, dummy, part = fragment.removeprefix("nettap.containers.").partition(".")
        text = getattr(importlib.import_module(f"{PLUGINS}.doc_fragments.{file}").ModuleDocFragment, part.upper() or "DOCUMENTATION")
        added = yaml.safe_load(text)["options"]
        assert not added.keys() & options.keys(), f"{fragment} documents again what {name} does"
        options = {**options, **added}
    return options


def as_spec(options: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return documented options in the form of an argument spec."""
    spec = {name: {key: value for key, value in option.items() if key not in ("description", "version_added")} for name, option in options.items()}
    for option in spec.values():
        if "suboptions" in option:
            option["options"] = as_spec(option.pop("suboptions"))
    return spec


def comparable(spec: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return an argument spec without what documentation does not tell, and choices in one order."""
    found = {name: {key: value for key, value in option.items() if key != "no_log"} for name, option in spec.items()}
    for option in found.values():
        if "choices" in option:
            option["choices"] = sorted(option["choices"])
        if "options" in option:
            option["options"] = comparable(option["options"])
    return found


@pytest.mark.parametrize("name", MODULES)
def test_options_are_documented_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert comparable(as_spec(documented(name))) == comparable(asked(name, monkeypatch)["argument_spec"])


@pytest.mark.parametrize("name", ACTIONS)
def test_action_plugin_and_module_have_one_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save what the action plugin alone gives the module."""
    spec = importlib.import_module(f"{PLUGINS}.action.{name}").SPEC
    module = {**asked(name, monkeypatch)}
    staging = {option for option, about in documented(name).items() if "Set by the action plugin" in str(about["description"])}
    assert {option: about for option, about in module["argument_spec"].items() if option not in staging} == spec["argument_spec"]
    rules = set(module) - {"argument_spec", "supports_check_mode"}
    # Options that nobody sets exclude each other on the controller alone.
    assert {rule: module[rule] for rule in rules} == {rule: spec[rule] for rule in rules} and (not staging or not rules)


@pytest.mark.parametrize("name", ACTIONS)
def test_module_says_that_its_action_plugin_was_not_run(name: str) -> None:
    done = ansible_cli.run_module(name, NEEDED.get(name))
    assert done["failed"] and done["msg"].endswith(f" was not run: call it by its full name, nettap.containers.{name}.")


@pytest.mark.parametrize("group", GROUPS)
def test_modules_of_an_action_group_share_options(group: str) -> None:
    """A default that a play sets for a group reaches each module that has the option, and fails none that has not."""
    options = {name: {word for option, about in documented(name).items() for word in (option, *about.get("aliases", ()))} for name in MODULES}
    shared = set.intersection(*(options[name] for name in GROUPS[group]))
    assert shared and sorted(GROUPS[group]) == sorted(name for name in MODULES if shared <= options[name])


@pytest.mark.parametrize("name", MODULES)
def test_action_groups_are_documented(name: str) -> None:
    attributes = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION)["attributes"]
    told = attributes.get("action_group", {}).get("membership", [])
    assert told == [f"nettap.containers.{group}" for group, members in GROUPS.items() if name in members]


def test_paths_of_the_host_are_not_expanded_on_the_controller() -> None:
    action = ActionBase.__new__(type("Action", (ActionBase,), {"run": None}))
    action._task = types.SimpleNamespace(args={"path": "~/captures", "name": "$HOME"})
    assert checked(action, {"argument_spec": SESSION}) == {"path": "~/captures", "name": "$HOME"}
    assert SESSION["path"]["type"] == "path"
