# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dp is told, byte by byte, what its answers say, and which rules it can hold."""

from __future__ import annotations

import json
import os
import pathlib
import struct
import typing as t

import dp_peer
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._sockets import Sockets
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _policy as model
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _protocol as protocol
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _sockets as translated
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._record import DataplaneRecord, Store
from ansible_collections.nettap.containers.plugins.module_utils._system._process import start_time

MAC, TAG = "02:42:0a:63:00:02", "4e:65:75:56:00:01"
MAC2, TAG2 = "02:42:0a:63:00:03", "4e:65:75:56:00:02"
RULE = {"id": 100, "sip": "10.99.0.1", "dip": "10.99.0.2", "port": 80, "portr": 80, "proto": 6, "action": 7, "ingress": True}


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (protocol.keep_alive(7), '{"ctrl_keep_alive":{"seq_num":7}}'),
        (protocol.internal_networks([{"ip": "10.99.0.0", "mask": "255.255.255.0"}]),
         '{"ctrl_cfg_internal_net":{"flag":3,"subnet_addr":[{"ip":"10.99.0.0","mask":"255.255.255.0"}]}}'),
        (protocol.internal_networks([]), '{"ctrl_cfg_internal_net":{"flag":3,"subnet_addr":[]}}'),
        (protocol.policy_addresses([]), '{"ctrl_cfg_policy_addr":{"flag":3,"subnet_addr":[]}}'),
        (protocol.add_service_port("vth", True), '{"ctrl_add_srvc_port":{"iface":"vth","jumboframe":true}}'),
        (protocol.delete_service_port("vth"), '{"ctrl_del_srvc_port":{"iface":"vth"}}'),
        (protocol.add_mac("vth", MAC, TAG),
         '{"ctrl_add_mac":{"iface":"vth","mac":"02:42:0a:63:00:02","ucmac":"4e:65:75:56:00:01","bcmac":"ff:ff:ff:00:00:01",'
         '"oldmac":"","pmac":"","pips":null}}'),
        (protocol.configure_mac([MAC], False), '{"ctrl_cfg_mac":{"macs":["02:42:0a:63:00:02"],"tap":false,"apps":[]}}'),
        (protocol.configure_mac([MAC], True, [(17, 5000), (6, 80)]),
         '{"ctrl_cfg_mac":{"macs":["02:42:0a:63:00:02"],"tap":true,"apps":[{"ip_proto":17,"port":5000,"app":0,"server":0},'
         '{"ip_proto":6,"port":80,"app":0,"server":0}]}}'),
        (protocol.strict_group_mode(True), '{"ctrl_strict_group_mode":{"strict_group_mode":true}}'),
        (protocol.delete_mac("vth", MAC), '{"ctrl_del_mac":{"iface":"vth","mac":"02:42:0a:63:00:02"}}'),
        (protocol.policy(1, 2, [MAC], [RULE]),
         '{"ctrl_cfg_policy":{"flag":3,"cmd":1,"defact":2,"dir":3,"mac":["02:42:0a:63:00:02"],"rules":[{"id":100,"sip":"10.99.0.1",'
         '"dip":"10.99.0.2","port":80,"portr":80,"proto":6,"action":7,"ingress":true}]}}'),
        (protocol.icmp_policy(True), '{"ctrl_enable_icmp_policy":{"enable_icmp_policy":true}}'),
        (protocol.counter_device(), '{"ctrl_counter_device":{}}'),
        (protocol.stats_device(), '{"ctrl_stats_device":{}}'),
        (protocol.stats_macs([MAC]), '{"ctrl_stats_macs":{"macs":["02:42:0a:63:00:02"]}}'),
        (protocol.count_session(), '{"ctrl_count_session":{}}'),
        (protocol.list_session(), '{"ctrl_list_session":{}}'),
    ],
)  # fmt: skip
def test_messages_have_all_their_fields(messages: t.Any, told: str) -> None:
    (message,) = messages if isinstance(messages, list) else [messages]
    assert protocol.encode(message) == told.encode()
    ((kind, body),) = message.items()
    dp_peer.check(body, dp_peer.MESSAGES[kind], kind)


