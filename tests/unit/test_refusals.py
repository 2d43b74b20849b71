# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the system refuses becomes one sentence of the one family of errors: the fault is put in the place of the system call."""

from __future__ import annotations

import builtins
import collections.abc as c
import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import types
import typing as t

import pyroute2
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls
from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan, _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._storage import Storage, reserve
from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _engine, _namespace
from ansible_collections.nettap.containers.plugins.module_utils._errors import (
    CaptureError,
    DataplaneError,
    NamespaceError,
    NettapError,
    SteeringError,
    StorageError,
)
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _socket
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._session import Session
from ansible_collections.nettap.containers.plugins.module_utils._steering import _journal
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._filters import Filters
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover import _u32
from ansible_collections.nettap.containers.plugins.module_utils._system import _files, _inotify, _netns, _process, _program
from ansible_collections.nettap.containers.plugins.module_utils._targets import _links

KEY = bytes(8)
DATAPLANE = t.cast("t.Any", types.SimpleNamespace(name="nettap", mode="bridge", fd=0, inode=1, links=[types.SimpleNamespace(name="vbr0", engine_ifindex=7)]))
SENTENCE = r"^\S[^\n]*\.$"


def fails(number: int) -> c.Callable[..., t.NoReturn]:
    """Return a system call that ends with that error."""

    def call(*_arguments: object, **_options: object) -> t.NoReturn:
        raise OSError(number, os.strerror(number))

    return call


class Libc:
    """In the place of libc: every call ends with that error."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getattr__(self, name: str) -> c.Callable[..., int]:
        def call(*_arguments: object) -> int:
            ctypes.set_errno(self.number)
            return -1

        return call


class Socket:
    """In the place of a socket, of which one method ends with an error."""

    def __init__(self, method: str, fault: Exception) -> None:
        self.method, self.fault, self.closed = method, fault, False

    def __call__(self, *_arguments: object) -> Socket:
        return self

    def __getattr__(self, name: str) -> c.Callable[..., None]:
        def call(*_arguments: object) -> None:
            if name == self.method:
                raise self.fault

        return call

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def staying(monkeypatch: pytest.MonkeyPatch) -> None:
    """No namespace is entered: that takes root."""
    monkeypatch.setattr(_netns, "entered", lambda _fd: contextlib.nullcontext())


BPF: dict[str, tuple[c.Callable[[], t.Any], t.Any]] = {
    "a change of an element": (lambda: _calls.update(3, KEY, KEY), None),
    "a look at an element": (lambda: _calls.lookup(3, KEY, 8), None),
    "the removal of an element": (lambda: _calls.delete(3, KEY), None),
    "the keys": (lambda: _calls.keys(3, 8), []),
    "a look at BPF program 12": (lambda: _calls.map_of_program(12), None),
    "a look at the BPF programs of link 7": (lambda: _calls.attached(7, _calls.TCX_INGRESS), []),
}


@pytest.mark.parametrize("what", BPF)
def test_bpf(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call, without = BPF[what]
    for number in (errno.ENOMEM, errno.EBUSY, errno.EPERM):
        monkeypatch.setattr(_calls, "_LIBC", Libc(number))
        with pytest.raises(SteeringError, match=SENTENCE) as raised:
            call()
        assert what in str(raised.value) and os.strerror(number) in str(raised.value)
    monkeypatch.setattr(_calls, "_LIBC", Libc(errno.ENOENT))
    assert call() == without


@pytest.mark.parametrize("method", ["setsockopt", "bind", "sendto", "recv"])
@pytest.mark.parametrize("fault", [OSError(errno.ENOBUFS, "No buffer space available"), TimeoutError("timed out")], ids=["full", "silent"])
def test_netlink(method: str, fault: Exception, staying: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Socket(method, fault)
    monkeypatch.setattr(socket, "socket", made)
    with pytest.raises(NettapError, match=SENTENCE) as raised:
        Netlink(0).request(16, b"")
    assert isinstance(raised.value, NetlinkError) and raised.value.errno in (errno.ENOBUFS, errno.ETIMEDOUT)
    assert raised.value.strerror in str(raised.value)
    assert made.closed is (method in ("setsockopt", "bind"))


def test_netlink_without_a_socket(staying: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", fails(errno.EMFILE))
    with pytest.raises(NetlinkError, match="Too many open files"):
        Netlink(0)


def test_a_link_that_cannot_be_asked_for_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the steering of a container that runs would be undone."""

    def link(_self: Filters, _ifindex: int) -> t.NoReturn:
        raise NetlinkError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(Filters, "link", link)
    filters = Filters.__new__(Filters)
    assert not filters.has_link(0)
    with pytest.raises(NettapError, match="No buffer space"):
        filters.has_link(7)


