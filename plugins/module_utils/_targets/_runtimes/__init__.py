# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtimes that targets are looked up in, by their name in the O(runtime) option."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Runtime
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._containerd import Containerd
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._crio import Crio
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._docker import Docker
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._lxc import Incus, Lxc
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._nspawn import Nspawn
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._podman import Podman

# Each is called with the address of Docker, None where none is given.
RUNTIMES: dict[str, t.Callable[[str | None], Runtime]] = {
    "docker": Docker,
    "podman": lambda _docker_host: Podman(),
    "containerd": lambda _docker_host: Containerd(),
    "crio": lambda _docker_host: Crio(),
    "lxc": lambda _docker_host: Lxc(),
    "incus": lambda _docker_host: Incus(),
    "nspawn": lambda _docker_host: Nspawn(),
}
