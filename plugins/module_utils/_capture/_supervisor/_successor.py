# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The child process that asks a runtime for the successor of a pod or of one of its containers: another ID under the same name."""

from __future__ import annotations

import dataclasses
import json
import sys

from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._targets._target import resolved


def main() -> None:
    """Read runtime, docker_host and pod (as in the options of these names) from standard input. Write the container that has this name now to standard output.

    The answer is null, or an object with the stored container, the PID and the inode number of its namespace, and whether it is a pod's sandbox.
    """
    runtime, docker_host, pod = json.load(sys.stdin)
    try:
        with resolved({"runtime": runtime, "docker_host": docker_host, "pod": [pod], "allow_missing": True}) as targets:
            found = [(Watched.of_target(target), target) for target in targets]
    except NettapError as error:
        raise SystemExit(str(error)) from error
    answer = [
        {"container": dataclasses.asdict(dataclasses.replace(watched, fd=-1, pidfd=None)), "pid": target.namespace.pid,
         "inode": target.namespace.inode, "sandbox": target.container.sandbox}
        for watched, target in found
    ]
    json.dump(answer[0] if answer else None, sys.stdout)