# What is called, where the fault is put, and which error comes out.
CALLS: dict[str, tuple[c.Callable[[pathlib.Path], t.Any], object, str, type[NettapError]]] = {
    "a file is written": (lambda folder: _files.replace(f"{folder}/file", b"x"), os, "fsync", StorageError),
    "a file is removed": (lambda folder: _files.remove(f"{folder}/file"), os, "unlink", StorageError),
    "a folder is locked": (lambda folder: _files.held(f"{folder}/new", 0, ValueError()).__enter__(), os, "makedirs", StorageError),
    "the journal is saved": (lambda folder: _journal.Journal("x", str(folder))._sync(), os, "open", StorageError),
    "the journal is removed": (lambda folder: _journal.Journal(folder.name, str(folder.parent)).discard(), shutil, "rmtree", StorageError),
    "a session is removed": (lambda folder: Storage(str(folder)).remove("x"), shutil, "rmtree", StorageError),
    "a session is renamed": (lambda folder: Storage(str(folder)).rename("x", "y"), os, "rename", StorageError),
    "sessions are listed": (lambda folder: Storage(str(folder)).names(), os, "listdir", StorageError),
    "a session's folder is made": (lambda folder: Storage(str(folder)).locked("x", True).__enter__(), os, "mkdir", StorageError),
    "the disk is looked at": (lambda folder: Storage(str(folder)).free(), os, "statvfs", StorageError),
    "room is reserved": (lambda folder: reserve(str(folder), 1), os, "open", StorageError),
    "the host's namespace is opened": (lambda folder: _netns.host().__enter__(), os, "open", NamespaceError),
    "a namespace is entered": (lambda folder: _netns.entered(0).__enter__(), os, "open", NamespaceError),
    "a process's namespace is opened": (lambda folder: _netns.open_process(os.getpid()), os, "open", NamespaceError),
    "a process is watched": (lambda folder: _process.Process(os.getpid(), 1).open(), os, "pidfd_open", NettapError),
    "a scratch namespace is made": (lambda folder: _u32.missing(False, False), os, "open", NamespaceError),
    "new files are watched for": (lambda folder: _inotify.NewFiles(str(folder / "none")), _inotify, "_checked", NettapError),
    "a filter is compiled": (lambda folder: _tcpdump.check_filter("tcpdump", "tcp", "eth0", 1), subprocess, "run", CaptureError),
    "ip is run": (lambda folder: _namespace._run("ip", "netns"), subprocess, "run", DataplaneError),
    "dp is called": (lambda folder: Session(f"{folder}/socket"), socket, "socket", DataplaneError),
}
# The same, in a network namespace.
INSIDE: dict[str, tuple[c.Callable[[], t.Any], object, str, type[NettapError]]] = {
    "offloads are set": (lambda: _namespace._tx_off(0, "lo"), fcntl, "ioctl", DataplaneError),
    "IPv6 is turned off": (lambda: _namespace._disable_ipv6(0, "lo"), builtins, "open", DataplaneError),
    "who reads is looked for": (lambda: _engine.processes(DATAPLANE), builtins, "open", DataplaneError),
    "heartbeats are opened": (lambda: _engine.Heartbeat(DATAPLANE, 0), socket, "socket", DataplaneError),
    "link types are asked for": (lambda: _plan._hardware(0, _plan.Tap("eth0", "container", "eth0")), socket, "socket", CaptureError),
    "links are listed": (lambda: _plan.link_names(0), socket, "if_nameindex", CaptureError),
    "links are watched": (lambda: _socket.link_events(0), socket, "socket", NettapError),
}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("what", CALLS)
def test_call(what: str, number: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, owner, name, kind = CALLS[what]
    monkeypatch.setattr(_files, "same", lambda *_arguments: True)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails(number))
        with pytest.raises(kind, match=SENTENCE) as raised:
            call(tmp_path)
    assert number == errno.EPERM or os.strerror(number) in str(raised.value)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("what", INSIDE)
def test_call_inside(what: str, number: int, staying: None, monkeypatch: pytest.MonkeyPatch) -> None:
    call, owner, name, kind = INSIDE[what]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails(number))
        with pytest.raises(kind, match=SENTENCE) as raised:
            call()
    assert os.strerror(number) in str(raised.value)


def test_a_signal_that_is_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    started = _process.start_time(os.getpid())
    assert started is not None
    monkeypatch.setattr(signal, "pidfd_send_signal", fails(errno.EPERM))
    with pytest.raises(NettapError, match="root is needed"):
        _process.Process(os.getpid(), started).send(0)


@pytest.mark.parametrize("fault", [pyroute2.NetlinkError(errno.ENOBUFS, "No buffer space available"), OSError(errno.ENOBUFS, "No buffer space available")])
def test_pyroute2(fault: Exception, staying: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Route(contextlib.ExitStack):
        def get_links(self) -> t.NoReturn:
            raise fault

    monkeypatch.setattr(pyroute2, "IPRoute", Route)
    with pytest.raises(NamespaceError, match=r"No buffer space available"), _links.connect(0) as netlink:
        netlink.get_links()


def test_program_that_does_not_end() -> None:
    with pytest.raises(DataplaneError, match=r"did not end within 0.2 s and was killed: look there\.$"):
        _program.run([sys.executable, "-c", "import time; time.sleep(100)"], DataplaneError, 0.2, "look there")


def test_program_that_is_not_there() -> None:
    with pytest.raises(CaptureError, match=r"^no-such-program cannot be run on the host \(No such file or directory\): look there\.$"):
        _program.run(["no-such-program"], CaptureError, remedy="look there")
    with pytest.raises(CaptureError, match="embedded null byte"):
        _program.run(["true", "\0"], CaptureError)


def test_program_that_says_something() -> None:
    done = _program.run(["sh", "-c", r"cat; printf '\377' >&2; exit 3"], CaptureError, given="word")
    assert (done.stdout, done.stderr, done.returncode) == ("word", "\N{REPLACEMENT CHARACTER}", 3)
