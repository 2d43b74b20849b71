# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of steering in place are right on machines of either byte order.

The encodings were recorded with LLVM 14: `llvm-mc -triple bpfel -show-encoding` and `-triple bpfeb`.
"""

from __future__ import annotations

import collections.abc as c
import sys

import program_cases as the
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _assembler, _calls
from ansible_collections.nettap.containers.plugins.module_utils._bpf._assembler import R0, R1, R2, R3, R4, R5, R6, R7, R10, Assembler
from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace import _programs
from bpf_interpreter import Interpreter

ORDERS = {"little": "<", "big": ">"}
CASES = the.cases()
MAP = 3

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
    code.jump_if("!=", R5, the.MARK, "end")
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
    code.jump_if("!=", R5, the.MARK, "start")
    assert code.code()[8:].hex() == {"<": "5505feff7474656e", ">": "5550fffe6e657474"}[order]


@pytest.mark.parametrize("order", JUMPS)
def test_map_by_descriptor(order: str) -> None:
    """The descriptor is the lower half of the constant, and comes first; BPF_PSEUDO_MAP_FD (1) stands for the source."""
    code = Assembler(order)
    code.set_map(R1, 0x0304)
    assert code.code().hex() == {"<": "18110000040300000000000000000000", ">": "18110000000003040000000000000000"}[order]


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_elements(order: str) -> None:
    packed = the.element(ifindex=0x01020304, refused=0x0102030405060708 - 500).pack(order)
    assert len(packed) == _programs.VALUE_SIZE
    assert packed[:4] == (b"\4\3\2\1" if order == "<" else b"\1\2\3\4")
    assert packed[4:16] == bytes.fromhex("0242ac110002") + bytes(6)
    assert packed[-8:] == (bytes(range(8, 0, -1)) if order == "<" else bytes(range(1, 9)))
    assert _programs.Element.unpack(packed, order) == the.element(ifindex=0x01020304, refused=0x0102030405060708 - 500)
    assert the.element().pack() == the.element().pack(ORDERS[sys.byteorder])


def test_keys_are_bytes_of_the_frame() -> None:
    assert _programs.key(the.MAC) == bytes.fromhex("0242ac1100020000")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_branch_of_a_program(order: str, case: the.Case) -> None:
    """A stand-in for the kernel runs the programs, also for the byte order that this machine has not."""
    machine = Interpreter(order, MAP, {key: element.pack(order) for key, element in case.elements().items()})
    ran = machine.run(case.code(MAP, order), case.frame, case.mark, case.segments)
    assert ran == (case.action, case.after, case.mark_after, case.where)
    assert {key: _programs.Element.unpack(value, order) for key, value in machine.elements.items()} == case.elements(after=True)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("program, action", [("outbound", the.PASS), ("inbound", the.PASS), ("vbr", the.DROP)])
def test_frame_without_a_whole_header(program: str, action: int, order: str) -> None:
    """The kernel gives a program none (see test_programs.py), but does not load one that relies on it."""
    data = the.frame(the.MAC, the.STATION)[:13]
    case = the.Case(program, data, action, data, tagged=True)
    assert Interpreter(order, MAP, {}).run(case.code(MAP, order), data) == (action, data, 0, None)


def test_a_program_is_for_this_machine_unless_told_otherwise() -> None:
    for case in CASES.values():
        assert case.code(MAP) == case.code(MAP, ORDERS[sys.byteorder])


@pytest.mark.parametrize("machine, pointer, number", [
    ("x86_64", 8, 321), ("x86_64", 4, 357), ("aarch64", 8, 280), ("aarch64", 4, 386), ("armv7l", 4, 386), ("i686", 4, 357), ("s390x", 8, 351),
])  # fmt: skip
def test_number_of_the_system_call(machine: str, pointer: int, number: int) -> None:
    """Of asm/unistd.h; the machine is the kernel's, the pointer's size the process's."""
    assert _calls._number(machine, pointer) == number


def test_unknown_machine() -> None:
    with pytest.raises(DependencyError, match=r"^bpf\(2\) is not known for mips: use topology: takeover"):
        _calls._number("mips", 8)
