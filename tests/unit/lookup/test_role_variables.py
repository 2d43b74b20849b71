# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of roles: an empty text is not given, whatever variable it is."""

from __future__ import annotations

import pathlib
import re
import types
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_cli import ROOT
from ansible_collections.nettap.containers.plugins.lookup import role_variables

ROLES = sorted(path.parents[1].name for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
OPTIONS: dict[str, dict[str, t.Any]] = {
    role: yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"] for role in ROLES
}


def given(role: str, variables: dict[str, t.Any], **options: t.Any) -> dict[str, t.Any]:
    lookup = role_variables.LookupModule()
    lookup._templar = types.SimpleNamespace(template=lambda value: value)
    lookup.set_options = lambda **_options: None
    lookup.get_option = lambda _name: options.get("instead", {})
    return lookup.run([role], variables)[0]


@pytest.mark.parametrize(("role", "name"), [(role, name) for role in ROLES for name in OPTIONS[role]])
@pytest.mark.parametrize("empty", ["", " \n"])
def test_empty_text_is_not_given(role: str, name: str, empty: str) -> None:
    """Ansible checks a role's variables before the role runs: what it refuses, no role could take for not given."""
    if empty == "":
        assert not ArgumentSpecValidator(OPTIONS[role]).validate({name: empty}, validate_role_argument_spec=True).error_messages
    assert given(role, {name: empty}) == given(role, {})


@pytest.mark.parametrize("role", ROLES)
def test_variables_have_one_default(role: str) -> None:
    """Ansible takes those of defaults/main.yml, documentation and the lookup those of the argument_specs."""
    defaults = yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text())
    assert defaults == {name: option["default"] for name, option in OPTIONS[role].items() if "default" in option}


def files_of(role: str) -> list[pathlib.Path]:
    return [path for room in ("tasks", "templates", "vars") for path in (ROOT / f"roles/{role}/{room}").rglob("*") if path.is_file()]


@pytest.mark.parametrize("role", ROLES)
def test_roles_read_variables_in_one_place(role: str) -> None:
    """What is not read from ROLE_given would be an empty text where a survey leaves one."""
    names = "|".join(sorted(OPTIONS[role], key=len, reverse=True))
    found = []
    for path in files_of(role):
        text = re.sub(r"\bset \w+", "", path.read_text())  # advice
        read = [*re.findall(r"{{.*?}}|{%.*?%}", text, re.DOTALL), *re.findall(r"^ *(?:when|that|failed_when|until|-)\b.*", text, re.MULTILINE)]
        found += [(path.name, name) for part in read for name in re.findall(rf"(?<![\w.])({names})(?!\w)", part)]
    assert not found


def test_values_stay_as_they_are() -> None:
    found = given("capture", {"capture_remove": False, "capture_duration": 0, "capture_container": ["a", ""], "capture_pid": None, "other": 1})
    assert (found["remove"], found["duration"], found["container"], "pid" in found) == (False, 0, ["a", ""], False)


def test_defaults_of_a_play() -> None:
    instead = {"capture_duration": 86400, "capture_pid": 7}
    found = given("capture", {"capture_duration": "", "capture_merge": ""}, instead=instead)
    assert (found["duration"], found["pid"], found["merge"]) == (86400, 7, "host")
    assert given("capture", {"capture_duration": 5}, instead=instead)["duration"] == 5


def test_no_role_of_ours() -> None:
    with pytest.raises(AnsibleError, match=r"The variables of the role geerlingguy cannot be read from .* give the name of a role of this collection"):
        given("geerlingguy", {})
