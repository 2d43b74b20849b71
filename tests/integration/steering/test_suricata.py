# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Suricata with the role's configuration, between a client and a server: what must pass passes, what a rule drops does not.

    client eth0 -- c [way] in -- vth0 [engine] vth1 -- out [way] s -- eth0 server

The namespace `way` stands for the steering: two bridges lead through the engine, or one past it.
"""

from __future__ import annotations

import collections.abc as c
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from engine import command, ip
from ping_stream import PingStream
from suricata_role import SuricataRole
from waiting import wait_for

V4: int = socket.AF_INET
V6: int = socket.AF_INET6
CLIENT, SERVER = {V4: "10.96.0.1", V6: "fd96::1"}, {V4: "10.96.0.2", V6: "fd96::2"}
HTTP, ECHO, CLOSED = 80, 7777, 81
ALERT_LIMIT = 5
RULES = [
    'drop http any any -> any any (msg:"evil page"; http.uri; content:"evil"; sid:1; rev:1;)',
    'drop tcp any any -> any any (msg:"evil word"; content:"EVILWORD"; sid:2; rev:1;)',
    f'drop tcp any any -> any {CLOSED} (msg:"closed port"; sid:3; rev:1;)',
    'drop tcp-pkt any any -> any any (msg:"evil packet"; content:"EVILPACKET"; sid:4; rev:1;)',
    'drop udp any any -> any 7100 (msg:"flood"; sid:5; rev:1;)',
    f'drop ip {CLIENT[V4]} any -> 10.96.0.3 any (msg:"evil address"; sid:6; rev:1;)',
    'alert http any any -> any any (msg:"odd page"; http.uri; content:"odd"; sid:7; rev:1;)',
]


@pytest.fixture(name="role", scope="module")
def make_role(tmp_path_factory: pytest.TempPathFactory) -> SuricataRole:
    role = SuricataRole(tmp_path_factory.mktemp("suricata"))
    done = role.run("install", "configure", rules=RULES, suricata_alert_limit=ALERT_LIMIT)
    assert done.rc == 0, done.output
    return role


class Engine:
    """A Suricata inside a namespace, as the service runs it."""

    def __init__(self, role: SuricataRole, namespace: str) -> None:
        self.role = role
        self.output = role.folder / "output"
        self._namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it forwards."""
        with self.output.open("wb") as out:
            self._process = subprocess.Popen(["ip", "netns", "exec", self._namespace, *self.role.argv], stdout=out, stderr=out)
        assert wait_for(lambda: b"Engine started" in self.output.read_bytes() or self.pid == 0, 60) and self.pid, self.output.read_text()

    @property
    def pid(self) -> int:
        """Its process, 0 when it has ended."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it, by default without giving it time to clean up."""
        if self._process:
            self._process.send_signal(number)
            self._process.wait()

    def ask(self, what: str) -> t.Any:
        """What it answers on its socket."""
        return json.loads(command("suricatasc", "-c", what, str(self.role.folder / "run/socket")))["message"]

    def events(self, kind: str) -> list[dict[str, t.Any]]:
        """What it has logged, of one kind."""
        whole = self.role.log.read_text().rpartition("\n")[0]  # the last line may be half written
        return [event for event in map(json.loads, whole.splitlines()) if event["event_type"] == kind]