@pytest.mark.parametrize("count", [0, 1, 2, 40, 60, 500, 3000])
def test_long_lists_are_spread_over_messages(count: int) -> None:
    rules = [{**RULE, "id": number, "sipr": "255.255.255.255"} for number in range(1, count + 1)]
    parts = [message["ctrl_cfg_policy"] for message in protocol.policy(2, 7, [MAC] * protocol.MAX_MACS, rules)]
    sizes = [len(protocol.encode({"ctrl_cfg_policy": part})) for part in parts]
    assert max(sizes) <= 8000 and all(size > 7800 for size in sizes[:-1])
    assert [rule for part in parts for rule in part["rules"]] == rules
    assert [part["flag"] for part in parts] == ([3] if len(parts) == 1 else [1, *[0] * (len(parts) - 2), 2])
    assert {json.dumps({**part, "rules": [], "flag": 0}) for part in parts} == {
        json.dumps({"flag": 0, "cmd": 2, "defact": 7, "dir": 3, "mac": [MAC] * protocol.MAX_MACS, "rules": []})
    }


def test_a_batch_is_as_full_as_can_be_and_no_fuller() -> None:
    for length in range(1, 60):
        parts = protocol.policy_addresses([{"ip": "1" * length, "mask": "m"}] * 1000)
        sizes = [len(protocol.encode(part)) for part in parts]
        item = len(json.dumps({"ip": "1" * length, "mask": "m"}, separators=(",", ":"))) + 1
        assert all(8000 - item <= size <= 8000 for size in sizes[:-1]) and sizes[-1] <= 8000


def test_macs_are_spread_too() -> None:
    messages = protocol.configure_mac([f"02:00:00:00:{n // 256:02x}:{n % 256:02x}" for n in range(250)], True)
    assert [len(message["ctrl_cfg_mac"]["macs"]) for message in messages] == [100, 100, 50]


def test_as_many_ports_as_dp_takes() -> None:
    ports = [(17, 65535 - number) for number in range(protocol.MAX_PORTS)]
    messages = protocol.configure_mac([MAC, MAC2], True, ports)
    assert [message["ctrl_cfg_mac"]["macs"] for message in messages] == [[MAC], [MAC2]] and all(len(protocol.encode(one)) <= 8000 for one in messages)


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(DataplaneError, match=r"ctrl_add_srvc_port would take 80.. bytes, and dp takes 8000"):
        protocol.encode(protocol.add_service_port("v" * 8000, False))


def test_answers_have_a_header() -> None:
    assert protocol.header(bytes.fromhex("0a00000800000007")) == (10, False, bytes.fromhex("00000007"))
    assert protocol.header(bytes.fromhex("0201000801020304")) == (2, True, bytes.fromhex("01020304"))
    assert protocol.parse_keep_alive(bytes.fromhex("01020304")) == 0x01020304


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "sent 0 bytes that are no answer"), (b"\x0a\x00\x00", "sent 3 bytes"), (bytes.fromhex("0a000009 00000007"), "says 9 bytes and has 8"),
     (bytes.fromhex("0a000800 00000007"), "says 2048 bytes and has 8")],
)  # fmt: skip
def test_what_is_no_answer(data: bytes, words: str) -> None:
    with pytest.raises(DataplaneError, match=words):
        protocol.header(data)


@pytest.mark.parametrize(("parsers", "limits"), [(20, False), (20, True), (21, True), (25, True)])
def test_counters(parsers: int, limits: bool) -> None:
    body = struct.pack(f">27Q{parsers}Q{parsers}Q4I", *range(1, 28), *[99] * parsers, *[98] * parsers, 31, 32, 33, 34)
    if limits:
        body += struct.pack(">2Q", 1 << 40, 41)
    counters = protocol.parse_counters(body)
    assert (counters["rx_packets"], counters["error_packets"], counters["icmp_packets"], counters["current_log_caches"]) == (1, 5, 12, 27)
    assert (counters["policy_exact_rules"], counters["policy_range_rules"], counters["policy_domain_addresses"]) == (31, 32, 34)
    assert counters.get("limit_drop_connections") == (1 << 40 if limits else None)
    assert len(counters) == 31 + 2 * limits


