# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf(2): its number, when the limit of locked memory is lifted and for how long, and what is said where the kernel forbids BPF.

Stand-ins for syscall(2) and setrlimit(2) play the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import resource
import typing as t

import memlock
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls
from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, SteeringError

UNLIMITED = resource.RLIM_INFINITY
FD = 77
CALLS: dict[str, t.Callable[[], t.Any]] = {
    "the BPF map nettap": lambda: _calls.create_map(8, 56, 65536, "nettap"),
    "the BPF program returning": lambda: _calls.load(bytes(8), "returning"),
}
LOOKS: dict[str, t.Callable[[], t.Any]] = {
    "a look at BPF program 12": lambda: _calls.map_of_program(12),
    "a look at the BPF programs of link 7": lambda: _calls.attached(7, _calls.TCX_INGRESS),
}


class Limit:
    """In the place of setrlimit(2) and getrlimit(2) for RLIMIT_MEMLOCK; says no where the process may not raise the hard one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = (65536, 8 << 20)
        self.set: list[tuple[int, int]] = []
        self.permitted = True
        monkeypatch.setattr(resource, "getrlimit", lambda which: self.now)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_MEMLOCK
        if not self.permitted and limits[1] == UNLIMITED:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits
        self.set.append(limits)


class Answering:
    """In the place of libc: syscall(2) fails with these errors in turn, then gives a descriptor."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def syscall(self, *_arguments: t.Any) -> int:
        """See syscall(2)."""
        if not self.errors:
            return FD
        ctypes.set_errno(self.errors.pop(0))
        return -1


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    return Limit(monkeypatch)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_limit_goes_for_one_call(call: t.Callable[[], int], limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = memlock.OldKernel(Answering())
    monkeypatch.setattr(_calls, "_LIBC", kernel)
    assert call() == FD
    assert kernel.refused == 1
    assert limit.set == [(UNLIMITED, UNLIMITED), (65536, 8 << 20)]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_limit_stays_where_it_does_not_matter(call: t.Callable[[], int], limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Linux 5.11 on; and of an older one that has room for more."""
    monkeypatch.setattr(_calls, "_LIBC", Answering())
    assert call() == FD
    for error in (errno.ENOMEM, errno.EACCES):
        monkeypatch.setattr(_calls, "_LIBC", Answering(error, error))
        with pytest.raises(SteeringError, match=r"Cannot allocate memory|Permission denied"):
            call()
    assert limit.set == []


@pytest.mark.parametrize("what", CALLS)
def test_another_reason_for_eperm(what: str, limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is gone and the kernel says no all the same: it is not blamed, and it is back."""
    monkeypatch.setattr(_calls, "_LIBC", Answering(errno.EPERM, errno.EPERM))
    words = rf"^The kernel forbids {what} \(Operation not permitted\): run as root of the host itself, .*CAP_SYS_ADMIN"
    with pytest.raises(SteeringError, match=words) as raised:
        CALLS[what]()
    assert "MEMLOCK" not in str(raised.value)
    assert limit.now == (65536, 8 << 20)


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EINVAL])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_another_error_behind_the_limit(call: t.Callable[[], int], error: int, limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calls, "_LIBC", Answering(errno.EPERM, error, error))
    with pytest.raises(SteeringError, match=r"^The kernel does not (make|take) the BPF (map nettap|program returning) \((Cannot allocate|Invalid)"):
        call()
    assert limit.now == (65536, 8 << 20)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_hard_limit_that_is_high_enough(call: t.Callable[[], int], limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to it any process may go."""
    limit.permitted = False
    monkeypatch.setattr(_calls, "_LIBC", memlock.OldKernel(Answering()))
    assert call() == FD
    assert limit.set == [(8 << 20, 8 << 20), (65536, 8 << 20)]


@pytest.mark.parametrize("what", CALLS)
def test_hard_limit_that_is_too_low(what: str, limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the limit or a privilege: both are named."""
    limit.permitted = False
    monkeypatch.setattr(_calls, "_LIBC", memlock.OldKernel(Answering(), memlock.NEEDED + 1))
    words = rf"^The kernel forbids {what} .*CAP_SYS_ADMIN.* Kernels before 5\.11 .*RLIMIT_MEMLOCK .*\(here 8388608 bytes\).*LimitMEMLOCK="
    with pytest.raises(SteeringError, match=words):
        CALLS[what]()
    assert limit.now == (65536, 8 << 20)


@pytest.mark.parametrize("what", LOOKS)
def test_looks_that_are_forbidden(what: str, limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calls, "_LIBC", Answering(errno.EPERM))
    with pytest.raises(SteeringError, match=rf"^The kernel forbids {what} \(Operation not permitted\): run as root"):
        LOOKS[what]()
    assert limit.set == []


@pytest.mark.parametrize("machine, pointer, number", [
    ("x86_64", 8, 321), ("x86_64", 4, 357), ("aarch64", 8, 280), ("aarch64", 4, 386), ("armv7l", 4, 386), ("i686", 4, 357), ("s390x", 8, 351),
])  # fmt: skip
def test_number_of_the_system_call(machine: str, pointer: int, number: int) -> None:
    """Of asm/unistd.h; the machine is the kernel's, the pointer's size the process's."""
    assert _calls._number(machine, pointer) == number


def test_unknown_machine() -> None:
    with pytest.raises(DependencyError, match=r"^bpf\(2\) is not known for mips: use topology: takeover"):
        _calls._number("mips", 8)
