# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures follow what they capture: interfaces and containers that go, come late, come back, or are new."""

from __future__ import annotations

import json
import subprocess
import typing as t

import pytest
from capture_tools import SECONDS, TRAFFIC, Capture, Captures, lengths, only, reach, send, tcpdump
from engine import ip
from waiting import wait_for


def inside(target: t.Any) -> str:
    """The path of a container's network namespace, for nsenter."""
    target.reload()
    return f"--net=/proc/{target.attrs['State']['Pid']}/ns/net"


def links(target: t.Any) -> list[str]:
    """The names of a container's interfaces."""
    told = subprocess.run(["nsenter", inside(target), "ip", "-j", "link", "show"], check=True, capture_output=True, text=True).stdout
    return [link["ifname"] for link in json.loads(told)]


def captured(captures: Captures, where: str, number: int, segments: int, waiting: tuple[str, ...] = ()) -> Capture:
    """Send datagrams of that length until the newest of so many segments has one; nothing but what is given may be waited for then."""

    def arrived(capture: Capture) -> bool:
        send(where, [number])
        return len(capture["segments"]) == segments and bool(capture["segments"][-1]["packets_captured"])

    told = captures.until(arrived)
    assert tuple(told["waiting"]) == waiting
    return told


@pytest.mark.parametrize(("vantage", "interface"), [("container", "eth0"), ("host", "eth0"), ("host", "any")])
def test_network_that_is_disconnected_and_connected_again(captures, container, engine, network, vantage, interface):
    """The container runs on; its interface is another one, of the same name."""
    first = network()
    target = container(network=first.name)
    captures.start(target, vantage=vantage, interface=[interface], filter=TRAFFIC)
    captured(captures, reach(target), 1, 1)
    first.disconnect(target)
    what = "an interface with a peer on the host" if interface == "any" else "its interface eth0" + (" with a peer on the host" if vantage == "host" else "")
    told = captures.until(lambda capture: capture["waiting"] and only(capture)["status"] == "stopped")
    assert (told["status"], told["waiting"], only(told)["stop_reason"]) == ("running", [f"{target.name} waits for {what} (it has lo)"], "interface_gone")
    first.connect(target)
    if interface != "any" and "eth0" not in links(target):  # Docker before 28 counts on
        told = captures.until(lambda capture: "eth1" in capture["waiting"][0])
        assert told["waiting"] == [f"{target.name} waits for {what} (it has eth1, lo)"]
        for change in (["down"], ["name", "eth0"], ["up"]):
            subprocess.run(["nsenter", inside(target), "ip", "link", "set", "eth1" if change != ["up"] else "eth0", *change], check=True)
    captured(captures, reach(target), 2, 2)
    segments = captures.stop()["segments"]
    assert [set(lengths(*segment["files"])) for segment in segments] == [{1}, {2}]
    assert [segment["stop_reason"] for segment in segments] == ["interface_gone", "user"]
    if vantage == "host":
        assert segments[0]["device"] != segments[1]["device"]


def test_second_network_while_any_is_captured_on_the_host(captures, container, network):
    """any means the peer of every interface, also of one that comes."""
    target = container(network=network().name)
    captures.start(target, vantage="host", filter=TRAFFIC)
    captured(captures, reach(target), 1, 1)
    second = network()
    second.connect(target)
    target.reload()
    captured(captures, target.attrs["NetworkSettings"]["Networks"][second.name]["IPAddress"], 2, 2)
    segments = captures.stop()["segments"]
    assert [(segment["interface"], set(lengths(*segment["files"]))) for segment in segments] == [("eth0", {1}), ("eth1", {2})]


