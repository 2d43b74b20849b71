# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""container_network_info against what ip(8) shows, on the host and in the namespaces: kinds of links, peers, bridges, addresses."""

from __future__ import annotations

import collections.abc as c
import contextlib
import json
import os
import pathlib
import subprocess
import typing as t

import ansible_cli
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from ansible_collections.nettap.containers.plugins.module_utils._targets import _links
from ansible_collections.nettap.containers.plugins.module_utils._targets._target import resolved
from engine import ip

Running = t.Any  # a docker.models.containers.Container, of which the SDK's types say that it may have no name
Veth = t.Callable[..., tuple[str, str]]
Netns = t.Callable[..., str]
Info = dict[str, t.Any]
IDLE = ["sleep", "600"]


def network_info(**given: t.Any) -> list[Info]:
    """What the module returns as `containers`, but in this process."""
    with resolved({"runtime": "auto", "allow_missing": False, **given}) as targets:
        found = _links.interfaces([target.namespace for target in targets])
        return [{**target.describe(), "interfaces": links} for target, links in zip(targets, found)]


def interfaces(**given: t.Any) -> dict[str, Info]:
    """The interfaces of one target, by name."""
    target, = network_info(**given)
    return {link["name"]: link for link in target["interfaces"]}


def shown(*where: str) -> dict[str, Info]:
    """The links that ip(8) shows, by name: of the host, or with "-n", NAME of a namespace."""
    return {link["ifname"]: link for link in json.loads(ip(*where, "-j", "-d", "address", "show"))}


def shown_inside(container: Running) -> dict[str, Info]:
    """The same of a container's namespace, which has no name."""
    enter = ["nsenter", f"--net=/proc/{container.attrs['State']['Pid']}/ns/net"]
    done = subprocess.run([*enter, "ip", "-j", "-d", "address", "show"], check=True, capture_output=True)
    return {link["ifname"]: link for link in json.loads(done.stdout)}


def assert_as_shown(found: dict[str, Info], there: dict[str, Info]) -> None:
    """Every link with its fields is what ip(8) shows in that namespace."""
    assert sorted(found) == sorted(there)
    for name, link in found.items():
        other = there[name]
        kind = other.get("linkinfo", {}).get("info_kind") or ("loopback" if other["link_type"] == "loopback" else "physical")
        assert (link["ifindex"], link["mac"], link["mtu"], link["kind"], link["state"]) == (
            other["ifindex"], other["address"], other["mtu"], kind, other["operstate"].lower()), name
        assert sorted(link["addresses"]) == sorted(f"{each['local']}/{each['prefixlen']}" for each in other["addr_info"]), name


def assert_peer(link: Info, expected: str | None) -> None:
    """The peer, by its name on the host, with its index and its bridge as ip(8) shows them there; the two point at each other."""
    if expected is None:
        assert link["host_peer"] is None
        return
    there = json.loads(ip("-j", "-d", "link", "show", expected))[0]
    assert link["host_peer"] == {"name": expected, "ifindex": there["ifindex"], "master": there.get("master")}
    assert there["link_index"] == link["ifindex"] and link["iflink"] == there["ifindex"]


@contextlib.contextmanager
def link_of(name: str, *more: str) -> c.Iterator[str]:
    """A link of the host, deleted at the end if it is still there."""
    ip("link", "add", "name", name, *more)
    try:
        yield name
    finally:
        if os.path.exists(f"/sys/class/net/{name}"):
            ip("link", "delete", name)


# --- Docker

def test_container_as_the_host_and_the_namespace_show_it(container: c.Callable[..., Running]) -> None:
    one = container(IDLE)
    found, there, host = interfaces(container=[one.name]), shown_inside(one), shown()
    assert_as_shown(found, there)
    peer = next(name for name, link in host.items() if link.get("link_index") == there["eth0"]["ifindex"] and link["ifindex"] == there["eth0"]["link_index"])
    assert_peer(found["eth0"], peer)
    assert found["eth0"]["host_peer"]["master"] == host[peer]["master"] and host[host[peer]["master"]]["linkinfo"]["info_kind"] == "bridge"
    assert (found["lo"]["kind"], found["lo"]["host_peer"], found["lo"]["state"]) == ("loopback", None, "unknown")


