"""A container's interface, a network and an engine, all by hand: what tests of the takeover steer.

    box [eth0] ── v0 (wire: a bridge) v1 ── [eth0] peer        plane: vbr0/vth0, vbr1/vth1 and what copies between them

    python tests/support/takeover_lab.py tag|bridge

tries one mode on the kernel it runs on, also where there is no pytest (PYTHONPATH must lead to ansible_collections):
the filters are those that tc(8) makes of NeuVector's commands, traffic passes, and all is given back.
"""

from __future__ import annotations

import collections.abc as c
import contextlib
import hashlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._dataplane._namespace import Dataplane, ServiceLink
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import Journal, SteeringRecord
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover._topology import Takeover
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from waiting import wait_for

MAC = "02:42:ac:11:00:02"
BOX4, PEER4, BOX6, PEER6 = "10.77.0.2", "10.77.0.9", "fd77::2", "fd77::9"
PORT = 9000  # at which transfer() listens
STATES = ("REACHABLE", "STALE", "DELAY", "PROBE", "INCOMPLETE", "FAILED")
SHOWN = {
    "": {"link": "link show", "addr": "address show", "neigh": "neigh show nud all", "proxy": "neigh show proxy"},
    "-4": {"route4": "route show table all", "rule4": "rule show"},
    "-6": {"route6": "route show table all", "rule6": "rule show"},
}
PING_INTERVAL = 0.002  # seconds
# Of `ip -d -j`: what counts up or is the kernel's current state, not a setting.
VOLATILE = {"used", "confirmed", "updated", "refcnt", "probes", "expires", "operstate", "cstamp", "tstamp", "promiscuity", "allmulti"}


