# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PID with its start time is one process and never another, whatever it is called."""

from __future__ import annotations

import collections.abc as c
import errno
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError
from ansible_collections.nettap.containers.plugins.module_utils._system import _process
from ansible_collections.nettap.containers.plugins.module_utils._system._process import Process

NO_PID = 1 << 30  # above the kernel's limit of 4194304


@pytest.fixture(name="sleeper")
def make_sleeper() -> c.Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def zombie(process: subprocess.Popen[bytes]) -> None:
    """Kill it and return when it has ended, without reaping it."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_start_time_is_the_kernels() -> None:
    """In ticks since boot: between this machine's boot and now, and not the same for each."""
    with open("/proc/uptime", encoding="ascii") as stream:
        now = float(stream.read().split()[0]) * os.sysconf("SC_CLK_TCK")
    started = _process.start_time(os.getpid())
    assert started is not None and 0 < started <= now
    first = _process.start_time(1)
    assert first is not None and first < started


@pytest.mark.parametrize("name", ["plain", "with space", "a) S 1 (b", "))) R 1 2 3", "((((", "new\nline", "x) Z 0 0"])
def test_start_time_whatever_the_process_is_called(tmp_path: pathlib.Path, name: str) -> None:
    program = shutil.copy("/bin/sleep", tmp_path / name)
    before = _process.start_time(os.getpid())
    with subprocess.Popen([program, "600"]) as process:
        try:
            while pathlib.Path(f"/proc/{process.pid}/comm").read_text()[:-1] != name:  # until it has become that program
                assert process.poll() is None
                time.sleep(0.001)
            started = _process.start_time(process.pid)
            # Field 22, counted from the end of the 52 there are.
            assert started == int(pathlib.Path(f"/proc/{process.pid}/stat").read_text().split()[-31])
            assert before is not None and started is not None and started >= before
        finally:
            process.kill()


def test_zombies_and_what_never_was_have_no_start_time(sleeper: subprocess.Popen[bytes]) -> None:
    started = _process.start_time(sleeper.pid)
    assert started is not None and Process(sleeper.pid, started).alive()
    zombie(sleeper)
    assert os.path.exists(f"/proc/{sleeper.pid}"), "it is still to be reaped"
    assert _process.start_time(sleeper.pid) is None
    assert not Process(sleeper.pid, started).alive()
    assert Process(sleeper.pid, started).wait(None) and Process(sleeper.pid, started).open() is None
    assert not Process(sleeper.pid, started).send(signal.SIGTERM)
    assert _process.start_time(NO_PID) is None


def test_pidfd_tells_of_the_end(sleeper: subprocess.Popen[bytes]) -> None:
    pidfd = _process.pidfd_open(sleeper.pid)
    try:
        assert not _process.has_ended(pidfd) and not _process.has_ended(pidfd, 0.001)
        sleeper.kill()
        assert _process.has_ended(pidfd, None) and _process.has_ended(pidfd)
        sleeper.wait()
        assert _process.has_ended(pidfd), "also when the PID is nobody's any more"
        assert os.get_inheritable(pidfd) is False
    finally:
        os.close(pidfd)


def test_pidfd_beyond_the_reach_of_select(sleeper: subprocess.Popen[bytes]) -> None:
    pidfd = _process.pidfd_open(sleeper.pid)
    try:
        os.dup2(pidfd, 1500)
        try:
            assert not _process.has_ended(1500)
        finally:
            os.close(1500)
    finally:
        os.close(pidfd)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ESRCH, ProcessLookupError, "No such process"),
        (errno.EPERM, PermissionError, "not permitted"),
        (errno.ENOSYS, DependencyError, "Linux 5.3 or newer is needed"),
        (errno.EINVAL, ProcessLookupError, "1 is no process's PID"),
        (errno.ENOENT, ProcessLookupError, "1 is no process's PID"),
    ],
)
def test_pidfd_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], words: str) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(kind, match=words):
        _process.pidfd_open(1)


def test_python_without_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(DependencyError, match=r"Python 3.9 or newer"):
        _process.pidfd_open(1)


def test_signal_reaches_this_very_process(sleeper: subprocess.Popen[bytes]) -> None:
    started = _process.start_time(sleeper.pid)
    assert started is not None
    process = Process(sleeper.pid, started)
    before = descriptors()
    assert not process.wait(0.001)
    assert process.send(signal.SIGTERM) and process.wait(None) and sleeper.wait() == -signal.SIGTERM
    assert not process.send(signal.SIGTERM) and process.wait(0) and process.open() is None
    assert descriptors() == before


@pytest.mark.parametrize("other", [-1, 1])
def test_process_that_has_got_the_pid_of_another_is_never_signalled(sleeper: subprocess.Popen[bytes], other: int) -> None:
    """The record is of an earlier process: what runs there now is somebody else's."""
    started = _process.start_time(sleeper.pid)
    assert started is not None
    recorded = Process(sleeper.pid, started + other)
    before = descriptors()
    assert not recorded.alive() and recorded.open() is None
    assert recorded.wait(None), "the recorded one has ended"
    assert not recorded.send(signal.SIGKILL) and not recorded.send(signal.SIGTERM)
    assert Process(sleeper.pid, started).alive() and sleeper.poll() is None
    assert descriptors() == before


def test_pid_that_changes_hands_between_two_looks(monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]) -> None:
    """The pidfd is opened before the start time is compared: a process that came between is seen and let be."""
    started = _process.start_time(sleeper.pid)
    assert started is not None
    times = iter([started, started + 1])
    monkeypatch.setattr(_process, "start_time", lambda _pid: next(times))
    process = Process(sleeper.pid, started)
    assert process.alive()
    assert not process.send(signal.SIGKILL) and sleeper.poll() is None


THREADS = """
import threading, time
thread = threading.Event()
threading.Thread(target=thread.wait, daemon=True).start()
threading.Thread(target=time.sleep, args=[600], daemon=True).start()
print("ready", flush=True)
input()
thread.set()
time.sleep(600)
"""


@pytest.fixture(name="threaded")
def make_threaded() -> c.Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_the_end_of_a_thread_is_told_from_that_of_its_process(threaded: subprocess.Popen[bytes]) -> None:
    pidfds = _process.thread_pidfds(threaded.pid)
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 9):
        assert pidfds == []  # there are none of threads
        return
    try:
        assert len(pidfds) == 2 and not any(map(_process.has_ended, pidfds)) and not _process.killed(threaded.pid)
        assert threaded.stdin
        threaded.stdin.write(b"\n")
        threaded.stdin.flush()
        poller = select.poll()
        for pidfd in pidfds:
            poller.register(pidfd, select.POLLIN)
        assert len(poller.poll(10000)) == 1 and not _process.killed(threaded.pid)
        zombie(threaded)
        assert all(map(_process.has_ended, pidfds)) and _process.killed(threaded.pid)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def test_threads_of_what_is_gone() -> None:
    assert _process.thread_pidfds(NO_PID) == [] and _process.killed(NO_PID)


def test_asleep_is_neither_running_nor_stopped_nor_gone(sleeper: subprocess.Popen[bytes]) -> None:
    while not _process.asleep(sleeper.pid):  # it has yet to come to its wait
        time.sleep(0.01)
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    assert not _process.asleep(sleeper.pid)
    assert not _process.asleep(os.getpid())
    assert not _process.asleep(NO_PID)
