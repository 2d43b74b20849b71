# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An action plugin's options, checked by the spec of the module that it belongs to."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase


def checked(action: ActionBase, spec: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the options of the action's task. Raise AnsibleActionFail where they do not fit the spec.

    A path stays as it is given: its ~ and variables are the host's, where the module expands them.
    """
    arguments = {name: {**option, "type": "str"} if option["type"] == "path" else option for name, option in spec["argument_spec"].items()}
    options: dict[str, t.Any]
    _result, options = action.validate_argument_spec(**{**spec, "argument_spec": arguments})
    return options
