"""Containers by hand on what newer kernels have: netkit pairs (Linux 6.7), and programs of somebody's that go before any filter (tcx, Linux 6.6).

    python netkit_lab.py made           make what is below
    python netkit_lab.py asked          send data to both addresses of `netkit` and back over TCP
    python netkit_lab.py inspected      the same, and see that it goes through the engine of the dataplane `nettap`
    python netkit_lab.py unfiltered     see that none of the host's ends has filters any more, and what the kernel tells of their programs

PYTHONPATH must lead to ansible_collections. The namespaces, and the host's ends of the links in them:

    netkit       eth0 ─ nk0    as Cilium makes it: a router's, without MAC and ARP
                 eth1 ─ nk1    as for a bridge
                 eth2 ─ nk2    its first end is the container's
    tcx          eth0 ─ tcx0   veth, on whose host's end a tcx program goes before any filter
"""

from __future__ import annotations

import collections.abc as c
import os
import socket
import struct
import subprocess
import sys
import threading

from ansible_collections.nettap.containers.plugins.module_utils._bpf import _assembler, _calls
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink as rt
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import attribute
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink
from ansible_collections.nettap.containers.plugins.module_utils._steering import _control
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from steering_tools import command

NETKIT_PEER_INFO, NETKIT_MODE, L2, L3 = 1, 5, 0, 1  # linux/if_link.h
PROG_ATTACH = 8  # enum bpf_cmd
ADDRESSES = ("10.219.0.2", "10.219.1.2")  # of eth0 and eth1 of `netkit`
SIZE = 1 << 18  # bytes
FRAMES = 170  # the fewest that carry them


def made() -> None:
    """Make the namespaces, and what is in them."""
    ip(["netns add netkit", "netns add tcx", "link add tcx0 type veth peer eth0 netns tcx"])
    with open(_netns.host_path(), "rb") as host, open("/run/netns/netkit", "rb") as inside:
        netkit(host.fileno(), "nk0", inside.fileno(), "eth0", L3)
        netkit(host.fileno(), "nk1", inside.fileno(), "eth1", L2)
        netkit(inside.fileno(), "eth2", host.fileno(), "nk2", L2)
    ip(line for number in (0, 1) for line in (f"address add 10.219.{number}.1/24 dev nk{number}", f"link set nk{number} up"))
    ip((line for number in (0, 1) for line in (f"address add {ADDRESSES[number]}/24 dev eth{number}", f"link set eth{number} up")), "-n", "netkit")
    ip(["address add 10.219.2.2/24 dev eth0"], "-n", "tcx")
    attach("tcx0", _calls.TCX_INGRESS)


def ip(lines: c.Iterable[str], *options: str) -> None:
    """Run lines of an ip(8) batch: one process for all."""
    subprocess.run(["ip", *options, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def netkit(first: int, name: str, second: int, other: str, mode: int) -> None:
    """Make a netkit pair: its first end in one namespace (a descriptor), its second in another. iproute2 knows it from 6.7 on."""
    peer = rt.IFINFOMSG.pack(0, 0, 0, 0, 0) + attribute(rt.IFLA_IFNAME, other) + attribute(rt.IFLA_NET_NS_FD, second)
    data = attribute(NETKIT_PEER_INFO, peer) + attribute(NETKIT_MODE, mode)
    info = attribute(rt.IFLA_INFO_KIND, "netkit") + attribute(rt.IFLA_INFO_DATA, data)
    message = rt.IFINFOMSG.pack(0, 0, 0, 0, 0) + attribute(rt.IFLA_IFNAME, name) + attribute(rt.IFLA_LINKINFO, info)
    with Netlink(first) as netlink:
        netlink.request(rt.RTM_NEWLINK, message, rt.NLM_F_CREATE | rt.NLM_F_EXCL)


def attach(link: str, kind: int) -> None:
    """Attach a program that lets everything pass; it stays when we have ended."""
    code = _assembler.Assembler()
    code.leave(-1)  # TCX_NEXT, NETKIT_NEXT
    program = _calls.load(code.code(), "theirs")
    # union bpf_attr: target, program, type, flags, replaced program, relative, revision
    _calls.bpf(PROG_ATTACH, struct.pack("=IIIIIIQ", socket.if_nametoindex(link), program, kind, 0, 0, 0, 0))
    os.close(program)


def asked() -> None:
    """Send data to both addresses over TCP, and get it back."""
    for address in ADDRESSES:
        with open("/run/netns/netkit", "rb") as inside, _netns.entered(inside.fileno()):
            server = socket.create_server((address, 80))
        echo = threading.Thread(target=give_back, args=[server])
        echo.start()
        data = os.urandom(SIZE)
        with socket.create_connection((address, 80), timeout=30) as client:
            sender = threading.Thread(target=client.sendall, args=[data])
            sender.start()
            received = bytearray()
            while len(received) < SIZE:
                received += client.recv(SIZE)
        sender.join()
        echo.join()
        assert received == data, address


def inspected() -> None:
    """What asked() sends goes through the engine, both ways."""
    before = _control.describe_all("nettap")
    asked()
    after = _control.describe_all("nettap")
    assert [one["host_peer"] for one in after] == ["nk0", "nk1"], after
    for one, other in zip(before, after):
        for way in ("out", "in"):
            assert other["counters"][way]["returned"] - one["counters"][way]["returned"] >= FRAMES, (one, other)


def give_back(server: socket.socket) -> None:
    """Send what the first client sends back to it."""
    with server, server.accept()[0] as connection:
        while data := connection.recv(SIZE):
            connection.sendall(data)


def unfiltered() -> None:
    """No host's end has a clsact any more, and the kernel tells of programs what steering in place relies on."""
    shown = [line for line in command("tc", "qdisc", "show").splitlines() if "clsact" in line and " nk" in line]
    assert not shown, shown
    attach("nk1", _calls.NETKIT_PEER)
    found = {link: _calls.attached(socket.if_nametoindex(link), _calls.NETKIT_PEER) for link in ("nk0", "nk1", "tcx0")}
    assert [programs and len(programs) for programs in found.values()] == [[], 1, []], found
    assert _calls.attached(socket.if_nametoindex("nk2"), _calls.NETKIT_PEER) is None


if __name__ == "__main__":
    {"made": made, "asked": asked, "inspected": inspected, "unfiltered": unfiltered}[sys.argv[1]]()
