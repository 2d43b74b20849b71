# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where sessions are kept: nobody else can lead the writes elsewhere, two tasks never work on one session, no file is half."""

from __future__ import annotations

import collections.abc as c
import contextlib
import multiprocessing
import os
import pathlib
import signal
import stat
import threading
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _storage
from ansible_collections.nettap.containers.plugins.module_utils._capture._control import Sessions
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment, Session
from ansible_collections.nettap.containers.plugins.module_utils._capture._storage import Storage, load, save
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, StorageError
from ansible_collections.nettap.containers.plugins.module_utils._system import _files

ENDED = Session("stopped")
PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture(name="storage")
def make_storage(tmp_path: pathlib.Path) -> Storage:
    return Storage(str(tmp_path / "a" / "b" / "captures"))


@contextlib.contextmanager
def child(target: t.Callable[..., None], *arguments: object) -> c.Iterator[t.Any]:
    """A process that runs target, and is killed at the end if it still runs."""
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def mode(path: str | pathlib.Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# --- folders

@pytest.mark.parametrize("path", ["captures", "", "./captures", "../captures", "~/captures"])
def test_path_must_be_absolute(path: str) -> None:
    with pytest.raises(StorageError, match="path must be absolute"):
        Storage(path)


@pytest.mark.parametrize("name", ["..", "../x", ".", "a/b", "/etc", ""])
def test_session_stays_in_its_folder(storage: Storage, name: str) -> None:
    for action in (storage.directory, storage.remove, lambda name: storage.rename(name, "x"), lambda name: storage.locked(name, True).__enter__()):
        with pytest.raises(CaptureError, match="cannot be a session's name"):
            action(name)
    assert not os.path.exists(storage.path)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_folders_are_made_private(storage: Storage, tmp_path: pathlib.Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with storage.locked("x", create=True) as there:
            assert there
            assert mode(storage.directory("x")) == mode(storage.path) == 0o700
            assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o755, "whatever the task's umask is"
    finally:
        assert os.umask(before) == umask


def test_folder_that_is_there_keeps_its_mode(storage: Storage) -> None:
    os.makedirs(storage.path, mode=0o750)
    with storage.locked("x", create=True):
        assert mode(storage.path) == 0o750 & ~os.umask(os.umask(0)) and mode(storage.directory("x")) == 0o700


def test_nothing_is_made_unless_asked(storage: Storage, tmp_path: pathlib.Path) -> None:
    with storage.locked("x") as there:
        assert there is False
    assert storage.names() == [] and list(tmp_path.iterdir()) == []
    os.makedirs(storage.path, mode=0o700)
    with storage.locked("x") as there:
        assert there is False
    assert os.listdir(storage.path) == []


PLANT: dict[str, tuple[t.Callable[[pathlib.Path, pathlib.Path], None], str]] = {
    "link": (lambda path, away: path.symlink_to(away), "is a symbolic link: give the real path"),
    "dangling link": (lambda path, away: path.symlink_to(away / "none"), "is a symbolic link"),
    "relative link": (lambda path, away: path.symlink_to(os.path.relpath(away, path.parent)), "is a symbolic link"),
    "file": (lambda path, _away: path.touch(), "is not a folder"),
    "pipe": (lambda path, _away: os.mkfifo(path), "is not a folder"),
}


@pytest.mark.parametrize("part", ["a", "a/b", "a/b/captures"])
@pytest.mark.parametrize("kind", PLANT)
def test_what_is_planted_in_the_path_is_refused(storage: Storage, tmp_path: pathlib.Path, part: str, kind: str) -> None:
    """In every part of it: through a link, root would write where somebody else wants it."""
    away = tmp_path / "away"
    away.mkdir(mode=0o700)
    (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
    PLANT[kind][0](tmp_path / part, away)
    # Below a file or a dangling link there is nothing that could be there; what looks only says so.
    looks: list[t.Callable[[], object]] = [storage.names, storage.locked("x").__enter__]
    reached = part == "a/b/captures"
    for action in [storage.locked("x", create=True).__enter__, *(looks if reached else [])]:
        with pytest.raises(StorageError) as caught:
            action()
        assert PLANT[kind][1] in str(caught.value) and str(caught.value).startswith(f"{tmp_path / part} in the storage path")
    assert list(away.iterdir()) == []


@pytest.mark.parametrize("part", ["a", "a/b"])
def test_link_to_a_whole_storage_is_refused(storage: Storage, tmp_path: pathlib.Path, part: str) -> None:
    away = tmp_path / "away"
    rest = os.path.relpath(storage.path, tmp_path / part)
    (away / rest / "x").mkdir(parents=True)
    save(str(away / rest / "x"), ENDED)
    (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / part).symlink_to(away)
    for action in (storage.names, storage.locked("x").__enter__, storage.locked("x", create=True).__enter__):
        with pytest.raises(StorageError, match="is a symbolic link"):
            action()


@pytest.mark.parametrize("kind", PLANT)
def test_what_is_planted_for_the_session_is_refused(storage: Storage, tmp_path: pathlib.Path, kind: str) -> None:
    away = tmp_path / "away"
    away.mkdir(mode=0o700)
    os.makedirs(storage.path, mode=0o700)
    PLANT[kind][0](pathlib.Path(storage.directory("x")), away)
    for create in (False, True):
        with pytest.raises(StorageError, match="is not a session's folder but a symbolic link or a file: remove it"):
            storage.locked("x", create).__enter__()
    assert list(away.iterdir()) == [] and storage.names() == []


@pytest.mark.parametrize(
    ("bits", "safe"),
    [(0o700, True), (0o755, True), (0o711, True), (0o770, False), (0o775, False), (0o707, False), (0o722, False), (0o777, False), (0o1777, False)],
)
def test_folder_that_others_can_write_to_is_refused(storage: Storage, bits: int, safe: bool) -> None:
    os.makedirs(storage.path)
    os.chmod(storage.path, bits)
    for action in (storage.names, lambda: storage.locked("x", create=True).__enter__()):
        with contextlib.nullcontext() if safe else pytest.raises(StorageError, match="belongs to another user or is writable by others"):
            action()
    assert os.listdir(storage.path) == (["x"] if safe else [])


def test_folder_of_somebody_else_is_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(storage.path, mode=0o700)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    for action in (storage.names, storage.locked("x").__enter__, storage.locked("x", create=True).__enter__):
        with pytest.raises(StorageError, match="belongs to another user"):
            action()


def test_folder_that_cannot_be_made(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(StorageError, match="cannot be made: Read-only file system"):
        storage.locked("x", create=True).__enter__()


def test_names_are_of_folders_with_a_session(storage: Storage) -> None:
    for name in ("b", "a", "empty"):
        os.makedirs(storage.directory(name))
    for name in ("b", "a"):
        save(storage.directory(name), ENDED)
    pathlib.Path(storage.path, "file").touch()
    assert storage.names() == ["a", "b"]
    storage.rename("a", "c")
    assert storage.names() == ["b", "c"]


def test_free_space_of_what_is_not_there_yet(storage: Storage, tmp_path: pathlib.Path) -> None:
    figures = os.statvfs(tmp_path)
    free, total = storage.free()
    assert total == figures.f_blocks * figures.f_frsize and 0 <= free <= total
    os.makedirs(storage.path)
    assert storage.free()[1] == total


def test_remove_follows_no_link(storage: Storage, tmp_path: pathlib.Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "precious").touch()
    with storage.locked("x", create=True):
        os.symlink(away, os.path.join(storage.directory("x"), "link"))
    storage.remove("x")
    assert not os.path.lexists(storage.directory("x")) and (away / "precious").exists()


# --- locks

def count_up(storage: Storage, path: pathlib.Path, times: int) -> None:
    for _round in range(times):
        with storage.locked("x", create=True):
            path.write_text(str(int(path.read_text()) + 1))


def test_two_processes_never_hold_a_session_together(storage: Storage, tmp_path: pathlib.Path) -> None:
    (tmp_path / "count").write_text("0")
    workers = [PROCESSES.Process(target=count_up, args=(storage, tmp_path / "count", 40)) for _round in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4 and (tmp_path / "count").read_text() == "160"


def hold(storage: Storage, held: t.Any, let_go: t.Any) -> None:
    with storage.locked("x", create=True):
        held.set()
        let_go.wait()


def test_session_that_another_task_holds(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_storage, "PATIENCE", 0.0)
    held, let_go = PROCESSES.Event(), PROCESSES.Event()
    with child(hold, storage, held, let_go) as holder:
        assert held.wait(30)
        for create in (False, True):
            with pytest.raises(StorageError, match="Another task has been working on session x for 0 s: wait for it, or use another name"):
                storage.locked("x", create).__enter__()
        with storage.locked("y", create=True) as there:
            assert there, "another session is free"
        holder.kill()  # a killed task leaves no lock behind
        holder.join()
        with storage.locked("x") as there:
            assert there


def test_waits_for_its_turn(storage: Storage) -> None:
    held, let_go = PROCESSES.Event(), PROCESSES.Event()
    done = threading.Event()

    def wait() -> None:
        with storage.locked("x"):
            done.set()

    with child(hold, storage, held, let_go):
        assert held.wait(30)
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not done.is_set()
        let_go.set()
        waiter.join(30)
    assert done.is_set()


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("replaced", [True, False])
def test_folder_that_goes_while_it_is_waited_for(storage: Storage, monkeypatch: pytest.MonkeyPatch, create: bool, replaced: bool) -> None:
    """Another task renames or removes it before the lock is had: the lock is then on a folder that is not the session's."""
    locked = _files.lock
    rounds: list[int] = []

    def lock(fd: int, deadline: float, busy: Exception) -> None:
        rounds.append(fd)
        if len(rounds) == 1:
            storage.rename("x", "x.old")
            if replaced:
                os.mkdir(storage.directory("x"), 0o700)
        locked(fd, deadline, busy)

    os.makedirs(storage.directory("x"), mode=0o700)
    pathlib.Path(storage.directory("x"), "old").touch()
    monkeypatch.setattr(_files, "lock", lock)
    with storage.locked("x", create) as there:
        assert there is (create or replaced)
        assert os.path.isdir(storage.directory("x")) is (create or replaced)
        if there:
            assert os.listdir(storage.directory("x")) == [] and len(rounds) == 2


def test_lock_leaves_no_descriptor(storage: Storage) -> None:
    def descriptors() -> set[int]:
        return {int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}

    before = descriptors()
    with contextlib.suppress(ZeroDivisionError), storage.locked("x", create=True):
        opened = descriptors() - before
        assert len(opened) == 1 and not os.get_inheritable(opened.pop())
        raise ZeroDivisionError
    assert descriptors() == before


# --- session.json

STATES = [
    Session("running", buffer_size=0, error="x" * 100_000), Session("running", buffer_size=1, error=""),
    Session("stopped", buffer_size=2, segments=[Segment("ü", "1", "eth0", "container", "eth0", "000.pcap", ["\n"], links={2: "eth0"})]),
]  # fmt: skip


def keep_saving(directory: str) -> None:
    while True:
        for state in STATES:
            save(directory, state)


def test_save_is_whole_for_every_reader_and_when_killed(tmp_path: pathlib.Path) -> None:
    save(str(tmp_path), STATES[0])
    for _round in range(3):
        seen: list[int] = []
        with child(keep_saving, str(tmp_path)) as writer:
            while len(set(seen)) < 3 or len(seen) < 200:
                assert writer.is_alive()
                state = load(str(tmp_path))
                assert state is not None and state == STATES[state.buffer_size]
                seen.append(state.buffer_size)
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        state = load(str(tmp_path))
        assert state is not None and state == STATES[state.buffer_size]
    save(str(tmp_path), STATES[1])  # over what a killed writer has left
    assert os.listdir(tmp_path) == ["session.json"] and load(str(tmp_path)) == STATES[1]


def test_save_is_private_and_follows_no_link(tmp_path: pathlib.Path) -> None:
    directory, precious = tmp_path / "x", tmp_path / "precious"
    directory.mkdir()
    precious.write_text("precious")
    (directory / "session.json").symlink_to(precious)
    (directory / "session.json.new").symlink_to(precious)
    before = os.umask(0)
    try:
        save(str(directory), ENDED)
    finally:
        os.umask(before)
    assert precious.read_text() == "precious" and not (directory / "session.json").is_symlink()
    assert mode(directory / "session.json") == 0o600 and load(str(directory)) == ENDED


def test_room_for_the_last_word_is_kept_until_it_is_said(tmp_path: pathlib.Path) -> None:
    """On a disk that ran full, the final figures would have no room."""
    _storage.reserve(str(tmp_path), 50)
    reserved, = tmp_path.iterdir()
    assert reserved.stat().st_blocks * 512 >= 50 * 4096 and mode(reserved) == 0o600
    save(str(tmp_path), Session("running"))
    assert reserved.exists()
    save(str(tmp_path), Session("failed"))
    assert os.listdir(tmp_path) == ["session.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}}', b"\xff\xfe", b'{"a": 1', b"\0" * 100, b"[]", b"{}", b'{"status": "stopped", "segments": [{}]}',
                                     b'{"status": "stopped", "segments": 1}', b'{"status": "stopped", "request": {"duration": -1}}'])
def test_damaged(storage: Storage, content: bytes) -> None:
    with storage.locked("x", create=True):
        pathlib.Path(storage.directory("x"), "session.json").write_bytes(content)
    with pytest.raises(StorageError) as caught:
        load(storage.directory("x"))
    assert str(caught.value).endswith("look at the captures beside it, then remove the session (state: absent).")
    # It is listed, with its fault, and can be removed.
    told = Sessions(storage.path).about()
    assert [(session["name"], session["status"], session["error"], session["segments"]) for session in told] == [("x", "failed", str(caught.value), [])]
    assert Sessions(storage.path).remove("x").changed and not os.path.exists(storage.directory("x"))


def test_not_a_file(storage: Storage, tmp_path: pathlib.Path) -> None:
    directory = storage.directory("x")
    os.makedirs(directory, mode=0o700)
    assert load(directory) is None and load(storage.directory("none")) is None
    (tmp_path / "other.json").write_text("{}")
    os.symlink(tmp_path / "other.json", f"{directory}/session.json")
    with pytest.raises(StorageError, match="cannot be read"):
        load(directory)
    os.unlink(f"{directory}/session.json")
    os.mkdir(f"{directory}/session.json")
    with pytest.raises(StorageError, match="cannot be read"):
        load(directory)


def test_session_that_is_removed_while_it_is_listed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    with storage.locked("x", create=True):
        save(storage.directory("x"), ENDED)
    monkeypatch.setattr(_storage, "load", lambda _directory: None)
    assert Sessions(storage.path).about() == [] == Sessions(storage.path).about("x")
