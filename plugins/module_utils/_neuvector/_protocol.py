# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol of NeuVector's dp: each datagram to dp is one JSON object, each datagram from dp one C structure.

The names are those of NeuVector's sources: messages in agent/dp/dp_apis.go and dp/ctrl.c, numbers and structures in
defs.h. Every message has all of its fields, because dp reads strings without a check that they are there, and a missing
one can end dp.
"""

from __future__ import annotations

import json
import socket
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._tc import ETH_P_IPV6

Message = dict[str, dict[str, t.Any]]

MAX_MESSAGE = 8000  # bytes of a datagram; dp reads 8191 (ctrl.c BUF_SIZE) and silently treats a longer one as broken JSON
MAX_MACS = 100  # of one policy: 20 bytes each, in every one of its messages
MAX_PORTS = 150  # of one workload, about 46 bytes each: dp takes them in one message only, which replaces those before
MAX_FORGOTTEN = 64  # ports that dp forgets by one message (ctrl.c MAX_APP_DELETE); the same message once more removes the next ones
MSG_START, MSG_END = 1, 2  # defs.h: flag of the first and the last message of a list
CFG_ADD, CFG_MODIFY, CFG_DELETE = 1, 2, 3  # defs.h
APPLY_BOTH = 3  # defs.h DP_POLICY_APPLY_EGRESS | DP_POLICY_APPLY_INGRESS
ACTIONS = {"allow": 2, "violate": 6, "deny": 7}  # defs.h DP_POLICY_ACTION_*
PROTOCOLS = {"any": 0, "icmp": 1, "tcp": 6, "udp": 17}
TAG_PREFIX = "4e:65:75:56:"  # "NeuV" (apis.h MAC_PREFIX): dp recognises a workload's frames on its service port by it
# The workload of the heartbeats: dp returns a frame that is not IP if it knows the tag, and no policy is asked (dpi_entry.c). No link has this MAC.
BEAT_MAC, BEAT_TAG = "4e:65:74:74:61:00", TAG_PREFIX + "ff:ff"
# Bytes of an IP packet. dp loses longer ones, without counting them: a slot of its ring has 2048 bytes, or 16384 for jumbo frames (ring.c
# FRAME_SIZE_V1, FRAME_SIZE_JUMBO_V1), and the kernel needs 66 of them (net/packet/af_packet.c, tpacket_rcv), the Ethernet header 14.
MTU, JUMBO_MTU = 2048 - 66 - 14, 16384 - 66 - 14

# defs.h DP_KIND_*: first byte of an answer
SESSION_LIST, SESSION_COUNT, DEVICE_COUNTER, MAC_STATS, DEVICE_STATS, KEEP_ALIVE = 2, 3, 4, 8, 9, 10

_COUNTERS = (  # defs.h DPMsgDeviceCounter, up to the arrays of the parsers
    "rx_packets", "rx_drop_packets", "tx_packets", "tx_drop_packets", "error_packets", "no_workload_packets", "ipv4_packets",
    "ipv6_packets", "tcp_packets", "tcp_no_session_packets", "udp_packets", "icmp_packets", "other_packets", "assemblies",
    "freed_assemblies", "fragments", "freed_fragments", "timeout_fragments", "total_sessions", "tcp_sessions", "udp_sessions",
    "icmp_sessions", "ip_sessions", "drop_meters", "proxy_meters", "current_meters", "current_log_caches",
)
_RULE_COUNTERS = ("policy_exact_rules", "policy_range_rules", "policy_domains", "policy_domain_addresses")  # PolicyType1Rules …
_LIMIT_COUNTERS = ("limit_drop_connections", "limit_pass_connections")
_PARSERS = 20  # defs.h DPI_PARSER_MAX
_STATS = (  # defs.h DPMsgStats, after Interval and Padding and up to the figures of the last 5, 60 and 300 seconds
    "sessions_in", "sessions_out", "current_sessions_in", "current_sessions_out", "packets_in", "packets_out", "bytes_in", "bytes_out",
)
_STATS_SIZE = 176
_SESSION_COUNT = ("total", "tcp", "udp", "icmp", "ip")  # defs.h DPMsgSessionCount
_SESSION_LAYOUT = "I6sH6s6s16s16sHH4B8I2BHIHHII2BH"  # defs.h DPMsgSession, up to Flags
_SESSION = struct.Struct(">" + _SESSION_LAYOUT)
_SESSION6 = struct.Struct("=" + _SESSION_LAYOUT)  # dp does not convert sessions of IPv6 to the network's byte order (dpi_msg.c, dpi_list_session)
_ETHERTYPE = 10  # bytes of a session before its EtherType
_SESSION_INGRESS, _SESSION_TAP = 1, 2  # defs.h DPSESS_FLAG_*
_TOLD_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_TOLD_ACTIONS = {0: "open", 1: "learn", 2: "allow", 3: "check_vh", 4: "check_nbe", 5: "check_app", 6: "violate", 7: "deny"}


def keep_alive(number: int) -> Message:
    """Return the fence. dp processes its messages one by one, so its answer to this one shows that all before are done."""
    return {"ctrl_keep_alive": {"seq_num": number}}


def counter_device() -> Message:
    """Return the query for the counters."""
    return {"ctrl_counter_device": {}}


def stats_device() -> Message:
    """Return the query for the statistics of all workloads together."""
    return {"ctrl_stats_device": {}}


def stats_macs(macs: list[str]) -> Message:
    """Return the query for the summed statistics of workloads, by their own MAC addresses, not by their tags."""
    return {"ctrl_stats_macs": {"macs": macs}}


def count_session() -> Message:
    """Return the query for the number of sessions."""
    return {"ctrl_count_session": {}}


def list_session() -> Message:
    """Return the query for all sessions, which dp answers in several datagrams."""
    return {"ctrl_list_session": {}}


def add_service_port(interface: str, jumbo: bool) -> Message:
    """Return the message that opens the service link. Check first that the link exists: else dp listens on all others (ring.c, if_nametoindex)."""
    return {"ctrl_add_srvc_port": {"iface": interface, "jumboframe": jumbo}}


def delete_service_port(interface: str) -> Message:
    """Return the message that closes the service link, of which dp has one at most."""
    return {"ctrl_del_srvc_port": {"iface": interface}}


def add_mac(interface: str, mac: str, tag: str) -> Message:
    """Return the message that adds a workload, or changes its tag. A new workload is in tap mode and has no policy."""
    broadcast = "ff:ff:ff:00:" + tag[len(TAG_PREFIX):]  # without one, dp runs into an empty list node when it removes the workload
    return {"ctrl_add_mac": {"iface": interface, "mac": mac, "ucmac": tag, "bcmac": broadcast, "oldmac": "", "pmac": "", "pips": None}}


def configure_mac(macs: list[str], tap: bool, ports: t.Sequence[tuple[int, int]] = ()) -> list[Message]:
    """Return the messages that switch workloads to tap mode (dp forwards nothing on the service link) or out of it, and replace their server ports.

    ports are (protocol, port). dp takes a workload for the server of a connection in mid-stream, and of any UDP, only on these (dpi_session.c).
    """
    apps = [{"ip_proto": protocol, "port": port, "app": 0, "server": 0} for protocol, port in ports]
    size = 1 if ports else MAX_MACS
    return [{"ctrl_cfg_mac": {"macs": macs[i:i + size], "tap": tap, "apps": apps}} for i in range(0, len(macs), size)]


def delete_mac(interface: str, mac: str) -> Message:
    """Return the message that removes a workload with its policy and its sessions."""
    return {"ctrl_del_mac": {"iface": interface, "mac": mac}}


def internal_networks(networks: list[dict[str, str]]) -> list[Message]:
    """Return the messages that replace the internal networks, each {ip, mask}. Without any, dp treats every address as internal."""
    return _batches("ctrl_cfg_internal_net", {}, "subnet_addr", networks)


def policy_addresses(addresses: list[dict[str, str]]) -> list[Message]:
    """Return the messages that replace the peers for which a default action other than allow holds at once. dp compares the address, not the mask."""
    return _batches("ctrl_cfg_policy_addr", {}, "subnet_addr", addresses)


def policy(command: int, default: int, macs: list[str], rules: list[dict[str, t.Any]]) -> list[Message]:
    """Return the messages that replace (or with CFG_DELETE remove) the policy of workloads. No other message may come between them."""
    return _batches("ctrl_cfg_policy", {"cmd": command, "defact": default, "dir": APPLY_BOTH, "mac": macs}, "rules", rules)


def icmp_policy(enabled: bool) -> Message:
    """Return the message that says whether rules hold for ICMP. Only newer releases know it; older ones skip it."""
    return {"ctrl_enable_icmp_policy": {"enable_icmp_policy": enabled}}


def strict_group_mode(enabled: bool) -> Message:
    """Return the message that has the default action hold at once for peers that dp does not know. Only newer releases know it; older ones skip it."""
    return {"ctrl_strict_group_mode": {"strict_group_mode": enabled}}


def encode(message: Message) -> bytes:
    """Return the datagram of a message. Raise DataplaneError when it is longer than dp can take."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE:
        raise DataplaneError(f"{next(iter(message))} would take {len(data)} bytes, and dp takes {MAX_MESSAGE} at once: give shorter names or fewer items.")
    return data


