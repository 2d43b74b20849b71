# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries that take a tenth of a second to import are imported by those tasks alone that need them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).parents[3]
LOOK = """
import sys
from ansible_collections.nettap.containers.plugins.modules import container_capture, container_network_info, container_steering
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _docker
_docker.DEFAULT_SOCKET = "unix://" + sys.argv[1]
try:
    with _target.resolved({"container": ["*"], "allow_missing": False, "runtime": "auto"}):
        pass
except NettapError:
    pass
print(*sorted({"docker", "pyroute2"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("socket", "imported"), [("absent.sock", ""), ("there.sock", "docker")])
def test_what_a_look_at_containers_imports(tmp_path: pathlib.Path, socket: str, imported: str) -> None:
    (tmp_path / "there.sock").touch()
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    environment["PYTHONPATH"] = ":".join([str(CHECKOUT / "collections"), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-c", LOOK, tmp_path / socket], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == imported
