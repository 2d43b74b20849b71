# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging: whole, checksummed, private files in the login user's folder, and nothing in anybody else's."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
import json
import os
import pathlib
import stat
import time
import types
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan, _stage, _staging, _storage
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, StorageError
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process
from ansible_collections.nettap.containers.tests.unit.pcap import builder

PACKETS = builder.sequence(6)
Staged = tuple[dict[str, t.Any], list[dict[str, t.Any]]]


@pytest.fixture(name="storage")
def make_storage(tmp_path: pathlib.Path) -> _storage.Storage:
    """A stopped session x of the containers web (a wrapped ring: 6 packets) and db (none)."""
    storage = _storage.Storage(str(tmp_path / "captures"))
    segments = []
    with storage.locked("x", create=True):
        directory = storage.directory("x")
        for number, name in enumerate(["web", "db"]):
            tap = _plan.Tap("eth0", "container", "eth0")
            known = Watched(str(number) * 64, name, "i")
            one = _plan.segment(number, known, tap, lambda _device, path: ["tcpdump", "-w", path, "--", "icmp"], directory)
            segments.append(dataclasses.replace(one, status="stopped", stop_reason="user", link_type="EN10MB"))
        for digit, first in (("0", 4), ("1", 0), ("2", 2)):
            builder.write(pathlib.Path(directory, segments[0].file + digit), builder.pcap(PACKETS[first:first + 2]))
        _storage.save(directory, Session("stopped", started_at="2026-01-31T03:00:00.250000Z", segments=segments))
    return storage


@pytest.fixture(name="folder")
def make_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "staging").mkdir(mode=0o700)
    return tmp_path / "staging"


def stage(storage: _storage.Storage, folder: pathlib.Path | None, kind: str = "segment", compress: bool = False) -> Staged:
    return _stage.stage(storage, "x", str(folder) if folder else None, "node", kind, compress)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("kind", "dests", "packets", "containers"),
    [
        ("segment", ["x-20260131T030000Z/000-web-eth0-container.pcap", "x-20260131T030000Z/001-db-eth0-container.pcap"], [6, 0], [["web"], ["db"]]),
        ("host", ["x-20260131T030000Z.pcapng"], [6], [["db", "web"]]),
    ],
)
def test_stage(
    storage: _storage.Storage, folder: pathlib.Path, kind: str, dests: list[str], packets: list[int], containers: list[list[str]], compress: bool
) -> None:
    capture, records = stage(storage, folder, kind, compress)
    assert capture["status"] == "stopped" and [record["dest"] for record in records] == [dest + (".gz" if compress else "") for dest in dests]
    assert [record["packets"] for record in records] == packets and [record["containers"] for record in records] == containers
    assert sorted(os.listdir(folder)) == [os.path.basename(record["path"]) for record in records]
    for record in records:
        content = pathlib.Path(record["path"]).read_bytes()
        assert (record["size"], record["sha256"], record["host"]) == (len(content), hashlib.sha256(content).hexdigest(), "node")
        figures = os.stat(record["path"])
        assert stat.S_IMODE(figures.st_mode) == 0o600 and (figures.st_uid, figures.st_gid) == (folder.stat().st_uid, folder.stat().st_gid)
    if kind == "segment":
        content = pathlib.Path(records[0]["path"]).read_bytes()
        assert (gzip.decompress(content) if compress else content) == builder.pcap(PACKETS)


@pytest.mark.parametrize("kind", ["segment", "host"])
@pytest.mark.parametrize("compress", [False, True])
def test_without_a_folder_nothing_is_written_and_all_is_told(
    storage: _storage.Storage, folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str, compress: bool
) -> None:
    """As in check mode; and the same packets make the same bytes each time."""
    days = itertools.count(0, 86400)
    monkeypatch.setattr(time, "time", lambda: next(days))
    before = sorted(tmp_path.rglob("*"))
    _capture, told = stage(storage, None, kind, compress)
    assert sorted(tmp_path.rglob("*")) == before
    _capture, staged = stage(storage, folder, kind, compress)
    assert told == [{**record, "path": None} for record in staged]


# --- bad parts take no good ones with them

GARBAGE = {"a5": b"\xa5" * 300, "zeros of a power cut": bytes(4096)}


