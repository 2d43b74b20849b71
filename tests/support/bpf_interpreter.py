# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the kernel of a machine of either byte order: it interprets the programs of steering in place.

It knows the instructions and helpers that those use, as RFC 9669 and linux/bpf.h describe them, and nothing of how they were
assembled. On one kind of machine the kernel itself shows that it is right: tests/integration/steering/test_programs.py has the same cases.
"""

from __future__ import annotations

import struct
import typing as t

_CONTEXT, _PACKET, _STACK, _VALUES = 0x1000_0000, 0x2000_0000, 0x3000_0000, 0x4000_0000  # addresses
_STACK_SIZE, _CONTEXT_SIZE = 512, 192
_MARK, _PROTOCOL, _DATA, _DATA_END, _GSO_SEGS = 8, 16, 76, 80, 164  # in struct __sk_buff
_SIZES = {0x00: "I", 0x08: "H", 0x10: "B", 0x18: "Q"}
_64_BITS = 2**64 - 1


class Interpreted(t.NamedTuple):
    """What a program returned, frame and mark after it, and the last bpf_redirect's ifindex and flags."""

    action: int
    frame: bytes
    mark: int
    where: tuple[int, int] | None


class Interpreter:
    """A machine of that byte order ("<" or ">") with one map, whose descriptor is map_fd; elements are its keys and values."""

    def __init__(self, order: str, map_fd: int, elements: dict[bytes, bytes]) -> None:
        self._order = order
        self._map_fd = map_fd
        self._keys = list(elements)
        self._memory = {_VALUES + 0x1000 * number: bytearray(value) for number, value in enumerate(elements.values())}

    @property
    def elements(self) -> dict[bytes, bytes]:
        """The map as it is now."""
        return {key: bytes(self._memory[_VALUES + 0x1000 * number]) for number, key in enumerate(self._keys)}

    def run(self, code: bytes, frame: bytes, mark: int = 0, segments: int = 0) -> Interpreted:
        """Run a program on a frame, as the kernel does on one that has come in whole. Raises LookupError for what it does not know."""
        packet, context = bytearray(frame), bytearray(_CONTEXT_SIZE)
        self._memory |= {_CONTEXT: context, _PACKET: packet, _STACK: bytearray(_STACK_SIZE)}
        # The kernel reads the two bytes of the frame's EtherType as a number of its machine (sk_buff.protocol is a __be16).
        protocol = struct.unpack_from(f"{self._order}H", frame.ljust(14, b"\0"), 12)[0]
        values = {_MARK: mark, _PROTOCOL: protocol, _DATA: _PACKET, _DATA_END: _PACKET + len(frame), _GSO_SEGS: segments}
        for offset, value in values.items():
            struct.pack_into(f"{self._order}I", context, offset, value)
        self._where: tuple[int, int] | None = None
        action = self._steps(code)
        return Interpreted(struct.unpack("<i", struct.pack("<I", action & 0xFFFFFFFF))[0], bytes(packet), self._get("I", _CONTEXT + _MARK), self._where)

    def _steps(self, code: bytes) -> int:
        registers: list[t.Any] = [None] * 11  # what nobody has set cannot be read: None takes part in no operation
        registers[1], registers[10] = _CONTEXT, _STACK + _STACK_SIZE
        at = 0
        while True:
            opcode, left, right, offset, immediate = self._decoded(code, at)
            at += 1
            unsigned = immediate & _64_BITS  # an immediate is extended by its sign
            if opcode == 0x18:  # a 64-bit constant: lower half, then the next instruction's upper half; of a map, its descriptor
                value = immediate & 0xFFFFFFFF | (self._decoded(code, at)[4] & 0xFFFFFFFF) << 32
                assert right == 0 or (right, value) == (1, self._map_fd)
                registers[left] = value
                at += 1
            elif opcode == 0xB7:
                registers[left] = unsigned
            elif opcode == 0xBF:
                registers[left] = registers[right] + 0
            elif opcode == 0x07:
                registers[left] = registers[left] + unsigned & _64_BITS
            elif opcode == 0x57:
                registers[left] &= unsigned
            elif opcode & 0xE7 == 0x61:
                registers[left] = self._get(_SIZES[opcode & 0x18], registers[right] + offset)
            elif opcode & 0xE7 == 0x63:
                self._set(_SIZES[opcode & 0x18], registers[left] + offset, registers[right])
            elif opcode == 0xDB and immediate == 0:  # BPF_ATOMIC, BPF_ADD
                self._set("Q", registers[left] + offset, self._get("Q", registers[left] + offset) + registers[right])
            elif opcode in (0x15, 0x55, 0x2D):
                value = registers[left] + 0  # a register that holds nothing is an error
                equal, above = value == unsigned, opcode == 0x2D and value > registers[right]
                holds = {0x15: equal, 0x55: not equal, 0x2D: above}[opcode]
                at += offset if holds else 0
            elif opcode == 0x85:
                registers[0] = self._call(immediate, registers[1:6])
                registers[1:6] = [None] * 5
            elif opcode == 0x95:
                return int(registers[0])
            else:
                raise LookupError(f"no instruction {opcode:#x}")

    def _decoded(self, code: bytes, at: int) -> tuple[int, int, int, int, int]:
        """Opcode, destination, source, offset, immediate (RFC 9669, 3.1: the registers are the other way round on a big-endian host)."""
        opcode, registers, offset, immediate = struct.unpack_from(f"{self._order}BBhi", code, 8 * at)
        high, low = registers >> 4, registers & 15
        return (opcode, low, high, offset, immediate) if self._order == "<" else (opcode, high, low, offset, immediate)

    def _call(self, helper: int, arguments: list[t.Any]) -> int:
        if helper == 1:  # bpf_map_lookup_elem(map, key)
            assert arguments[0] == self._map_fd
            key = self._bytes(arguments[1], 8)
            return _VALUES + 0x1000 * self._keys.index(key) if key in self._keys else 0
        if helper == 9:  # bpf_skb_store_bytes(skb, offset, from, len, flags)
            context, offset, source, length, flags = arguments
            assert (context, flags) == (_CONTEXT, 0)
            packet = self._memory[_PACKET]
            assert offset + length <= len(packet)
            packet[offset : offset + length] = self._bytes(source, length)
            return 0
        if helper == 26:  # bpf_skb_load_bytes(skb, offset, to, length)
            context, offset, to, length = arguments[:4]
            assert context == _CONTEXT
            data = self._memory[_PACKET][offset : offset + length]
            if len(data) < length:
                return -14 & _64_BITS  # -EFAULT
            memory, start = self._place(to, length)
            memory[start : start + length] = data
            return 0
        if helper == 23:  # bpf_redirect(ifindex, flags)
            self._where = (arguments[0], arguments[1])
            return 7
        raise LookupError(f"no helper {helper}")

    def _get(self, size: str, address: int) -> int:
        value: int = struct.unpack(f"{self._order}{size}", self._bytes(address, struct.calcsize(f"={size}")))[0]
        return value

    def _set(self, size: str, address: int, value: int) -> None:
        length = struct.calcsize(f"={size}")
        memory, offset = self._place(address, length)
        memory[offset : offset + length] = struct.pack(f"{self._order}{size}", value & 2 ** (8 * length) - 1)

    def _bytes(self, address: int, length: int) -> bytes:
        memory, offset = self._place(address, length)
        return bytes(memory[offset : offset + length])

    def _place(self, address: int, length: int) -> tuple[bytearray, int]:
        for base, memory in self._memory.items():
            if base <= address and address + length <= base + len(memory):
                return memory, address - base
        raise LookupError(f"nothing of {length} bytes is at {address:#x}")
