# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The notices that dp sends by itself: threats that it has found, and what its policy did with connections.

dp sends them to the socket ctrl_listen.sock beside its own (dp/ctrl.c, CTRL_NOTIFY_SOCK). NeuVector's agent listens there.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _protocol as protocol

SOCKET = "ctrl_listen.sock"
THREAT, CONNECTIONS = 6, 7  # defs.h DP_KIND_THREAT_LOG, DP_KIND_CONNECTION

Event = dict[str, t.Any]

_THREAT = struct.Struct(">3I4B6sH16s16sHHBBHHH64s")  # defs.h DPMsgThreatLog, up to Msg; the packet follows
_CONNECTION = struct.Struct(">6sBxHH16s16sHH4IHBB3I")  # defs.h DPMsgConnect, up to ThreatID; releases append different figures
_PACKET_INGRESS = 1  # defs.h DPLOG_FLAG_PKT_INGRESS
_CONNECTION_INGRESS = 1  # defs.h DPCONN_FLAG_INGRESS
_REPORTED = ("violate", "deny")  # actions for connections; all the others are every connection that was allowed
_ACTIONS = {1: "allow", 2: "drop", 3: "reset", 4: "bypass", 5: "block"}  # defs.h DPI_ACTION_*
_SEVERITIES = {1: "info", 2: "low", 3: "medium", 4: "high", 5: "critical"}  # defs.h THRT_SEVERITY_*
_THREATS = {  # defs.h THRT_ID_*
    1001: "syn_flood", 1002: "icmp_flood", 1003: "ip_source_sessions", 2001: "bad_packet", 2002: "ip_teardrop", 2003: "tcp_syn_data",
    2004: "tcp_split_handshake", 2005: "tcp_no_data", 2006: "ping_of_death", 2007: "dns_loop_pointer", 2008: "ssh_version_1",
    2009: "ssl_heartbleed", 2010: "ssl_cipher_overflow", 2011: "ssl_version_2_or_3", 2012: "tls_1.0", 2013: "http_negative_length",
    2014: "http_smuggling", 2015: "http_slowloris", 2016: "tcp_small_window", 2017: "dns_overflow", 2018: "mysql_access_denied",
    2019: "dns_zone_transfer", 2020: "icmp_tunneling", 2021: "dns_type_null", 2022: "sql_injection", 2023: "apache_struts_rce",
    2024: "dns_tunneling", 2025: "tcp_small_mss", 2026: "kubernetes_external_ip_mitm", 2027: "tls_1.1",
}


def parse(data: bytes) -> list[Event]:
    """Return the threat of a notice, or its connections that the policy denied or reported; [] for a notice of another kind. Raise DataplaneError."""
    kind, _more, body = protocol.header(data)
    if kind == THREAT:
        if len(body) < _THREAT.size:
            raise _strange("a threat", body)
        return [_threat(_THREAT.unpack_from(body))]
    if kind != CONNECTIONS:
        return []
    count = struct.unpack_from(">H", body)[0] if len(body) >= 4 else 0
    size, rest = divmod(len(body) - 4, count) if count else (0, len(body) - 4)
    if rest or (count and size < _CONNECTION.size):
        raise _strange("connections", body)
    found = [_connection(_CONNECTION.unpack_from(body, 4 + i * size)) for i in range(count)]
    return [event for event in found if event["action"] in _REPORTED]


def _threat(fields: tuple[t.Any, ...]) -> Event:
    (number, _reported, count, action, severity, above, flags, mac, ethertype, source, destination, source_port, destination_port,
     _icmp_code, _icmp_type, _application, _length, _captured, message) = fields
    return {
        "kind": "threat", "mac": mac.hex(":"), "action": _ACTIONS.get(action, str(action)), "rule": None, "threat": _name(number),
        "severity": _SEVERITIES.get(severity), "message": message.split(b"\0")[0].decode(errors="replace"),
        **_way(above, ethertype, source, source_port, destination, destination_port, bool(flags & _PACKET_INGRESS)), "count": count,
    }


def _connection(fields: tuple[t.Any, ...]) -> Event:
    """Return the connections of one client to one port, which dp counts together for some seconds. The client's port is not known."""
    (mac, above, server_port, _client_port, client, server, ethertype, flags, _bytes, sessions, _first, _last, _application, action,
     severity, rule, violations, number) = fields
    return {
        "kind": "connection", "mac": mac.hex(":"), "action": protocol.action_of(action), "rule": rule, "threat": _name(number),
        "severity": _SEVERITIES.get(severity), "message": "",
        **_way(above, ethertype, client, 0, server, server_port, bool(flags & _CONNECTION_INGRESS)), "count": violations or sessions,
    }


def _way(above: int, ethertype: int, source: bytes, source_port: int, destination: bytes, destination_port: int, ingress: bool) -> Event:
    return {
        "source": protocol.address_of(ethertype, source), "source_port": source_port or None,
        "destination": protocol.address_of(ethertype, destination), "destination_port": destination_port or None,
        "protocol": protocol.protocol_of(above), "direction": "ingress" if ingress else "egress",
    }


def _name(number: int) -> str | None:
    return _THREATS.get(number, str(number)) if number else None


def _strange(what: str, body: bytes) -> DataplaneError:
    return DataplaneError(f"dp reported {what} in {len(body)} bytes, which is no layout that is known here: use another release of dp, or report this.")
