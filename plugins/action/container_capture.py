# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of container_capture: it measures how far the host's clock is from the controller's, and runs the module."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.nettap.containers.plugins.plugin_utils._clock import COMMAND, measure


class ActionModule(ActionBase):
    """An action as Ansible's own for modules, also for async, with a command more before a start."""

    _requires_connection = True
    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action."""
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        if args.get("state", "started") == "started":
            # The login user may ask for the time: become would only make the answer come later.
            args["clock"] = measure(lambda: self._low_level_execute_command(COMMAND, sudoable=False)["stdout"])
        wrap_async = self._task.async_val
        result.update(self._execute_module(module_args=args, task_vars=task_vars, wrap_async=wrap_async))
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result
