# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host's ends are refused for programs that go before any filter: also of kinds that the test machine's kernel lacks."""

from __future__ import annotations

import errno
import types
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._topology import InPlace

PEER = 7
TCX_INGRESS, TCX_EGRESS, NETKIT_PEER = 46, 47, 55  # linux/bpf.h


def refusal() -> str | None:
    record = types.SimpleNamespace(peer="nk0", peer_ifindex=PEER, where=lambda: "eth0 of box")
    host = types.SimpleNamespace(qdisc=lambda ifindex: None)
    return InPlace(t.cast("t.Any", record), None, t.cast("t.Any", host), lambda _record: None).refusal()


@pytest.mark.parametrize(
    ("kind", "words"),
    [(TCX_INGRESS, "has tcx programs (ingress, IDs 5, 6)"), (TCX_EGRESS, "has tcx programs (egress, IDs 5, 6)"),
     (NETKIT_PEER, "has netkit programs (peer, IDs 5, 6)"), (None, None)],
)  # fmt: skip
def test_programs(monkeypatch: pytest.MonkeyPatch, kind: int | None, words: str | None) -> None:
    monkeypatch.setattr(_calls, "attached", lambda ifindex, asked: [5, 6] if (ifindex, asked) == (PEER, kind) else [])
    said = refusal()
    assert said is None if words is None else said is not None and words in said and said.startswith("nk0, the host's end of eth0 of box, ")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOENT, errno.ENXIO])
def test_a_kernel_or_link_without_such_programs(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """What 6.1, 6.6 and later ones say of a veth: no such query, nothing there, no netkit."""
    monkeypatch.setattr(_calls, "bpf", raising(OSError(code, "")))
    assert refusal() is None


def test_the_second_end_of_a_netkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calls, "bpf", raising(PermissionError(errno.EACCES, "")))
    assert "is the second end of a netkit pair" in (refusal() or "")


def raising(error: OSError) -> t.Callable[..., t.NoReturn]:
    def bpf(*_arguments: object) -> t.NoReturn:
        raise error

    return bpf
