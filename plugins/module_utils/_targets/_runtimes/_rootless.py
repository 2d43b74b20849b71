# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rootless Docker: where each user's is, and what proves a process to be its container's."""

from __future__ import annotations

import contextlib
import glob
import os
import stat

from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity

SOCKETS = "/run/user/*/docker.sock"  # unless DOCKER_HOST or dockerd's --host names another
_UNIX = "unix://"


def addresses() -> list[str]:
    """Return the addresses of the users' own Dockers that are where dockerd-rootless.sh puts them."""
    found = [_UNIX + path for path in sorted(glob.glob(SOCKETS))]
    return [address for address in found if str(owner(address)) == address.split("/")[-2] != "0"]


def owner(address: str) -> int:
    """Return the UID of the user whose Docker has its socket at an address; 0 for root's, and where it cannot be told."""
    with contextlib.suppress(OSError):
        figures = os.stat(address[len(_UNIX):]) if address.startswith(_UNIX) else None
        if figures and stat.S_ISSOCK(figures.st_mode):
            return figures.st_uid
    return 0


def identity(name: str, address: str, user: int) -> Identity:
    """Return what must be true of the process of a user's container, by its ID.

    With the cgroup driver none, which Docker takes without cgroup v2 and systemd, the container has no cgroup of its own. Then the OCI runtime's
    record in dockerd's --exec-root, beside the socket, tells its process.
    """
    folder = os.path.join(os.path.dirname(address[len(_UNIX):]), "docker")
    own = glob.escape(name) if name.isalnum() else "-"  # a user's Docker may give anything as an ID
    records = [path for file in ("state.json", "status") for path in glob.glob(f"{glob.escape(folder)}/runtime-*/moby/{own}/{file}")]
    pid_file = f"{folder}/containerd/daemon/io.containerd.runtime.v2.task/moby/{own}/init.pid"
    return Identity(name, records=tuple(records), owner=user, pid_file=pid_file)
