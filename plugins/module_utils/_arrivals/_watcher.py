# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that watches for containers, as its parent sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError


class Watcher:
    """A watch for containers. fd is readable when containers have come, or when the watch has ended."""

    def __init__(self, archive: int, order: t.Mapping[str, t.Any], log: str) -> None:
        """Start the program in an open archive of _program.py. order has options, known and environment; log is a file for its last words.

        Raise NettapError.
        """
        try:
            with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb") as words:
                # module_utils have no AnsibleModule whose run_command they could call.
                process = subprocess.Popen(  # pylint: disable=consider-using-with,ansible-bad-function
                    [sys.executable, "-I", f"/proc/self/fd/{archive}", "nettap-arrivals"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words,
                    pass_fds=[archive], cwd="/", env={**os.environ, **order["environment"]},
                )
            with t.cast("t.IO[bytes]", process.stdin) as stream:
                stream.write(json.dumps({**order, "parent": os.getpid()}).encode())
        except OSError as error:
            raise NettapError(f"The watch for new containers cannot be started ({error.strerror}): look at the host's memory and processes.") from error
        self._process = process
        self._told = t.cast("t.IO[bytes]", process.stdout)
        self.fd = self._told.fileno()
        self._unread = b""

    def read(self) -> list[dict[str, t.Any]] | None:
        """Return the containers that have come, as _watch.described(); None when the watch has ended."""
        data = os.read(self.fd, 1 << 16)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """End the watch."""
        self._process.kill()  # it holds nothing that it would have to put away
        self._process.wait()
        self._told.close()
