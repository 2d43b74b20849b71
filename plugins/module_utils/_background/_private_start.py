# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that starts an engine with folders of its own at /tmp and /dev/shm. It becomes the engine."""

from __future__ import annotations

import ctypes
import os
import sys

PLACES = {"tmp": "/tmp", "shm": "/dev/shm"}

_CLONE_NEWNS = 0x20000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000  # linux/mount.h


def main() -> None:
    """Run a program. The first argument is the folder that holds its folders, the others are the program and its arguments."""
    folder, *argv = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.unshare(_CLONE_NEWNS), "No mount namespace can be made")
    # What the host mounts later still arrives here, and nothing of ours goes there.
    _checked(libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None), "The mounts cannot be made private")
    for name, place in PLACES.items():
        if os.path.isdir(place):
            source = os.fsencode(os.path.join(folder, name))
            _checked(libc.mount(source, os.fsencode(place), None, ctypes.c_ulong(_MS_BIND), None), f"{place} cannot be replaced by {os.fsdecode(source)}")
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise SystemExit(f"{argv[0]} cannot be started ({error.strerror}): give its path, which must not be below {' or '.join(PLACES.values())}.") from error


def _checked(result: int, refusal: str) -> None:
    if result:
        raise SystemExit(f"{refusal} ({os.strerror(ctypes.get_errno())}): run as root of the host itself.")
