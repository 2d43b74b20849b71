"""A small peer that speaks dp's protocol: a stand-in for NeuVector's `dp`, which cannot be had here. It never ships.

It is strict where dp is careless: a message with a missing, unknown or ill-typed field, out of order, too long or for
a workload that is not there is a violation, on which it says why and exits with 3. dp would crash, or go on without a word.

It forwards as dp does on its service link: a frame whose source MAC is a tag leaves the workload, one whose destination
is a tag goes to it, and both go back out on the same link unless the policy says otherwise. What the policy does not know
goes back too: IPv6, link-local addresses, protocols other than TCP, UDP and ICMP, and frames that are not IP.
Frames that are longer than a slot of its ring vanish, without a count. Who is the client and who the server is taken from a
handshake; otherwise from the ports that were told (apps), or guessed.

    python tests/support/dp_peer.py --socket /tmp/dp_listen.sock [--late SECONDS] [--old]

SIGUSR1 stops its data thread, so to speak: it answers on the socket, and reads no frames. SIGUSR2 lets it go on.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import ipaddress
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import typing as t

OPEN, ALLOW, VIOLATE, DENY = 0, 2, 6, 7
TCP, UDP, ICMP = 6, 17, 1
# Seconds that a peer dp has not heard of stays open in spite of the default action: 60, and again as often as dpi_policy.c tries.
GRACE, GRACE_OUTSIDE = 60 * 11, 60 * 3
LARGEST, LARGEST_JUMBO = 2048 - 66, 16384 - 66  # bytes of a frame (ring.c)
MOST_FORGOTTEN = 64  # ports that one message removes (ctrl.c MAX_APP_DELETE)
LINK_LOCAL = ipaddress.IPv4Network("169.254.0.0/16")
FIN, SYN, RST, ACK = 1, 2, 4, 16
OPTIONAL = object()
SUBNETS = {"flag": int, "subnet_addr": [{"ip": "ip", "mask": "ip"}]}
RULE = {
    "id": int, "sip": "ip", "dip": "ip", "sipr": (OPTIONAL, "ip"), "dipr": (OPTIONAL, "ip"), "port": int, "portr": int,
    "proto": int, "action": int, "ingress": bool,
}  # fmt: skip
MESSAGES: dict[str, t.Any] = {
    "ctrl_keep_alive": {"seq_num": int},
    "ctrl_cfg_internal_net": SUBNETS,
    "ctrl_cfg_policy_addr": SUBNETS,
    "ctrl_add_srvc_port": {"iface": str, "jumboframe": bool},
    "ctrl_del_srvc_port": {"iface": str},
    "ctrl_add_mac": {"iface": str, "mac": "mac", "ucmac": "mac", "bcmac": "mac", "oldmac": str, "pmac": str, "pips": type(None)},
    "ctrl_del_mac": {"iface": str, "mac": "mac"},
    "ctrl_cfg_mac": {"macs": ["mac"], "tap": (OPTIONAL, bool), "apps": (OPTIONAL, [{"ip_proto": int, "port": int, "app": int, "server": int}])},
    "ctrl_cfg_policy": {"cmd": int, "flag": int, "defact": int, "dir": int, "mac": ["mac"], "rules": [RULE]},
    "ctrl_enable_icmp_policy": {"enable_icmp_policy": bool},
    "ctrl_strict_group_mode": {"strict_group_mode": bool},
    "ctrl_stats_macs": {"macs": ["mac"]},
    "ctrl_stats_device": {}, "ctrl_counter_device": {}, "ctrl_count_session": {}, "ctrl_list_session": {},
}  # fmt: skip


class Violation(Exception):
    """A message that dp would choke on."""


def require(truth: object, why: str) -> None:
    if not truth:
        raise Violation(why)


def check(value: t.Any, wanted: t.Any, where: str) -> None:
    """Compare a value with a shape: a type, a dict of fields, a list of one shape, "ip" or "mac"."""
    if isinstance(wanted, dict):
        require(isinstance(value, dict), f"{where} is {value!r}, not an object")
        shapes = {name: shape[1] if isinstance(shape, tuple) else shape for name, shape in wanted.items()}
        needed = {name for name, shape in wanted.items() if not isinstance(shape, tuple)}
        require(needed <= value.keys(), f"{where} lacks {sorted(needed - value.keys())}")
        require(value.keys() <= shapes.keys(), f"{where} has the unknown {sorted(value.keys() - shapes.keys())}")
        for name, item in value.items():
            check(item, shapes[name], f"{where}.{name}")
    elif isinstance(wanted, list):
        require(isinstance(value, list), f"{where} is {value!r}, not a list")
        for number, item in enumerate(value):
            check(item, wanted[0], f"{where}[{number}]")
    elif wanted == "ip":
        require(isinstance(value, str), f"{where} is {value!r}, not a string")
        with contextlib.suppress(ValueError):
            ipaddress.IPv4Address(value)
            return
        raise Violation(f"{where} is {value!r}, not an address")
    elif wanted == "mac":
        require(isinstance(value, str) and len(value) == 17, f"{where} is {value!r}, not a MAC address")
        bytes.fromhex(value.replace(":", ""))
    else:
        # Python takes true for a number.
        require(isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)), f"{where} is {value!r}, not of type {wanted.__name__}")


def number_of(address: str) -> int:
    return int(ipaddress.IPv4Address(address))


class Policy:
    """One policy as dp holds it (dpi_policy.c): single rules in one table, ranges in lists found by the workload's own address."""

    def __init__(self, default: int, direction: int) -> None:
        self.default, self.direction = default, direction
        self.exact: dict[tuple[int, int, int, int], tuple[int, int, int]] = {}
        self.ranges: dict[tuple[int, bool | None, int], list[tuple[tuple[int, ...], tuple[int, int, int]]]] = {}
        self._order = 0

    def add(self, rule: dict[str, t.Any], icmp: bool) -> None:
        self._order += 1
        sip, dip = number_of(rule["sip"]), number_of(rule["dip"])
        sipr, dipr = number_of(rule.get("sipr", rule["sip"])), number_of(rule.get("dipr", rule["dip"]))
        ingress = rule["ingress"]
        require(rule["id"] > 0, "a rule has the id 0, which dp takes for none")
        require(rule["action"] in (OPEN, ALLOW, VIOLATE, DENY), f"a rule has the action {rule['action']}")
        require(rule["proto"] in (0, TCP, UDP, ICMP), f"a rule has the protocol {rule['proto']}")
        require(sip <= sipr and dip <= dipr and 0 <= rule["port"] <= rule["portr"] < 65536, f"a range ends before it begins: {rule}")
        require((dip == dipr) if ingress else (sip == sipr), f"a range on the workload's own side never matches: {rule}")
        require(rule["proto"] != ICMP or rule["port"] == rule["portr"] == 0, f"ICMP has no port: {rule}")
        desc = (self._order, rule["id"], rule["action"])
        for protocol in (rule["proto"],) if rule["proto"] else (TCP, UDP, ICMP) if icmp else (TCP, UDP):
            low, high = (0, 0) if protocol == ICMP else (rule["port"], rule["portr"])
            if (sip, dip, low) == (sipr, dipr, high):
                if not self.lookup(sip, dip, low, protocol, ingress)[1]:
                    self.exact[sip, dip, low, protocol] = desc
            else:
                self._range((protocol, ingress, dip if ingress else sip), (sip, sipr, dip, dipr, low, high), desc)

    def finish(self, icmp: bool) -> None:
        if not icmp:
            self._range((ICMP, None, 0), (0, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0, 0), (0xFFFFFFFF, 4294967295, ALLOW))

    def _range(self, key: tuple[int, bool | None, int], span: tuple[int, ...], desc: tuple[int, int, int]) -> None:
        rules = self.ranges.setdefault(key, [])
        if all(other != span for other, _desc in rules):
            rules.append((span, desc))

    def lookup(self, sip: int, dip: int, port: int, protocol: int, ingress: bool) -> tuple[int, int, int]:
        """Order, id (0 for the default) and action."""
        found = self.exact.get((sip, dip, port, protocol))
        if found:
            return found
        own: list[tuple[bool | None, int]] = [(ingress, dip if ingress else sip), (None, 0)]
        for direction, address in own:
            for (s, sr, d, dr, p, pr), desc in self.ranges.get((protocol, direction, address), ()):
                if s <= sip <= sr and d <= dip <= dr and p <= port <= pr:
                    return desc
        return 0xFFFFFFFF, 0, self.default

    def counts(self) -> tuple[int, int]:
        return len(self.exact), sum(map(len, self.ranges.values()))


