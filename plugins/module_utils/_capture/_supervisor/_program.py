# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor: the program of a process that outlives the task, and guards one session until it has ended.

_launch.py starts it in an interpreter of its own, without any of Ansible's code. It holds open the namespaces that the task
has verified, and waits on descriptors and timers only (_loop.py). _session.py decides when the capture begins and stops.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback

from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Assignment
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._session import Supervisor
from ansible_collections.nettap.containers.plugins.module_utils._system import _process


def main() -> None:
    """Run the assignment from standard input. With the argument successor, be a child process that asks a runtime."""
    if sys.argv[1] == "successor":
        # _launch.py adds this module to the archive. The runtimes' code would delay the start of each supervisor.
        importlib.import_module(f"{__name__.rpartition('.')[0]}._successor").main()
        return
    os.umask(0o077)
    os.chdir("/")
    assignment = Assignment.of(json.load(sys.stdin))
    assignment.session.supervisor = _process.Process.own()
    supervisor = Supervisor(assignment)
    try:
        supervisor.run()
    except BaseException as error:
        supervisor.tell_task(f"The supervisor could not go on: {error}.")
        with open(os.open(os.path.join(supervisor.directory, "supervisor.log"), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
            traceback.print_exc(file=stream)
        raise
