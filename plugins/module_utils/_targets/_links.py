# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links of a network namespace, and the host's end of each pair of links (veth, netkit), read over netlink."""

from __future__ import annotations

import contextlib
import glob
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, NamespaceError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

Link = dict[str, t.Any]
# Kinds of links that exist in pairs: IFLA_LINK of one end is the ifindex of the other. netkit came with Linux 6.7.
PAIRS = ("veth", "netkit")
_RTM_GETNSID = 90  # linux/rtnetlink.h
# Paths to network namespaces: Docker's (those of overlay networks have no process), named ones, and those of processes.
_PLACES = ("/run/docker/netns/*", "/run/netns/*", "/proc/[0-9]*/ns/net")


def interfaces(namespaces: t.Sequence[_netns.Namespace]) -> list[list[Link]]:
    """Return the interfaces of each namespace, as container_network_info returns them.

    host_peer comes from IFLA_LINK and IFLA_LINK_NETNSID (linux/if_link.h). The peer's ifindex is valid only in the
    namespace that the netnsid names, and only for PAIRS (macvlan and ipvlan show their parent there). peer_netns is a path to the
    namespace of a peer that is neither on the host nor beside it, or words where no path is known.
    Raise DependencyError, NamespaceError.
    """
    with _Host() as host:
        return [_interfaces(namespace, host) for namespace in namespaces]


def _interfaces(namespace: _netns.Namespace, host: _Host) -> list[Link]:
    with connect(namespace.fd) as netlink:
        addresses: dict[int, list[str]] = {}
        for message in netlink.get_addr():
            # In a point-to-point address, IFA_ADDRESS is the other side's, and IFA_LOCAL (IPv4 only, else absent) is ours.
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            addresses.setdefault(message["index"], []).append(f"{address}/{message['prefixlen']}")
        found = []
        others: dict[int, str] | None = None
        for message in netlink.get_links():
            link = _describe(message)
            link["addresses"] = addresses.get(link["ifindex"], [])
            link["host_peer"] = link["peer_netns"] = None
            netnsid = message.get_attr("IFLA_LINK_NETNSID")
            if link["kind"] in PAIRS and netnsid is not None and not namespace.host:
                if _netnsid(netlink, host.fd) == netnsid:
                    link["host_peer"] = host.peer(link)
                else:
                    others = _others(netlink) if others is None else others
                    link["peer_netns"] = others.get(netnsid, f"number {netnsid} in the container's")
            found.append(link)
    return found


def _others(netlink: t.Any) -> dict[int, str]:
    """Return paths to the network namespaces of this host, by the numbers by which the namespace of the socket knows them."""
    found: dict[int, str] = {}
    seen = set()
    kind = os.stat("/proc/self/ns/net").st_dev
    for path in (path for pattern in _PLACES for path in sorted(glob.glob(pattern))):
        with contextlib.suppress(OSError):  # the process has ended, or the name leads to nothing
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                figures = os.fstat(fd)
                if figures.st_dev == kind and figures.st_ino not in seen:
                    seen.add(figures.st_ino)
                    found.setdefault(_netnsid(netlink, fd), path)
            finally:
                os.close(fd)
    return found


def _netnsid(netlink: t.Any, fd: int) -> int:
    """Return the number by which the namespace of the socket knows the namespace behind fd; -1 if it does not know it."""
    if hasattr(netlink, "get_netnsid"):
        return t.cast("int", netlink.get_netnsid(fd=fd)["nsid"])
    # pyroute2 before 0.6.5, as in Debian 11, EPEL 9 and Ubuntu 22.04, knows the message but has no method that sends it.
    from pyroute2.netlink import NLM_F_REQUEST
    from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

    question = nsidmsg()
    question["attrs"] = [("NETNSA_FD", fd)]
    answer = next(iter(netlink.nlm_request(question, _RTM_GETNSID, NLM_F_REQUEST)))
    return t.cast("int", answer.get_attr("NETNSA_NSID"))


def _describe(message: t.Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    return {
        "name": message.get_attr("IFLA_IFNAME"),
        "ifindex": message["index"],
        # Only virtual links name their kind; ARPHRD_LOOPBACK is 772 (linux/if_arp.h).
        "kind": kind or ("loopback" if message["ifi_type"] == 772 else "physical"),
        "mac": message.get_attr("IFLA_ADDRESS"),
        "mtu": message.get_attr("IFLA_MTU"),
        "state": (message.get_attr("IFLA_OPERSTATE") or "UNKNOWN").lower(),
        "iflink": message.get_attr("IFLA_LINK"),
    }


class _Host:
    """The host's links, read once and only when one of a pair asks for its peer."""

    def __init__(self) -> None:
        self._links: dict[int, tuple[Link, int | None]] | None = None

    def __enter__(self) -> _Host:
        self._stack = contextlib.ExitStack()
        self.fd = self._stack.enter_context(_netns.host())
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def peer(self, link: Link) -> dict[str, t.Any] | None:
        """Return the host's end of a pair whose netnsid is the host's; None unless that end points back."""
        if self._links is None:
            with connect(self.fd) as netlink:
                self._links = {message["index"]: (_describe(message), message.get_attr("IFLA_MASTER")) for message in netlink.get_links()}
        found, master = self._links.get(link["iflink"], (None, None))
        if found is None or found["kind"] != link["kind"] or found["iflink"] != link["ifindex"]:
            return None
        bridge = self._links.get(master) if master else None
        return {"name": found["name"], "ifindex": found["ifindex"], "master": bridge[0]["name"] if bridge else None}


@contextlib.contextmanager
def connect(fd: int) -> t.Iterator[t.Any]:
    """Open a netlink socket in the namespace of fd, for the block. It stays in that namespace after we have left. Raise DependencyError, NamespaceError."""
    try:
        from pyroute2 import IPRoute, NetlinkError  # takes 0.10 to 0.15 s, so it is imported only where links are read
    except ImportError as error:
        raise DependencyError(f"pyroute2 (python3-pyroute2, or pip install pyroute2) is missing on the host: {error}.") from error
    try:
        with contextlib.ExitStack() as stack:
            with _netns.entered(fd):
                netlink = stack.enter_context(IPRoute())
            yield netlink
    except (NetlinkError, OSError) as error:
        raise NamespaceError(f"The kernel does not tell of the links in {os.readlink(f'/proc/self/fd/{fd}')} ({error.args[-1]}): "
                             "look for its reason in the kernel's log (dmesg), then run the task again.") from error
