# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a session does not capture, and tells: the play's own connection, and at the host's vantage what does not end on the host."""

from __future__ import annotations

import os
import socket
import struct
import subprocess

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _assembler, _calls
from capture_tools import TRAFFIC, by, lengths, only, reach, send, succeeded, tcpdump
from engine import address, ip


def test_own_ssh_connection(captures, container, cli, sshd):
    """A real one, whose next task comes from another port. All else of the host's network is captured."""
    target = container(network="host")
    hosts = {"node": {**sshd.host_vars, "ansible_ssh_args": "-o ControlMaster=no"}}  # a connection a task, as without ControlPersist
    options = {"container": target.name, "interface": "lo", "allow_host_network": True, "live": True, "path": str(captures.path)}
    done = cli.ansible("container_capture", options, hosts=hosts).result()
    words = f"tcp port {sshd.port} and host 127.0.0.1 and host 127.0.0.1"
    sentence = f"{target.name}: this play's SSH connection from 127.0.0.1 ({words}) is left out."
    assert done["capture"]["left_out"] == [sentence] and sentence in done["warnings"]
    assert only(done["capture"])["argv"][-1] == f"not ({words})"
    again = cli.ansible("container_capture", options, hosts=hosts).result()
    assert not again["changed"] and again["capture"]["left_out"] == [sentence]
    assert captures.task(container=[target.name], interface=["lo"], allow_host_network=True, live=True)["changed"] is False
    send("127.0.0.1", [7])
    segment = only(captures.stop_here())
    assert tcpdump(segment["files"][0], f"port {sshd.port}") == [] and lengths(*segment["files"]) == [7]
    # Whoever looks for a fault of ssh itself asks for it.
    done = cli.ansible("container_capture", {**options, "exclude_own_connection": False}, hosts=hosts).result()
    assert done["capture"]["left_out"] == [] and sentence not in done.get("warnings", [])
    captures.until(lambda capture: capture["segments"][0]["packets_captured"])
    assert tcpdump(only(captures.stop())["files"][0], f"port {sshd.port}")


def test_session_that_another_has_started_is_not_followed_over_what_it_captures(captures, container, cli, sshd, tmp_path):
    """It knows nothing of the connection that comes later."""
    target = container(network="host")
    stream = {"path": str(captures.path), "dest": str(tmp_path / "live.pcapng")}
    hosts = {"node": sshd.host_vars}
    captures.start(target, allow_host_network=True, live=True, exclude_own_connection=True, env={"SSH_CONNECTION": "192.0.2.7 1 192.0.2.1 22"})
    words = f"tcp port {sshd.port} and host 127.0.0.1 and host 127.0.0.1"
    assert cli.ansible("container_capture_stream", stream, hosts=hosts).result()["msg"] == (
        "Session default captures this play's SSH connection from 127.0.0.1, and would capture what it sends to you, again and again: start it from here, or "
        f"with the filter 'not ({words})'.")  # fmt: skip
    assert not (tmp_path / "live.pcapng").exists()
    captures.start(target, allow_host_network=True, live=True, packet_count=1, filter=f"not ({words})", force=True)
    send("127.0.0.1", [7])
    assert cli.ansible("container_capture_stream", stream, hosts=hosts).result()["packets"] == 1


@pytest.mark.parametrize("way", ["bastion", "vpn", "local"])
def test_container_that_carries_the_connection(captures, container, way):
    """Its own address is the client's, or the way to the client leads through it. What it sends on to the controller cannot be told from others."""
    target = container()
    gateway = next(iter(target.attrs["NetworkSettings"]["Networks"].values()))["Gateway"]
    client = {"bastion": address(target), "vpn": "10.99.8.7", "local": "127.0.0.1"}[way]
    if way == "vpn":
        ip("route", "add", client, "via", address(target))
    try:
        env = {"SSH_CONNECTION": f"{client} 50000 {gateway} 2222"}
        failed = captures.task(container=[target.name], live=True, env=env)
        if way == "local":
            assert succeeded(failed)["capture"]["left_out"] == []
            return
        assert failed["msg"].startswith(f"{target.name} carries this play's SSH connection from {client}, as a bastion or a VPN does, ")
        assert captures.find() is None
        done = captures.start(target, env=env)["capture"]
        assert done["left_out"] == [f"{target.name} carries this play's SSH connection from {client}: tcp port 2222 and host {gateway} is left out. "
                                    "The connection that carries it further to the controller cannot be told from others there."]  # fmt: skip
        assert only(done)["argv"][-1] == f"not (tcp port 2222 and host {gateway})"
        pid = only(done)["pid"]
        target.restart(timeout=0)  # its captures after a restart leave it out, too
        newest = captures.until(lambda capture: capture["segments"][-1]["pid"] not in (pid, None))["segments"][-1]
        assert newest["argv"][-1] == f"not (tcp port 2222 and host {gateway})"
        # With a filter it is the user's to say what is wanted.
        assert succeeded(captures.task(name="filtered", container=[target.name], live=True, filter=TRAFFIC, env=env))["changed"]
        assert captures.start(container(), name="other", live=True, env=env)["capture"]["left_out"] == [], "this one carries nothing"
    finally:
        if way == "vpn":
            subprocess.run(["ip", "route", "delete", client], check=False, stderr=subprocess.DEVNULL)


