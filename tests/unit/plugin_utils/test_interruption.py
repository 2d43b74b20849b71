# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A play that ends before its time."""

from __future__ import annotations

import os
import subprocess
import sys

from ansible_cli import ROOT

WORKER = """
import multiprocessing, os, time
from ansible_collections.nettap.containers.plugins.plugin_utils._interruption import Interruption, run_pid

def work():
    while os.getppid() == started:
        time.sleep(0.01)
    print(run_pid() == started, Interruption().happened, flush=True)

started = os.getpid()
multiprocessing.get_context("fork").Process(target=work).start()
os._exit(0)
"""


def test_worker_of_an_ansible_that_was_killed_knows_it() -> None:
    """Another process has become its parent, for whose end nobody must wait."""
    done = subprocess.run([sys.executable, "-c", WORKER], env={**os.environ, "PYTHONPATH": str(ROOT / "collections")},
                          capture_output=True, text=True, check=True, timeout=30)  # fmt: skip
    assert done.stdout.split() == ["True", "True"]