@dataclasses.dataclass
class Stats:
    """What is counted of a workload, or of all; in and out."""

    sessions: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    packets: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    octets: list[int] = dataclasses.field(default_factory=lambda: [0, 0])

    def packed(self, interval: bytes) -> bytes:
        return struct.pack(">4s4x4I4Q120x", interval, *self.sessions, *self.sessions, *self.packets, *self.octets)


@dataclasses.dataclass(eq=False)
class Workload:
    mac: bytes
    tag: bytes
    tap: bool = True
    apps: set[tuple[int, int]] = dataclasses.field(default_factory=set)  # protocol, port
    policy: Policy | None = None
    stats: Stats = dataclasses.field(default_factory=Stats)


@dataclasses.dataclass(eq=False)
class Session:
    number: int
    workload: Workload
    ingress: bool
    protocol: int
    client: int
    server: int
    client_port: int
    server_port: int
    policy: Policy | None
    rule: int
    action: int
    blocked: bool = False  # by a policy that came later: for good
    packets: list[int] = dataclasses.field(default_factory=lambda: [0, 0])


class Peer:
    """The state of a dp, its control socket and its service link."""

    def __init__(self, path: str, late: float, old: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.control.bind(path)
        self.port: socket.socket | None = None
        self.poller = select.epoll()
        self.poller.register(self.control, select.EPOLLIN)
        self._deaf_until = time.monotonic() + late
        self._old = old
        self._largest = LARGEST
        self._stopped = False
        self.strict = False
        self._buffer = memoryview(bytearray(1 << 16))
        self._parts: dict[str, list[t.Any]] = {}
        self._pending: Policy | None = None
        self.internal: list[tuple[int, int]] = []
        self.addresses: set[int] = set()
        self.icmp = False
        self.workloads: dict[bytes, Workload] = {}
        self.tags: dict[bytes, Workload] = {}
        self.sessions: dict[bytes, Session] = {}
        self.unknown: dict[tuple[int, int], float] = {}
        self.counters = dict.fromkeys(("rx", "rx_drop", "tx", "tx_drop", "error", "no_workload", "ipv4", "ipv6", "tcp", "tcp_no_session",
                                       "udp", "icmp", "other"), 0)  # fmt: skip
        self.stats = Stats()
        self.total = 0

    def stop(self, stopped: bool) -> None:
        self._stopped = stopped
        if self.port is not None:
            self.poller.modify(self.port, 0 if stopped else select.EPOLLIN)

    def run(self) -> None:
        while True:
            for fd, _events in self.poller.poll():
                if fd == self.control.fileno():
                    self._message()
                else:
                    self._frames()

    # --- messages

    def _message(self) -> None:
        data, sender = self.control.recvfrom(1 << 16)
        require(len(data) <= 8000, f"a message of {len(data)} bytes is longer than dp can take")
        try:
            root = json.loads(data)
        except ValueError as error:
            raise Violation(f"a message is no JSON: {error}") from error
        require(isinstance(root, dict) and len(root) == 1, f"a message is {root!r}, not one object of one kind")
        ((kind, body),) = root.items()
        require(kind in MESSAGES, f"the message {kind} is not known")
        check(body, MESSAGES[kind], kind)
        answer = getattr(self, "_" + kind[len("ctrl_"):])(body)
        for reply in answer or ():
            require(sender, f"{kind} came from a socket without a path, which cannot be answered")
            with contextlib.suppress(OSError):  # the asker has gone
                self.control.sendto(reply, socket.MSG_DONTWAIT, sender)

    @staticmethod
    def _answer(kind: int, body: bytes, more: bool = False) -> bytes:
        return struct.pack(">BBH", kind, more, len(body) + 4) + body

    def _keep_alive(self, body: t.Any) -> list[bytes]:
        return [self._answer(10, struct.pack(">I", body["seq_num"]))]

    def _whole(self, kind: str, body: t.Any, name: str) -> list[t.Any] | None:
        """Put the parts of a list together; None while more are to come."""
        require(body["flag"] in (0, 1, 2, 3), f"{kind} has the flag {body['flag']}")
        require((kind in self._parts) != bool(body["flag"] & 1), f"{kind} with flag {body['flag']} is out of order")
        parts = self._parts.setdefault(kind, [])
        parts.extend(body[name])
        return self._parts.pop(kind) if body["flag"] & 2 else None

    def _cfg_internal_net(self, body: t.Any) -> None:
        nets = self._whole("internal_net", body, "subnet_addr")
        if nets is not None:
            self.internal = [(number_of(net["ip"]), number_of(net["mask"])) for net in nets]
            require(all(ip & mask == ip for ip, mask in self.internal), f"an internal network with host bits matches nothing: {nets}")

    def _cfg_policy_addr(self, body: t.Any) -> None:
        nets = self._whole("policy_addr", body, "subnet_addr")
        if nets is not None:
            self.addresses = {number_of(net["ip"]) for net in nets}  # the mask is not looked at

    def _add_srvc_port(self, body: t.Any) -> None:
        require(body["iface"] in {name for _index, name in socket.if_nameindex()}, f"there is no link {body['iface']}: dp would listen on all")
        if self.port is None and time.monotonic() >= self._deaf_until:
            self.port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
            self.port.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            self.port.bind((body["iface"], 3))
            self.poller.register(self.port, 0 if self._stopped else select.EPOLLIN)
            self._largest = LARGEST_JUMBO if body["jumboframe"] else LARGEST

    def _del_srvc_port(self, _body: t.Any) -> None:
        if self.port is not None:
            self.poller.unregister(self.port)
            self.port.close()
            self.port = None

    def _add_mac(self, body: t.Any) -> None:
        mac, tag, broadcast = (bytes.fromhex(body[name].replace(":", "")) for name in ("mac", "ucmac", "bcmac"))
        require(tag[:4] == b"NeuV", f"the tag {body['ucmac']} is none")
        require(broadcast == b"\xff\xff\xff\x00" + tag[4:], f"{body['bcmac']} does not go with the tag {body['ucmac']}")
        require(body["oldmac"] == body["pmac"] == "", "oldmac or pmac is not empty")
        require(self.tags.get(tag) in (None, self.workloads.get(mac)), f"the tag {body['ucmac']} is another workload's")
        if mac in self.workloads:
            del self.tags[self.workloads[mac].tag]
            self.workloads[mac].tag = tag
        else:
            self.workloads[mac] = Workload(mac, tag)
        self.tags[tag] = self.workloads[mac]

    def _workloads(self, macs: list[str]) -> list[Workload]:
        require(macs, "a message for no workload")
        found = [self.workloads.get(bytes.fromhex(mac.replace(":", ""))) for mac in macs]
        require(all(found), f"a message for a workload that is not there: {macs}")
        return [one for one in found if one]

    def _del_mac(self, body: t.Any) -> None:
        (workload,) = self._workloads([body["mac"]])
        del self.workloads[workload.mac], self.tags[workload.tag]
        self.sessions = {key: one for key, one in self.sessions.items() if one.workload is not workload}

    def _cfg_mac(self, body: t.Any) -> None:
        removed = 0
        for workload in self._workloads(body["macs"]):
            workload.tap = body.get("tap", workload.tap)
            if "apps" in body:
                told = {(app["ip_proto"], app["port"]) for app in body["apps"]}
                require(all(protocol in (TCP, UDP) and 0 < port < 65536 for protocol, port in told), f"a port that is none: {body['apps']}")
                gone = sorted(workload.apps - told)[: MOST_FORGOTTEN - removed]
                removed += len(gone)
                workload.apps = (workload.apps | told).difference(gone)

    def _cfg_policy(self, body: t.Any) -> None:
        require(body["cmd"] in (1, 2, 3) and body["dir"] in (1, 2, 3), f"cfg_policy has cmd {body['cmd']} and dir {body['dir']}")
        require(body["defact"] in (OPEN, ALLOW, VIOLATE, DENY), f"cfg_policy has the default action {body['defact']}")
        rules = self._whole("policy", body, "rules")
        if rules is None:
            return
        policy = None
        if body["cmd"] != 3:
            policy = Policy(body["defact"], body["dir"])
            for rule in rules:
                policy.add(rule, self.icmp)
            policy.finish(self.icmp)
        for workload in self._workloads(body["mac"]):
            workload.policy = policy

    def _enable_icmp_policy(self, body: t.Any) -> None:
        self.icmp = body["enable_icmp_policy"]

    def _strict_group_mode(self, body: t.Any) -> None:
        self.strict = body["strict_group_mode"] and not self._old

    # --- questions

    def _counter_device(self, _body: t.Any) -> list[bytes]:
        counts = [policy.counts() for policy in {id(one.policy): one.policy for one in self.workloads.values() if one.policy}.values()]
        rules = [sum(count[i] for count in counts) for i in (0, 1)]
        fixed = [*self.counters.values(), 0, 0, 0, 0, 0, self.total, 0, 0, 0, 0, 0, 0, 0, 0]
        return [self._answer(4, struct.pack(">27Q320x4I2Q", *fixed, *rules, 0, 0, 0, 0))]

    def _stats_macs(self, body: t.Any) -> list[bytes]:
        found = [one for one in (self.workloads.get(bytes.fromhex(mac.replace(":", ""))) for mac in body["macs"]) if one]
        total = Stats()
        for one in found:
            for name in ("sessions", "packets", "octets"):
                setattr(total, name, [a + b for a, b in zip(getattr(total, name), getattr(one.stats, name), strict=True)])
        return [self._answer(8, total.packed(struct.pack("=I", 5 if found else 0)))]  # in the machine's own byte order: dp's oversight

    def _stats_device(self, _body: t.Any) -> list[bytes]:
        return [self._answer(9, self.stats.packed(struct.pack(">I", 5)))]

    def _unique(self) -> list[Session]:
        return list({one.number: one for one in self.sessions.values()}.values())

    def _count_session(self, _body: t.Any) -> list[bytes]:
        kinds = [one.protocol for one in self._unique()]
        return [self._answer(3, struct.pack(">5I", len(kinds), kinds.count(TCP), kinds.count(UDP), kinds.count(ICMP), 0))]

    def _list_session(self, _body: t.Any) -> list[bytes]:
        packed = [
            struct.pack(
                ">I6sH6s6sI12xI12xHH4B8I2BHIHHII2BH16x16x40x", one.number, one.workload.mac, 0x800, bytes(6), bytes(6), one.client, one.server,
                one.client_port, one.server_port, 0, 0, one.protocol, 0, *one.packets, *([0] * 6), 1, 1, 0, 0, 0, 0, 0, one.rule, one.action, 0,
                int(one.ingress) | 2 * one.workload.tap)
            for one in self._unique()
        ]  # fmt: skip
        return [
            *(self._answer(2, struct.pack(">HH", len(packed[i:i + 40]), 0) + b"".join(packed[i:i + 40]), True) for i in range(0, len(packed), 40)),
            self._answer(2, bytes(4)),
        ]

    # --- frames

    def _frames(self) -> None:
        for _count in range(512):
            if self.port is None:
                return
            try:
                length = self.port.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:  # the link has gone
                self._del_srvc_port(None)
                return
            self.counters["rx"] += 1
            frame = self._buffer[:length]
            if 14 <= length <= self._largest and self._passes(frame):
                try:
                    self.port.send(frame)
                    self.counters["tx"] += 1
                except OSError:  # no room, or longer than the link takes
                    self.counters["tx_drop"] += 1

    def _passes(self, frame: memoryview) -> bool:
        head = bytes(frame[:34]).ljust(34, b"\0")
        ingress = head[6:10] != b"NeuV"
        workload = self.tags.get(head[:6] if ingress else head[6:12])
        if workload is None:
            self.counters["no_workload"] += 1
            return False
        way = 0 if ingress else 1
        for stats in (workload.stats, self.stats):
            stats.packets[way] += 1
            stats.octets[way] += len(frame)
        if head[12:14] != b"\x08\x00" or len(frame) < 34:
            self.counters["ipv6" if head[12:14] == b"\x86\xdd" else "other"] += 1
            return not workload.tap
        self.counters["ipv4"] += 1
        if head[30] >= 224:  # multicast and broadcast
            return not workload.tap
        start = 14 + (head[14] & 15) * 4
        protocol = head[23]
        ports = bytes(frame[start:start + 4]) if protocol in (TCP, UDP) else bytes(4)
        key = workload.mac + head[26:34] + ports + bytes((protocol,))
        session = self.sessions.get(key)
        if session is None:
            flags = frame[start + 13] if protocol == TCP and len(frame) > start + 13 else 0
            if protocol == TCP and not flags & SYN and flags & (RST | FIN):
                return not workload.tap  # no session is made of these
            session = self._open(key, workload, ingress, self._to_server(workload, ingress, protocol, ports, flags), protocol)
            if session is None:
                return False
        elif session.policy is not workload.policy:
            session.policy = workload.policy
            session.rule, session.action = self._decide(workload, session)
            session.blocked |= session.action == DENY
        session.packets[session.ingress is not ingress] += 1
        return not workload.tap and not session.blocked

    @staticmethod
    def _to_server(workload: Workload, ingress: bool, protocol: int, ports: bytes, flags: int) -> bool:
        """Whether the first packet of a session goes to its server (dpi_session.c)."""
        source, destination = struct.unpack(">HH", ports)
        if protocol == TCP and flags & SYN:
            return not flags & ACK
        if protocol == UDP and destination in (53, 67, 5353):
            return True
        if protocol == UDP and source in (53, 67, 5353):
            return False
        if protocol in (TCP, UDP):
            if (protocol, destination if ingress else source) in workload.apps:
                return ingress
            return bool(destination < source) if protocol == TCP else not ingress
        return True

    def _open(self, key: bytes, workload: Workload, ingress: bool, to_server: bool, protocol: int) -> Session | None:
        client, server, client_port, server_port = struct.unpack_from(">IIHH", key, 6)
        if not to_server:
            client, server, client_port, server_port, ingress = server, client, server_port, client_port, not ingress
        session = Session(self.total + 1, workload, ingress, protocol, client, server, client_port, server_port, workload.policy, 0, OPEN)
        session.rule, session.action = self._decide(workload, session)
        if session.action == DENY:
            return None  # the next packet is judged anew
        self.total += 1
        back = key[:6] + key[10:14] + key[6:10] + key[16:18] + key[14:16] + key[-1:]
        self.sessions[key] = self.sessions[back] = session
        for stats in (workload.stats, self.stats):
            stats.sessions[0 if ingress else 1] += 1
        return session

    def _decide(self, workload: Workload, session: Session) -> tuple[int, int]:
        policy = workload.policy
        if policy is None or session.protocol not in (TCP, UDP, ICMP):
            return 0, OPEN
        client, server, ingress = session.client, session.server, session.ingress
        if any(ipaddress.IPv4Address(one) in LINK_LOCAL for one in (client, server)):
            return 0, OPEN
        peer = client if ingress else server
        internal = self._is_internal(peer)
        if not ingress and internal and not self._is_internal(client):
            return 0, OPEN  # taken for somebody else's traffic that passes through the workload
        if internal and not policy.direction & (2 if ingress else 1):
            return 0, OPEN
        found = policy.lookup(client, server, session.server_port, session.protocol, ingress)
        if not internal:
            outside = policy.lookup(*((0, server) if ingress else (client, 0)), session.server_port, session.protocol, ingress)
            found = outside if outside[1] and outside[0] < found[0] else found
        own = server if ingress else client
        if not found[1] and found[2] in (VIOLATE, DENY) and (peer if internal else own) not in self.addresses and not self.strict:
            if time.monotonic() - self.unknown.setdefault((client, server), time.monotonic()) < (GRACE if internal else GRACE_OUTSIDE):
                return 0, OPEN
        return found[1], found[2]

    def _is_internal(self, address: int) -> bool:
        return not self.internal or any(address & mask == ip for ip, mask in self.internal)


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for NeuVector's dp.")
    parser.add_argument("--socket", default="/tmp/dp_listen.sock")
    parser.add_argument("--late", type=float, default=0, help="pass over the service port for the first seconds, as dp does")
    parser.add_argument("--old", action="store_true", help="be of a release without the strict group mode")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        peer = Peer(options.socket, options.late, options.old)
        signal.signal(signal.SIGUSR1, lambda *_: peer.stop(True))
        signal.signal(signal.SIGUSR2, lambda *_: peer.stop(False))
        peer.run()
    except Violation as violation:
        print(f"VIOLATION: {violation}", file=sys.stderr, flush=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
