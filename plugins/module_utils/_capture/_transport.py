# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transport of the play itself. A capture that holds it grows by what it sends to the controller, so it is left out."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import socket

from ansible_collections.nettap.containers.plugins.module_utils._capture import _session
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Session
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NamespaceError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

KUBELET_PORT = 10250  # its default, which kubeadm and the distributions keep: KubeletConfiguration, port
_STREAMERS = ("containerd", "crio", "cri-dockerd")  # they serve an exec to kubelet, on a port of the loopback address
_LISTEN = "0A"  # net/tcp_states.h
_LOOPBACK = ("0100007F", "00000000000000000000000001000000")  # as /proc/net/tcp and tcp6 print it where the low byte comes first


@dataclasses.dataclass(frozen=True)
class Transport:
    """What carries the task: words name it, expression is the filter (pcap-filter(7)) that it passes on this host.

    For an SSH connection, client and server are its addresses as this host sees them, and port is the server's.
    """

    words: str
    expression: str
    client: str = ""
    server: str = ""
    port: int = 0


def found() -> Transport | None:
    """Return the transport of this task; None where there is none on this host (a local connection)."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:  # set in every container of a pod
        ports = [KUBELET_PORT, *sorted(streaming_ports())]
        return Transport("the exec into this helper pod", " or ".join(f"tcp port {port}" for port in ports))
    pid = os.getpid()
    while pid > 1:  # sudo takes SSH_CONNECTION out of the environment, so those who called it are asked too
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{pid}/environ", "rb") as stream:
                told = [word for word in stream.read().split(b"\0") if word.startswith(b"SSH_CONNECTION=")]
            if told:
                return ssh(os.fsdecode(told[0]).partition("=")[2])
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
                pid = int(stream.read().rpartition(")")[2].split()[1])
        except OSError:
            return None
    return None


def ssh(told: str) -> Transport:
    """Return the transport that SSH_CONNECTION tells of, see ssh(1). Raise ValueError when it tells of none.

    Ansible may open the next connection from another port of the client, so that port is not in the expression.
    """
    client, _port, server, port = told.split()
    addresses = [ipaddress.ip_address(address.partition("%")[0]) for address in (client, server)]
    ours, theirs = (str(getattr(address, "ipv4_mapped", None) or address) for address in addresses)
    number = int(port)
    return Transport(f"this play's SSH connection from {ours}", f"tcp port {number} and host {ours} and host {theirs}", ours, theirs, number)


def streaming_ports() -> set[int]:
    """Return the loopback ports on which the container runtimes of this host listen."""
    ports: set[int] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
                if stream.read().rstrip("\n") not in _STREAMERS:
                    continue
            held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
            for table in ("tcp", "tcp6"):
                with open(f"/proc/{pid}/net/{table}", encoding="ascii") as stream:
                    rows = [line.split() for line in stream][1:]
                for address, state, inode in ((row[1], row[3], row[9]) for row in rows):
                    if state == _LISTEN and address.partition(":")[0] in _LOOPBACK and f"socket:[{inode}]" in held:
                        ports.add(int(address.partition(":")[2], 16))
    return ports


def left_out(transport: Transport | None, name: str, namespace: _netns.Namespace, endless_loop: bool) -> tuple[str, str]:
    """Return the filter of the packets to leave out of the captures in a namespace, and a sentence about it; "" and "" where the transport does not pass.

    name is the container's. endless_loop is whether the packets are brought to the controller at once, with no filter: then a container that carries
    the transport within another connection, which cannot be told from others, is refused. Raise CaptureError, NamespaceError.
    """
    if transport is None:
        return "", ""
    if namespace.host or _netns.leads_to("/proc/self/ns/net", namespace.inode):
        return transport.expression, f"{name}: {transport.words} ({transport.expression}) is left out."
    if not transport.client or not _carries(transport.client, namespace):
        return "", ""
    if endless_loop:
        raise CaptureError(f"{name} carries {transport.words}, as a bastion or a VPN does, and would capture live what it sends to you, again and again: "
                           "give a filter that leaves it out, such as 'not tcp port 22', or 'not udp port 51820' for WireGuard.")
    expression = f"tcp port {transport.port} and host {transport.server}"  # a VPN may translate the client's address
    return expression, (f"{name} carries {transport.words}: {expression} is left out. The connection that carries it further to the controller cannot be told "
                        "from others there.")


def check_to_follow(name: str, session: Session) -> None:
    """Raise CaptureError if the session, which another play or nobody's has started, captures all of the connection over which this task follows it."""
    transport = found() if session.request.exclude_own_connection and not session.request.filter else None
    for segment in session.segments if transport else ():
        process = _session.tcpdump(segment)
        with contextlib.suppress(NamespaceError), _netns.host() as host:
            places = [os.fstat(host).st_ino, os.stat("/proc/self/ns/net").st_ino]
            here = process is not None and any(_netns.leads_to(f"/proc/{process.pid}/ns/net", place) for place in places)
            if transport and here and segment.device == "any" and transport.expression not in segment.filter:
                raise CaptureError(f"Session {name} captures {transport.words}, and would capture what it sends to you, again and again: start it from here, "
                                   f"or with the filter 'not ({transport.expression})'.")


def _carries(client: str, namespace: _netns.Namespace) -> bool:
    """Return whether the client's address, or the next hop on the way to it, is the namespace's. Raise NamespaceError."""
    if ipaddress.ip_address(client).is_loopback:
        return False
    with _netns.host() as host, contextlib.suppress(NetlinkError), Netlink(host) as netlink:
        hops = [client, netlink.next_hop(client)]
        return any(_has(hop, namespace) for hop in hops if hop)
    return False


def _has(address: str, namespace: _netns.Namespace) -> bool:
    """Return whether an address is one of the namespace's: only such an address can be bound. Raise NamespaceError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with _netns.entered(namespace.fd), contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as one:
        one.bind((address, 0))
        return True
    return False
