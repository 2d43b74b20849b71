# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that share a network namespace are captured once, under all their names."""

from __future__ import annotations

import types
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan, _stage
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

SESSION = Session("running", Request.of({}))


def target(name: str, inode: int, isolated: bool = False, sandbox: bool = False) -> t.Any:
    container = Container("docker", name * 8, name, sandbox=sandbox, identity=Identity(name * 8, isolated=isolated))
    return types.SimpleNamespace(container=container, namespace=types.SimpleNamespace(inode=inode))


def test_one_group_a_namespace() -> None:
    cases = [
        ([target("app", 1), target("vpn", 1, isolated=True), target("web", 2, isolated=True)], [["vpn", "app"], ["web"]]),
        ([target("app", 1), target("log", 1), target("pod", 1, sandbox=True)], [["pod", "app", "log"]]),  # as of a pod
        ([target("app", 1), target("log", 1)], [["app", "log"]]),
        ([target("b", 2), target("a", 1)], [["a"], ["b"]]),
        ([], []),
    ]
    for targets, expected in cases:
        assert [[one.container.name for one in sharing] for sharing in _plan.by_namespace(targets)] == expected


def test_segment_is_named_after_all(tmp_path: t.Any) -> None:
    tap = _plan.Tap("eth0", "container", "eth0")
    one = _plan.segment(3, Watched("1", "vpn"), tap, lambda device, path: ["tcpdump", device, path], str(tmp_path), ["vpn", "app"])
    assert (one.container, one.containers, one.file, one.where) == ("vpn", ["vpn", "app"], "003-vpn_app-eth0-container.pcap", "vpn+app eth0")
    told = _stage.segment_input(str(tmp_path), SESSION, one, "node")
    assert told.if_name == "node/vpn+app/eth0" and "containers: vpn, app" in told.comments
    alone = _plan.segment(0, Watched("1", "vpn"), tap, lambda device, path: ["tcpdump", device, path], str(tmp_path))
    assert (alone.containers, alone.file) == (["vpn"], "000-vpn-eth0-container.pcap")
    # Release 0.1.0 knew one container a segment.
    old = Segment.of({"container": "web", "id": "1", "interface": "any", "vantage": "container", "device": "any", "file": "000.pcap", "argv": []})
    assert old.containers == ["web"] and _stage.segment_input(str(tmp_path), SESSION, old, "node").if_name == "node/web/any"
