# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic of a namespace that is steered through the stand-in for NeuVector's dp: what a rule allows passes, what it denies does not, whatever the ports."""

from __future__ import annotations

import collections.abc as c
import contextlib
import os
import signal
import socket
import struct
import sys
import tempfile
import typing as t

import dp_peer
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _inet, _sockets
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from engine import ip
from steering_tools import FORWARDER
from waiting import wait_for

Result = dict[str, t.Any]
HOST, INSIDE = "10.78.1.1", "10.78.1.2"
MAC = "02:00:0a:4e:01:02"


class Flow:
    """A client and a server, one of them in the namespace and the other here: an established TCP connection, or UDP."""

    def __init__(self, site: Site, kind: int, port: int, client_port: int, inward: bool, listening: bool = True) -> None:
        self._undo = contextlib.ExitStack()
        self._kind = kind
        client_place, server_place = (site.here, site.there) if inward else (site.there, site.here)
        with server_place() as address:
            self._server = self._undo.enter_context(socket.socket(socket.AF_INET, kind))
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._server.bind((address, port))
        self._address = (address, port)
        with client_place() as address:
            self._client = self._undo.enter_context(socket.socket(socket.AF_INET, kind))
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._client.bind((address, client_port))
        if kind == socket.SOCK_STREAM:
            self._server.listen()
            self._client.connect(self._address)
            listener, self._server = self._server, self._undo.enter_context(self._server.accept()[0])
            if not listening:
                listener.close()
            for one in (self._client, self._server):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for one in (self._client, self._server):
            one.settimeout(1)

    def passes(self, data: bytes = b"x" * 5000) -> bool:
        """Whether data go there and back, for TCP within the time that its repetitions take."""
        with contextlib.suppress(OSError):
            if self._kind == socket.SOCK_STREAM:
                for one in (self._client, self._server):
                    one.settimeout(10)
                for one, other in ((self._client, self._server), (self._server, self._client)):
                    one.sendall(data)
                    left = len(data)
                    while left:
                        left -= len(other.recv(left)) or left + 1
                        if left < 0:
                            return False
                return True
            self._client.sendto(data[:1000], self._address)
            received, peer = self._server.recvfrom(2000)
            self._server.sendto(received, peer)
            return self._client.recv(2000) == received
        return False

    def close(self) -> None:
        self._undo.close()


class Site:
    """A namespace behind the stand-in, and what is said to dp and to the steering."""

    def __init__(self, name: str, path: str, run_module: c.Callable[..., Result]) -> None:
        self.name, self.path, self._run_module = name, path, run_module
        self._undo = contextlib.ExitStack()

    @contextlib.contextmanager
    def here(self) -> c.Iterator[str]:
        yield HOST

    @contextlib.contextmanager
    def there(self) -> c.Iterator[str]:
        namespace = _netns.open_path(self.name)
        try:
            with _netns.entered(namespace.fd):
                yield INSIDE
        finally:
            namespace.close()

    def flow(self, kind: int, port: int, client_port: int, inward: bool = True, listening: bool = True) -> Flow:
        """Open a flow that the end of the test closes."""
        one = Flow(self, kind, port, client_port, inward, listening)
        self._undo.callback(one.close)
        return one

    def module(self, name: str, **options: t.Any) -> Result:
        done = self._run_module(name, options)
        assert not done.get("failed") and "exception" not in done, done
        return done

    def told(self, *policy: Result, **options: t.Any) -> Result:
        """Configure dp."""
        tag = "4e:65:75:56:00:01"
        return self.module("neuvector_dataplane", socket=self.path, service_port="vth", internal_networks=["10.78.1.0/24"],
                           workloads=[{"mac": MAC, "tag_mac": tag, "addresses": [INSIDE]}], policy=list(policy), **options)  # fmt: skip

    def steer(self, **options: t.Any) -> Result:
        return self.module("container_steering", **{"netns": self.name, "mode": "tag", "engine_socket": self.path, "ipv6": "bypass", **options})

    def status(self) -> str:
        return str(self.module("container_steering_info")["steering"][0]["status"])

    def engine(self) -> int:
        assert wait_for(lambda: self.module("container_steering_info")["dataplane"]["engine_pids"], 20)
        return int(self.module("container_steering_info")["dataplane"]["engine_pids"][0])

    def clean(self) -> None:
        self._undo.close()
        self.module("container_steering", netns=self.name, state="absent", allow_missing=True)
        self.module("neuvector_dataplane", socket=self.path, state="absent")
        self.module("container_dataplane", state="absent")


