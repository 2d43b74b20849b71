# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The assembler encodes as LLVM 14 does: recorded with `llvm-mc -triple bpfel -show-encoding` and `-triple bpfeb`."""

from __future__ import annotations

import collections.abc as c
import sys

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _assembler
from ansible_collections.nettap.containers.plugins.module_utils._bpf._assembler import R0, R1, R2, R3, R4, R5, R6, R7, R10, Assembler

MARK = 0x6E657474

# Assembler, in LLVM's words, for a little-endian and for a big-endian machine.
INSTRUCTIONS: dict[str, tuple[c.Callable[[Assembler], None], str, str]] = {
    "r6 = r1": (lambda code: code.move(R6, R1), "bf16000000000000", "bf61000000000000"),
    "r5 = 305419896": (lambda code: code.set(R5, 0x12345678), "b705000078563412", "b750000012345678"),
    "r0 = -1": (lambda code: code.set(R0, -1), "b7000000ffffffff", "b7000000ffffffff"),
    "r5 = 1311768467463790320 ll": (
        lambda code: code.set64(R5, 0x123456789ABCDEF0), "18050000f0debc9a0000000078563412", "185000009abcdef00000000012345678",
    ),
    "r4 += 14": (lambda code: code.add(R4, 14), "070400000e000000", "074000000000000e"),
    "r2 += -8": (lambda code: code.add(R2, -8), "07020000f8ffffff", "07200000fffffff8"),
    "r5 &= 1": (lambda code: code.mask(R5, 1), "5705000001000000", "5750000000000001"),
    "r5 = *(u32 *)(r6 + 8)": (lambda code: code.load(_assembler.WORD, R5, R6, 8), "6165080000000000", "6156000800000000"),
    "r5 = *(u8 *)(r2 + 0)": (lambda code: code.load(_assembler.BYTE, R5, R2, 0), "7125000000000000", "7152000000000000"),
    "r5 = *(u16 *)(r2 + 10)": (lambda code: code.load(_assembler.HALF, R5, R2, 10), "69250a0000000000", "6952000a00000000"),
    "*(u32 *)(r6 + 8) = r5": (lambda code: code.store(_assembler.WORD, R6, 8, R5), "6356080000000000", "6365000800000000"),
    "*(u16 *)(r10 - 8) = r5": (lambda code: code.store(_assembler.HALF, R10, -8, R5), "6b5af8ff00000000", "6ba5fff800000000"),
    "*(u64 *)(r10 - 8) = r5": (lambda code: code.store(_assembler.DOUBLE, R10, -8, R5), "7b5af8ff00000000", "7ba5fff800000000"),
    "lock *(u64 *)(r0 + 16) += r7": (lambda code: code.count(R0, 16, R7), "db70100000000000", "db07001000000000"),
    "call 23": (lambda code: code.call(_assembler.REDIRECT), "8500000017000000", "8500000000000017"),
    "exit": (lambda code: code.leave(), "9500000000000000", "9500000000000000"),
}  # fmt: skip


@pytest.mark.parametrize("make, little, big", INSTRUCTIONS.values(), ids=INSTRUCTIONS)
def test_instructions_as_llvm_encodes_them(make: c.Callable[[Assembler], None], little: str, big: str) -> None:
    for order, expected in (("<", little), (">", big), ("=", little if sys.byteorder == "little" else big)):
        code = Assembler(order)
        make(code)
        assert code.code().hex() == expected, order


# if r5 != 1852142708 goto +3; if r4 > r3 goto +2; if r5 == 2048 goto +1; goes over r0 = -1; exit
JUMPS = {
    "<": "550503007474656e 2d34020000000000 1505010000080000 b7000000ffffffff 9500000000000000",
    ">": "555000036e657474 2d43000200000000 1550000100000800 b7000000ffffffff 9500000000000000",
}


@pytest.mark.parametrize("order", JUMPS)
def test_jumps(order: str) -> None:
    code = Assembler(order)
    code.jump_if("!=", R5, MARK, "end")
    code.jump_if_above(R4, R3, "end")
    with code.skipped_if("==", R5, 0x800):
        code.set(R0, -1)
    code.place("end")
    code.leave()
    assert code.code().hex() == JUMPS[order].replace(" ", "")


@pytest.mark.parametrize("order", JUMPS)
def test_jumps_back(order: str) -> None:
    """LLVM: if r5 != 1852142708 goto -2."""
    code = Assembler(order)
    code.place("start")
    code.set(R0, -1)
    code.jump_if("!=", R5, MARK, "start")
    assert code.code()[8:].hex() == {"<": "5505feff7474656e", ">": "5550fffe6e657474"}[order]


@pytest.mark.parametrize("order", JUMPS)
def test_map_by_descriptor(order: str) -> None:
    """The descriptor is the lower half of the constant, and comes first; BPF_PSEUDO_MAP_FD (1) stands for the source."""
    code = Assembler(order)
    code.set_map(R1, 0x0304)
    assert code.code().hex() == {"<": "18110000040300000000000000000000", ">": "18110000000003040000000000000000"}[order]
