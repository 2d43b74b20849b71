# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a dataplane's engine lives and forwards: its processes, and heartbeats that have to come through it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time

from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError, NettapError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _process

# "Local experimental Ethertype 1" (IEEE 802-2014, table 9-2). Not IP, so no rule of an engine speaks of it.
HEARTBEAT = 0x88B5
# A locally administered unicast address that no link has; the last byte tells the link at which the frame shall come out.
_MAC = bytes.fromhex("4e6574746170")[:5]
_PAYLOAD = struct.Struct("=8sQ")
_MAGIC = b"nettap\0\0"


def sockets(dataplane: Dataplane) -> set[str]:
    """The packet sockets on the dataplane's ends of the service links, as /proc/PID/fd names them. Raises DataplaneError."""
    ours = {link.engine_ifindex for link in dataplane.links}
    refusals = refused_as(DataplaneError, f"Who reads the service links of {dataplane.name} cannot be seen", "mount /proc, as root of the host itself")
    with _netns.entered(dataplane.fd), refusals, open("/proc/thread-self/net/packet", encoding="ascii") as table:
        next(table)
        # packet(7) has no table of it: sk RefCnt Type Proto Iface R Rmem User Inode (net/packet/af_packet.c)
        return {f"socket:[{row[8]}]" for row in map(str.split, table) if int(row[4]) in ours}


def processes(dataplane: Dataplane) -> list[_process.Process]:
    """The processes that have such a socket: the engine's. Where there are sockets, that takes some 16 µs for each process of the host."""
    ours = sockets(dataplane)
    found = []
    for pid in _netns.processes(dataplane.inode) if ours else []:
        with contextlib.suppress(OSError):  # it may end while we look
            if ours & {os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")}:
                started = _process.start_time(pid)
                if started is not None:
                    found.append(_process.Process(pid, started))
    return found


class Heartbeat:
    """Sends frames through the engine, one each way, and hears which come out: the engine's own word is not needed.

    fd is of the namespace that steering's ends are in.
    """

    def __init__(self, dataplane: Dataplane, fd: int) -> None:
        self._sockets: list[socket.socket] = []
        try:
            with _netns.entered(fd):
                for link in dataplane.links:
                    with refused_as(DataplaneError, f"No heartbeat can be sent over {link.name}", "make the dataplane anew, as root of the host itself"):
                        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.htons(HEARTBEAT))
                        self._sockets.append(one)
                        one.bind((link.name, HEARTBEAT))
        except NettapError:
            self.close()
            raise
        self._sent = 0
        self._heard = [0] * len(self._sockets)

    def close(self) -> None:
        """Closes the sockets."""
        for one in self._sockets:
            one.close()

    def filenos(self) -> list[int]:
        """Descriptors to poll for what comes back."""
        return [one.fileno() for one in self._sockets]

    def send(self) -> int:
        """Sends a beat each way; returns its number."""
        self._sent += 1
        for number, one in enumerate(self._sockets):
            destination, source = _MAC + bytes([(number + 1) % len(self._sockets)]), _MAC + bytes([number])
            frame = destination + source + struct.pack("!H", HEARTBEAT) + _PAYLOAD.pack(_MAGIC, self._sent)
            with contextlib.suppress(OSError):  # the link is down, or its queue full: it will not be heard
                one.send(frame.ljust(60, b"\0"))  # the least that Ethernet carries
        return self._sent

    def hear(self) -> int:
        """Reads what has come back; returns the number of the last beat that was heard both ways (0: none)."""
        for number, one in enumerate(self._sockets):
            with contextlib.suppress(OSError):
                while True:
                    frame = one.recv(256)
                    # Our own beat as it leaves is not heard: an AF_PACKET socket gets outgoing frames only with ETH_P_ALL.
                    if frame[5:6] == bytes([number]) and frame[14:22] == _MAGIC:
                        self._heard[number] = max(self._heard[number], _PAYLOAD.unpack_from(frame, 14)[1])
        return min(self._heard)


def check(dataplane: Dataplane, fd: int, timeout: float, control: str | None) -> None:
    """Returns once the engine forwards; raises DataplaneError, with what is missing, when it does not within timeout seconds.

    fd is of the namespace that steering's ends are in. In tag mode an engine forwards only the tags that it was told of: there
    it has to read the service link and, where control gives the path of NeuVector dp's socket, to answer.
    """
    deadline = time.monotonic() + timeout
    heartbeat = Heartbeat(dataplane, fd)
    try:
        poller = select.poll()
        for fileno in heartbeat.filenos():
            poller.register(fileno, select.POLLIN)
        while True:
            heartbeat.send()
            until = min(deadline, time.monotonic() + 0.1)
            while time.monotonic() < until:
                poller.poll(max(0.0, (until - time.monotonic()) * 1000))
                if heartbeat.hear():
                    return
            try:
                if dataplane.mode == "tag" and processes(dataplane):
                    if control:
                        _dp.alive(control, timeout=max(0.1, deadline - time.monotonic()))
                    return
            except NettapError:
                if time.monotonic() >= deadline:
                    raise
            if time.monotonic() >= deadline:
                entries = " and ".join(link.name for link in dataplane.links)
                raise DataplaneError(f"The dataplane {dataplane.name} does not forward: of what went in at {entries} nothing came out "
                                     f"within {timeout:g} s ({_tell(dataplane)}). Start its engine in that namespace, on "
                                     f"{' and '.join(link.engine for link in dataplane.links)}, then run the task again.")
    finally:
        heartbeat.close()


def wait_for_control(control: str, timeout: float) -> None:
    """Returns once NeuVector's dp answers at its socket: it reads the service link only when it is told to. Raises DataplaneError after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            _dp.alive(control, timeout=max(0.1, deadline - time.monotonic()))
            return
        except NettapError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.1)


def _tell(dataplane: Dataplane) -> str:
    pids = [str(one.pid) for one in processes(dataplane)]
    return f"PID {', '.join(pids)} reads there" if pids else "no process reads there"