def test_two_networks(container: c.Callable[..., Running], network: c.Callable[..., t.Any]) -> None:
    first, second = network(), network()
    one = container(IDLE, network=first.name)
    second.connect(one)
    try:
        found = interfaces(container=[one.name])
        assert_as_shown(found, shown_inside(one))
        assert {"eth0", "eth1"} <= set(found)
        bridges = {f"br-{each.id[:12]}" for each in (first, second)}
        assert {found[name]["host_peer"]["master"] for name in ("eth0", "eth1")} == bridges
        for name in ("eth0", "eth1"):
            assert_peer(found[name], found[name]["host_peer"]["name"])
    finally:
        second.disconnect(one)


def test_containers_without_a_network_of_their_own(container: c.Callable[..., Running]) -> None:
    alone, shared = container(IDLE, network="none"), container(IDLE, network="host")
    found = {each["name"]: each for each in network_info(container=[alone.name, shared.name])}
    assert "eth0" not in {link["name"] for link in found[alone.name]["interfaces"]}
    host = found[shared.name]
    assert host["host_network"] and {link["name"] for link in host["interfaces"]} == set(os.listdir("/sys/class/net"))
    # They are the host's links themselves: none has a peer "on the host", though every container's veth ends there.
    assert all(link["host_peer"] is None for link in host["interfaces"])


def test_module(container: c.Callable[..., Running], run_module: c.Callable[..., t.Any]) -> None:
    several = [container(IDLE, name=f"ni{os.getpid()}{letter}") for letter in "ba"]
    for check in (False, True):
        done = run_module("container_network_info", {"container": f"ni{os.getpid()}*"}, check=check)
        assert done["changed"] is False and [each["name"] for each in done["containers"]] == sorted(one.name for one in several)
        for each, one in zip(done["containers"], reversed(several)):
            found = {link["name"]: link for link in each["interfaces"]}
            assert_as_shown(found, shown_inside(one))
            assert_peer(found["eth0"], found["eth0"]["host_peer"]["name"])
            assert set(each) == {"runtime", "id", "name", "image", "pod", "labels", "pid", "host_network", "netns", "interfaces"}
            assert set(found["eth0"]) == {"name", "ifindex", "kind", "mac", "mtu", "state", "addresses", "iflink", "host_peer", "peer_netns"}
    assert run_module("container_network_info", {"container": "no-such-one", "allow_missing": True})["containers"] == []


# --- veth

def test_veth(netns: Netns, veth: Veth) -> None:
    name = netns()
    outer, _inner = veth(name, peer="eth7", address="10.212.9.2/24", host_address="10.212.9.1/24")
    found = interfaces(netns=name)
    assert_as_shown(found, shown("-n", name))
    assert_peer(found["eth7"], outer)
    with link_of(f"b{os.getpid()}", "type", "bridge") as bridge:
        ip("link", "set", outer, "master", bridge)
        assert interfaces(netns=name)["eth7"]["host_peer"]["master"] == bridge


def test_wired_to_each_other(netns: Netns) -> None:
    """Index and iflink are the same number on both ends, and the host may have a link of that number too: only the netnsid tells."""
    one, other = netns(), netns()
    ip("-n", one, "link", "add", "eth0", "index", "3", "type", "veth", "peer", "name", "eth0", "index", "3", "netns", other)
    own = shown("-n", one)["eth0"]
    assert (own["ifindex"], own["link_index"]) == (3, 3), "as in FACTS.md"
    for name in (one, other):
        link = interfaces(netns=name)["eth0"]
        assert (link["ifindex"], link["iflink"], link["kind"], link["host_peer"]) == (3, 3, "veth", None)