@pytest.fixture(name="site")
def make_site(netns: c.Callable[..., str], veth: c.Callable[..., tuple[str, str]], run_module: c.Callable[..., Result]) -> c.Iterator[Site]:
    name = netns()
    veth(name, address=f"{INSIDE}/24", host_address=f"{HOST}/24")
    ip("-n", name, "link", "set", "eth0", "address", MAC)
    with tempfile.TemporaryDirectory(prefix="nettap-dp-", dir="/tmp") as folder:
        site = Site(name, os.path.join(folder, "dp.sock"), run_module)
        try:
            site.module("container_dataplane", mode="tag", engine=[sys.executable, dp_peer.__file__, "--socket", site.path], engine_socket=site.path)
            yield site
        finally:
            site.clean()


TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def test_connections_live_through_everything(site: Site) -> None:
    """Whatever their ports are, and whether the server still listens: put in, bypassed, resumed, behind a dp that was started again, taken out."""
    rules: list[Result] = [
        {"action": "allow", "source": HOST, "port": port, "protocol": "tcp"} for port in (60000, 60001, 8080)
    ] + [{"action": "allow", "direction": "egress", "destination": HOST, "port": "50000-50009", "protocol": "tcp"}]  # fmt: skip
    site.told(*rules, default_action="deny")
    flows = [
        site.flow(TCP, 60000, 33000), site.flow(TCP, 60001, 33001, listening=False), site.flow(TCP, 8080, 40000), site.flow(TCP, 50000, 33002, inward=False),
        site.flow(TCP, 50001, 51000, inward=False),
    ]  # fmt: skip
    denied = [site.flow(TCP, 60002, 33003), site.flow(TCP, 50010, 33004, inward=False)]
    assert all(flow.passes() for flow in [*flows, *denied])
    done = site.steer()
    assert done["steering"][0]["status"] == "steered"
    assert [flow.passes() for flow in flows] == [True] * 5
    site.steer(state="bypassed")
    assert [flow.passes() for flow in flows] == [True] * 5
    late = site.flow(TCP, 50002, 33005, inward=False)  # opened while nobody looked
    site.steer()
    assert [flow.passes() for flow in [*flows, late]] == [True] * 6
    engine = site.engine()
    os.kill(engine, signal.SIGKILL)
    assert wait_for(lambda: site.status() == "bypassed" or site.engine() != engine, 20)
    assert wait_for(lambda: site.status() == "steered" and site.engine() != engine, 20)
    assert [flow.passes() for flow in [*flows, late]] == [True] * 6
    assert not any(flow.passes() for flow in denied)
    site.steer(state="absent")
    assert [flow.passes() for flow in [*flows, late]] == [True] * 6


def test_sockets_are_followed_while_steered(site: Site) -> None:
    """UDP to a port of a range that a rule names is held to that rule soon after somebody serves there."""
    site.told({"action": "allow", "port": "6000-6100", "protocol": "udp"}, {"action": "deny", "direction": "egress"}, default_action="deny")
    site.steer()
    flow = site.flow(UDP, 6050, 40000)
    assert wait_for(flow.passes, 20)
    assert not site.flow(UDP, 5050, 40001).passes()
    sessions = site.module("neuvector_dataplane_info", socket=site.path, list_sessions=True)["session_list"]
    (one,) = [session for session in sessions if session["protocol"] == "udp"]
    assert (one["server"], one["server_port"], one["direction"]) == (INSIDE, 6050, "ingress")


def test_dp_whose_data_thread_stops_is_passed_by(site: Site) -> None:
    """It answers on its socket as if nothing were wrong."""
    site.told()
    site.steer()
    flow = site.flow(TCP, 60000, 33000)
    os.kill(site.engine(), signal.SIGUSR1)
    assert flow.passes() and wait_for(lambda: site.status() == "bypassed", 20)
    assert site.module("neuvector_dataplane_info", socket=site.path)["pid"] == site.engine()
    os.kill(site.engine(), signal.SIGUSR2)
    assert wait_for(lambda: site.status() == "steered", 20) and flow.passes()


def raw(site: Site, protocol: int, source: str = HOST, destination: str = INSIDE) -> bool:
    """Whether an IPv4 packet of a protocol arrives in the namespace."""
    with site.there(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as ear:
        ear.bind(("eth0", 0x0800))
        ear.settimeout(1)
        with _netns.host() as host, _netns.entered(host), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            body = os.urandom(32)
            addresses = socket.inet_aton(source) + socket.inet_aton(destination)
            sender.sendto(struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0) + addresses + body, (destination, 0))
        with contextlib.suppress(TimeoutError):
            while body not in ear.recv(4096):
                pass
            return True
    return False


