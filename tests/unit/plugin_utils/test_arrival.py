# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that arrive on the controller: where they go, and that nothing else is touched."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible_collections.nettap.containers.plugins.plugin_utils import _arrival as arrival


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


def beside(content: bytes, then: Exception | None = None) -> t.Callable[[str, str], None]:
    """A connection's fetch_file as kubectl's and docker's: what it gets is named as its source until it is whole."""

    def fetch_file(source: str, part: str) -> None:
        path = pathlib.Path(part).with_name(pathlib.PurePath(source).name)
        path.write_bytes(content)
        path.chmod(0o644)
        if then:
            raise then
        path.rename(part)

    return fetch_file


@pytest.mark.parametrize(
    ("fetch_file", "complaint", "words"),
    [
        (beside(b"new"), None, None),
        (beside(b"new"), "it is short", "did not arrive intact .it is short."),
        (beside(b"ne", AnsibleConnectionFailure("cut")), None, "cut"),
        (beside(b"ne", OSError(28, "No space left on device")), None, "could not be written to .*: No space left on device"),
    ],
)
def test_arrival_touches_nothing_but_its_file(tmp_path: pathlib.Path, fetch_file: t.Any, complaint: str | None, words: str | None) -> None:
    """Neither a file of the source's name beside it; and a transfer that breaks leaves nothing of what was captured."""
    dest, other = tmp_path / "dest.pcap", tmp_path / "out.pcap"
    dest.write_text("old")
    other.write_text("mine")
    if words:
        with pytest.raises((AnsibleActionFail, AnsibleConnectionFailure), match=words):
            arrival.bring(fetch_file, "/tmp/x/out.pcap", str(dest), lambda _path: complaint)
    else:
        arrival.bring(fetch_file, "/tmp/x/out.pcap", str(dest), lambda _path: complaint)
        assert dest.stat().st_mode & 0o777 == 0o600
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"dest.pcap": "old" if words else "new", "out.pcap": "mine"}


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/passwd"), os.mkfifo, os.mkdir, lambda path: None])
def test_arrival_of_what_is_no_file(tmp_path: pathlib.Path, make: t.Callable[[pathlib.Path], None]) -> None:
    with pytest.raises(AnsibleActionFail, match=r"did not arrive intact .it is no file."):
        arrival.bring(lambda _source, part: make(pathlib.Path(part)), "/tmp/x/out.pcap", str(tmp_path / "dest"), lambda _path: None)
    assert list(tmp_path.iterdir()) == []