def run(*argv: str, inside: str = "", given: str = "") -> str:
    """Run a program, in a named namespace if one is given, and return what it prints; fail with its own words."""
    where = ("ip", "netns", "exec", inside) if inside else ()
    done = subprocess.run([*where, *argv], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


def ip(inside: str, lines: str) -> None:
    """Run the lines of an ip(8) batch in a named namespace."""
    run("ip", "-n", inside, "-batch", "-", given=lines)


def reflect(plane: str, mode: str) -> None:
    """Have the kernel be the engine in the named namespace: it copies vth0 to vth1 and back, in mode tag everything back to vth."""
    for one, other in (("vth0", "vth1"), ("vth1", "vth0")) if mode == "bridge" else (("vth", "vth"),):
        run("tc", "-n", plane, "qdisc", "add", "dev", one, "ingress")
        run(*f"tc -n {plane} filter add dev {one} parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev {other}".split())


class Lab:
    """Namespaces box, peer, wire and plane; see the picture above. Closed, nothing is left of it."""

    def __init__(self, name: str, mode: str = "bridge", kind: str = "veth", mtu: int = 2048) -> None:
        self.undo = contextlib.ExitStack()
        self.box, self.peer, self.wire, self.plane = (f"{name}{part}" for part in ("box", "peer", "wire", "dp"))
        for namespace in (self.box, self.peer, self.wire, self.plane):
            run("ip", "netns", "add", namespace)
            self.undo.callback(subprocess.run, ["ip", "netns", "delete", namespace], check=False, capture_output=True)
        self.fds = {namespace: self._open(namespace) for namespace in (self.box, self.peer, self.wire, self.plane)}
        self._network(kind)
        self.dataplane = self._dataplane(mode, mtu)

    def _open(self, namespace: str) -> int:
        fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
        self.undo.callback(os.close, fd)
        return fd

    def _network(self, kind: str) -> None:
        wire = "link add br0 type bridge\nlink set br0 up\n"
        wire += f"link add v1 type veth peer name eth0 netns {self.peer}\nlink set v1 master br0 up\n"
        if kind == "veth":
            wire += f"link add v0 index 40 type veth peer name eth0 address {MAC} netns {self.box}\nlink set v0 master br0 up\n"
        else:
            wire += f"link add link br0 name eth0 address {MAC} netns {self.box} type macvlan mode bridge\n"
        ip(self.wire, wire)
        ip(self.box, f"link set lo up\naddress add {BOX4}/24 brd + dev eth0\naddress add {BOX6}/64 dev eth0 nodad\nlink set eth0 up\n")
        ip(self.peer, f"link set lo up\naddress add {PEER4}/24 dev eth0\naddress add {PEER6}/64 dev eth0 nodad\nlink set eth0 up\n")

    def _dataplane(self, mode: str, mtu: int) -> Dataplane:
        pairs = [("vbr", "vth")] if mode == "tag" else [("vbr0", "vth0"), ("vbr1", "vth1")]
        run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6", inside=self.plane)
        for steering, engine in pairs:
            ip(self.plane, f"link add {steering} mtu {mtu} type veth peer name {engine} mtu {mtu}\nlink set {steering} up\nlink set {engine} up\n")
            run("ethtool", "-K", steering, "tx", "off", inside=self.plane)
            run("ethtool", "-K", engine, "tx", "off", inside=self.plane)
        links = {link["ifname"]: link["ifindex"] for link in json.loads(run("ip", "-n", self.plane, "-j", "link"))}
        inode = os.fstat(self.fds[self.plane]).st_ino
        return Dataplane(self.plane, self.fds[self.plane], inode, "takeover", mode, mtu, tuple(ServiceLink(a, links[a], b, links[b]) for a, b in pairs))

    def reflect(self) -> None:
        """Be the engine."""
        reflect(self.plane, self.dataplane.mode)

    def record(self, **given: t.Any) -> SteeringRecord:
        """Return the record of eth0 of the box."""
        link = json.loads(run("ip", "-n", self.box, "-j", "link", "show", "dev", given.get("interface", "eth0")))[0]
        known = {"runtime": "netns", "id": self.box, "name": self.box, "pid": None, "started": None, "netns_path": f"/run/netns/{self.box}",
                 "inode": os.fstat(self.fds[self.box]).st_ino, "interface": "eth0", "ifindex": link["ifindex"], "mac": link["address"],
                 "mtu": link["mtu"], "topology": "takeover", "mode": self.dataplane.mode, "ipv6": "steer", "fail_mode": "open",
                 "tag": "4e:65:75:56:00:01" if self.dataplane.mode == "tag" else None}
        return SteeringRecord(**{**known, **given})

    def takeover(self, record: SteeringRecord, journal: Journal | None = None) -> Takeover:
        """Return the takeover of a record; without a journal nothing is saved."""
        return Takeover(record, self.fds[self.box], self.dataplane, journal.save if journal else lambda _record: None)

    def state(self, offloads: bool = True) -> dict[str, t.Any]:
        """Return all that must be the same before and after, as the kernel's own tools show it."""
        return {"box": state(self.box, offloads), "plane": plane_state(self.plane), "wire": json.loads(run("ip", "-n", self.wire, "-j", "route"))}

    def close(self) -> None:
        """Remove everything."""
        self.undo.close()


def state(namespace: str, offloads: bool = True) -> dict[str, t.Any]:
    """Return the configuration of a namespace: links, addresses, routes, rules, neighbours, settings, tc, offloads (a process each)."""
    found: dict[str, t.Any] = {}
    for family, shown in SHOWN.items():
        printed = run("ip", "-n", namespace, *family.split(), "-d", "-j", "-batch", "-", given="\n".join(shown.values()) + "\n")
        found.update(zip(shown, map(_steady, _documents(printed))))
    found["neigh"] = [one for one in found["neigh"] if "NOARP" not in one["state"]]
    for key in ("neigh", "proxy"):
        found[key] = sorted(found[key], key=lambda one: (one.get("dev", ""), one["dst"]))
    for key in ("route4", "route6"):  # of the same prefix over two interfaces, that of the one that came last is last: with fe80::/64 it matters to nobody
        found[key] = sorted(found[key], key=lambda one: one.get("dev", ""))
    for link in found["link"] if offloads else ():
        found[f"ethtool {link['ifname']}"] = run("ethtool", "-k", link["ifname"], inside=namespace)
    found["qdisc"] = sorted(run("tc", "-n", namespace, "qdisc", "show").splitlines())
    with _netns.entered(fd := os.open(f"/run/netns/{namespace}", os.O_RDONLY)):
        found["sysctl"] = dict(_settings())
    os.close(fd)
    return found


def _documents(printed: str) -> c.Iterator[t.Any]:
    """Each line of ip's batch makes a JSON document; nothing at all is an empty list."""
    decoder = json.JSONDecoder()
    while printed := printed.strip():
        document, end = decoder.raw_decode(printed)
        printed = printed[end:]
        yield document


def _steady(found: t.Any) -> t.Any:
    if isinstance(found, list):
        return [_steady(one) for one in found]
    if isinstance(found, dict):
        kept = {key: _steady(value) for key, value in found.items() if key not in VOLATILE}
        if "state" in kept and isinstance(kept["state"], list):
            kept["state"] = ["dynamic" if one in STATES else one for one in kept["state"]]
        if "flags" in kept:
            kept["flags"] = [flag for flag in kept["flags"] if flag not in ("linkdown", "LOWER_UP", "NO-CARRIER")]
        for key in ("valid_life_time", "preferred_life_time"):
            if kept.get(key, 0xFFFFFFFF) != 0xFFFFFFFF:
                kept[key] = kept[key] // 1000
        return kept
    return found


def _settings() -> c.Iterator[tuple[str, str]]:
    for folder in ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh", "ipv4/route", "ipv6/route"):
        for place, _folders, names in os.walk(f"/proc/sys/net/{folder}"):
            for name in names:
                with contextlib.suppress(OSError), open(f"{place}/{name}", "rb", buffering=0) as stream:
                    yield f"{place}/{name}", stream.read().decode()


def plane_state(namespace: str) -> list[t.Any]:
    """Return the links of the dataplane's namespace and the filters on them."""
    links = [link["ifname"] for link in json.loads(run("ip", "-n", namespace, "-j", "link"))]
    return [links, [run("tc", "-n", namespace, "filter", "show", "dev", link, "ingress").count("match") for link in links if link.startswith("vbr")]]


def transfer(lab: Lab, size: int = 8 << 20, family: int = socket.AF_INET, reverse: bool = False) -> tuple[bool, float]:
    """Send size bytes over TCP from box to peer (reverse: back); return whether they came whole, and the seconds taken."""
    address = PEER4 if family == socket.AF_INET else PEER6
    payload = os.urandom(1 << 16) * (size >> 16)
    with _netns.entered(lab.fds[lab.peer]):
        server = socket.create_server((address, PORT), family=family)
    with _netns.entered(lab.fds[lab.box]):
        client = socket.socket(family)
    client.settimeout(20)
    with server, client:
        begun = time.monotonic()
        client.connect((address, PORT))
        accepted, _address = server.accept()
        with accepted:
            source, sink = (accepted, client) if reverse else (client, accepted)
            sender = threading.Thread(target=send, args=(source, payload))
            sender.start()
            sum_there = hashlib.sha256()
            while data := sink.recv(1 << 20):
                sum_there.update(data)
            sender.join()
        return sum_there.digest() == hashlib.sha256(payload).digest(), time.monotonic() - begun


def send(source: socket.socket, payload: bytes) -> None:
    """Send all and say that it was."""
    source.sendall(payload)
    source.shutdown(socket.SHUT_WR)


def ping(namespace: str, address: str, count: int = 1) -> bool:
    """Tell whether an address answers count pings in a row, within a second each (there need be no ping(8))."""
    family, protocol, request, reply = (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129) if ":" in address else (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0)
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        with _netns.entered(fd):
            pinging = socket.socket(family, socket.SOCK_RAW, protocol)
    finally:
        os.close(fd)
    with pinging:
        for number in range(count):
            with contextlib.suppress(OSError):
                pinging.sendto(echo(request, number, os.getpid() & 0xFFFF), (address, 0))
            deadline = time.monotonic() + 1
            while select.select([pinging], [], [], max(0.0, deadline - time.monotonic()))[0]:
                packet = pinging.recv(1024)[0 if ":" in address else 20:]
                if packet[0] == reply and packet[4:8] == struct.pack(">HH", os.getpid() & 0xFFFF, number):
                    break
            else:
                return False
    return True


def echo(request: int, number: int, identity: int) -> bytes:
    """Return an ICMP echo request; the kernel sets the checksum of ICMPv6."""
    header = struct.pack(">BBHHH", request, 0, 0, identity, number)
    total = sum(struct.unpack(">4H", header))
    return header[:2] + struct.pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + header[4:]


class Pinger:
    """Pings from a namespace at 500 Hz by hand, and knows the longest silence between answers."""

    def __init__(self, fd: int, address: str) -> None:
        with _netns.entered(fd):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.address = address
        self.sent = 0
        self.answers: list[float] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        due = time.monotonic()
        while not self.stop.is_set() or time.monotonic() < self.until:
            now = time.monotonic()
            if now >= due and not self.stop.is_set():
                self.sent += 1
                due += PING_INTERVAL
                with contextlib.suppress(OSError):  # no route while the interface is away
                    self.socket.sendto(echo(8, self.sent & 0xFFFF, 0x4E54), (self.address, 0))
            if select.select([self.socket], [], [], max(0.0, min(due - time.monotonic(), PING_INTERVAL)))[0]:
                packet = self.socket.recv(1024)
                if packet[20] == 0 and packet[24:26] == b"NT":
                    self.answers.append(time.monotonic())

    def __enter__(self) -> Pinger:
        self.until = 0.0
        self.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.until = time.monotonic() + 0.2
        self.stop.set()
        self.thread.join()
        self.socket.close()

    def longest_silence(self) -> float:
        """Return seconds."""
        return max(later - earlier for earlier, later in zip(self.answers, self.answers[1:]))


def settle(lab: Lab) -> None:
    """Wait until no address is tentative."""
    assert wait_for(lambda: not any("tentative" in one for link in state(lab.box)["addr"] for one in link["addr_info"])), "an address stays tentative"


def tc_commands(lab: Lab, takeover: Takeover) -> dict[str, list[str]]:
    """Return by link what one would type for the filters of a takeover, as NeuVector does (agent/pipe/tc.go)."""
    mac, tag = takeover.record.mac.replace(":", ""), (takeover.record.tag or "").replace(":", "")
    key = tag or mac

    def into(old: str, new: str) -> tuple[str, str]:
        return (f"match u16 0x{old[:4]} 0xffff at -14 match u32 0x{old[4:]} 0xffffffff at -12",
                f"action pedit munge offset -14 u16 set 0x{new[:4]} munge offset -12 u32 set 0x{new[4:]} pipe" if tag else "")

    def out(old: str, new: str) -> tuple[str, str]:
        return (f"match u32 0x{old[:8]} 0xffffffff at -8 match u16 0x{old[8:]} 0xffff at -4",
                f"action pedit munge offset -8 u32 set 0x{new[:8]} munge offset -4 u16 set 0x{new[8:]} pipe" if tag else "")

    first, last = lab.dataplane.links[0].name, lab.dataplane.links[-1].name
    commands: dict[str, list[str]] = {takeover.vex: [], takeover.vin: [], first: [], last: []}
    for link, service, other, (match, rewrite) in ((takeover.vex, last, takeover.vin, into(mac, key)), (takeover.vin, first, takeover.vex, out(mac, key))):
        for pref, protocol in ((10001, "ip"), (10000, "ipv6")):
            commands[link].append(f"pref {pref} protocol {protocol} u32 match u8 0 1 at -14 {match} {rewrite} action mirred egress redirect dev {service}")
        commands[link].append(f"pref 10002 protocol all u32 match u8 0 0 action mirred egress redirect dev {other}")
    for link, target, (match, rewrite) in ((first, takeover.vin, into(key, mac)), (last, takeover.vex, out(key, mac))):
        commands[link].append(f"pref 10001 protocol all u32 {match} {rewrite} action mirred egress redirect dev {target}")
    return commands


def put_by_tc(lab: Lab, takeover: Takeover) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Replace the filters of a takeover by those of tc(8); return what tc shows of each link before and after."""
    shown = []
    for replaced in (False, True):
        for link, commands in tc_commands(lab, takeover).items() if replaced else ():
            run("tc", "-n", lab.plane, "filter", "delete", "dev", link, "ingress")
            for command in commands:
                run("tc", "-n", lab.plane, "filter", "add", "dev", link, "ingress", *command.split())
        lines = {link: run("tc", "-n", lab.plane, "filter", "show", "dev", link, "ingress").splitlines() for link in tc_commands(lab, takeover)}
        # The numbers of hash tables and of actions come from a counter.
        shown.append({link: [" ".join(word for word in line.split() if not word.startswith(("8",))) for line in all_ if " index " not in f" {line.strip()} "]
                      for link, all_ in lines.items()})
    return shown[0], shown[1]


def main(mode: str) -> None:
    """Try one mode on this kernel; an AssertionError says what is wrong."""
    lab = Lab("try", mode=mode)
    try:
        lab.reflect()
        settle(lab)
        takeover = lab.takeover(lab.record())
        before = state(lab.box)
        takeover.apply()
        for family in (socket.AF_INET, socket.AF_INET6):
            for reverse in (False, True):
                assert transfer(lab, family=family, reverse=reverse)[0], (family, reverse)
        counters = takeover.counters()
        assert min(counters["out"].values()) > 100 and min(counters["in"].values()) > 100, counters
        ours, theirs = put_by_tc(lab, takeover)
        assert ours == theirs, (ours, theirs)
        assert transfer(lab)[0], "by tc's filters"
        takeover.restore()
        after = state(lab.box)
        assert {key: value for key, value in before.items() if key != "neigh" and value != after[key]} == {}
        print(f"mode {mode}: good, {counters}")
    finally:
        lab.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
