# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sockets of a workload in dp's terms: the ports on which it serves, and rules for connections that dp would take for others.

dp sees the client and the server of a TCP connection only in its handshake. Of one in mid-stream, and of all UDP, it takes the workload
for the server if it was told the workload's port; otherwise it takes the smaller port of TCP, and the other side of UDP, for the server's
(dpi_session.c, tcp_mid_session_direction and udp_mid_session_direction). By that it chooses the rules.
"""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink._sockets import Sockets
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _policy as model
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _protocol as protocol

Port = tuple[int, int]  # protocol, port
_TCP, _UDP = protocol.PROTOCOLS["tcp"], protocol.PROTOCOLS["udp"]
_MAX_RULES = 1000  # for connections of one workload
_PASSES = ("allow", "violate")


def ports(config: model.Config, mac: str, sockets: Sockets | None) -> list[Port]:
    """Return the ports on which a workload serves, at most protocol.MAX_PORTS: those that the policy names, then those of its sockets.

    A UDP socket that is bound without a choice has a port of the ephemeral range, and is a client's. It counts only if a rule names that port.
    """
    named = _named(config, mac)
    found = {(kind, low) for kind, low, high in named if low == high}
    first = sorted(found)
    if sockets is not None:
        low, high = sockets.ephemeral
        found |= {(_TCP, port) for port in sockets.tcp}
        found |= {(_UDP, port) for port in sockets.udp if not low <= port <= high or any(kind == _UDP and a <= port <= b for kind, a, b in named)}
    return (first + sorted(found.difference(first)))[: protocol.MAX_PORTS]


def rules(config: model.Config, mac: str, sockets: Sockets | None) -> list[model.Rule]:
    """Return rules, to be put before all others, for TCP connections in mid-stream whose client and server dp would confuse.

    Such a rule has the action that the policy has for the connection as it is. Where the socket that accepted a connection is gone,
    nothing tells its client from its server, and it passes if the policy lets it pass either way.
    """
    if sockets is None or (not config["policy"] and config["default_action"] == "allow"):
        return []
    serving = set(ports(config, mac, sockets))
    found: list[model.Rule] = []
    for own, port, peer, peer_port in sockets.connections:
        if port in sockets.tcp and (_TCP, port) in serving:
            continue  # dp knows its server
        outward = model.decide(config, mac, "egress", own, peer, peer_port, "tcp")
        inward = model.decide(config, mac, "ingress", peer, own, port, "tcp")
        meant = inward if inward[1] in _PASSES and outward[1] not in _PASSES else outward
        if ((_TCP, port) in serving or port <= peer_port) and inward[1] != meant[1]:
            found.append(_rule(meant, peer, own, port, True))
        if (_TCP, port) not in serving and port >= peer_port and outward[1] != meant[1]:
            found.append(_rule(meant, own, peer, peer_port, False))
    return found[:_MAX_RULES]


def ended(before: Sockets, now: Sockets) -> Sockets:
    """Return the sockets as they are now, with those of the earlier connections that go on: newer ones had their handshake before dp."""
    return now._replace(connections=[one for one in before.connections if one in now.connections])


def _named(config: model.Config, mac: str) -> list[tuple[int, int, int]]:
    """Return protocol, first and last port of each ingress rule of a workload that names ports."""
    found = []
    for rule in config["policy"]:
        if rule["direction"] == "ingress" and rule["port"] != "any" and (not rule["workloads"] or mac in rule["workloads"]):
            low, high = model.port_span(rule["port"], rule["protocol"])
            found += [(kind, low, high) for name, kind in (("tcp", _TCP), ("udp", _UDP)) if rule["protocol"] in ("any", name)]
    return found


def _rule(decided: tuple[int, str], source: str, destination: str, port: int, ingress: bool) -> model.Rule:
    return {"id": decided[0], "sip": source, "dip": destination, "port": port, "portr": port, "proto": _TCP, "action": protocol.ACTIONS[decided[1]],
            "ingress": ingress}


def load(stored: t.Mapping[str, t.Any]) -> dict[str, Sockets]:
    """Return the sockets of each workload (by its MAC) that a record has stored."""
    return {mac: Sockets(values[0], values[1], [tuple(one) for one in values[2]], (values[3][0], values[3][1])) for mac, values in stored.items()}
