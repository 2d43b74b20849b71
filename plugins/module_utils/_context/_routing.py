# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes, rules, neighbours and queueing disciplines of a network namespace, as its netlink socket tells them."""

from __future__ import annotations

import socket
import typing as t

Entry = dict[str, t.Any]

_FAMILIES = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
# linux/rtnetlink.h: RTN_…, RT_TABLE_…, RTM_F_CLONED
_ROUTE_TYPES = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw", 10: "nat"}
_TABLES = {253: "default", 254: "main", 255: "local"}
_LOCAL = 255
_CLONED = 0x200
# linux/fib_rules.h: FR_ACT_…
_RULE_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
# linux/neighbour.h: NUD_…; an entry without a state is new
_NEIGHBOUR_STATES = {0: "none", 1: "incomplete", 2: "reachable", 4: "stale", 8: "delay", 16: "probe", 32: "failed", 64: "noarp", 128: "permanent"}
_NOARP = 64


def routes(netlink: t.Any, names: t.Mapping[int, str]) -> list[Entry]:
    """Return the routes, an entry for each next hop, without the table local and without cached routes. names are the links' by index."""
    found = []
    for message in netlink.get_routes():
        table = message.get_attr("RTA_TABLE") or message["table"]
        if message["family"] not in _FAMILIES or table == _LOCAL or message["flags"] & _CLONED:
            continue
        for hop in message.get_attr("RTA_MULTIPATH") or [message]:
            index = hop["oif"] if hop is not message else message.get_attr("RTA_OIF")
            via = hop.get_attr("RTA_VIA")
            found.append({
                "family": _FAMILIES[message["family"]],
                "destination": _network(message.get_attr("RTA_DST"), message["dst_len"]) or "default",
                "gateway": hop.get_attr("RTA_GATEWAY") or (via["addr"] if via else None),
                "interface": names.get(index, index),
                "source": message.get_attr("RTA_PREFSRC"),
                "metric": message.get_attr("RTA_PRIORITY"),
                "table": _TABLES.get(table, table),
                "type": _ROUTE_TYPES.get(message["type"], message["type"]),
            })
    return found


def rules(netlink: t.Any) -> list[Entry]:
    """Return the rules that choose a routing table, in the order in which the kernel looks at them."""
    found = []
    for family, name in _FAMILIES.items():
        for message in netlink.get_rules(family=family):
            table = message.get_attr("FRA_TABLE") or message["table"]
            found.append({
                "family": name,
                "priority": message.get_attr("FRA_PRIORITY") or 0,
                "source": _network(message.get_attr("FRA_SRC"), message["src_len"]),
                "destination": _network(message.get_attr("FRA_DST"), message["dst_len"]),
                "incoming": message.get_attr("FRA_IIFNAME"),
                "outgoing": message.get_attr("FRA_OIFNAME"),
                "mark": message.get_attr("FRA_FWMARK"),
                "action": _RULE_ACTIONS.get(message["action"], message["action"]),
                "table": _TABLES.get(table, table),
            })
    return sorted(found, key=lambda rule: (rule["family"], rule["priority"]))


def neighbours(netlink: t.Any, names: t.Mapping[int, str]) -> list[Entry]:
    """Return the entries of ARP and neighbour discovery, without those of links that ask nobody (noarp)."""
    return [
        {
            "address": message.get_attr("NDA_DST"),
            "mac": message.get_attr("NDA_LLADDR"),
            "interface": names.get(message["ifindex"], message["ifindex"]),
            "state": _NEIGHBOUR_STATES.get(message["state"], message["state"]),
        }
        for family in _FAMILIES
        for message in netlink.get_neighbours(family=family)
        if not message["state"] & _NOARP
    ]


def qdiscs(netlink: t.Any, names: t.Mapping[int, str]) -> list[Entry]:
    """Return the queueing disciplines, with what each has sent and dropped."""
    found = []
    for message in netlink.get_qdiscs():
        figures = message.get_attr("TCA_STATS") or {}
        found.append({
            "interface": names.get(message["index"], message["index"]),
            "kind": message.get_attr("TCA_KIND"),
            "handle": _handle(message["handle"]),
            "parent": _handle(message["parent"]),
            **{name: figures.get(key, 0) for name, key in (
                ("bytes", "bytes"), ("packets", "packets"), ("drops", "drop"), ("overlimits", "overlimits"), ("queue_length", "qlen"), ("backlog", "backlog"))},
        })
    return found


def _network(address: str | None, length: int) -> str | None:
    return f"{address}/{length}" if address else None


def _handle(number: int) -> str:
    """Return a handle as tc(8) writes it."""
    special = {0xFFFFFFFF: "root", 0xFFFFFFF1: "ingress"}  # TC_H_ROOT, TC_H_INGRESS of linux/pkt_sched.h
    return special.get(number) or f"{number >> 16:x}:" + (f"{number & 0xFFFF:x}" if number & 0xFFFF else "")
