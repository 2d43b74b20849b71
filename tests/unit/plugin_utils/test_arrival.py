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
        ("Web1", "Web1"),
        ("node-1.example_com", "node-1.example_com"),
        ("10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80%3A%3A1%25eth0"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("/etc/passwd", "%2Fetc%2Fpasswd"),
        (".", "%2E"),
        ("..", "%2E."),
        (".ssh", "%2Essh"),
        ("", "%"),
        ("a b\n*$(id)", "a%20b%0A%2A%24%28id%29"),
        ("höst", "h%C3%B6st"),
        ("сервер1", "%D1%81%D0%B5%D1%80%D0%B2%D0%B5%D1%801"),  # noqa: RUF001
    ],
)
def test_folder_of_a_host(host: str, name: str) -> None:
    """One folder below dest, whatever an inventory calls the host."""
    assert arrival.file_name(host) == name and len(pathlib.PurePath(name).parts) == 1 and name not in (".", "..")


def test_no_two_hosts_have_one_folder(tmp_path: pathlib.Path) -> None:
    """Not even where names are long, are not Unicode, or hold what stands for something else."""
    hosts = ["сервер1", "хостик1", "______1", "a b", "a_b", "a%20b", "a:b", "ssh", ".ssh", "", "_", "%", "é", "e\u0301", "\udcff", "ÿ",  # noqa: RUF001
             *(start + end for start in ("x" * 254, "я" * 200) for end in ("", "1", "2", "я"))]
    folders = [arrival.folder_of(host, str(tmp_path), make=True) for host in hosts]
    assert len(set(folders)) == len(hosts) == len(list(tmp_path.iterdir()))
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in tmp_path.iterdir())
    assert folders == [arrival.folder_of(host, str(tmp_path), make=False) for host in hosts]


def test_folder_where_case_is_ignored(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that ignores case finds Web1 as web1 and lists it as Web1 only."""
    assert arrival.folder_of("Web1", str(tmp_path), make=True) == str(tmp_path / "Web1")
    (tmp_path / "web1").symlink_to("Web1")
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [name for name in listed(path) if name != "web1"])
    for make in (False, True, True):
        other = pathlib.Path(arrival.folder_of("web1", str(tmp_path), make))
        assert other.parent == tmp_path and other.name.startswith("web1~") and other.is_dir() is make
    assert arrival.folder_of("Web1", str(tmp_path), make=True) == str(tmp_path / "Web1")


def test_folder_that_cannot_be_made(tmp_path: pathlib.Path) -> None:
    """The error names the file that was to come."""
    (tmp_path / "file").touch()
    folder = arrival.folder_of("web1", str(tmp_path / "file"), make=True)
    words = r"The destination .*/file/web1/x.pcap on the controller cannot be written: Not a directory\."
    with pytest.raises(AnsibleActionFail, match=words):
        arrival.bring(lambda _source, _part: None, "/tmp/x", f"{folder}/x.pcap", lambda _path: None, "")
    with pytest.raises(AnsibleActionFail, match=words), arrival.new_file(folder, "x", ".pcap"):
        pass


def test_name_of_a_new_file_is_taken_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.pcap").write_text("old")
    with arrival.new_file(str(tmp_path), "x", ".pcap") as second, arrival.new_file(str(tmp_path), "x", ".pcap") as third:
        assert [os.path.basename(path) for path in (second, third)] == ["x-2.pcap", "x-3.pcap"]
    assert (tmp_path / "x.pcap").read_text() == "old"
    with pytest.raises(ZeroDivisionError), arrival.new_file(str(tmp_path), "y", ".pcap"):
        raise ZeroDivisionError
    assert not (tmp_path / "y.pcap").exists()


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
            arrival.bring(fetch_file, "/tmp/x/out.pcap", str(dest), lambda _path: complaint, "web1 shop 1")
    else:
        arrival.bring(fetch_file, "/tmp/x/out.pcap", str(dest), lambda _path: complaint, "web1 shop 1")
        assert dest.stat().st_mode & 0o777 == 0o600 and arrival.origin_of(str(dest)) == "web1 shop 1"
    assert arrival.origin_of(str(other)) is None is arrival.origin_of(str(tmp_path / "none"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"dest.pcap": "old" if words else "new", "out.pcap": "mine"}


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/passwd"), os.mkfifo, os.mkdir, lambda path: None])
def test_arrival_of_what_is_no_file(tmp_path: pathlib.Path, make: t.Callable[[pathlib.Path], None]) -> None:
    with pytest.raises(AnsibleActionFail, match=r"did not arrive intact .it is no file."):
        arrival.bring(lambda _source, part: make(pathlib.Path(part)), "/tmp/x/out.pcap", str(tmp_path / "dest"), lambda _path: None, "")
    assert list(tmp_path.iterdir()) == []
