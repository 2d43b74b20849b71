# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""container_network_info beyond the interfaces: each subset beside what ip, tc, ss and nft tell of the same namespace."""

from __future__ import annotations

import collections.abc as c
import json
import pathlib
import socket
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _inet
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from engine import command, ip
from waiting import wait_for

Gather = c.Callable[..., dict[str, t.Any]]
# Listens with a backlog of 5 and accepts nothing; one connection waits, with 3 bytes sent. Binds UDP on both families.
PROGRAM = """
import socket, sys, time
listening = socket.create_server(("10.88.1.2", 8080), backlog=5)
client = socket.create_connection(("10.88.1.2", 8080))
client.send(b"abc")
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 5353))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture(name="place")
def make_place(netns: c.Callable[..., str], veth: c.Callable[..., tuple[str, str]]) -> str:
    """Give a namespace with routes, rules, neighbours, a queueing discipline and a packet filter of all kinds."""
    name = netns()
    veth(name, address="10.88.1.2/24", host_address="10.88.1.1/24")
    veth(name, peer="d0", address="10.88.2.2/24")
    for words in (
        "address add fd88::2/64 dev d0 nodad",
        "route add default via 10.88.1.1", "route add 10.9.0.0/16 nexthop via 10.88.1.7 nexthop via 10.88.2.7", "route add blackhole 10.66.0.0/16",
        "route add 10.77.0.0/16 via 10.88.1.9 table 100 metric 7", "rule add from 10.88.2.0/24 lookup 100 priority 50",
        "rule add fwmark 0x17 prohibit priority 60",
        "-6 route add fd99::/64 via fd88::9", "neigh add 10.88.1.9 lladdr 02:00:00:00:00:09 dev eth0",
    ):  # fmt: skip
        ip("-n", name, *words.split())
    command("tc", "-n", name, "qdisc", "add", "dev", "d0", "root", "handle", "7:", *"tbf rate 8bit burst 10 limit 10".split())
    rule = 'add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c udp dport 9 counter drop comment "ninth"'
    command("ip", "netns", "exec", name, "nft", rule)
    return name


@pytest.fixture(name="gather")
def make_gather(place: str, run_module: Gather) -> Gather:
    """Give gather(subset…): what the module returns of the namespace."""

    def run(*subsets: str) -> dict[str, t.Any]:
        result = run_module("container_network_info", {"netns": place, "gather_subset": list(subsets)})
        assert "containers" in result, result
        return result["containers"][0]

    return run


def shown(place: str, *words: str) -> t.Any:
    """What ip(8) shows in the namespace."""
    return json.loads(ip("-n", place, "-j", *words))


def test_only_what_is_asked_for(gather: Gather) -> None:
    assert not {"routes", "interfaces", "firewall"} & set(gather("qdiscs"))
    everything = gather("all")
    assert {"interfaces", "routes", "rules", "neighbours", "sockets", "counters", "qdiscs", "firewall"} <= set(everything)


def test_routes(place: str, gather: Gather) -> None:
    found = gather("routes")["routes"]
    by_destination = {(route["destination"], route["gateway"]): route for route in found}
    assert by_destination["default", "10.88.1.1"] == {
        "family": "ipv4", "destination": "default", "gateway": "10.88.1.1", "interface": "eth0", "source": None, "metric": None, "table": "main",
        "type": "unicast",
    }  # fmt: skip
    assert {by_destination["10.9.0.0/16", gateway]["interface"] for gateway in ("10.88.1.7", "10.88.2.7")} == {"eth0", "d0"}
    assert by_destination["10.66.0.0/16", None]["type"] == "blackhole"
    assert (by_destination["10.77.0.0/16", "10.88.1.9"]["table"], by_destination["10.77.0.0/16", "10.88.1.9"]["metric"]) == (100, 7)
    assert by_destination["fd99::/64", "fd88::9"]["family"] == "ipv6"
    everything = [*shown(place, "route", "show", "table", "all"), *shown(place, "-6", "route", "show", "table", "all")]
    theirs = {(one["dst"].partition("/")[0], one.get("table", "main")) for one in everything if one.get("table") != "local"}
    assert {(one["destination"].partition("/")[0], str(one["table"])) for one in found} == theirs


def test_rules(place: str, gather: Gather) -> None:
    found = [rule for rule in gather("rules")["rules"] if rule["family"] == "ipv4"]
    assert [rule["priority"] for rule in found] == [rule["priority"] for rule in shown(place, "-4", "rule")]
    by_priority = {rule["priority"]: rule for rule in found}
    assert (by_priority[50]["source"], by_priority[50]["action"], by_priority[50]["table"]) == ("10.88.2.0/24", "lookup", 100)
    assert (by_priority[60]["mark"], by_priority[60]["action"]) == (0x17, "prohibit")


def test_neighbours(gather: Gather) -> None:
    assert {"address": "10.88.1.9", "mac": "02:00:00:00:00:09", "interface": "eth0", "state": "permanent"} in gather("neighbours")["neighbours"]


def test_qdisc_and_counters_tell_what_is_lost(place: str, gather: Gather) -> None:
    """The queueing discipline drops what is larger than its bucket, and this kernel has no netem."""
    before = gather("qdiscs", "counters")
    send(place, "10.88.2.9", 3)
    after = gather("qdiscs", "counters")
    lost = [next(one for one in state["qdiscs"] if one["interface"] == "d0") for state in (before, after)]
    assert (lost[0]["kind"], lost[0]["handle"], lost[0]["parent"]) == ("tbf", "7:", "root")
    assert lost[1]["drops"] > lost[0]["drops"]
    refused = [state["counters"]["protocols"]["Udp"]["SndbufErrors"] for state in (before, after)]
    assert refused[1] - refused[0] == 3
    assert set(after["counters"]["links"]) == {"lo", "eth0", "d0"}
    theirs = shown(place, "-s", "link", "show", "eth0")[0]["stats64"]
    assert after["counters"]["links"]["eth0"]["rx_packets"] <= theirs["rx"]["packets"]
    assert {"Tcp", "TcpExt", "Ip", "Icmp", "Udp6", "Ip6"} <= set(after["counters"]["protocols"])


def send(place: str, address: str, count: int) -> None:
    """Send datagrams from the namespace to a neighbour whose MAC is known."""
    ip("-n", place, "neigh", "replace", address, "lladdr", "02:00:00:00:00:0a", "dev", "d0")
    namespace = _netns.open_path(place)
    try:
        with _netns.entered(namespace.fd):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            for _number in range(count):
                sender.sendto(b"x", (address, 9))
    finally:
        namespace.close()


@pytest.mark.parametrize("without_sock_diag", [False, True])
def test_sockets_and_their_processes(place: str, gather: Gather, without_sock_diag: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["ip", "netns", "exec", place, sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout and program.stdout.readline() == "ready\n"
            if without_sock_diag:
                monkeypatch.setattr(_inet, "_NETLINK_SOCK_DIAG", 31)  # a family that the kernel does not have
                namespace = _netns.open_path(place)
                found = [one for protocol in _inet.PROTOCOLS for one in _inet.dump(namespace.fd, protocol)]
                namespace.close()
                assert {(one.protocol, one.port, one.state) for one in found} >= {("tcp", 8080, "listen"), ("tcp", 8080, "established"), ("udp", 5353, "close")}
                listening = next(one for one in found if one.state == "listen")
                assert (listening.own, listening.inode > 0) == ("10.88.1.2", True)
                return
            assert wait_for(lambda: any(one["receive_queue"] == 3 for one in gather("sockets")["sockets"]))
            found = gather("sockets")["sockets"]
        finally:
            program.kill()
    who = [{"pid": program.pid, "command": pathlib.Path(sys.executable).resolve().name[:15]}]
    by_state = {(one["protocol"], one["local"]["port"], one["state"]): one for one in found}
    listening = by_state["tcp", 8080, "listen"]
    assert (listening["local"]["address"], listening["receive_queue"], listening["send_queue"], listening["uid"]) == ("10.88.1.2", 1, 5, 0)
    assert [process["pid"] for process in listening["processes"]] == [who[0]["pid"]] and listening["processes"][0]["command"]
    waiting = by_state["tcp", 8080, "established"]
    assert (waiting["receive_queue"], waiting["processes"]) == (3, [])  # nobody has accepted it yet
    assert by_state["udp", 5353, "close"]["local"]["address"] == "::"


def test_firewall(gather: Gather) -> None:
    listing = gather("firewall")["firewall"][0]
    assert (listing["tool"], listing["error"]) == ("nft", None)
    assert any("udp dport 9 counter packets 0 bytes 0 drop" in line and "ninth" in line for line in listing["lines"])


def test_two_namespaces_are_not_mixed_up(place: str, netns: c.Callable[..., str], run_module: Gather) -> None:
    other = netns()
    found = run_module("container_network_info", {"netns": other, "gather_subset": ["all"]})["containers"][0]
    assert found["routes"] == [] and found["sockets"] == [] and [one["name"] for one in found["interfaces"]] == ["lo"]