def test_statistics() -> None:
    body = struct.pack(">4I4Q120x", 1, 2, 3, 4, 1 << 33, 6, 7, 8)
    figures = {"sessions_in": 1, "sessions_out": 2, "current_sessions_in": 3, "current_sessions_out": 4,
               "packets_in": 1 << 33, "packets_out": 6, "bytes_in": 7, "bytes_out": 8}  # fmt: skip
    assert protocol.parse_stats(bytes.fromhex("0500000000000000") + body) == (True, figures), "of a workload: the machine's byte order"
    assert protocol.parse_stats(bytes.fromhex("0000000500000000") + body) == (True, figures), "of the device: the network's"
    assert protocol.parse_stats(bytes(176)) == (False, dict.fromkeys(figures, 0))


def test_sessions() -> None:
    assert protocol.parse_session_count(struct.pack(">5I", 6, 1, 2, 3, 0)) == {"total": 6, "tcp": 1, "udp": 2, "icmp": 3, "ip": 0}
    one = struct.pack(
        ">I6sH6s6s16s16sHH4B8I2BHIHHII2BH", 77, bytes.fromhex("02420a630002"), 0x800, b"c" * 6, b"s" * 6, bytes([10, 99, 0, 1]) + b"x" * 12,
        bytes([10, 99, 0, 2]) + b"y" * 12, 40000, 80, 1, 8, 6, 0, 11, 12, 13, 14, 0, 0, 0, 0, 1, 2, 3, 4, 5, 1001, 0, 100, 7, 0, 3,
    )  # fmt: skip
    # dp leaves the sessions of IPv6 in the machine's byte order, and those of IPv4 not.
    six = struct.pack(
        "=I6sH6s6s16s16sHH4B8I2BHIHHII2BH", 78, bytes.fromhex("02420a630002"), 0x86DD, b"c" * 6, b"s" * 6, bytes(15) + b"\x01",
        bytes.fromhex("fd00" + "00" * 12 + "0102"), 40001, 443, 0, 0, 17, 0, 21, 22, 23, 24, 0, 0, 0, 0, 1, 2, 33, 34, 5, 1002, 0, 101, 2, 0, 2,
    )  # fmt: skip
    told = {"id": 77, "mac": MAC, "protocol": "tcp", "client": "10.99.0.1", "server": "10.99.0.2", "client_port": 40000, "server_port": 80,
            "icmp_code": 1, "icmp_type": 8, "client_packets": 11, "server_packets": 12, "client_bytes": 13, "server_bytes": 14, "idle": 3, "age": 4,
            "application": 1001, "rule": 100, "action": "deny", "direction": "ingress", "tap": True}  # fmt: skip
    for appended in (0, 72):
        body = b"\x00\x02\x00\x00" + one + bytes(appended) + six + bytes(appended)
        first, second = protocol.parse_sessions(body)
        assert first == told
        assert second == {
            "id": 78, "mac": MAC, "protocol": "udp", "client": "::1", "server": "fd00::102", "client_port": 40001, "server_port": 443, "icmp_code": 0,
            "icmp_type": 0, "client_packets": 21, "server_packets": 22, "client_bytes": 23, "server_bytes": 24, "idle": 33, "age": 34,
            "application": 1002, "rule": 101, "action": "allow", "direction": "egress", "tap": True,
        }  # fmt: skip
    assert not protocol.parse_sessions(bytes(4))


@pytest.mark.parametrize(
    ("parse", "length"),
    [(protocol.parse_keep_alive, 3), (protocol.parse_counters, 0), (protocol.parse_counters, 251), (protocol.parse_counters, 567),
     (protocol.parse_stats, 175), (protocol.parse_session_count, 16), (protocol.parse_sessions, 5), (protocol.parse_sessions, 0)],
)  # fmt: skip
def test_layouts_that_are_not_known(parse: t.Callable[[bytes], object], length: int) -> None:
    with pytest.raises(DataplaneError, match=f"of {length} bytes, which is no layout that is known here"):
        parse(bytes(length))
    if parse is protocol.parse_sessions and length:
        with pytest.raises(DataplaneError, match="sessions of 123 bytes"):
            parse(b"\x00\x01" + bytes(121))


