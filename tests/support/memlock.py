# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for kernels before 5.11, which hold what BPF takes to RLIMIT_MEMLOCK."""

from __future__ import annotations

import ctypes
import errno
import resource
import typing as t

CHARGED = (0, 5)  # BPF_MAP_CREATE, BPF_PROG_LOAD
# Bytes that 5.10 wants for steering's map: a bucket of 16 and an element of 48 + 8 + 56 for each of 65536 entries (kernel/bpf/hashtab.c).
NEEDED = 65536 * (16 + 48 + 8 + 56)


class OldKernel:
    """In the place of bpf(2)'s _LIBC: says EPERM while the limit is below that many bytes, else what the real one says."""

    def __init__(self, libc: t.Any, needed: int = NEEDED) -> None:
        self._libc = libc
        self._needed = needed
        self.refused = 0

    def syscall(self, number: int, command: int, attributes: t.Any, size: int) -> int:
        """See syscall(2)."""
        soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        if command in CHARGED and soft != resource.RLIM_INFINITY and soft < self._needed:
            self.refused += 1
            ctypes.set_errno(errno.EPERM)
            return -1
        result: int = self._libc.syscall(number, command, attributes, size)
        return result