@pytest.mark.parametrize("vantage", ["container", "both"])
def test_interface_that_appears_late_after_a_restart(captures, container, vantage):
    """As on a busy host: here the container gets its interface by hand, long after its start. The other container's capture goes on."""
    target, other = container(network="none"), container()
    places = 2 if vantage == "both" else 1

    def wire() -> str:
        link = f"late{target.attrs['State']['Pid']}"[:15]
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", inside(target).removeprefix("--net="))
        ip("address", "add", "10.98.7.1/30", "dev", link)
        ip("link", "set", link, "up")
        for command in (["address", "add", "10.98.7.2/30", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            subprocess.run(["nsenter", inside(target), "ip", *command], check=True)
        return link

    link = wire()
    captures.start(target, other, interface=["eth0"], vantage=vantage, filter=TRAFFIC)
    target.restart(timeout=0)
    told = captures.until(lambda capture: len(capture["waiting"]) == places)
    assert told["waiting"][0] == f"{target.name} waits for its interface eth0 (it has lo)"
    assert told["status"] == "running" and len(told["segments"]) == 2 * places
    ip("link", "set", "lo", "up")
    subprocess.run(["nsenter", inside(target), "ip", "link", "set", "lo", "up"], check=True)  # an event that brings nothing
    again = wire()
    assert again != link
    where = "10.98.7.2"
    ping = ["busybox", "ping", "-c", "1", "-W", "1", where]
    assert wait_for(lambda: subprocess.run(ping, stdout=subprocess.DEVNULL, check=False).returncode == 0, SECONDS)
    captured(captures, where, 2, 3 * places)
    reached = reach(other)
    send(reached, [7])
    segments = captures.stop()["segments"]
    assert [set(lengths(*segment["files"])) for segment in segments[2 * places:]] == [{2}] * places
    assert all(segment["device"] == again for segment in segments[2 * places:] if segment["vantage"] == "host")
    assert [lengths(*segment["files"]) for segment in segments if segment["container"] == other.name] == [[7]] * places
    assert not [segment for segment in segments if segment["error"]]


def crash_loop(container: t.Any, command: str = "sh -c 'sleep 0.1; exit 1'") -> t.Any:
    """A container that ends with an error as soon as it is started, again and again, and that its runtime waits to start again now."""
    target = container(command, restart_policy={"Name": "always"})

    def waits() -> bool:
        target.reload()
        return target.attrs["State"]["Status"] == "restarting" and target.attrs["RestartCount"] > 3

    assert wait_for(waits, SECONDS)
    return target


def test_container_in_a_crash_loop(captures, container):
    """Nothing of it runs when the session starts: its next starts are waited for, and each is captured within a second."""
    target = crash_loop(container, "sh -c 'sleep 1; ping -c 1 127.0.0.1; exit 1'")
    assert captures.start(target, filter="icmp[icmptype] = icmp-echo", interface=["lo"])["capture"]["status"] == "running"
    ended = captures.until(lambda capture: [segment["stop_reason"] for segment in capture["segments"]][1:3] == ["container_gone"] * 2)["segments"]
    assert [segment["packets_received"] for segment in ended[1:3]] == [2, 2], "of lo, which shows each packet twice"
    captures.until(lambda capture: capture["waiting"] == [f"{target.name} waits for its start"])
    again = captures.start(target, filter="icmp[icmptype] = icmp-echo", interface=["lo"])
    assert not again["changed"]
    target.remove(force=True)
    capture = captures.until_ended()
    assert (capture["status"], {segment["stop_reason"] for segment in capture["segments"]}) == ("stopped", {"container_gone"})


def test_container_that_is_not_started_meanwhile(captures, container, engine, image):
    """The session has nothing to show, and says why. A container that nobody will start is an error."""
    target = engine.containers.create(image, name="made-only")
    try:
        started = captures.start(target, interface=["eth0"], vantage="both", new_containers="follow", duration=5)
        assert started["capture"]["segments"] == []
        captures.until(lambda capture: capture["waiting"] == ["made-only waits for its start"] or capture["status"] != "running")
        capture = captures.until_ended()
        keys = ("interface", "status", "stop_reason", "error", "files")
        assert [tuple(one[key] for key in keys) for one in capture["segments"]] == [("eth0", "failed", "duration", "it was not started meanwhile", [])]
        assert captures.task(container=["made-only"], name="again")["msg"].endswith("made-only (docker) is created; start it first.")
    finally:
        target.remove()


def test_containers_that_come(captures, container):
    """They match the glob and are made after the start: captured from their first packet on, if that is not sent at once. Others are not."""
    first = container(name="come-1")
    options = {"container": ["come-*"], "filter": f"{TRAFFIC} or icmp[icmptype] = icmp-echo", "new_containers": "follow"}
    captures.start(**options)
    captured(captures, reach(first), 1, 1)
    container(name="other-1")
    container(name="come-host", network="host")
    loud = container("sh -c 'sleep 1; ping -c 3 -s 123 127.0.0.1; sleep 1000'", name="come-2")
    captured(captures, reach(loud), 2, 2)
    assert not captures.start(**options)["changed"]
    loud.restart(timeout=0)
    captured(captures, reach(loud), 3, 3)
    segments = captures.stop()["segments"]
    assert [segment["container"] for segment in segments] == ["come-1", "come-2", "come-2"]
    for number, segment in enumerate(segments[1:], 2):
        assert [line for line in tcpdump(*segment["files"]) if "seq 0, length 131" in line], "the first packet of all"
        assert set(lengths(*segment["files"])) == {number}


def test_containers_by_label_where_none_is_yet(captures, container):
    started = captures.start(labels={"app": "late"}, interface=["eth0"], vantage="both", filter=TRAFFIC, new_containers="follow")["capture"]
    assert (started["segments"], started["waiting"]) == ([], ["no container that matches has come yet"])
    container(labels={"app": "early"})
    one = container(labels={"app": "late"})
    captured(captures, reach(one), 1, 2)
    capture = captures.stop()
    assert {(segment["container"], segment["vantage"]) for segment in capture["segments"]} == {(one.name, "container"), (one.name, "host")}