def workload(mac: str = MAC, tag: str = TAG, *addresses: str, **more: t.Any) -> dict[str, t.Any]:
    return {"mac": mac, "tag_mac": tag, "tap": False, "addresses": list(addresses), **more}


def config(*rules: dict[str, t.Any], **options: t.Any) -> model.Config:
    return model.merged(model.EMPTY, {"service_port": "vth", "workloads": [workload(MAC, TAG, "10.99.0.2")], "policy": list(rules), **options})


ANY = {"sip": "0.0.0.1", "sipr": "255.255.255.255"}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"source": "10.99.0.1", "destination": "10.99.0.2", "port": 80, "protocol": "tcp", "id": 100}, [RULE]),
        ({"port": "80", "protocol": "tcp", "id": 100}, [{**RULE, **ANY}]),
        ({"source": "10.0.0.5/8", "destination": "10.99.0.0/24", "port": "80-90", "protocol": "udp"},
         [{**RULE, "id": 1, "sip": "10.0.0.0", "sipr": "10.255.255.255", "portr": 90, "proto": 17}]),
        ({"source": "10.99.0.7-10.99.0.9"}, [{**RULE, "id": 1, "sip": "10.99.0.7", "sipr": "10.99.0.9", "port": 0, "portr": 65535, "proto": 0}]),
        ({"protocol": "icmp", "source": "10.99.0.1", "action": "violate"}, [{**RULE, "id": 1, "port": 0, "portr": 0, "proto": 1, "action": 6}]),
        ({"direction": "egress", "destination": "10.99.0.0/30", "port": 53, "protocol": "udp", "action": "allow"},
         [{"id": 1, "sip": "10.99.0.2", "dip": "10.99.0.0", "dipr": "10.99.0.3", "port": 53, "portr": 53, "proto": 17, "action": 2, "ingress": False}]),
        ({"destination": "10.98.0.0/16"}, []),
        ({"destination": "192.0.2.1", "source": "10.99.0.1", "port": 80, "protocol": "tcp", "id": 100}, [{**RULE, "dip": "192.0.2.1"}]),
    ],
)  # fmt: skip
def test_rules_as_dp_takes_them(rule: dict[str, t.Any], told: list[dict[str, t.Any]]) -> None:
    made = config({"action": "deny", **rule})
    assert model.policies(made) == {MAC: told}
    assert model.merged(made, {}) == made, "what is recorded is taken as it is"
    for one in told:
        dp_peer.check(one, dp_peer.RULE, "rule")


def test_ranges_on_the_workloads_side_become_its_addresses() -> None:
    """dp looks a range rule up by the workload's address: one with a range there would never match, and dp would not say so."""
    made = config({"action": "deny"}, workloads=[workload(MAC, TAG, "10.99.0.2", "10.99.1.2"), workload(MAC2, TAG2, "10.99.0.3")])
    assert {mac: [rule["dip"] for rule in rules] for mac, rules in model.policies(made).items()} == {MAC: ["10.99.0.2", "10.99.1.2"], MAC2: ["10.99.0.3"]}
    bare = config({"action": "deny", "port": 80}, workloads=[workload()])
    with pytest.raises(DataplaneError, match=r"Rule 1 \(ingress\) has any as destination, and dp finds a rule only by a single address"):
        model.policies(bare)


def test_rules_are_for_some_workloads_and_keep_their_order() -> None:
    both = [workload(MAC, TAG, "10.99.0.2"), workload(MAC2, TAG2, "10.99.0.3")]
    made = config(
        {"action": "allow", "destination": "10.99.0.2", "workloads": [MAC.upper()]}, {"action": "deny", "destination": "10.99.0.9"},
        {"action": "violate", "destination": "10.99.0.9", "id": 2}, {"action": "deny", "destination": "10.99.0.9", "workloads": [MAC2]}, workloads=both,
    )  # fmt: skip
    rules = model.policies(made)
    assert {mac: [(rule["id"], rule["action"]) for rule in rules[mac]] for mac in rules} == {MAC: [(1, 2), (3, 7), (2, 6)], MAC2: [(3, 7), (2, 6), (4, 7)]}
    same = dict.fromkeys(map(str, range(250)), rules[MAC])
    assert [len(macs) for macs, _rules in model.groups({**same, MAC2: rules[MAC2]}, [*same, MAC2])] == [100, 100, 50, 1]


