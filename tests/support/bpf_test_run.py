# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel runs a loaded tc program on a frame: BPF_PROG_TEST_RUN of bpf(2). Numbers are from linux/bpf.h."""

from __future__ import annotations

import ctypes
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls

_PROG_TEST_RUN = 10
_MARK, _GSO_SEGS, _CONTEXT_SIZE = 8, 164, 192  # of struct __sk_buff
_ROOM = 4096  # bytes for the frame that comes out


class Ran(t.NamedTuple):
    """What a program returned, and the frame and its mark after it."""

    action: int
    frame: bytes
    mark: int


def run(program: int, frame: bytes, mark: int = 0, segments: int = 0) -> Ran:
    """Run a program on a frame with that mark, which was offloaded as so many segments. Raises OSError."""
    data, out = ctypes.create_string_buffer(frame, len(frame)), ctypes.create_string_buffer(_ROOM)
    context = ctypes.create_string_buffer(_CONTEXT_SIZE)
    struct.pack_into("=I", context, _MARK, mark)
    struct.pack_into("=I", context, _GSO_SEGS, segments)
    # prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration, ctx_size_in, ctx_size_out, ctx_in, ctx_out
    attributes = ctypes.create_string_buffer(struct.pack(
        "=IIIIQQIIIIQQ", program, 0, len(frame), _ROOM, ctypes.addressof(data), ctypes.addressof(out), 1, 0,
        _CONTEXT_SIZE, _CONTEXT_SIZE, ctypes.addressof(context), ctypes.addressof(context),
    ), 64)  # fmt: skip
    _calls.bpf(_PROG_TEST_RUN, attributes)
    _fd, action, _size, size = struct.unpack_from("=IiII", attributes)
    return Ran(action, out.raw[:size], struct.unpack_from("=I", context, _MARK)[0])
