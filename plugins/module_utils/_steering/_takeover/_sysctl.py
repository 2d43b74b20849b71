# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's settings of one interface (net.ipv4.conf.eth0 and its like).

/proc/sys/net shows the network namespace of the thread that reads it: enter that namespace first (_netns.entered).
"""

from __future__ import annotations

import contextlib
import os

ROOT = "/proc/sys/net"
FOLDERS = ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh", "mpls/conf")

Settings = dict[str, dict[str, str]]


def read(interface: str) -> Settings:
    """Return the settings of an interface by folder and name, without those that cannot be read (an unset stable_secret)."""
    found: Settings = {}
    for folder in FOLDERS:
        path = os.path.join(ROOT, folder, interface)
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):  # a family that the kernel lacks, or a link that has just gone
            names = sorted(os.listdir(path))
        if names:
            values = ((name, _read(os.path.join(path, name))) for name in names)
            found[folder] = {name: value for name, value in values if value is not None}
    return found


def write(interface: str, wanted: Settings) -> list[str]:
    """Set the values that differ from wanted, in its order. Return an error text for each that cannot be set."""
    failed = []
    for folder, values in wanted.items():
        for name, value in values.items():
            path = os.path.join(ROOT, folder, interface, name)
            # Read each value just before it is set: unres_qlen follows from unres_qlen_bytes, base_reachable_time from its _ms.
            if _read(path) != value:
                problem = put(interface, folder, name, value)
                if problem:
                    failed.append(problem)
    return failed


def put(interface: str, folder: str, name: str, value: str) -> str | None:
    """Set one value. Return an error text if it cannot be set, else None."""
    path = os.path.join(ROOT, folder, interface, name)
    try:
        with open(path, "w", encoding="ascii") as stream:
            stream.write(value + "\n")
    except OSError as error:
        return f"{path} cannot be set to {value} ({error.strerror})"
    return None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return None
