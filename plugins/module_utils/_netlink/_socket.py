# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rtnetlink sockets: requests to the kernel, dumps, and events of links that come and go."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink as rt
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import Link, attribute, attributes_of
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

PATIENCE = 10.0  # seconds within which the kernel must answer


class NetlinkError(NettapError):
    """A request that the kernel refused: its errno, and as strerror the kernel's own message where it sent one."""

    def __init__(self, number: int, words: str) -> None:
        super().__init__(f"The kernel refused a look at links, addresses, routes or filters, or a change of them ({words}): "
                         "look for its reason in the kernel's log (dmesg), then run the task again.")
        self.errno = number
        self.strerror = words


class Netlink:
    """A socket in the network namespace of fd, where it stays. Use it as a context manager, or close() it. Its methods raise NetlinkError."""

    def __init__(self, fd: int, protocol: int = socket.NETLINK_ROUTE) -> None:
        with _netns.entered(fd), _refusals():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            with _refusals():
                for option in (rt.NETLINK_CAP_ACK, rt.NETLINK_EXT_ACK):
                    self._socket.setsockopt(rt.SOL_NETLINK, option, 1)
                self._socket.settimeout(PATIENCE)
                self._socket.bind((0, 0))
        except NetlinkError:
            self._socket.close()
            raise
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def request(self, kind: int, payload: bytes, flags: int = 0) -> None:
        """Send a request for a change, and wait for the kernel's acknowledgement. Raise NetlinkError."""
        self._send(kind, payload, flags | rt.NLM_F_REQUEST | rt.NLM_F_ACK)
        for _answer in self._answers():
            pass

    def dump(self, kind: int, payload: bytes) -> list[bytes]:
        """Return all objects of a kind, each message without its netlink header. Raise NetlinkError."""
        while True:
            self._send(kind, payload, rt.NLM_F_REQUEST | rt.NLM_F_DUMP)
            self._interrupted = False
            found = list(self._answers())
            if not self._interrupted:  # else something changed meanwhile: the dump may lack or repeat an entry
                return found

    def links(self) -> dict[str, Link]:
        """Return the links of the namespace by their names. Raise NetlinkError."""
        found = [rt.parse_link(message) for message in self.dump(rt.RTM_GETLINK, rt.IFINFOMSG.pack(0, 0, 0, 0, 0))]
        return {link.name: link for link in found}

    def link(self, which: str | int) -> Link | None:
        """Return one link, by name or index, None when there is none. Raise NetlinkError."""
        by_name = attribute(rt.IFLA_IFNAME, which) if isinstance(which, str) else b""
        self._send(rt.RTM_GETLINK, rt.IFINFOMSG.pack(0, 0, 0 if isinstance(which, str) else which, 0, 0) + by_name, rt.NLM_F_REQUEST | rt.NLM_F_ACK)
        try:
            return next(rt.parse_link(answer) for answer in list(self._answers()))
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def nsid(self, fd: int) -> int | None:
        """Return this namespace's number for that of fd (IFLA_LINK_NETNSID of a veth into it), None when it has none. Raise NetlinkError."""
        self._send(rt.RTM_GETNSID, b"\0\0\0\0" + attribute(rt.NETNSA_FD, fd), rt.NLM_F_REQUEST | rt.NLM_F_ACK)
        found = int(next(struct.unpack("=i", attributes_of(answer, 4)[rt.NETNSA_NSID])[0] for answer in list(self._answers())))
        return None if found == rt.NETNSA_NSID_NOT_ASSIGNED else found

    def next_hop(self, address: str) -> str | None:
        """Return the address of the router on the way to an IP address, None when it is on a link of the namespace's. Raise NetlinkError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        route = rt.RTMSG.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + attribute(rt.RTA_DST, packed)
        self._send(rt.RTM_GETROUTE, route, rt.NLM_F_REQUEST | rt.NLM_F_ACK)
        found = next((attributes_of(answer, rt.RTMSG.size).get(rt.RTA_GATEWAY) for answer in list(self._answers())), None)
        return socket.inet_ntop(family, found) if found else None

    def set_link(self, index: int, *attributes: bytes, flags: int = 0, change: int = 0) -> None:
        """Change a link: set the attributes, packed by attribute(), and those of the flags (IFF_…) that are in change. Raise NetlinkError."""
        self.request(rt.RTM_SETLINK, rt.IFINFOMSG.pack(0, 0, index, flags, change) + b"".join(attributes))

    def delete_link(self, index: int) -> None:
        """Delete a link. Do nothing when it is gone. Raise NetlinkError."""
        try:
            self.request(rt.RTM_DELLINK, rt.IFINFOMSG.pack(0, 0, index, 0, 0))
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def _send(self, kind: int, payload: bytes, flags: int) -> None:
        self._sequence += 1
        with _refusals():
            self._socket.sendto(rt.NLMSGHDR.pack(rt.NLMSGHDR.size + len(payload), kind, flags, self._sequence, 0) + payload, (0, 0))

    def _answers(self) -> t.Iterator[bytes]:
        while True:
            with _refusals():
                data = self._socket.recv(1 << 18)
            while data:
                length, kind, flags, sequence, _port = rt.NLMSGHDR.unpack_from(data)
                payload, data = data[rt.NLMSGHDR.size:length], data[(length + 3) & ~3:]
                if sequence != self._sequence:
                    continue
                if flags & rt.NLM_F_DUMP_INTR:
                    self._interrupted = True
                if kind in (rt.NLMSG_ERROR, rt.NLMSG_DONE):
                    number = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
                    if number > 0:
                        # With NETLINK_CAP_ACK, only the request's header (16 bytes) follows the number.
                        said = attributes_of(payload, 4 + rt.NLMSGHDR.size if kind == rt.NLMSG_ERROR else 4) if flags & rt.NLM_F_ACK_TLVS else {}
                        raise NetlinkError(number, said.get(rt.NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace") or os.strerror(number))
                    return
                yield payload


def link_events(fd: int) -> socket.socket:
    """Return a non-blocking socket that becomes readable when links come and go in the namespace of fd. Raise NetlinkError."""
    with _netns.entered(fd), _refusals():
        one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        one.bind((0, rt.RTMGRP_LINK))
        return one


@contextlib.contextmanager
def _refusals() -> t.Iterator[None]:
    """Turn errors of the socket itself into NetlinkError, the error of refused requests."""
    try:
        yield
    except socket.timeout as error:
        raise NetlinkError(errno.ETIMEDOUT, "the kernel did not answer") from error
    except OSError as error:
        raise NetlinkError(error.errno or 0, error.strerror or str(error)) from error
