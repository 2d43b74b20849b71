# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tcpdump to bring along to a container that has none: a static one as it is, any other with its loader and libraries."""

from __future__ import annotations

import dataclasses
import os
import re
import struct
import subprocess

from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError

# elf(5): the e_machine numbers of elf.h, by the names that uname -m prints.
_MACHINES = {
    "x86_64": 62, "i386": 3, "i486": 3, "i586": 3, "i686": 3, "aarch64": 183, "armv6l": 40, "armv7l": 40, "armv8l": 40, "ppc64le": 21, "s390x": 22,
    "riscv64": 243,
}
_ALSO = {"x86_64": {3}}  # machines that a kernel also runs
_PT_INTERP = 3  # elf(5): the segment that names the loader
_LIBRARY = re.compile(r"^\s*(?:(\S+) => )?(/\S+) \(0x[0-9a-f]+\)$")
LOADER = "ld.so"
PROGRAM = "tcpdump"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """The files that a program needs to run, by their names in one folder. If a loader is among them, it runs the program."""

    files: dict[str, str]
    machine: int

    def command(self, folder: str) -> list[str]:
        """Return the command that runs the program from that folder."""
        program = f"{folder}/{PROGRAM}"
        return [f"{folder}/{LOADER}", "--library-path", folder, program] if LOADER in self.files else [program]

    def check(self, machine: str, where: str) -> None:
        """Raise DependencyError when this machine (uname -m) does not run the program. A machine that is not known is tried."""
        number = _MACHINES.get(machine)
        if number is not None and self.machine not in {number, *_ALSO.get(machine, ())}:
            ours = next((name for name, known in _MACHINES.items() if known == self.machine), f"ELF machine {self.machine}")
            raise DependencyError(f"{where} is {machine} and {self.files[PROGRAM]} on the controller is for {ours}: give the path of a static tcpdump for "
                                  f"{machine} as tcpdump.")


def bundle(path: str) -> Bundle:
    """Return the files to bring along for the program at path. Raise DependencyError."""
    machine, loader = _read(path)
    if loader is None:
        return Bundle({PROGRAM: path}, machine)
    # As ldd(1) does, but without a shell. The loader does not run the program: it only lists the files that it would load.
    try:
        done = subprocess.run([loader, "--list", path], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DependencyError(f"{path} needs the loader {loader}, which does not run on the controller ({error.strerror}): give a static tcpdump.") from error
    found = [match for match in map(_LIBRARY.match, done.stdout.splitlines()) if match]
    missing = re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE)
    if done.returncode or missing or not found:
        raise DependencyError(f"The libraries of {path} cannot be found ({', '.join(missing) or done.stderr.strip()}): give a static tcpdump.")
    libraries = {match[1] or os.path.basename(match[2]): match[2] for match in found if match[2] != loader}
    return Bundle({**{os.path.basename(name): file for name, file in libraries.items()}, LOADER: loader, PROGRAM: path}, machine)


def _read(path: str) -> tuple[int, str | None]:
    """Return the machine of an ELF file, and its loader if it is not static. Layouts are those of elf(5). Raise DependencyError."""
    try:
        with open(path, "rb") as file:
            ident = file.read(16)
            if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
                raise DependencyError(f"{path} is not a program of Linux: give the path of a tcpdump.")
            order, wide = "<" if ident[5] == 1 else ">", ident[4] == 2
            layout = struct.Struct(order + ("HHIQQQIHHH" if wide else "HHIIIIIHHH"))
            _type, machine, _version, _entry, offset, _sections, _flags, _size, entry, number = layout.unpack(file.read(layout.size))
            header = struct.Struct(order + ("IIQQQQ" if wide else "IIIII"))
            for index in range(number):
                file.seek(offset + index * entry)
                fields = header.unpack(file.read(header.size))
                if fields[0] == _PT_INTERP:
                    file.seek(fields[2] if wide else fields[1])
                    return machine, file.read(fields[5] if wide else fields[4]).rstrip(b"\0").decode()
    except (OSError, struct.error) as error:
        raise DependencyError(f"{path} on the controller cannot be read ({getattr(error, 'strerror', None) or error}): give the path of a tcpdump.") from error
    return machine, None
