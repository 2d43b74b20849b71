# Copyright (c) 2026, the nettap.containers developers
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write each result of a run as a line of JSON: ansible-core ships no callback that does."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: results
type: aggregate
short_description: Write each result as a line of JSON
description:
  - For the tests of this collection. The file is the one that E(NETTAP_RESULTS) names.
"""


class CallbackModule(CallbackBase):
    """Append {status, host, task, action, result} to the file that NETTAP_RESULTS names."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "results"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, status, result):
        line = {
            "status": status,
            "host": result.host.get_name(),
            "task": result.task.get_name(),
            "action": result.task.action,
            "result": result.result,
        }
        with open(os.environ["NETTAP_RESULTS"], "a", encoding="utf-8") as out:
            out.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        self._write("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write("failed", result)

    def v2_runner_on_unreachable(self, result):
        self._write("unreachable", result)

    def v2_runner_on_skipped(self, result):
        self._write("skipped", result)
