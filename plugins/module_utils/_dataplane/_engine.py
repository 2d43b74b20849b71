# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that a dataplane's engine lives and forwards: its processes, and heartbeats that have to pass through it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time

from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError, NettapError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import mac_bytes
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._protocol import BEAT_TAG
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _process

# "Local experimental Ethertype 1" (IEEE 802-2014, table 9-2). It is not IP, so no rule of an engine matches it.
HEARTBEAT = 0x88B5
# A locally administered unicast address that no link has. Its last byte is the number of the link at which the frame is to come out.
# NeuVector's dp returns only frames of tags that it was told, so that frames in tag mode have one that it is told for this.
_MAC = bytes.fromhex("4e6574746170")[:5]
_HEADER_SIZE, _SHORTEST = 14, 60  # bytes of Ethernet
_PAYLOAD = struct.Struct("=8sQ")
_MAGIC = b"nettap\0\0"


def sockets(dataplane: Dataplane) -> set[str]:
    """Return the packet sockets on the engine's ends of the service links, as /proc/PID/fd names them. Raise DataplaneError."""
    ours = {link.engine_ifindex for link in dataplane.links}
    refusals = refused_as(DataplaneError, f"Who reads the service links of {dataplane.name} cannot be seen", "mount /proc, as root of the host itself")
    with _netns.entered(dataplane.fd), refusals, open("/proc/thread-self/net/packet", encoding="ascii") as table:
        next(table)
        # packet(7) does not document the columns: sk RefCnt Type Proto Iface R Rmem User Inode (net/packet/af_packet.c)
        return {f"socket:[{row[8]}]" for row in map(str.split, table) if int(row[4]) in ours}


def processes(dataplane: Dataplane) -> list[_process.Process]:
    """Return the engine's processes, which have such a socket. Raise DataplaneError.

    Where there are sockets, this takes some 16 µs for each process of the host.
    """
    ours = sockets(dataplane)
    found = []
    for pid in _netns.processes(dataplane.inode) if ours else []:
        with contextlib.suppress(OSError):  # the process may end meanwhile
            if ours & {os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")}:
                started = _process.start_time(pid)
                if started is not None:
                    found.append(_process.Process(pid, started))
    return found


class Heartbeat:
    """Frames through the engine, one in each direction. Those that come out prove that it forwards, without asking it.

    fd is of the namespace that holds steering's ends. Making one raises DataplaneError.
    """

    def __init__(self, dataplane: Dataplane, fd: int) -> None:
        self._sockets: list[socket.socket] = []
        self._destinations = [mac_bytes(BEAT_TAG) if dataplane.mode == "tag" else _MAC + bytes([number]) for number in range(len(dataplane.links))]
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
        """Close the sockets."""
        for one in self._sockets:
            one.close()

    def filenos(self) -> list[int]:
        """Return the descriptors to poll for heartbeats that come back."""
        return [one.fileno() for one in self._sockets]

    def send(self, mtu: int = 0) -> int:
        """Send a heartbeat in each direction, as long as a packet of that MTU (in bytes), and return its number."""
        self._sent += 1
        for number, one in enumerate(self._sockets):
            frame = self._destinations[(number + 1) % len(self._sockets)] + _MAC + bytes([number]) + struct.pack("!H", HEARTBEAT)
            with contextlib.suppress(OSError):  # the link is down, or its queue full: the heartbeat will not come back
                one.send((frame + _PAYLOAD.pack(_MAGIC, self._sent)).ljust(max(_SHORTEST, mtu + _HEADER_SIZE), b"\0"))
        return self._sent

    def hear(self) -> int:
        """Read the heartbeats that have come back, and return the number of the last one that came back in both directions (0: none)."""
        for number, one in enumerate(self._sockets):
            with contextlib.suppress(OSError):
                while True:
                    frame = one.recv(256)
                    # This socket does not see its own outgoing heartbeats: an AF_PACKET socket gets outgoing frames only with ETH_P_ALL.
                    if frame[:6] == self._destinations[number] and frame[14:22] == _MAGIC:
                        self._heard[number] = max(self._heard[number], _PAYLOAD.unpack_from(frame, 14)[1])
        return min(self._heard)


def check(dataplane: Dataplane, fd: int, timeout: float, control: str | None, mtu: int = 0) -> None:
    """Return once the engine forwards, also packets of that MTU (in bytes). If it does not within timeout seconds, raise DataplaneError, which says
    what is missing.

    fd is of the namespace that holds steering's ends. In tag mode an engine forwards only tags that it was configured for. One that was not
    told the heartbeats' tag has to read the service link and, where control gives the path of NeuVector dp's socket, to answer.
    """
    deadline = time.monotonic() + timeout
    heartbeat = Heartbeat(dataplane, fd)
    first = 0  # number of the first heartbeat that was as long as the MTU
    try:
        poller = select.poll()
        for fileno in heartbeat.filenos():
            poller.register(fileno, select.POLLIN)
        while True:
            heard = heartbeat.hear()
            number = heartbeat.send(mtu if heard else 0)
            first = first or (number if heard else 0)
            until = min(deadline, time.monotonic() + 0.1)
            while time.monotonic() < until:
                poller.poll(max(0.0, (until - time.monotonic()) * 1000))
                heard = heartbeat.hear()
                if heard and (not mtu or 0 < first <= heard):
                    return
                if heard and not first:
                    break
            try:
                if dataplane.mode == "tag" and not heard and processes(dataplane):
                    if not control or not _dp.returns_beats(control, max(0.1, deadline - time.monotonic()), dataplane.inode):
                        return
            except NettapError:
                if time.monotonic() >= deadline:
                    raise
            if time.monotonic() >= deadline:
                entries = " and ".join(link.name for link in dataplane.links)
                if heard:
                    raise DataplaneError(f"The dataplane {dataplane.name} forwards short frames, but none of {mtu + _HEADER_SIZE} bytes, as the containers' "
                                         f"MTU of {mtu} allows, came out within {timeout:g} s: give its engine room for them (NeuVector's dp: jumbo frames), "
                                         "then run the task again.")
                raise DataplaneError(f"The dataplane {dataplane.name} does not forward: of what went in at {entries} nothing came out "
                                     f"within {timeout:g} s ({_tell(dataplane)}). Start its engine in that namespace, on "
                                     f"{' and '.join(link.engine for link in dataplane.links)}, then run the task again.")
    finally:
        heartbeat.close()


def wait_for_control(control: str, timeout: float, within: int) -> None:
    """Return once the NeuVector dp in the network namespace of that inode number answers at its socket. Raise DataplaneError after timeout seconds.

    dp reads the service link only when it is configured to, so that cannot be waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            _dp.alive(control, max(0.1, deadline - time.monotonic()), within)
            return
        except NettapError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.1)


def _tell(dataplane: Dataplane) -> str:
    pids = [str(one.pid) for one in processes(dataplane)]
    return f"PID {', '.join(pids)} reads there" if pids else "no process reads there"