def test_interface_whose_other_end_is_in_a_third_namespace(captures, container, netns, run_module):
    """As an overlay network of Docker Swarm has it: eth1's peer is on a bridge in a namespace of the network's own."""
    target, overlay = container(), netns()
    pid = target.attrs["State"]["Pid"]
    ip("link", "add", "eth1", "netns", str(pid), "type", "veth", "peer", "name", "veth0", "netns", overlay)
    ip("-n", overlay, "link", "set", "veth0", "up")
    ip("-n", overlay, "address", "add", "10.98.7.1/24", "dev", "veth0")
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link", "set", "eth1", "up"], check=True)
    links = by({"segments": succeeded(run_module("container_network_info", {"container": [target.name]}))["containers"][0]["interfaces"]}, "name")
    path = f"/run/netns/{overlay}"
    assert {name: (bool(link["host_peer"]), link["peer_netns"]) for name, link in links.items()} == {
        "lo": (False, None), "eth0": (True, None), "eth1": (False, path)}  # fmt: skip
    done = captures.start(target, vantage="host", filter=TRAFFIC)
    where = f"its other end is in the network namespace {path}, as of an overlay network or a rootless engine; netns: {path} captures there"
    sentence = f"eth1 of {target.name} is left out at the vantage host: {where}."
    assert done["capture"]["left_out"] == [sentence] and sentence in str(done["warnings"])
    assert only(done["capture"])["interface"] == "eth0"
    send(reach(target), [5])
    assert lengths(*only(captures.stop_here())["files"]) == [5]
    words = captures.task(container=[target.name], vantage="host", interface=["eth1"])["msg"]
    assert words == f"Interface eth1 of {target.name} (veth) has no peer on the host ({where}): use vantage: container (of the role capture: capture_vantage)."
    # And there it can be captured, as the sentence says.
    succeeded(captures.task(name="overlay", netns=path, interface=["veth0"]))


@pytest.mark.parametrize("place", [_calls.TCX_INGRESS, _calls.TCX_EGRESS])
def test_programs_of_a_network_plugin_at_the_host_s_end(captures, container, place):
    """A stand-in for Cilium's: what such a program redirects does not pass the host's end. Netkit: netkit_lab.py, on a kernel that has it."""
    target = container()
    link = only(captures.start(target, vantage="host", interface=["eth0"])["capture"])["device"]
    code = _assembler.Assembler()
    code.leave(-1)  # TCX_NEXT
    program = _calls.load(code.code(), "theirs")
    # union bpf_attr of BPF_PROG_ATTACH (8) and of BPF_PROG_DETACH (9): target, program, type, flags, replaced program, relative, revision
    request = struct.pack("=IIIIIIQ", socket.if_nametoindex(link), program, place, 0, 0, 0, 0)
    _calls.bpf(8, request)
    try:
        sentence = (f"eth0 of {target.name}: at {link}, the host's end, are tcx programs of a network plugin. Packets that these redirect (as Cilium's do) do "
                    "not pass there and are left out: vantage: container sees all.")  # fmt: skip
        assert captures.start(target, name="theirs", vantage="both", interface=["eth0"])["capture"]["left_out"] == [sentence]
    finally:
        _calls.bpf(9, request)
        os.close(program)
    assert captures.start(target, name="gone", vantage="both", interface=["eth0"])["capture"]["left_out"] == []
