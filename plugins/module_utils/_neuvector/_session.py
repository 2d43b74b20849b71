# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session with NeuVector's dp over its UNIX datagram socket, and with no other process than that dp."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import shutil
import socket
import struct
import tempfile
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._background import _private
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError, MissingError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _protocol as protocol
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

SOCKET = "/tmp/dp_listen.sock"  # ctrl.c DP_SERVER_SOCK
_SCM_CREDENTIALS = 2  # linux/socket.h; Python has no name for it
_UCRED = struct.Struct("iII")  # unix(7): pid, uid, gid of the sender, as the kernel confirms them
# Paths that lead into a root folder which is not ours; dp sees the rest of the path.
_ELSEWHERE = re.compile(rf"(/proc/\d+/root|{re.escape(_private.ROOT)}/[^/]+)(/.+)")


class NotRunning(DataplaneError):
    """A dp that is not there: no socket, or one without a listener."""


class Session:
    """An open session with dp, to use as a context manager.

    Attributes: path (of dp's socket), namespace (dp's process, held by pidfd, and its network namespace).
    dp processes messages in order and never answers configuring ones. fence() returns when they are done.
    within is the inode number of the network namespace in which dp must be: dp's path is fixed, so a second dp takes it from the first.
    Every method raises DataplaneError when dp does not answer in time (timeout, in seconds), has ended, or cannot be written to.
    """

    def __init__(self, path: str = SOCKET, timeout: float = 10, within: int | None = None) -> None:
        if timeout <= 0:
            raise DataplaneError("timeout must be more than 0 seconds.")
        self.path = path
        self._timeout = timeout
        self._within = within
        self._sequence = 0
        self._undo = contextlib.ExitStack()
        self._dp: _netns.Namespace | None = None
        try:
            self._socket = self._open()
            self.fence()
        except BaseException:
            self._undo.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._undo.close()

    @property
    def namespace(self) -> _netns.Namespace:
        """Return dp's process with its network namespace. Raise DataplaneError if dp has not answered yet."""
        if self._dp is None:
            raise DataplaneError(f"dp at {self.path} has not answered yet.")
        return self._dp

    def send(self, messages: t.Iterable[protocol.Message]) -> None:
        """Send messages, and wait until dp has processed them."""
        for message in messages:
            self._write(message)
        self.fence()

    def fence(self) -> None:
        """Wait until dp has processed all earlier messages."""
        self._sequence += 1
        self._write(protocol.keep_alive(self._sequence))
        while True:
            kind, _more, body = self._read("the keep-alive")
            if kind == protocol.KEEP_ALIVE and protocol.parse_keep_alive(body) == self._sequence:
                return

    def ask(self, message: protocol.Message, kind: int) -> list[bytes]:
        """Send a query, and return the bodies of its answer, one for each datagram."""
        self._write(message)
        bodies = []
        more = True
        while more:
            answered, more, body = self._read(next(iter(message)))
            if answered != kind:
                raise DataplaneError(f"dp at {self.path} answered {next(iter(message))} with kind {answered} instead of {kind}: "
                                     "use another release of dp, or report this.")
            bodies.append(body)
        return bodies

    def _open(self) -> socket.socket:
        with refused_as(DataplaneError, f"No socket can be made to reach dp at {self.path}", "raise the limit of open files (ulimit -n)"):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._undo.callback(end.close)
        elsewhere = _ELSEWHERE.fullmatch(self.path)
        root, path = elsewhere.groups() if elsewhere else ("", self.path)
        try:
            end.connect(self.path)  # from now on the kernel drops datagrams from all others
            folder = tempfile.mkdtemp(prefix="nettap-", dir=os.path.dirname(self.path))  # beside dp's socket, where dp can see it
            self._undo.callback(shutil.rmtree, folder, ignore_errors=True)
            reply = os.path.join(os.path.dirname(path), os.path.basename(folder), "reply")
            # The folder is 0700: only root can answer, even if another user has made dp's socket.
            # dp answers to the path that was bound, so the path has to mean the same to dp.
            _bind_in(root, end, reply) if root else end.bind(reply)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        except OSError as error:
            raise self._unreachable(error) from error
        end.settimeout(self._timeout)
        return end

    def _write(self, message: protocol.Message) -> None:
        try:
            self._socket.send(protocol.encode(message))
        except socket.timeout as error:  # dp's queue is full
            raise self._silent(next(iter(message))) from error
        except OSError as error:
            raise (self._ended() if self._dp and isinstance(error, ConnectionRefusedError) else self._unreachable(error)) from error

    def _read(self, what: str) -> tuple[int, bool, bytes]:
        deadline = time.monotonic() + self._timeout
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if self._dp is not None and self._dp.pidfd is not None:
            poller.register(self._dp.pidfd, select.POLLIN)
        ready = [fd for fd, _event in poller.poll(max(0.0, deadline - time.monotonic()) * 1000)]
        if self._socket.fileno() not in ready:
            if ready:
                raise self._ended()
            raise self._silent(what)
        try:
            data, ancillary, _flags, _address = self._socket.recvmsg(1 << 16, socket.CMSG_SPACE(_UCRED.size))
        except OSError as error:
            raise self._unreachable(error) from error
        sender = [_UCRED.unpack(value[:_UCRED.size])[0] for level, kind, value in ancillary if (level, kind) == (socket.SOL_SOCKET, _SCM_CREDENTIALS)]
        if self._dp is None:
            self._dp = self._identify(sender[0] if sender else 0)
        if sender != [self._dp.pid]:
            raise DataplaneError(f"Two processes answer at {self.path} ({self._dp.pid} and {sender}): end the one that is not meant to be there.")
        return protocol.header(data)

    def _identify(self, pid: int) -> _netns.Namespace:
        if not pid:
            raise DataplaneError(f"dp answers at {self.path}, but its process cannot be seen from here: run the task where it can, on the host itself.")
        try:
            dp = _netns.open_process(pid)
        except MissingError as error:
            raise DataplaneError(f"dp (process {pid}) ended as soon as it had answered at {self.path}: see its own output, and start it again.") from error
        self._undo.callback(dp.close)
        if self._within not in (None, dp.inode):
            raise DataplaneError(f"The dp that answers at {self.path} (process {pid}) runs in another network namespace than that of the dataplane: "
                                 "a dp of another dataplane has taken the socket; give each dp a /tmp of its own (container_dataplane, private_tmp), "
                                 "and name the socket of the one that is meant.")
        return dp

    def _ended(self) -> NotRunning:
        return NotRunning(f"dp (process {self.namespace.pid}) has ended while it was talked to at {self.path}: see its own output, and start it again.")

    def _silent(self, what: str) -> DataplaneError:
        who = f"dp (process {self._dp.pid})" if self._dp else "dp"
        return DataplaneError(f"{who} at {self.path} has not taken or answered {what} for {self._timeout:g} s: it hangs or is stopped, or cannot see "
                              f"{os.path.dirname(self.path)} as we do (socket: /proc/PID/root/tmp/dp_listen.sock); end it and start it again.")

    def _unreachable(self, error: OSError) -> DataplaneError:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return NotRunning(f"There is no NeuVector dp at {self.path}: start dp, or name its socket "
                              "(socket: /proc/PID/root/tmp/dp_listen.sock where it has a file system of its own).")
        if isinstance(error, (ConnectionRefusedError, ConnectionResetError)) or error.errno == errno.ENOTCONN:
            return NotRunning(f"Nobody listens at {self.path}: dp has ended and left its socket behind; start dp again, which replaces it.")
        if isinstance(error, PermissionError):
            return DataplaneError(f"The socket {self.path} of dp is not for this user: root is needed (become: true).")
        if error.errno == errno.EPROTOTYPE:
            return DataplaneError(f"{self.path} is another kind of socket than NeuVector's dp has: name the right one (socket).")
        return DataplaneError(f"dp at {self.path} cannot be reached: {error.strerror or error}.")


def _bind_in(root: str, end: socket.socket, path: str) -> None:
    """Bind a socket to a path below another root folder, in a child process that changes its root to it. Raise OSError."""
    child = os.fork()
    if not child:
        code = errno.EIO
        try:
            os.chroot(root)  # /proc/PID/root leads into the mounts of that process as well
            end.bind(path)
            code = 0
        except OSError as error:
            code = error.errno or errno.EIO
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))