def test_what_dp_cannot_deny_is_dropped_on_the_way_to_it(site: Site) -> None:
    """In place; tests/unit/steering/takeover/test_takeover.py has the filters of a takeover, whose act_gact the test machine's kernel may lack."""
    site.told(default_action="deny")
    site.steer()
    assert all(raw(site, number) for number in (47, 132)) and raw(site, 6, "169.254.9.9")
    done = site.steer(drop=["other_protocols"])
    assert done["changed"] and "drop was nothing, not other_protocols" in done["reason"]
    assert not any(raw(site, number) for number in (47, 50, 132)) and raw(site, 6, "169.254.9.9")
    assert site.steer(drop=["link_local", "other_protocols"])["changed"]
    assert not raw(site, 47) and not raw(site, 6, "169.254.9.9")
    assert not site.steer(drop=["other_protocols", "link_local"])["changed"]
    site.steer(state="bypassed")
    assert raw(site, 47) and raw(site, 6, "169.254.9.9")
    assert site.steer(drop=["link_local"])["changed"] and raw(site, 47) and not raw(site, 6, "169.254.9.9")


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("udp", "is not reached by UDP, nor by UDP packets of the full MTU any more through the dataplane nettap, so the steering was undone"),
        ("older", "is not reached by an established TCP connection any more through the dataplane nettap, so the steering was undone"),
        ("long-ip", "is not reached by UDP packets of the full MTU, nor by an established TCP connection any more"),
        ("long", "The dataplane nettap forwards short frames, but none of 1514 bytes, as the containers' MTU of 1500 allows, came out within 2 s"),
    ],
)
def test_verification_finds_what_pings_do_not_show(site: Site, run_module: c.Callable[..., Result], lost: str, words: str) -> None:
    """An engine of either mode that loses what pings are not: refused, in one sentence, and undone."""
    site.module("container_dataplane", state="absent")
    site.module("container_dataplane", engine=[*FORWARDER, "vth0", "vth1", "--without", lost])
    arguments = {"netns": site.name, "engine_timeout": 2}
    said = run_module("container_steering", arguments)["msg"]
    assert words in said, said
    assert site.module("container_steering_info")["steering"] == [] and site.flow(UDP, 7000, 40000).passes()
    if lost != "long":
        assert run_module("container_steering", {**arguments, "verify_traffic": False})["changed"]


def test_verification_expects_what_the_policy_allows(site: Site) -> None:
    """dp may deny the test's own traffic, and pings: that is no fault."""
    site.told(default_action="deny", icmp_policy=True)
    assert site.steer()["changed"] and not site.flow(UDP, 7000, 40000).passes()


@pytest.mark.parametrize("diag", [True, False])
def test_sockets_as_the_kernel_shows_them(
    netns: c.Callable[..., str], veth: c.Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch, diag: bool
) -> None:
    """By sock_diag, and where the kernel has none from /proc: without the loopback's, IPv4 in sockets of IPv6 too."""
    name = netns()
    veth(name, address=f"{INSIDE}/24", host_address=f"{HOST}/24")
    if not diag:
        monkeypatch.setattr(_inet, "_NETLINK_SOCK_DIAG", 31)
    with contextlib.ExitStack() as stack:
        fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
        stack.callback(os.close, fd)

        def opened(family: int, kind: int, address: str, port: int) -> socket.socket:
            one = stack.enter_context(socket.socket(family, kind))
            one.bind((address, port))
            return one

        with _netns.entered(fd):
            for address, port in ((INSIDE, 80), ("::", 60000), ("127.0.0.1", 81), ("::1", 82)):
                opened(socket.AF_INET6 if ":" in address else socket.AF_INET, TCP, address, port).listen()
            for port in (5000, 40000):
                opened(socket.AF_INET, UDP, "0.0.0.0", port)
            opened(socket.AF_INET6, UDP, "::", 5001)
            opened(socket.AF_INET, UDP, "127.0.0.11", 5002)
            opened(socket.AF_INET, UDP, INSIDE, 5003).connect((HOST, 53))
        servers = [opened(socket.AF_INET, TCP, HOST, port) for port in (443, 50000)]
        with _netns.entered(fd):
            for server, port in zip(servers, (40001, 33000), strict=True):
                server.listen()
                client = opened(socket.AF_INET, TCP, INSIDE, port)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.connect(server.getsockname())
            mapped = opened(socket.AF_INET6, TCP, f"::ffff:{INSIDE}", 33001)
            mapped.connect((f"::ffff:{HOST}", 50000))
        found = _sockets.read(fd, True)
        assert (found.tcp, found.udp, found.ephemeral) == ([80, 60000], [5000, 5001, 40000], (32768, 60999))
        assert found.connections == [(INSIDE, 33000, HOST, 50000), (INSIDE, 33001, HOST, 50000)]
        assert _sockets.read(fd, False) == found._replace(connections=[])