class Lab:
    """The namespaces and links, and who talks over them."""

    def __init__(self, stack: contextlib.ExitStack, netns: c.Callable[..., str]) -> None:
        self._stack = stack
        self.client, self.server, self.engine, self.way = (netns() for _number in range(4))
        for one, name, other, peer in (
            (self.client, "eth0", self.way, "c"), (self.server, "eth0", self.way, "s"),
            (self.way, "in", self.engine, "vth0"), (self.way, "out", self.engine, "vth1"),
        ):  # fmt: skip
            ip("link", "add", name, "netns", one, "type", "veth", "peer", "name", peer, "netns", other)
            for namespace, link in ((one, name), (other, peer)):
                if link != "eth0":
                    command("ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1")
                if link in ("in", "out", "vth0", "vth1"):
                    command("ip", "netns", "exec", namespace, "ethtool", "-K", link, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
                ip("-n", namespace, "link", "set", link, "mtu", "9000" if link == "eth0" else "9216", "up")
        self.macs = {}
        for namespace, addresses in ((self.client, CLIENT), (self.server, SERVER)):
            ip("-n", namespace, "address", "add", f"{addresses[V4]}/24", "dev", "eth0")
            ip("-n", namespace, "address", "add", f"{addresses[V6]}/64", "dev", "eth0", "nodad")
            self.macs[namespace] = json.loads(ip("-n", namespace, "-j", "link", "show", "eth0"))[0]["address"]
        for one, other, addresses in ((self.client, self.server, SERVER), (self.server, self.client, CLIENT)):
            for address in (*addresses.values(), "10.96.0.3"):
                ip("-n", one, "neigh", "replace", address, "lladdr", self.macs[other], "dev", "eth0", "nud", "permanent")
        for bridge in ("past", "before", "behind"):
            ip("-n", self.way, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
            ip("-n", self.way, "link", "set", bridge, "mtu", "9216", "up")
        self.steer(False)
        self.requests: list[bytes] = []  # what has reached the server
        for port in (HTTP, ECHO, CLOSED):
            self._listen(port)

    def steer(self, through: bool) -> None:
        """Lead the packets through the engine, or past it."""
        for link in ("c", "in", "s", "out"):
            ip("-n", self.way, "link", "set", link, "nomaster")
        for link, bridge in (("c", "before"), ("in", "before"), ("s", "behind"), ("out", "behind")) if through else (("c", "past"), ("s", "past")):
            ip("-n", self.way, "link", "set", link, "master", bridge)

    def open(self, namespace: str, *kind: int) -> socket.socket:
        """A socket that lives in a namespace; closed at the end."""
        fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            with _netns.entered(fd):
                made = self._stack.enter_context(socket.socket(*kind))
        finally:
            os.close(fd)
        made.settimeout(30)
        return made

    def connect(self, family: int, port: int, source_port: int = 0, seconds: float = 30) -> socket.socket:
        """A connection from the client to the server."""
        made = self.open(self.client, family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it leaves no state here
        made.bind((CLIENT[family], source_port))
        made.settimeout(seconds)
        made.connect((SERVER[family], port))
        return made

    def _listen(self, port: int) -> None:
        listener = self.open(self.server, V6, socket.SOCK_STREAM)
        listener.settimeout(None)
        listener.bind(("::", port))
        listener.listen(50)
        self._stack.callback(listener.shutdown, socket.SHUT_RDWR)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(1 << 18):
                    self.requests.append(data[:100])
                    connection.sendall(data if port == ECHO else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        threading.Thread(target=accept, daemon=True).start()


@pytest.fixture(name="lab")
def make_lab(netns: c.Callable[..., str]) -> c.Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        yield Lab(stack, netns)


@pytest.fixture(name="engine")
def make_engine(role: SuricataRole, lab: Lab) -> c.Iterator[Engine]:
    """Suricata, idle: nothing is led through it yet."""
    role.log.unlink(missing_ok=True)
    engine = Engine(role, lab.engine)
    try:
        engine.start()
        yield engine
    finally:
        engine.end()


def page(name: str) -> bytes:
    return f"GET /{name} HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode()


def answers(connection: socket.socket, request: bytes, seconds: float = 30) -> bool:
    """Whether the server answers; a dropped one has no answer."""
    connection.settimeout(seconds)
    try:
        connection.sendall(request)
        return bool(connection.recv(1 << 18))
    except TimeoutError:
        return False


def transfer(connection: socket.socket, size: int) -> None:
    """Send so much to ECHO and read it back."""
    sender = threading.Thread(target=connection.sendall, args=(b"x" * size,))
    sender.start()
    while size:
        size -= len(connection.recv(min(size, 1 << 18)))
    sender.join()


def test_configure(role: SuricataRole) -> None:
    """Nobody else may read rules and events."""
    for path in ("etc", "log", "run"):
        assert (role.folder / path).stat().st_mode & 0o7777 == 0o700
    for path in ("etc/suricata.yaml", "etc/nettap.rules", "etc/threshold.config"):
        assert (role.folder / path).stat().st_mode & 0o7777 == 0o600


def test_good_passes_and_evil_does_not(lab: Lab, engine: Engine) -> None:
    lab.steer(True)
    for family in (V4, V6):
        assert answers(lab.connect(family, HTTP), page("good"))
        assert answers(lab.connect(family, ECHO), b"word")
        assert not answers(lab.connect(family, HTTP), page("evil"), 0.5)
        assert not answers(lab.connect(family, ECHO), b"an EVILWORD", 0.5)
        with pytest.raises(TimeoutError):
            lab.connect(family, CLOSED, seconds=0.5)
    sender = lab.open(lab.client, V4, socket.SOCK_DGRAM)
    ip("-n", lab.server, "address", "add", "10.96.0.3/24", "dev", "eth0")
    receiver = lab.open(lab.server, V4, socket.SOCK_DGRAM)
    receiver.bind(("10.96.0.3", 7001))
    receiver.settimeout(0.3)
    sender.sendto(b"x", ("10.96.0.3", 7001))
    with pytest.raises(TimeoutError):
        receiver.recv(1)
    assert not any(b"evil" in request or b"EVIL" in request for request in lab.requests)

    def blocked() -> set[int]:
        return {entry["alert"]["signature_id"] for entry in engine.events("alert") if entry["alert"]["action"] == "blocked"}

    assert wait_for(lambda: blocked() == {1, 2, 3, 6}), blocked()


@pytest.mark.slow
def test_connections_that_were_there_before(lab: Lab, engine: Engine) -> None:
    """Put in, killed, started again, taken out and put in again: a good connection goes on, and an evil one is cut from the first moment."""
    def both() -> list[tuple[socket.socket, t.Callable[[str], bytes]]]:
        made: list[tuple[socket.socket, t.Callable[[str], bytes]]] = []
        for family in (V4, V6):
            made += [(lab.connect(family, HTTP), page), (lab.connect(family, ECHO), str.encode)]
        assert all(answers(connection, request("good")) for connection, request in made)
        return made

    def cut(evil: list[tuple[socket.socket, t.Callable[[str], bytes]]], word: bytes = b"EVILWORD") -> bool:
        """Whether no evil request is answered. Closes the connections: the client would send it again, and past the engine that would arrive."""
        none = not any(answers(connection, word if request is str.encode else request("evil"), 0.4) for connection, request in evil)
        for connection, _request in evil:
            connection.close()
        return none

    good, evil = both(), both()
    lab.steer(True)
    assert all(answers(connection, request("good")) for connection, request in good)
    # As first packet a page is looked at, and so is a word by a rule for packets.
    assert cut(evil, b"EVILPACKET")
    assert cut(both())

    evil = both()
    engine.end(signal.SIGKILL)
    assert (engine.role.folder / "run/socket").exists()  # what it left behind does not hinder
    engine.start()
    assert engine.ask("ruleset-stats")[0]["rules_loaded"] >= len(RULES)
    assert all(answers(connection, request("good")) for connection, request in good + evil)
    assert cut(evil)

    evil = both()
    lab.steer(False)
    for connection, request in good + evil:  # behind the back of the engine, which has an old idea of them now
        if request is str.encode:
            transfer(connection, 3_000_000)
        assert answers(connection, request("evil"))
    before = len(lab.requests)
    lab.steer(True)
    assert all(answers(connection, request("good")) for connection, request in good + evil)
    assert cut(evil)
    assert not [request for request in lab.requests[before:] if b"evil" in request or b"EVIL" in request]
    assert all(answers(connection, request("good")) for connection, request in good)


def test_port_used_again_after_a_bypass(lab: Lab, engine: Engine) -> None:
    """The engine still has the old connection of that port."""
    lab.steer(True)
    old = lab.connect(V4, ECHO, 5001)
    assert answers(old, b"word")
    lab.steer(False)
    old.close()
    lab.steer(True)
    new = lab.connect(V4, ECHO, 5001)
    assert answers(new, b"word") and not answers(new, b"EVILWORD", 0.4)


def test_long_connection(lab: Lab, engine: Engine) -> None:
    """Also behind the first megabyte, where Suricata would stop by default."""
    lab.steer(True)
    connection = lab.connect(V4, HTTP)
    padding = b"GET /good HTTP/1.1\r\nHost: shop.example\r\nX: " + b"x" * 8000 + b"\r\n\r\n"
    assert all(answers(connection, padding) for _number in range(300))
    assert not answers(connection, page("evil"), 0.5)


def test_large_frames_fragments_and_others(lab: Lab, engine: Engine) -> None:
    lab.steer(True)
    for family in (V4, V6):
        receiver, sender = (lab.open(namespace, family, socket.SOCK_DGRAM) for namespace in (lab.server, lab.client))
        receiver.bind((SERVER[family], 7001))
        for size in (8972 if family == V4 else 8952, 20_000, 60_000):  # one frame of 9000 bytes, and fragments of such
            sender.sendto(os.urandom(size), (SERVER[family], 7001))
            data, address = receiver.recvfrom(1 << 16)
            receiver.sendto(data, address)
            assert len(sender.recv(1 << 16)) == size
        connection = lab.connect(family, ECHO)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > 8900
        transfer(connection, 20_000_000)
    # No IP: the heartbeat, and a frame with a VLAN tag, which has to be there still.
    sender, receiver = (lab.open(namespace, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for namespace in (lab.client, lab.server))
    addresses = bytes.fromhex((lab.macs[lab.server] + lab.macs[lab.client]).replace(":", ""))
    for frame_type in (b"\x88\xb5", b"\x81\x00\x00\x05\x88\xb5"):
        receiver.bind(("eth0", 3))
        receiver.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA (linux/if_packet.h)
        sender.bind(("eth0", 3))
        sender.send(addresses + frame_type + b"heartbeat".ljust(50, b"\0"))
        frame: bytes = b""
        about: list[tuple[int, int, bytes]] = []
        while b"heartbeat" not in frame:
            frame, about, _flags, _address = receiver.recvmsg(2000, 200)
        [tag] = [struct.unpack("IIIHHHH", data)[5] for _level, kind, data in about if kind == 8]
        assert tag == (5 if len(frame_type) > 2 else 0)
    before = len(engine.events("stats"))
    assert wait_for(lambda: len(engine.events("stats")) > before + 1)  # the next could be of the time before
    figures = engine.events("stats")[-1]["stats"]
    assert figures["capture"]["kernel_drops"] == 0 == figures["capture"]["afpacket"]["send_errors"] and figures["ips"]["blocked"] == 0


@pytest.mark.slow
def test_reload(role: SuricataRole, lab: Lab, engine: Engine) -> None:
    """Without a restart, without a loss, and only when there is something to load."""
    lab.steer(True)
    pid = engine.pid
    kept, cut = lab.connect(V4, HTTP), lab.connect(V4, ECHO)
    assert answers(kept, page("later")) and answers(cut, b"word")
    later = 'drop http any any -> any any (msg:"later"; http.uri; content:"later"; sid:8; rev:1;)'
    with PingStream(SERVER[V4], 500, lab.client) as pings:
        done = role.run("configure", "reload", suricata_alert_limit=ALERT_LIMIT, rules=[*RULES, later])
    assert done.rc == 0, done.output
    assert pings.result.sent > 300 and pings.result.lost == 0
    assert engine.pid == pid and engine.ask("ruleset-stats")[0] == {"id": 0, "rules_loaded": len(RULES) + 1, "rules_failed": 0, "rules_skipped": 0}
    assert answers(kept, page("good")) and not answers(kept, page("later"), 0.5)
    assert not answers(cut, b"EVILWORD", 0.5)
    loaded = engine.ask("ruleset-reload-time")
    # A rule that Suricata refuses, told with its line; what is on the disk and what runs stays.
    bad = "drop tcp any any -> any any (msg:nobody; no_such_keyword; sid:9;)"
    refused = role.run("configure", "reload", suricata_alert_limit=ALERT_LIMIT, rules=[*RULES, bad])
    assert refused.rc != 0
    message = refused.result("Tell which rule")["msg"]
    assert bad in message and f"at line {len(RULES) + 2}" in message and "no_such_keyword" in message
    assert "no_such" not in (role.folder / "etc/nettap.rules").read_text()
    # The same rules again: nothing to load.
    again = role.run("configure", "reload", suricata_alert_limit=ALERT_LIMIT, rules=[*RULES, later])
    assert again.rc == 0 and not re.search(r"changed=[1-9]", again.output), again.output
    assert engine.ask("ruleset-reload-time") == loaded and engine.pid == pid


def test_events(role: SuricataRole, lab: Lab, engine: Engine, run_module: c.Callable[..., dict[str, t.Any]]) -> None:
    """Named by MAC or address, on from where an earlier task ended, also across a rotation; and a flood does not fill the log."""
    lab.steer(True)
    containers = [{"name": "shop", "mac": lab.macs[lab.client].upper(), "addresses": []}, {"name": "store", "addresses": [f"{SERVER[V6]}/64"]}]

    def seen(**options: t.Any) -> dict[str, t.Any]:
        found = run_module("suricata_events_info", {"path": str(role.log), "containers": containers, **options})
        assert not found.get("failed"), found
        return found

    assert not answers(lab.connect(V4, HTTP), page("evil"), 0.4)
    assert wait_for(lambda: len(engine.events("alert")) == 1)
    assert answers(lab.connect(V6, HTTP), page("odd"))
    assert wait_for(lambda: len(engine.events("alert")) == 2)
    first = seen()
    assert [(entry["container"], entry["action"], entry["sid"], entry["application"].get("url")) for entry in first["alerts"]] == [
        ("shop", "blocked", 1, "/evil"), ("shop", "allowed", 7, "/odd"),
    ]  # fmt: skip
    assert first["alerts"][1]["source"] == CLIENT[V6] and first["alerts"][1]["destination_port"] == HTTP
    assert seen(containers=containers[1:])["alerts"][1]["container"] == "store"

    assert not answers(lab.connect(V4, ECHO), b"EVILWORD", 0.4)
    command("logrotate", "--force", "--state", str(role.folder / "state"), str(role.folder / "logrotate.conf"))
    receiver = lab.open(lab.server, V4, socket.SOCK_DGRAM)
    receiver.bind((SERVER[V4], 7100))
    receiver.settimeout(0.3)
    for _number in range(50):  # flows: of one, the rule sees the first packet only
        lab.open(lab.client, V4, socket.SOCK_DGRAM).sendto(b"x", (SERVER[V4], 7100))
    with pytest.raises(TimeoutError):
        receiver.recv(1)
    assert wait_for(lambda: role.log.exists() and any(entry["stats"]["detect"]["alerts_suppressed"] == 45 for entry in engine.events("stats")))
    found = seen(since=first["cookie"])
    assert {(entry["container"], entry["sid"], entry["action"], entry["count"]) for entry in found["counts"]} == {
        ("shop", 2, "blocked", 1), ("shop", 5, "blocked", 5),
    }  # fmt: skip
    assert found["complete"] and found["stats"]["alerts_suppressed"] == 45 and found["stats"]["blocked"] >= 50 and found["stats"]["kernel_drops"] == 0
    assert role.log.stat().st_mode & 0o777 == 0o600
    assert seen(since=found["cookie"])["alerts"] == []
    assert "There is no log" in run_module("suricata_events_info", {"path": "/nonexistent/eve.json"})["msg"]