def test_peers_for_which_the_default_holds_at_once() -> None:
    rule = {"action": "allow", "source": "192.0.2.7", "destination": "10.99.0.2"}
    assert not model.addresses(config(rule, internal_networks=["10.99.0.0/30"]))
    made = config(rule, internal_networks=["10.99.0.1/30", "172.16.0.0/12"], default_action="deny")
    assert made["internal_networks"] == ["10.99.0.0/30", "172.16.0.0/12"], "host bits would match nothing"
    assert model.networks(made) == [{"ip": "10.99.0.0", "mask": "255.255.255.252"}, {"ip": "172.16.0.0", "mask": "255.240.0.0"}]
    told = model.addresses(made)
    assert [one["ip"] for one in told] == ["10.99.0.0", "10.99.0.1", "10.99.0.2", "10.99.0.3", "192.0.2.7"]
    assert {one["mask"] for one in told} == {"255.255.255.255"}
    for network, macs in (("172.16.0.0/12", [MAC]), ("10.99.0.0/22", [])):
        assert model.hesitant(config(internal_networks=[network], default_action="deny", workloads=[workload()])) == macs


@pytest.mark.parametrize("networks", [[], ["10.99.0.0/21"], ["10.99.0.0/24", "172.16.0.0/12"]])
def test_peers_that_cannot_be_named(networks: list[str]) -> None:
    """Instead of the default action, which would leave them open for a minute, there are rules for all."""
    rule = {"action": "allow", "source": "10.99.0.1", "port": 80, "protocol": "tcp"}
    made = config(rule, internal_networks=networks, default_action="deny")
    first, inward, outward = model.policies(made)[MAC]
    assert first["id"] == 1 and {inward["id"], outward["id"]} == {model.LAST_ID} and not model.hesitant(made)
    assert inward == {**RULE, **ANY, "id": model.LAST_ID, "port": 0, "portr": 65535, "proto": 0}
    assert outward == {"id": model.LAST_ID, "sip": "10.99.0.2", "dip": "0.0.0.1", "dipr": "255.255.255.255", "port": 0, "portr": 65535, "proto": 0,
                       "action": 7, "ingress": False}  # fmt: skip
    assert model.policies(config(rule, internal_networks=networks))[MAC] == [first]
    assert model.policies(config(rule, internal_networks=["10.99.0.0/24"], default_action="deny"))[MAC] == [first]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"internal_networks": ["fd00::/8"]}, "'fd00::/8' in internal_networks is no IPv4 network"),
        ({"internal_networks": ["10.0.0.0/33"]}, "is no IPv4 network"),
        ({"service_port": "a" * 16}, "is no name of a link"),
        ({"service_port": "a/b"}, "is no name of a link"),
        ({"service_port": ""}, "Workloads need a service_port"),
        ({"workloads": [workload("02:42:0a:63:00")]}, "is no unicast MAC address"),
        ({"workloads": [workload("03:42:0a:63:00:02")]}, "is no unicast MAC address"),
        ({"workloads": [workload(MAC, "")]}, f"Workload {MAC} has no tag_mac"),
        ({"workloads": [workload(MAC, "4e:65:75:57:00:01")]}, "does not begin with 4e:65:75:56"),
        ({"workloads": [workload(), workload(MAC, TAG2)]}, "have the same MAC address or tag"),
        ({"workloads": [workload(), workload(MAC2, TAG.upper())]}, "have the same MAC address or tag"),
        ({"workloads": [workload(MAC, TAG, "10.0.0.0/8")]}, "A workload's addresses are single ones, not 10.0.0.0/8"),
        ({"workloads": [workload(MAC, "4e:65:75:56:ff:ff")]}, "of the watchdog's heartbeats: choose another tag_mac"),
        ({"policy": [{"action": "deny", "source": "fd00::1"}]}, "dp has rules for IPv4 only"),
        ({"policy": [{"action": "allow", "source": "0.0.0.0"}]}, "'0.0.0.0' is no address of a peer, and dp would take every outside peer for it"),
        ({"policy": [{"action": "deny", "direction": "egress", "destination": "0.0.0.0-0.0.0.0"}]}, "is no address of a peer"),
        ({"policy": [{"action": "deny", "direction": "egress", "destination": "169.254.0.0/16"}]},
         r"Rule 1 \(deny\) has 169.254.0.0/16 as destination, and dp lets link-local addresses .* pass before any rule"),
        ({"policy": [{"action": "violate", "source": "169.254.169.254"}]}, r"Rule 1 \(violate\) has 169.254.169.254 as source, and dp lets link-local"),
        ({"policy": [{"action": "deny", "source": "10.0.0.9-10.0.0.1"}]}, "ends before it begins"),
        ({"policy": [{"action": "deny", "source": "1-2-3"}]}, "is no IPv4 address"),
        ({"policy": [{"action": "deny", "port": "http"}]}, "'http' is no port"),
        ({"policy": [{"action": "deny", "port": "0"}]}, "'0' is no port"),
        ({"policy": [{"action": "deny", "port": "65536"}]}, "is no port"),
        ({"policy": [{"action": "deny", "port": "90-80"}]}, "is no port"),
        ({"policy": [{"action": "deny", "port": "80", "protocol": "icmp"}]}, "A rule for icmp has no port"),
        ({"policy": [{"action": "deny", "id": 0}]}, "Rule 1 has the id 0"),
        ({"policy": [{"action": "deny", "id": 1 << 32}]}, "Rule 1 has the id 4294967296: give one from 1 to 4294967279"),
        ({"policy": [{"action": "deny"}, {"action": "deny", "workloads": [MAC2]}]}, f"Rule 2 is for {MAC2}, which is not among the workloads"),
    ],
)  # fmt: skip
def test_configurations_that_are_refused(options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(DataplaneError, match=words):
        config(**{"policy": [], **options}) if "policy" not in options else config(*options["policy"])


def sockets(tcp: list[int], udp: list[int], *connections: tuple[str, int, str, int]) -> Sockets:
    return Sockets(tcp, udp, list(connections), (32768, 60999))


def test_ports_on_which_a_workload_serves() -> None:
    """Those that rules name come first: dp takes 150."""
    rules: list[dict[str, t.Any]] = [
        {"action": "deny", "port": "5000", "protocol": "udp"}, {"action": "allow", "port": 443}, {"action": "allow", "port": "40000-40010", "protocol": "udp"},
        {"action": "allow", "port": 9, "protocol": "udp", "direction": "egress"}, {"action": "deny", "port": 7, "protocol": "udp", "workloads": [MAC2]},
    ]  # fmt: skip
    made = config(*rules, workloads=[workload(MAC, TAG, "10.99.0.2"), workload(MAC2, TAG2, "10.99.0.3")])
    named = [(6, 443), (17, 443), (17, 5000)]
    assert translated.ports(made, MAC, None) == named and translated.ports(made, MAC2, None) == [(6, 443), (17, 7), (17, 443), (17, 5000)]
    assert translated.ports(made, MAC, sockets([22], [53, 40005, 45000])) == [*named, (6, 22), (17, 53), (17, 40005)]
    many = translated.ports(made, MAC, sockets(list(range(1, 2000)), []))
    assert len(many) == protocol.MAX_PORTS and many[:3] == named
    assert translated.ports(made, protocol.BEAT_MAC, None) == [(6, 443), (17, 443), (17, 5000)]


def test_rules_for_connections_in_mid_stream() -> None:
    """Only where dp's guess would lead to another verdict; each with the rule that decides."""
    allow: list[dict[str, t.Any]] = [
        {"action": "allow", "direction": "egress", "destination": "10.99.0.1", "port": 50000, "protocol": "tcp", "id": 9},
        {"action": "violate", "port": 60000, "id": 8},
    ]
    made = config(*allow, default_action="deny")
    own, peer = "10.99.0.2", "10.99.0.1"
    misled = {"id": 9, "sip": peer, "dip": own, "port": 33000, "portr": 33000, "proto": 6, "action": 2, "ingress": True}
    assert translated.rules(made, MAC, sockets([], [], (own, 33000, peer, 50000))) == [misled]
    assert not translated.rules(made, MAC, sockets([33000], [], (own, 33000, peer, 50000))), "its server is known"
    assert not translated.rules(made, MAC, sockets([], [], (own, 55000, peer, 50000), (own, 33000, peer, 50001))), "dp guesses right; denied either way"
    (closed,) = translated.rules(made, MAC, sockets([], [], (own, 61000, peer, 50001), (own, 60001, peer, 33000), (own, 50000, peer, 50000)))
    assert (closed["id"], closed["ingress"], closed["port"]) == (9, True, 50000), "of equal ports, the direction depends on the first packet"
    assert not translated.rules(config(), MAC, sockets([], [], (own, 33000, peer, 50000))) and not translated.rules(made, MAC, None)
    forbidden = config({"action": "deny", "direction": "egress", "port": 50000})
    assert not translated.rules(forbidden, MAC, sockets([], [], (own, 33000, "8.8.8.8", 50000))), "one way it may pass, and nothing tells which it is"


def test_verdicts() -> None:
    made = config({"action": "deny", "source": "10.0.0.0/8", "port": "80-90"}, {"action": "allow", "protocol": "icmp", "id": 5}, default_action="violate")

    def verdict(source: str, port: int, kind: str, direction: str = "ingress", **options: t.Any) -> tuple[int, str]:
        return model.decide({**made, **options}, MAC, direction, source, "10.99.0.2", port, kind)

    assert verdict("10.1.1.1", 85, "udp") == (1, "deny") and verdict("11.1.1.1", 85, "udp") == (model.LAST_ID, "violate") == verdict("10.1.1.1", 91, "tcp")
    assert verdict("10.1.1.1", 85, "tcp", "egress") == (model.LAST_ID, "violate") and verdict("169.254.1.1", 85, "tcp") == (model.LAST_ID, "allow")
    assert verdict("10.1.1.1", 0, "icmp") == (5, "allow") and verdict("10.1.1.1", 0, "icmp", policy=[]) == (model.LAST_ID, "allow")
    assert verdict("10.1.1.1", 0, "icmp", policy=[], icmp_policy=True) == (model.LAST_ID, "violate")


def test_record_of_an_older_release() -> None:
    """It asked for no jumbo frames where nobody had said anything; now the link decides."""
    old = DataplaneRecord.of({"config": {"jumbo_frames": False}, "sure": True, "macs": [MAC], "rules": [], "icmp": False})
    assert old.config["jumbo_frames"] is None and not old.jumbo and old.sockets == {}
    assert DataplaneRecord.of({"config": {"jumbo_frames": True}}).jumbo


def test_records_are_of_one_process(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "made"
    own = Store(os.getpid(), start_time(os.getpid()), str(root))
    assert own.load() == DataplaneRecord() and not root.exists()
    with own.locked():
        own.save(DataplaneRecord(config(), True, [MAC], [1, 2]))
    assert own.load() == DataplaneRecord(config(), True, [MAC], [1, 2])
    assert root.stat().st_mode & 0o777 == 0o700 and {path.stat().st_mode & 0o777 for path in root.iterdir()} == {0o600}
    earlier = Store(os.getpid(), 1, str(root))
    assert earlier.load() == DataplaneRecord(), "another process had that PID"
    earlier.save(DataplaneRecord())
    (root / "neuvector-1.json.new").touch()
    (root / "somebody-elses").touch()
    with own.locked():
        assert sorted(path.name for path in root.iterdir()) == [f"neuvector-{os.getpid()}-{start_time(os.getpid())}.json", "somebody-elses"]
    next(root.glob("neuvector-*")).write_text('{"sure":')
    with pytest.raises(DataplaneError, match=r"cannot be read .* remove it and start dp again"):
        own.load()
    own.remove()
    own.remove()
    assert own.load() == DataplaneRecord()
