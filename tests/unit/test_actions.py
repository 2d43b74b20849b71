# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's halves: what is shown while a capture runs, and where its files go."""

from __future__ import annotations

import hashlib
import importlib
import pathlib
import typing as t

import pytest
import yaml
from ansible_collections.nettap.containers.plugins.action import container_capture_fetch as fetch
from ansible_collections.nettap.containers.plugins.action import container_capture_inside as inside
from ansible_collections.nettap.containers.plugins.action import container_capture_stream as stream
from ansible_collections.nettap.containers.plugins.action import container_capture_wait as wait
from ansible_collections.nettap.containers.plugins.plugin_utils import _arrival as arrival


@pytest.mark.parametrize("action", [fetch, inside, stream, wait])
def test_arguments_are_documented_as_they_are(action: t.Any) -> None:
    """Save what the documentation itself says that only the action plugin sets."""

    def told(options: dict[str, t.Any]) -> dict[str, t.Any]:
        options = {name: option for name, option in options.items() if "Set by the action plugin" not in str(option["description"])}
        kept = {name: {key: value for key, value in option.items() if key != "description"} for name, option in options.items()}
        for option in kept.values():
            if "suboptions" in option:
                option["options"] = told(option.pop("suboptions"))
            if option["type"] == "path":
                option["type"] = "str"  # a path of the host, in which the controller must not expand ~ and variables
        return kept

    module = importlib.import_module(action.__name__.replace(".action.", ".modules."))
    assert told(yaml.safe_load(module.DOCUMENTATION)["options"]) == action.ARGUMENTS


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web1", "web1"),
        ("node-1.example_com", "node-1.example_com"),
        ("10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80__1_eth0"),
        ("../../etc", "_.._etc"),
        ("/etc/passwd", "_etc_passwd"),
        (".", "_"),
        ("..", "_"),
        ("...", "_"),
        (".ssh", "ssh"),
        ("", "_"),
        ("a b\n*$(id)", "a_b____id_"),
        ("höst", "h_st"),
    ],
)
def test_folder_of_a_host(host: str, name: str) -> None:
    """One folder below dest, whatever an inventory calls the host."""
    assert arrival.file_name(host) == name and len(pathlib.PurePath(name).parts) == 1 and name not in (".", "..")


def test_file_is_the_same_only_by_its_content(tmp_path: pathlib.Path) -> None:
    content = b"x" * (3 << 20)
    (tmp_path / "file").write_bytes(content)
    record = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert fetch._same(str(tmp_path / "file"), record)
    assert not fetch._same(str(tmp_path / "none"), record) and not fetch._same(str(tmp_path), record)
    for other in (content[:-1], content[:-1] + b"y", b""):
        (tmp_path / "file").write_bytes(other)
        assert not fetch._same(str(tmp_path / "file"), record)


def segment(**fields: t.Any) -> dict[str, t.Any]:
    return {"container": "web", "interface": "eth0", "device": "eth0", "vantage": "container", "packets_received": 1200, "packets_dropped": 3,
            "bytes": 1_234_567, "status": "running", "stop_reason": None, "error": None, **fields}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "web eth0: 1200 packets, 1.2 MB, 3 dropped"),
        ({"vantage": "host", "device": "veth1234"}, "web eth0 (veth1234): 1200 packets, 1.2 MB, 3 dropped"),
        ({"packets_received": None, "packets_dropped": None, "bytes": 0}, "web eth0: 0 packets, 0 B, 0 dropped"),
        ({"status": "stopped", "stop_reason": "duration"}, "web eth0: 1200 packets, 1.2 MB, 3 dropped, stopped (duration)"),
        ({"status": "failed", "stop_reason": "error", "error": "The interface went down"},
         "web eth0: 1200 packets, 1.2 MB, 3 dropped, failed (The interface went down)"),
        ({"interface": "any", "device": "any", "bytes": 999}, "web any: 1200 packets, 999 B, 3 dropped"),
        ({"bytes": 1000}, "web eth0: 1200 packets, 1.0 kB, 3 dropped"),
        ({"bytes": 25_500_000_000}, "web eth0: 1200 packets, 25.5 GB, 3 dropped"),
    ],
)
def test_progress(fields: dict[str, t.Any], line: str) -> None:
    assert wait.progress({"segments": [segment(**fields)]}) == [line]


def test_progress_of_several() -> None:
    assert wait.progress({"segments": []}) == []
    lines = wait.progress({"segments": [segment(container="db"), segment(), segment(interface="eth1")]})
    assert [line.partition(":")[0] for line in lines] == ["db eth0", "web eth0", "web eth1"]
