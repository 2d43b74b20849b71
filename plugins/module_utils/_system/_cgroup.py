# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups of processes: runtimes name them after the ID of the container that a process belongs to."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

Paths = list[tuple[str, str]]

# Runtimes name cgroups after the container's ID, at any depth and with any decoration (docker-<id>.scope, :cri-containerd:<id>,
# /kubepods/.../<id>): match the ID, not the place. The scopes of their monitors, libpod-conmon-<id> and crio-conmon-<id>, are not the container's.
_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")
_ANYWHERE = r"(?<![0-9a-f])(?<!conmon-){}(?![0-9a-f])"
# An ID that a user has chosen (ctr run ... web) could be part of any name: it must be a whole name, or all that follows a systemd prefix.
_WHOLE = r"(?<![^/])(?:(?:[^/]*:)?{0}|[^/]*(?<!conmon)-{0}\.scope)(?![^/])"
# Options that mountinfo shows for a v1 hierarchy in addition to its controllers or name=... (cgroup1_show_options() of the kernel, and SELinux).
_FLAGS = ("rw", "ro", "seclabel", "xattr", "clone_children", "noprefix", "cpuset_v2_mode", "favordynmods")


def paths(pid: int) -> Paths:
    """Return the pairs (controllers, path) of a process, see cgroups(7): one per v1 hierarchy, ("", path) for v2; [] when it is gone."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [(parts[1], parts[2]) for parts in (line.split(":", 2) for line in lines) if len(parts) == 3]


def names(found: Paths, container_id: str) -> bool:
    """Return whether one of the paths is that of a container with this ID, or below it."""
    naming = _naming(container_id)
    return any(naming.search(path) for _controllers, path in found)


def _naming(container_id: str) -> t.Pattern[str]:
    return re.compile((_ANYWHERE if _HEXADECIMAL.fullmatch(container_id) else _WHOLE).format(re.escape(container_id)))


def members(container_id: str) -> list[int]:
    """Return the PIDs of all processes in the cgroup of a container, or below it, as far as this process sees them, lowest number first."""
    return [pid for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))) if names(paths(pid), container_id)]


def directory(found: Paths, container_id: str) -> str | None:
    """Return the folder of the container's own cgroup, which lists its processes; None where it cannot be seen.

    When the container is started again, the folder has the same path again.
    """
    mounts, naming = _mounts(), _naming(container_id)
    for controllers, path in found:
        match = naming.search(path)
        if match is None or controllers not in mounts:
            continue
        end = path.find("/", match.end())  # a container with an init system of its own has further cgroups below
        folder = mounts[controllers] + (path if end < 0 else path[:end])
        if os.path.exists(os.path.join(folder, "cgroup.procs")):
            return folder
    return None


def place(parent: str, name: str) -> str | None:
    """Return the path that a cgroup of that name below parent has when a runtime makes it; None where no controllers are mounted.

    A runtime uses cgroup v2 only where it is mounted alone (at /sys/fs/cgroup), else the hierarchies of v1.
    """
    mounts = _mounts()
    old = [point for controllers, point in mounts.items() if controllers and not controllers.startswith("name=")]
    point = old[0] if old else mounts.get("")
    return os.path.join(point, parent.strip("/"), name) if point else None


def slice_path(name: str) -> str:
    """Return the path of a slice of systemd, see systemd.slice(5): that of a-b.slice is a.slice/a-b.slice."""
    words = name.rpartition("/")[2][: -len(".slice")].split("-")
    return "/".join("-".join(words[:number]) + ".slice" for number in range(1, len(words) + 1))


def processes(folder: str) -> list[int]:
    """Return the PIDs in a cgroup and below it, where an init system puts them, lowest number first; [] while it does not exist."""
    found: set[int] = set()
    for top, _folders, _files in os.walk(folder):
        with contextlib.suppress(OSError), open(os.path.join(top, "cgroup.procs"), encoding="ascii") as stream:
            found.update(int(line) for line in stream)
    return sorted(found)


def _mounts() -> dict[str, str]:
    """Return the mount points of the hierarchies that are mounted as a whole, by their controllers as in paths()."""
    mounts = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            left, _separator, right = line.rstrip("\n").partition(" - ")
            kind, _source, options = right.split(" ", 2)
            root, point = left.split(" ")[3:5]
            if kind == "cgroup2" and root == "/":
                mounts[""] = point
            elif kind == "cgroup" and root == "/":
                known = [option for option in options.split(",") if option not in _FLAGS]
                mounts[",".join(option for option in known if not option.startswith("release_agent="))] = point
    return mounts