def damage(storage: _storage.Storage, kind: str) -> list[str]:
    """Give db 5 packets and damage a file of the session; returns the words that must tell of it."""
    directory = pathlib.Path(storage.directory("x"))
    web, db = "000-web-eth0-container.pcap", "001-db-eth0-container.pcap"
    builder.write(directory / db, builder.pcap(builder.sequence(5, builder.START + 500)))
    if kind == "empty":
        builder.write(directory / f"{web}1", b"")
        return [f"{directory / web}1: is empty"]
    if kind == "no pcap":
        builder.write(directory / f"{web}2", b"\xa5" * 300)
        return [f"{directory / web}2: not a pcap file"]
    if kind == "all":
        for digit in "012":
            builder.write(directory / f"{web}{digit}", bytes(4096))
        return [f"{directory / web}{digit}: not a pcap file" for digit in "012"]
    if kind == "cut":
        builder.write(directory / db, builder.pcap(builder.sequence(6, builder.START + 500))[:-1])
        return [f"{directory / db}: ends in a packet"]
    builder.write(directory / f"{web}2", builder.pcap(PACKETS[2:3]) + GARBAGE[kind] + builder.record(PACKETS[3]))
    return [f"{directory / web}2: no packet at offset 100: "]


@pytest.mark.parametrize(("kind", "web"), [*((kind, 5) for kind in GARBAGE), ("empty", 4), ("no pcap", 4), ("all", 0), ("cut", 6)])
@pytest.mark.parametrize("compress", [False, True])
def test_damage_takes_no_good_part_with_it(storage: _storage.Storage, folder: pathlib.Path, kind: str, web: int, compress: bool) -> None:
    words = damage(storage, kind)
    _capture, [whole] = stage(storage, folder, "host", compress)
    assert whole["packets"] == web + 5 and len(whole["damage"]) == len(whole["warnings"]) == len(words) and whole["in_order"]
    assert all(one.startswith(word) and one in warning for one, word, warning in zip(whole["damage"], words, whole["warnings"]))
    content = pathlib.Path(whole["path"]).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (whole["size"], whole["sha256"])
    content = gzip.decompress(content) if compress else content
    first = builder.blocks(content)[0]
    comment = dict(builder.options(first.body[16:]))[1].decode()
    assert all(f"Packets are missing: {one}." in comment for one in whole["damage"])
    numbers = [(interface, packet.data) for interface, packet in builder.enhanced_packets(content)]
    assert len(numbers) == web + 5 and len([pair for pair in numbers if pair[0]]) == 5
    _capture, records = stage(storage, None, "segment", compress)
    assert [record["packets"] for record in records] == [web, 5]
    assert sorted(one for record in records for one in record["damage"]) == sorted(whole["damage"])


def test_running_file_that_is_not_whole_is_no_damage(storage: _storage.Storage) -> None:
    directory = storage.directory("x")
    damage(storage, "cut")
    session = _storage.load(directory)
    assert session is not None
    process = Process.own()
    for segment in session.segments:
        segment.status, segment.pid, segment.started = "running", process.pid, process.started
    session.status, session.supervisor = "running", process
    _storage.save(directory, session)
    _capture, [record] = stage(storage, None, "host")
    assert (record["packets"], record["damage"], record["warnings"]) == (11, [], [])


@pytest.mark.parametrize("seconds", [5, 0.25])
@pytest.mark.parametrize("kind", ["host", "segment"])
def test_clock_that_is_set_back_is_told(storage: _storage.Storage, folder: pathlib.Path, kind: str, seconds: float) -> None:
    packets = [*builder.sequence(20), *builder.sequence(20, builder.START - int(seconds * 10**9), first_number=20)]
    builder.write(pathlib.Path(storage.directory("x"), "001-db-eth0-container.pcap"), builder.pcap(packets))
    _capture, records = stage(storage, folder, kind)
    assert [record["in_order"] for record in records] == ([False] if kind == "host" else [True, False])
    [warning] = [one for record in records for one in record["warnings"]]
    assert f"not in the order of time: some are {seconds:.3f} s earlier" in warning and "clock was set back" in warning
    if kind == "host":
        first = builder.blocks(pathlib.Path(records[0]["path"]).read_bytes())[0]
        assert dict(builder.options(first.body[16:]))[1].decode() in warning


def test_session_without_any_file_gets_its_own_snapshot_length(storage: _storage.Storage, folder: pathlib.Path) -> None:
    directory = storage.directory("x")
    session = _storage.load(directory)
    assert session is not None
    _storage.save(directory, dataclasses.replace(session, request=Request(snaplen=96)))
    _capture, records = stage(storage, folder, "segment")
    assert pathlib.Path(records[1]["path"]).read_bytes() == builder.header(snaplen=96)


def test_files_become_the_login_users(storage: _storage.Storage, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _fd, user, group: owners.append((user, group)))
    real = os.fstat
    root_of = folder.stat().st_ino

    def fstat(fd: int) -> t.Any:
        figures = real(fd)
        if figures.st_ino != root_of:
            return figures
        return types.SimpleNamespace(st_mode=figures.st_mode, st_uid=1234, st_gid=5678, st_dev=figures.st_dev, st_ino=figures.st_ino)

    monkeypatch.setattr(os, "fstat", fstat)
    stage(storage, folder)
    assert owners == [(1234, 5678)] * 2


