# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders that an engine has at /tmp and /dev/shm, for engines that use fixed paths there: each dataplane's engine has its own.

On the host they are /run/nettap/private/NAME/tmp and /run/nettap/private/NAME/shm.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._background import _archive, _private_start
from ansible_collections.nettap.containers.plugins.module_utils._errors import StorageError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _files

ROOT = "/run/nettap/private"
# NeuVector's dp ends at once without this file, unless it is started with -s (dp/main.c, get_shm). Its size is that of apis.h dp_mnt_shm_t.
_SHARED, _SHARED_BYTES = "dp_mnt.shm", 20
_PROGRAM = "start.pyz"


def started(name: str, argv: t.Sequence[str]) -> list[str]:
    """Return the command line that runs a program with the folders of that name."""
    folder = os.path.join(ROOT, name)
    return [sys.executable, "-I", os.path.join(folder, _PROGRAM), folder, *argv]


def program(argv: t.Sequence[str]) -> list[str]:
    """Return the program's own command line in one that started() may have returned."""
    return list(argv[4:] if len(argv) > 4 and argv[2] == os.path.join(argv[3], _PROGRAM) else argv)


def make(name: str) -> None:
    """Make the folders (0700) and what belongs into them. What is there stays. Raise StorageError."""
    folder = os.path.join(ROOT, name)
    with refused_as(StorageError, f"The folder {folder} cannot be made", "look at the free room and the mount of /run"):
        for place in _private_start.PLACES:
            os.makedirs(os.path.join(folder, place), mode=0o700, exist_ok=True)
        fd = os.open(os.path.join(folder, "shm", _SHARED), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(fd, _SHARED_BYTES)
        finally:
            os.close(fd)
    _files.replace(os.path.join(folder, _PROGRAM), _archive.build(_private_start))


def remove(name: str) -> None:
    """Remove the folders with all that is in them, once the program has ended. Raise StorageError."""
    folder = os.path.join(ROOT, name)
    with refused_as(StorageError, f"The folder {folder} cannot be removed", "look at its mount and its permissions"), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # other dataplanes
        os.rmdir(ROOT)