def test_wired_to_each_other_beside_a_veth_of_the_host(netns: Netns, veth: Veth) -> None:
    """The trap itself: a veth between two namespaces has the very numbers of one that ends on the host."""
    one, other = netns(), netns()
    outer, _inner = veth(one, peer="eth0")
    numbers = shown()[outer]["ifindex"], shown("-n", one)["eth0"]["ifindex"]
    ip("-n", other, "link", "add", "eth0", "index", str(numbers[1]), "type", "veth", "peer", "name", "eth1", "index", str(numbers[0]), "netns", one)
    trap = interfaces(netns=other)["eth0"]
    assert (trap["iflink"], trap["ifindex"]) == numbers and trap["host_peer"] is None
    found = interfaces(netns=one)
    assert_peer(found["eth0"], outer)
    assert_peer(found["eth1"], None)


def test_both_ends_in_one_namespace(netns: Netns) -> None:
    name = netns()
    ip("-n", name, "link", "add", "va", "type", "veth", "peer", "name", "vb")
    found = interfaces(netns=name)
    assert (found["va"]["iflink"], found["vb"]["iflink"]) == (found["vb"]["ifindex"], found["va"]["ifindex"])
    assert found["va"]["host_peer"] is None and found["vb"]["host_peer"] is None


def test_host_end_moves_away_and_comes_back(netns: Netns, veth: Veth) -> None:
    name, away = netns(), netns()
    outer, _inner = veth(name)
    assert_peer(interfaces(netns=name)["eth0"], outer)
    ip("link", "set", outer, "netns", away)
    link = interfaces(netns=name)["eth0"]
    assert (link["kind"], link["host_peer"], link["iflink"]) == ("veth", None, shown("-n", away)[outer]["ifindex"])
    ip("-n", away, "link", "set", outer, "netns", str(os.getpid()))
    assert_peer(interfaces(netns=name)["eth0"], outer)


def test_links_that_are_renamed_and_down(netns: Netns, veth: Veth) -> None:
    name = netns()
    outer, _inner = veth(name)
    ip("-n", name, "link", "set", "eth0", "down")
    ip("-n", name, "link", "set", "eth0", "name", "wan.0_15-letter")
    found = interfaces(netns=name)
    assert_as_shown(found, shown("-n", name))
    assert found["wan.0_15-letter"]["state"] == "down"
    assert_peer(found["wan.0_15-letter"], outer)


def test_addresses(netns: Netns, veth: Veth) -> None:
    name = netns()
    veth(name)
    for address in ("10.212.8.2/24", "10.212.8.3/32", "192.0.2.1/30", "fd00:212::2/64", "fd00:212::3/128"):
        ip("-n", name, "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    ip("-n", name, "address", "add", "10.212.7.1", "peer", "10.212.7.9/32", "dev", "eth0")
    found = interfaces(netns=name)
    assert {"10.212.8.2/24", "10.212.8.3/32", "192.0.2.1/30", "fd00:212::2/64", "fd00:212::3/128", "10.212.7.1/32"} <= set(found["eth0"]["addresses"])
    assert any(address.startswith("fe80::") for address in found["eth0"]["addresses"])
    assert sorted(found["lo"]["addresses"]) == ["127.0.0.1/8", "::1/128"]
    assert_as_shown(found, shown("-n", name))


# --- other kinds

@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_parent_is_no_peer(netns: Netns, veth: Veth, kind: str) -> None:
    """iflink is the parent's index in the host's namespace, as netnsid says. The parent is here a veth whose own other end
    has the very index of ours: everything is as if it were our peer, but for our kind. ipvlan is alike; the kernel that
    runs this test need not have it, so it is in tests/unit/targets/test_links.py."""
    name, elsewhere = netns(), netns()
    parent, far = veth(elsewhere)
    index = shown("-n", elsewhere)[far]["ifindex"]
    ip("link", "add", "link", parent, "name", "m0", "index", str(index), "netns", name, "type", kind)
    there = shown("-n", name)["m0"]
    assert there["link_index"] == shown()[parent]["ifindex"] and "link_netnsid" in there and shown()[parent]["link_index"] == there["ifindex"]
    found = interfaces(netns=name)
    assert_as_shown(found, shown("-n", name))
    assert (found["m0"]["kind"], found["m0"]["iflink"], found["m0"]["host_peer"]) == (kind, there["link_index"], None)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("bridge", []), ("ifb", []), ("vxlan", ["id", "7", "dstport", "4789", "local", "127.0.0.1", "remote", "127.0.0.2"])],
)
def test_links_with_nothing_on_the_other_side(netns: Netns, kind: str, more: list[str]) -> None:
    name = netns()
    ip("-n", name, "link", "add", "l0", "type", kind, *more)
    found = interfaces(netns=name)
    assert_as_shown(found, shown("-n", name))
    assert (found["l0"]["kind"], found["l0"]["host_peer"]) == (kind, None)


