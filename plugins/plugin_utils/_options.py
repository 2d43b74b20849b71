# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of an action plugin, checked against the spec of its module."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase


def checked(action: ActionBase, spec: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the options of the action's task. Raise AnsibleActionFail when they do not fit the spec.

    A path stays as it is given: its ~ and variables are the host's, and the module expands them there.
    """
    arguments = {name: {**option, "type": "str"} if option["type"] == "path" else option for name, option in spec["argument_spec"].items()}
    options: dict[str, t.Any]
    _result, options = action.validate_argument_spec(**{**spec, "argument_spec": arguments})
    return options
