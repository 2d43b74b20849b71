"""What tests and benchmarks of steering look at: a host's and a container's network as the tools show it, and traffic."""

from __future__ import annotations

import collections.abc as c
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from waiting import wait_for

TESTS = pathlib.Path(__file__).resolve().parent
FORWARDER = [sys.executable, str(TESTS / "forwarder.py")]
# Of a neighbour, the state and what it was used for changes by itself; a route by router advertisement is renewed.
TRANSIENT = {"expires", "state", "used", "confirmed", "updated", "probes", "refcnt", "valid_life_time", "preferred_life_time"}


def command(*argv: str) -> str:
    """Run a program and return what it printed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout


def snapshot(pid: int | None = None) -> dict[str, t.Any]:
    """Return all that steering could change in the network namespace of a process, or in ours."""
    prefix = ["nsenter", "--target", str(pid), "--net"] if pid else []

    def run(*argv: str) -> str:
        return command(*prefix, *argv)

    seen: dict[str, t.Any] = {
        name: without(json.loads(run("ip", "-d", "-j", *arguments) or "[]"))
        for name, arguments in {
            "link": ["link"], "address": ["address"], "neighbour": ["neighbour"], "rule": ["rule"],
            "route": ["route", "show", "table", "all"], "route6": ["-6", "route", "show", "table", "all"],
        }.items()
    }  # fmt: skip
    # A neighbour that nobody spoke to for a while is forgotten.
    seen["neighbour"] = [one for one in seen["neighbour"] if "PERMANENT" in str(one)]
    seen["sysctl"] = run("sysctl", "-a", "--pattern", r"^net\.(ipv4|ipv6)\.(conf|neigh)")
    links = [link["ifname"] for link in seen["link"]]
    seen["offload"] = {link: run("ethtool", "-k", link) for link in links}
    seen["qdisc"] = run("tc", "qdisc", "show")
    seen["filter"] = {link: [run("tc", "filter", "show", "dev", link, way) for way in ("ingress", "egress")] for link in links}
    return seen


def without(value: t.Any) -> t.Any:
    """Return the value without what changes by itself."""
    if isinstance(value, dict):
        return {key: without(one) for key, one in value.items() if key not in TRANSIENT and not key.endswith("_timer")}
    return [without(one) for one in value] if isinstance(value, list) else value


def differences(before: t.Any, after: t.Any, path: str = "") -> list[str]:
    """Return where two snapshots differ, each with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [text for key in sorted({*before, *after}) for text in differences(before.get(key), after.get(key), f"{path}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [text for index, pair in enumerate(zip(before, after)) for text in differences(*pair, f"{path}/{index}")]
    return [] if before == after else [f"{path}: {before!r} became {after!r}"]


def settle() -> None:
    """Wait until no address of this namespace is tentative any more."""
    assert wait_for(lambda: "tentative" not in command("ip", "address"))


def own_filters(link: str) -> list[str]:
    """Return the names of our filters on a link of the host, as tc shows them."""
    return re.findall(r"nettap:\S+", "".join(command("tc", "filter", "show", "dev", link, way) for way in ("ingress", "egress")))


def get(address: str, path: str = "/", timeout: float = 10) -> int:
    """Return the status of an HTTP request from here; 0 when no answer comes."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@contextlib.contextmanager
def kept_down(engine: int) -> c.Iterator[None]:
    """Kill an engine; its keeper, which is its parent, starts no new one before the block ends."""
    keeper = int(pathlib.Path(f"/proc/{engine}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGSTOP)
    try:
        os.kill(engine, signal.SIGKILL)
        yield
    finally:
        os.kill(keeper, signal.SIGCONT)


class Transfer:
    """A TCP connection from here into a container, on which data flows until the block ends; it must arrive whole.

    Meanwhile the test does what it wants to the way. The end of the block raises when the connection broke, or when what
    arrived is not what was sent. rate is in bytes a second.
    """

    def __init__(self, pid: int, address: str, rate: float = 20e6) -> None:
        self._rate = rate
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        with _netns.entered(fd):
            self._server = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        os.close(fd)
        self._sent, self._received = hashlib.sha256(), hashlib.sha256()
        self.sent = self.received = 0
        self._stop = threading.Event()
        self._errors: list[str] = []

    def __enter__(self) -> Transfer:
        self._client = socket.create_connection(self._server.getsockname()[:2], timeout=30)
        connection, _peer = self._server.accept()
        connection.settimeout(30)
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive, args=[connection])]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        self._client.close()
        self._server.close()
        if kind is None:
            assert not self._errors, self._errors
            assert self.sent == self.received > 0 and self._sent.digest() == self._received.digest()

    def _send(self) -> None:
        block = os.urandom(64 << 10)
        start = time.monotonic()
        try:
            while not self._stop.is_set():
                self._client.sendall(block)
                self._sent.update(block)
                self.sent += len(block)
                time.sleep(max(0.0, start + self.sent / self._rate - time.monotonic()))
            self._client.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._errors.append(f"sending: {error}")

    def _receive(self, connection: socket.socket) -> None:
        with contextlib.closing(connection):
            try:
                while data := connection.recv(1 << 18):
                    self._received.update(data)
                    self.received += len(data)
            except OSError as error:
                self._errors.append(f"receiving: {error}")
