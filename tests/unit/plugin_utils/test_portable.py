# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that is brought along: with what it needs, and only to a machine that runs it."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import struct
import subprocess

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError
from ansible_collections.nettap.containers.plugins.plugin_utils import _portable

MACHINE = os.uname().machine
PROGRAM = os.path.realpath("/bin/ls")


def elf(machine: int, wide: bool = True, order: str = "<", interpreter: str = "") -> bytes:
    """The start of a program, see elf(5)."""
    size = 64 if wide else 52
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    entries = 1 if interpreter else 0
    at = size + (56 if wide else 32)
    if wide:
        header = struct.pack(order + "HHIQQQIHHHHHH", 2, machine, 1, 0, size, 0, 0, size, 56, entries, 0, 0, 0)
        segment = struct.pack(order + "IIQQQQQQ", 3, 4, at, 0, 0, len(interpreter) + 1, 0, 1)
    else:
        header = struct.pack(order + "HHIIIIIHHHHHH", 2, machine, 1, 0, size, 0, 0, size, 32, entries, 0, 0, 0)
        segment = struct.pack(order + "IIIIIIII", 3, at, 0, 0, len(interpreter) + 1, 0, 4, 1)
    return ident + header + (segment + interpreter.encode() + b"\0" if interpreter else b"")


def test_bundle_runs_alone(tmp_path: pathlib.Path) -> None:
    """By its own loader, from a folder in which nothing else is."""
    found = _portable.bundle(PROGRAM)
    for name, path in found.files.items():
        assert os.path.basename(name) == name
        shutil.copy(path, tmp_path / name)
    done = subprocess.run([*found.command(str(tmp_path)), "/"], capture_output=True, text=True, check=True, env={})
    assert done.stdout.split() == sorted(done.stdout.split()) and "proc" in done.stdout
    listed = subprocess.run([str(tmp_path / _portable.LOADER), "--library-path", str(tmp_path), "--list", str(tmp_path / _portable.PROGRAM)],
                            capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert not re.search(r"=> (?!" + re.escape(str(tmp_path)) + ")", listed), listed
    found.check(MACHINE, "web")


@pytest.mark.parametrize(("wide", "order"), [(True, "<"), (True, ">"), (False, "<"), (False, ">")])
def test_static_program(tmp_path: pathlib.Path, wide: bool, order: str) -> None:
    (tmp_path / "tcpdump").write_bytes(elf(183, wide, order))
    found = _portable.bundle(str(tmp_path / "tcpdump"))
    assert found == _portable.Bundle({"tcpdump": str(tmp_path / "tcpdump")}, 183) and found.command("/x") == ["/x/tcpdump"]


@pytest.mark.parametrize(
    ("machine", "number", "fits"),
    [
        ("x86_64", 62, True), ("x86_64", 3, True), ("x86_64", 183, False), ("i686", 3, True), ("i686", 62, False), ("aarch64", 183, True),
        ("aarch64", 62, False), ("armv7l", 40, True), ("riscv64", 243, True), ("s390x", 21, False), ("", 62, True), ("mips", 62, True),
    ],
)  # fmt: skip
def test_architecture(machine: str, number: int, fits: bool) -> None:
    bundle = _portable.Bundle({"tcpdump": "/usr/bin/tcpdump"}, number)
    if fits:
        bundle.check(machine, "web")
    else:
        with pytest.raises(DependencyError, match=rf"^web is {machine} and /usr/bin/tcpdump on the controller is for \w+: give .* for {machine} as tcpdump"):
            bundle.check(machine, "web")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#!/bin/sh\n", "is not a program of Linux"),
        (b"", "is not a program of Linux"),
        (elf(62)[:30], "cannot be read"),
        (elf(183, interpreter="/lib/ld-nettap.so.1"), r"needs the loader /lib/ld-nettap\.so\.1, which does not run on the controller \(No such file"),
        (elf(62, interpreter="/bin/false"), "The libraries of .* cannot be found"),
    ],
)
def test_what_cannot_be_brought(tmp_path: pathlib.Path, content: bytes, words: str) -> None:
    (tmp_path / "tcpdump").write_bytes(content)
    with pytest.raises(DependencyError, match=words):
        _portable.bundle(str(tmp_path / "tcpdump"))


def test_no_such_program(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DependencyError, match=r"cannot be read \(No such file or directory\)"):
        _portable.bundle(str(tmp_path / "none"))