def test_session_that_is_not_there(storage: _storage.Storage, folder: pathlib.Path) -> None:
    with pytest.raises(CaptureError, match=r"There is no capture session 'y' under .*captures \(there are: x\)"):
        _stage.stage(storage, "y", str(folder), "node", "host", False)


@pytest.mark.parametrize("bits", [0o750, 0o701, 0o755, 0o770, 0o777, 0o1777])
def test_folder_that_is_open_to_others_is_refused(storage: _storage.Storage, folder: pathlib.Path, bits: int) -> None:
    folder.chmod(bits)
    with pytest.raises(StorageError, match="is open to others: captures hold secrets"):
        stage(storage, folder)
    assert os.listdir(folder) == []


@pytest.mark.parametrize(("kind", "words"), [("link", "Not a directory|symbolic links"), ("file", "Not a directory"), ("none", "No such file")])
def test_folder_that_is_none_is_refused(storage: _storage.Storage, folder: pathlib.Path, tmp_path: pathlib.Path, kind: str, words: str) -> None:
    planted = tmp_path / "planted"
    if kind == "link":
        planted.symlink_to(folder)
    elif kind == "file":
        planted.touch()
    with pytest.raises(StorageError, match=f"to stage the capture in cannot be opened: ({words})"):
        stage(storage, planted)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "file", "folder"])
def test_what_is_planted_in_the_folder_is_refused(storage: _storage.Storage, folder: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    """The login user could put it there before, and have root write, and give away, what it leads to."""
    precious, planted = tmp_path / "precious", folder / "000.staged"
    if kind == "dangling":
        planted.symlink_to(precious)
    else:
        precious.write_text("precious")
        plant: dict[str, t.Callable[[], None]] = {
            "link": lambda: planted.symlink_to(precious), "hard link": lambda: planted.hardlink_to(precious), "file": planted.touch, "folder": planted.mkdir,
        }
        plant[kind]()
    with pytest.raises(StorageError, match=r"The capture cannot be staged in .*staging: File exists\."):
        stage(storage, folder)
    assert not precious.exists() if kind == "dangling" else precious.read_text() == "precious"


def test_folder_without_the_room(storage: _storage.Storage, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fstatvfs", lambda _fd: types.SimpleNamespace(f_bavail=1, f_frsize=100))
    with pytest.raises(StorageError, match="0 MiB free: set ansible_remote_tmp to a larger file system, or fetch with compress: true"):
        stage(storage, folder)
    assert os.listdir(folder) == []


# --- what a broken fetch leaves

def test_what_a_broken_fetch_has_left_goes_with_the_next(storage: _storage.Storage, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    stage(storage, folder)
    (tmp_path / "next").mkdir(mode=0o700)
    stage(storage, tmp_path / "next")
    assert not folder.exists() and len(os.listdir(tmp_path / "next")) == 2
    _staging.clear(storage.directory("x"))
    assert not (tmp_path / "next").exists() and not os.path.exists(f"{storage.directory('x')}/staging.json")
    _staging.clear(storage.directory("x"))  # nothing to do


def test_clear_takes_only_what_was_staged(storage: _storage.Storage, folder: pathlib.Path) -> None:
    stage(storage, folder)
    (folder / "AnsiballZ_x.py").touch()
    _staging.clear(storage.directory("x"))
    assert os.listdir(folder) == ["AnsiballZ_x.py"]


@pytest.mark.parametrize("kind", ["another folder", "link", "file", "gone"])
def test_clear_leaves_what_has_taken_the_folders_place(storage: _storage.Storage, folder: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    """The folder is known by its inode: a name alone, the login user could give to anything."""
    stage(storage, folder)
    kept = tmp_path / "kept"
    folder.rename(kept)  # kept, so that its inode is not given out again
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    (other / "000.staged").write_text("precious")
    if kind == "another folder":
        other.rename(folder)
    elif kind == "link":
        folder.symlink_to(other)
    elif kind == "file":
        folder.write_text("precious")
    _staging.clear(storage.directory("x"))
    precious = {"another folder": folder / "000.staged", "file": folder}.get(kind, other / "000.staged")
    assert precious.read_text() == "precious" and sorted(os.listdir(kept)) == ["000.staged", "001.staged"]
    assert not os.path.exists(f"{storage.directory('x')}/staging.json")


def test_clear_survives_a_damaged_record(storage: _storage.Storage) -> None:
    record = pathlib.Path(storage.directory("x"), "staging.json")
    for content in ("", "{", json.dumps({"folder": "/nonexistent", "device": 1, "inode": 1})):
        record.write_text(content)
        _staging.clear(storage.directory("x"))
        assert not record.exists()
