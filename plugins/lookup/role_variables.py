# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: the variables of a role, of which an empty text is not given."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_variables
short_description: The variables of a role, of which an empty text is not given
description:
  - Returns the variables that a role names in its C(meta/argument_specs.yml), as one dictionary without the role's name and underscore in front.
  - A survey of AWX or Automation Controller gives an empty text for a question that was not answered. Such a variable is an extra variable, which
    nothing in a play can replace, so it hides the role's default. Here it has the default again, or is missing where it has none.
version_added: 0.2.0
author:
  - The nettap.containers authors (@nettap)
options:
  _terms:
    description:
      - Names of roles of this collection.
    required: true
  instead:
    description:
      - Defaults to take instead of the role's, by the names of variables.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show for how long the role captures
  ansible.builtin.debug:
    msg: "{{ lookup('nettap.containers.role_variables', 'capture').duration }}"
"""

RETURN = r"""
_value:
  description: The variables that are given or have a default.
  type: list
  elements: dict
"""

import functools
import pathlib
import typing as t

from ansible.errors import AnsibleError
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.lookup import LookupBase

_ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"


class LookupModule(LookupBase):
    """The lookup, for each role."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:
        """Return a dictionary for each role. Raise AnsibleError."""
        self.set_options(var_options=variables, direct=kwargs)
        return [self._given(role, variables or {}, self.get_option("instead")) for role in terms]

    def _given(self, role: str, variables: t.Mapping[str, t.Any], instead: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        found = {}
        for name, default in _defaults(role).items():
            value = self._templar.template(variables[name]) if name in variables else None
            if _empty(value):
                value = instead.get(name, default)
            if value is not None:
                found[name[len(role) + 1:]] = value
        return found


def _empty(value: t.Any) -> bool:
    return value is None or isinstance(value, str) and not value.strip()


@functools.lru_cache
def _defaults(role: str) -> dict[str, t.Any]:
    """Return the defaults of a role's variables; None for one without. Raise AnsibleError."""
    path = _ROLES / role / "meta" / "argument_specs.yml"
    try:
        options = yaml_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    except OSError as error:
        words = f"The variables of the role {role} cannot be read from {path} ({error.strerror}): give the name of a role of this collection."
        raise AnsibleError(words) from None
    return {name: option.get("default") for name, option in options.items()}
