# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destinations on the controller that are known to vanish with the run of Ansible."""

from __future__ import annotations

import os

# AWX and Automation Controller name a job's private data folder here, and delete it when the job ends.
_JOB = "AWX_PRIVATE_DATA_DIR"
# ansible-runner names a folder artifacts/IDENT here, which is in its private data folder. Not every one deletes it.
_ARTIFACTS = "AWX_ISOLATED_DATA_DIR"
_RUNNERS = {"ansible-playbook", "ansible-runner", "ansible"}


def absolute(dest: str) -> str:
    """Return the absolute path of a destination. The working directory may be gone; then so is what is relative to it."""
    path = os.path.expanduser(dest)
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return os.path.join(os.environ.get("PWD", "/"), path)


def reason_to_vanish(dest: str, lasts: bool | None) -> str | None:
    """Return why the files in an absolute path vanish, as a clause; None if nothing is known of it. lasts is the user's word, None for none."""
    if lasts is not None:
        return None if lasts else "dest_lasts is false"
    job = os.environ.get(_JOB) or _folder_of_runner()
    if not job:
        return None
    place, folder = os.path.realpath(dest), os.path.realpath(job)
    if os.path.commonpath([place, folder]) == folder:
        return f"{dest} is in the private data folder of the job and is deleted with it"
    if _in_container_of_job() and _device(place) == os.stat("/").st_dev:
        return f"{dest} is in the container of the job, on no volume, and is deleted with it"
    return None


def _folder_of_runner() -> str | None:
    """Return the private data folder of the ansible-runner that runs this, unless this ansible-runner is known to keep it; None if there is none."""
    artifacts = os.environ.get(_ARTIFACTS)
    if not artifacts:
        return None
    pid = os.getpid()
    while pid > 1:
        words = _words(pid)
        if any(os.path.basename(word) in ("ansible-runner", "ansible_runner") for word in words):
            named = any(word.startswith("--private-data-dir") for word in words)
            if "worker" not in words or named and "--delete" not in words:
                return None
            break
        pid = _parent(pid)
    return os.path.dirname(os.path.dirname(artifacts))


def _in_container_of_job() -> bool:
    """Return whether the first process here is the job: the container was made for it."""
    return any(os.path.basename(word) in _RUNNERS for word in _words(1))


def _words(pid: int) -> list[str]:
    """Return the command line of a process; [] where it cannot be read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return stream.read().decode(errors="replace").split("\0")
    except OSError:
        return []


def _parent(pid: int) -> int:
    """Return the PID of a process's parent (field 4 of proc(5) stat); 0 where it cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return int(stream.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _device(path: str) -> int:
    """Return the device of a path or of its nearest existing parent."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev
