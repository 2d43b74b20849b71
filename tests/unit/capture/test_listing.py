# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task that only looks brings to the host: Ansible sends, and Python compiles there, all that its module imports."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).parents[3]
LOADED = (
    "import json, sys; from ansible_collections.nettap.containers.plugins.modules import container_capture_info;"
    "print(json.dumps([name.partition('module_utils.')[2] for name in sys.modules if '.module_utils._' in name and 'nettap' in name]))"
)


def test_a_look_at_sessions_brings_nothing_that_starts_them() -> None:
    path = ":".join([str(CHECKOUT / "collections"), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-c", LOADED], env={"PYTHONPATH": path}, stdout=subprocess.PIPE, check=True)
    rooms = {name for name in json.loads(done.stdout) if name.count(".") == 1}
    assert "_capture._listing" in rooms
    assert not {name for name in rooms if name.startswith(("_targets", "_background"))}
    assert not rooms & {"_capture._control", "_capture._plan", "_capture._supervisor"}