def test_tun_has_no_hardware_address(netns: Netns) -> None:
    name = netns()
    ip("-n", name, "tuntap", "add", "dev", "t0", "mode", "tun")
    ip("-n", name, "address", "add", "10.212.6.1", "peer", "10.212.6.2", "dev", "t0")
    link = interfaces(netns=name)["t0"]
    assert (link["kind"], link["mac"], link["addresses"], link["host_peer"]) == ("tun", None, ["10.212.6.1/32"], None)


# --- the trap of /sys

def test_answer_is_not_that_of_sys_after_setns(netns: Netns, veth: Veth) -> None:
    """After setns alone, /sys/class/net shows the host's links: a link of the same name there would be taken for the container's."""
    name, other = netns(), netns()
    outer, _inner = veth(name, peer="eth0")
    with link_of(f"s{os.getpid()}", "type", "veth", "peer", "name", "eth0", "netns", other):
        decoy, _far = veth(other, peer="eth9")
        ip("-n", name, "link", "set", "eth0", "name", decoy)
        namespace = _netns.open_path(name)
        try:
            with _netns.entered(namespace.fd):
                sys_says = {key: int(pathlib.Path(f"/sys/class/net/{decoy}/{key}").read_text()) for key in ("ifindex", "iflink")}
                sys_links = set(os.listdir("/sys/class/net"))
        finally:
            namespace.close()
        found = interfaces(netns=name)
        assert sys_links == set(os.listdir("/sys/class/net")) != set(found), "what /sys shows is still the host's"
        assert sys_says["iflink"] != found[decoy]["iflink"] and sys_says["ifindex"] != found[decoy]["ifindex"]
        assert_as_shown(found, shown("-n", name))
        assert_peer(found[decoy], outer)


# --- many at once, and old libraries

def test_many_namespaces_in_one_call(netns: Netns, veth: Veth) -> None:
    made = {netns(): "" for _round in range(5)}
    for name in made:
        made[name] = veth(name)[0]
    opened = [_netns.open_path(name) for name in made]
    try:
        for links, outer in zip(_links.interfaces(opened), made.values()):
            assert_peer(next(link for link in links if link["name"] == "eth0"), outer)
    finally:
        for namespace in opened:
            namespace.close()


OLD = "/usr/bin/python3"


def test_distribution_libraries(container: c.Callable[..., Running], ansible: c.Callable[..., ansible_cli.Finished]) -> None:
    """The oldest that are served: Debian 12's python3-pyroute2 (0.7.2) and python3-docker (5.0.3), with the system's Python."""
    probe = "from importlib.metadata import version; print(version('pyroute2'), version('docker'))"
    versions = subprocess.run([OLD, "-c", probe], capture_output=True, text=True, check=False)
    assert versions.returncode == 0, f"apt-get install python3-pyroute2 python3-docker\n{versions.stderr}"
    one = container(IDLE)
    done = ansible("container_network_info", {"container": one.name}, hosts={"old": {"ansible_connection": "local", "ansible_python_interpreter": OLD}})
    assert done.rc == 0, done.output
    told, = done.result("container_network_info")["containers"]
    here, = network_info(container=[one.name])
    assert told == here and told["interfaces"][-1]["host_peer"], versions.stdout
