# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The counters of a network namespace: of its links, of its protocols, and how full its connection tracking is."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

Figures = dict[str, int]
# Of struct rtnl_link_stats64 (linux/if_link.h), what its links have in common.
_LINK = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "multicast", "collisions")
_CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack_"


def links(netlink: t.Any) -> dict[str, Figures]:
    """Return the packets, bytes, errors and drops of each link, by its name."""
    found = {}
    for message in netlink.get_links():
        figures = message.get_attr("IFLA_STATS64") or {}
        found[message.get_attr("IFLA_IFNAME")] = {name: figures[name] for name in _LINK if name in figures}
    return found


def protocols(fd: int) -> dict[str, Figures]:
    """Return the kernel's protocol counters in the namespace of fd, as Ip, Icmp, Tcp, Udp, TcpExt, IpExt, Ip6, …: /proc/net/snmp, netstat, snmp6.

    conntrack holds count and max of the connection tracking; it is missing where the kernel has none. Raise NamespaceError.
    """
    found: dict[str, Figures] = {}
    refusals = refused_as(NamespaceError, "The counters of the container cannot be read", "run as root of the host itself, with /proc mounted")
    with _netns.entered(fd), refusals:
        for name in ("snmp", "netstat"):
            # Pairs of lines: "Tcp: InSegs OutSegs", "Tcp: 1 2" (proc_net_snmp.rst of the kernel)
            lines = _lines(f"/proc/thread-self/net/{name}")
            for keys, values in zip(lines[::2], lines[1::2]):
                found[keys[0].rstrip(":")] = dict(zip(keys[1:], map(int, values[1:])))
        for key, value in _lines("/proc/thread-self/net/snmp6"):  # "Udp6InDatagrams 3"
            protocol, dummy, counter = key.partition("6")
            found.setdefault(f"{protocol}6", {})[counter] = int(value)
        with contextlib.suppress(FileNotFoundError):
            found["conntrack"] = {name: int(_lines(_CONNTRACK + name)[0][0]) for name in ("count", "max")}
    return found


def _lines(path: str) -> list[list[str]]:
    """Return the words of each line; [] where the kernel has no such file, as without IPv6."""
    if path.endswith("snmp6"):
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as stream:
            return [line.split() for line in stream]
        return []
    with open(path, encoding="ascii") as stream:
        return [line.split() for line in stream]
