# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BPF under a low limit of locked memory, and without privileges, in processes of their own.

This machine's kernel may not hold BPF to the limit (from 5.11 on): where it must, memlock.OldKernel stands before it.
"""

from __future__ import annotations

import os
import pathlib
import re
import resource
import subprocess
import sys

import ansible_cli
import memlock
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls
from ansible_collections.nettap.containers.plugins.module_utils._errors import SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace import _programs
from killer import in_a_process

LOW, NEEDED = 65536, 131072  # bytes


def may_raise() -> bool:
    """Whether root has CAP_SYS_RESOURCE (24 in linux/capability.h) here."""
    effective = re.search(r"^CapEff:\s*(\w+)$", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> 24 & 1)


def work(old: bool, limits: tuple[int, int]) -> None:
    """Make a map and a program under such limits, use them, and see that this process and what it starts have the limits still."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)
    kernel = memlock.OldKernel(_calls._LIBC, NEEDED)
    if old:
        _calls._LIBC = kernel  # type: ignore[assignment]
    map_fd = _calls.create_map(_programs.KEY_SIZE, _programs.VALUE_SIZE, 65536, "test")
    key, element = _programs.key("02:00:00:00:00:01"), _programs.Element(1, "02:00:00:00:00:01")
    _calls.update(map_fd, key, element.pack())
    assert _calls.lookup(map_fd, key, _programs.VALUE_SIZE) == element.pack()
    assert _calls.load(_programs.returning(map_fd, True, True, True), "test") > map_fd
    assert kernel.refused == (2 if old else 0)
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == limits
    told = "import resource; print(resource.getrlimit(resource.RLIMIT_MEMLOCK))"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout == f"{limits}\n"


@pytest.mark.parametrize("old", [False, True], ids=["this-kernel", "before-5.11"])
@pytest.mark.parametrize("both", [False, True], ids=["soft", "soft-and-hard"])
def test_low_limit(both: bool, old: bool) -> None:
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limits = (LOW, LOW if both else before[1])

    def refused() -> None:
        with pytest.raises(SteeringError, match=rf"RLIMIT_MEMLOCK is too low \(here {LOW} bytes\) and cannot be raised"):
            work(old, limits)

    # Where this machine's root may not raise the hard limit, it is told so.
    assert in_a_process(refused if old and both and not may_raise() else lambda: work(old, limits), [])
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == before


def said(program: str, *dropped: str) -> str:
    """Return the last line that Python says about a program that fails, run by root without these capabilities."""
    start = (
        "import memlock\n"
        "from ansible_collections.nettap.containers.plugins.module_utils._bpf import _assembler, _calls\n"
        "from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace import _programs\n"
    )
    done = subprocess.run(
        ["setpriv", f"--bounding-set={','.join(f'-{name}' for name in dropped)}", "--inh-caps=-all", sys.executable, "-c", start + program],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{ansible_cli.ROOT / 'collections'}:{ansible_cli.ROOT / 'tests/support'}"},
    )  # fmt: skip
    assert done.returncode == 1, done
    return done.stderr.strip().splitlines()[-1]


PRIVILEGES = ("sys_admin", "bpf", "net_admin")
# A program that leaves at once needs no map.
LOAD = "code = _assembler.Assembler(); code.leave(0); _calls.load(code.code(), 'test')"


@pytest.mark.parametrize("program, what", [
    (LOAD, "the BPF program test"),
    ("_calls.attached(1, _calls.TCX_INGRESS)", "a look at the BPF programs of link 1"),
    ("_calls.map_of_program(1)", "a look at BPF program 1"),
])  # fmt: skip
def test_root_without_privileges(program: str, what: str) -> None:
    sentence = said(program, *PRIVILEGES)
    assert f"SteeringError: The kernel forbids {what} (Operation not permitted): run as root of the host itself" in sentence
    if what.startswith("a look") or may_raise():
        assert "MEMLOCK" not in sentence


def test_root_that_may_not_raise_the_limit() -> None:
    program = f"import resource; resource.setrlimit(resource.RLIMIT_MEMLOCK, ({LOW}, {LOW})); _calls._LIBC = memlock.OldKernel(_calls._LIBC)\n{LOAD}"
    sentence = said(program, "sys_resource")
    assert "SteeringError: The kernel forbids the BPF program test" in sentence
    assert f"RLIMIT_MEMLOCK is too low (here {LOW} bytes) and cannot be raised: give CAP_SYS_RESOURCE" in sentence
