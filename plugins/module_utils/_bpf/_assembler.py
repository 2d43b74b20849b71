# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An assembler for small BPF programs, so that the host needs no compiler. All numbers are from linux/bpf.h and linux/bpf_common.h."""

from __future__ import annotations

import contextlib
import struct
import typing as t

# Registers: calls overwrite R0 to R5 (R0 is the result) and keep R6 and R7. R10 is the end of the stack frame.
R0, R1, R2, R3, R4, R5, R6, R7, R10 = *range(8), 10
BYTE, HALF, WORD, DOUBLE = 0x10, 0x08, 0x00, 0x18  # BPF_B, BPF_H, BPF_W, BPF_DW

# An opcode is a class, with mode and size, or with operation and source (a number or a register).
_LD, _LDX, _STX, _JMP, _ALU64 = 0x00, 0x01, 0x03, 0x05, 0x07
_IMM, _MEM, _ATOMIC = 0x00, 0x60, 0xC0
_ADD, _AND, _MOV = 0x00, 0x50, 0xB0
_JEQ, _JGT, _JNE, _CALL, _EXIT = 0x10, 0x20, 0x50, 0x80, 0x90
_K, _X = 0x00, 0x08
_PSEUDO_MAP_FD = 1

# Helper functions (enum bpf_func_id)
MAP_LOOKUP_ELEM = 1
SKB_STORE_BYTES = 9
REDIRECT = 23
SKB_LOAD_BYTES = 26


class Assembler:
    """The instructions of one program. Jumps go to named places, which may be defined before or after the jump.

    order is the byte order of the machine that runs the program, as the module struct writes it: "=" is this machine's.
    """

    def __init__(self, order: str = "=") -> None:
        self.order = order
        self._code: list[tuple[int, int, int, int, int]] = []  # opcode, destination, source, offset, immediate
        self._places: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def place(self, name: str) -> None:
        """Make the next instruction the target of jumps to the name."""
        self._places[name] = len(self._code)

    def move(self, destination: int, source: int) -> None:
        """Add destination = source."""
        self._add(_ALU64 | _MOV | _X, destination, source)

    def set(self, destination: int, value: int) -> None:
        """Add destination = value (signed, 32 bits)."""
        self._add(_ALU64 | _MOV | _K, destination, immediate=value)

    def set64(self, destination: int, value: int) -> None:
        """Add destination = value (unsigned, 64 bits), which takes two instructions."""
        self._wide(destination, 0, value)

    def set_map(self, destination: int, fd: int) -> None:
        """Add destination = the map of the descriptor."""
        self._wide(destination, _PSEUDO_MAP_FD, fd)

    def add(self, destination: int, value: int) -> None:
        """Add destination += value."""
        self._add(_ALU64 | _ADD | _K, destination, immediate=value)

    def mask(self, destination: int, value: int) -> None:
        """Add destination &= value."""
        self._add(_ALU64 | _AND | _K, destination, immediate=value)

    def load(self, size: int, destination: int, base: int, offset: int) -> None:
        """Add destination = *(base + offset), of that size."""
        self._add(_LDX | _MEM | size, destination, base, offset)

    def store(self, size: int, base: int, offset: int, source: int) -> None:
        """Add *(base + offset) = source, of that size."""
        self._add(_STX | _MEM | size, base, source, offset)

    def count(self, base: int, offset: int, source: int) -> None:
        """Add *(u64 *)(base + offset) += source, atomically."""
        self._add(_STX | _ATOMIC | DOUBLE, base, source, offset, _ADD)

    def jump_if(self, condition: str, left: int, value: int, name: str) -> None:
        """Add a jump to the place if the register compares so (== or !=) with the value."""
        self._jump(_JMP | {"==": _JEQ, "!=": _JNE}[condition] | _K, left, 0, value, name)

    @contextlib.contextmanager
    def skipped_if(self, condition: str, left: int, value: int) -> t.Iterator[None]:
        """Add a jump over the instructions of the block if the register compares so (== or !=) with the value."""
        behind = f"behind the block of {len(self._code)}"
        self.jump_if(condition, left, value, behind)
        yield
        self.place(behind)

    def jump_if_above(self, left: int, right: int, name: str) -> None:
        """Add a jump to the place if the left register is above the right one (unsigned)."""
        self._jump(_JMP | _JGT | _X, left, right, 0, name)

    def call(self, helper: int) -> None:
        """Add R0 = helper(R1, R2, …). R1 to R5 are lost."""
        self._add(_JMP | _CALL, immediate=helper)

    def leave(self, value: int | None = None) -> None:
        """Add the program's exit, with the value or with R0's content as the result."""
        if value is not None:
            self.set(R0, value)
        self._add(_JMP | _EXIT)

    def code(self) -> bytes:
        """Return the instructions as the kernel takes them."""
        code = list(self._code)
        for at, name in self._jumps:
            opcode, destination, source, dummy, immediate = code[at]
            code[at] = (opcode, destination, source, self._places[name] - at - 1, immediate)
        return b"".join(self._encoded(*one) for one in code)

    def _encoded(self, opcode: int, destination: int, source: int, offset: int, immediate: int) -> bytes:
        """Return one struct bpf_insn. Its registers are bit fields, which compilers begin at the other end of the byte where the byte order is big."""
        little = struct.pack(f"{self.order}H", 1)[0] == 1
        registers = source << 4 | destination if little else destination << 4 | source
        return struct.pack(f"{self.order}BBhi", opcode, registers, offset, immediate)

    def _wide(self, destination: int, kind: int, value: int) -> None:
        # The lower half comes first in any byte order (RFC 9669, 5.4).
        low, high = struct.unpack("<ii", struct.pack("<Q", value))
        self._add(_LD | _IMM | DOUBLE, destination, kind, 0, low)
        self._add(0, 0, 0, 0, high)

    def _jump(self, opcode: int, left: int, right: int, value: int, name: str) -> None:
        self._jumps.append((len(self._code), name))
        self._add(opcode, left, right, 0, value)

    def _add(self, opcode: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> None:
        self._code.append((opcode, destination, source, offset, immediate))