def _batches(kind: str, fields: dict[str, t.Any], name: str, items: list[dict[str, t.Any]]) -> list[Message]:
    """Return as many messages as a list needs, with flags in the first and the last of them. Raise DataplaneError."""
    empty = len(encode({kind: {"flag": 0, **fields, name: []}}))
    lists: list[list[dict[str, t.Any]]] = [[]]
    size = empty
    for item in items:
        length = len(json.dumps(item, separators=(",", ":"))) + 1
        if size + length > MAX_MESSAGE and lists[-1]:
            lists.append([])
            size = empty
        lists[-1].append(item)
        size += length
    last = len(lists) - 1
    return [{kind: {"flag": MSG_START * (i == 0) | MSG_END * (i == last), **fields, name: part}} for i, part in enumerate(lists)]


def header(data: bytes) -> tuple[int, bool, bytes]:
    """Return the kind of an answer, whether more follow, and its body (defs.h DPMsgHdr). Raise DataplaneError for data that is no answer."""
    if len(data) < 4:
        raise DataplaneError(f"dp sent {len(data)} bytes that are no answer: is it NeuVector's dp that owns the socket?")
    kind, more, length = struct.unpack_from(">BBH", data)
    if length != len(data):
        raise DataplaneError(f"dp sent an answer of kind {kind} that says {length} bytes and has {len(data)}: is it NeuVector's dp that owns the socket?")
    return kind, bool(more), data[4:]


