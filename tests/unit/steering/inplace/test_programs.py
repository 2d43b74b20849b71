# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of steering in place are right on machines of either byte order."""

from __future__ import annotations

import sys

import program_cases as the
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace import _programs
from bpf_interpreter import Interpreter

ORDERS = {"little": "<", "big": ">"}
CASES = the.cases()
MAP = 3


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