def parse_keep_alive(body: bytes) -> int:
    """Return the number of the answered fence. Raise DataplaneError."""
    return int(_unpack(">I", body, "keep-alive")[0])


def parse_counters(body: bytes) -> dict[str, int]:
    """Return the counters (defs.h DPMsgDeviceCounter). The policy_* ones count the rules in force, for all workloads together.

    Newer releases have more parsers, and older ones have no limit_* counters. The length shows which. Raise DataplaneError.
    """
    fixed = 8 * len(_COUNTERS) + 4 * len(_RULE_COUNTERS)
    limits = len(body) != fixed + 16 * _PARSERS
    parsers, rest = divmod(len(body) - fixed - 16 * limits, 16)
    if parsers < 0 or rest:
        raise _strange("counters", body)
    names = _COUNTERS + _RULE_COUNTERS + _LIMIT_COUNTERS * limits
    values = struct.unpack(f">{len(_COUNTERS)}Q{16 * parsers}x4I{2 * limits}Q", body)
    return dict(zip(names, values))


def parse_stats(body: bytes) -> tuple[bool, dict[str, int]]:
    """Return whether any workload was found, and the totals (defs.h DPMsgStats). Raise DataplaneError.

    Only the interval shows whether one was found: dp leaves it 0 where it knows none of the MAC addresses. The interval's
    byte order differs between the two kinds of statistics.
    """
    if len(body) != _STATS_SIZE:
        raise _strange("statistics", body)
    return body[:4] != bytes(4), dict(zip(_STATS, struct.unpack_from(">8x4I4Q", body)))


def parse_session_count(body: bytes) -> dict[str, int]:
    """Return the numbers of dp's sessions: total, tcp, udp, icmp, ip (any other protocol). Raise DataplaneError."""
    return dict(zip(_SESSION_COUNT, _unpack(">5I", body, "session count")))


def parse_sessions(body: bytes) -> list[dict[str, t.Any]]:
    """Return the sessions in one datagram of the list (defs.h DPMsgSessionHdr), without the fields that newer releases append. Raise DataplaneError."""
    count = struct.unpack_from(">H", body)[0] if len(body) >= 4 else 0
    size, rest = divmod(len(body) - 4, count) if count else (0, len(body) - 4)
    if rest or (count and size < _SESSION.size):
        raise _strange("sessions", body)
    return [_session(_session_layout(body, 4 + i * size).unpack_from(body, 4 + i * size)) for i in range(count)]


def _session_layout(body: bytes, start: int) -> struct.Struct:
    """Return the layout of the session at an offset. Its EtherType shows the byte order."""
    return _SESSION6 if struct.unpack_from("=H", body, start + _ETHERTYPE)[0] == ETH_P_IPV6 else _SESSION


def _session(fields: tuple[t.Any, ...]) -> dict[str, t.Any]:
    (number, workload, ethertype, _client_mac, _server_mac, client, server, client_port, server_port, icmp_code, icmp_type, protocol,
     _padding, client_packets, server_packets, client_bytes, server_bytes, *_assembled, _client_state, _server_state, idle, age, _life,
     application, _threat, rule, action, _severity, flags) = fields
    return {
        "id": number, "mac": workload.hex(":"), "protocol": protocol_of(protocol),
        "client": address_of(ethertype, client), "server": address_of(ethertype, server), "client_port": client_port, "server_port": server_port,
        "icmp_type": icmp_type, "icmp_code": icmp_code, "client_packets": client_packets, "server_packets": server_packets,
        "client_bytes": client_bytes, "server_bytes": server_bytes, "idle": idle, "age": age, "application": application,
        "rule": rule, "action": action_of(action),
        "direction": "ingress" if flags & _SESSION_INGRESS else "egress", "tap": bool(flags & _SESSION_TAP),
    }


def protocol_of(number: int) -> str:
    """Return the name of a protocol above IP, or its number."""
    return _TOLD_PROTOCOLS.get(number, str(number))


def action_of(number: int) -> str:
    """Return the name of a policy's action, or its number."""
    return _TOLD_ACTIONS.get(number, str(number))


def address_of(ethertype: int, address: bytes) -> str:
    """Return the text of an address in a field of 16 bytes, of which an IPv4 address takes the first four."""
    return socket.inet_ntop(socket.AF_INET6, address) if ethertype == ETH_P_IPV6 else socket.inet_ntop(socket.AF_INET, address[:4])


def _unpack(layout: str, body: bytes, what: str) -> tuple[t.Any, ...]:
    if len(body) != struct.calcsize(layout):
        raise _strange(what, body)
    return struct.unpack(layout, body)


def _strange(what: str, body: bytes) -> DataplaneError:
    return DataplaneError(f"dp answered with {what} of {len(body)} bytes, which is no layout that is known here: use another release of dp, or report this.")
