# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection that carries the play, and the filter that leaves it out."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _tcpdump, _transport
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request

SSH = "192.0.2.7 50000 192.0.2.1 22"
# Says what is known of it, from below a program that has lost SSH_CONNECTION, as sudo's have.
ASKS = (
    "from ansible_collections.nettap.containers.plugins.module_utils._capture import _transport\n"
    "found = _transport.found()\nprint(found.expression if found else None)"
)
# What a runtime is known by: its name, and a port on the loopback address. It must not be taken for those of other names and on other addresses.
LISTENS = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode())
one, other = (socket.create_server((host, 0)) for host in ("127.0.0.1", "0.0.0.0"))
print(one.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("told", "expression"),
    [
        (SSH, "tcp port 22 and host 192.0.2.7 and host 192.0.2.1"),
        ("2001:db8::7 50000 2001:db8::1 2222", "tcp port 2222 and host 2001:db8::7 and host 2001:db8::1"),
        ("fe80::7%eth0 50000 fe80::1%eth0 22", "tcp port 22 and host fe80::7 and host fe80::1"),
        ("::ffff:192.0.2.7 50000 ::ffff:192.0.2.1 22", "tcp port 22 and host 192.0.2.7 and host 192.0.2.1"),
    ],
)
def test_filter(told: str, expression: str) -> None:
    assert _transport.ssh(told).expression == expression
    argv = _tcpdump.command("tcpdump", Request(), "any", "/x.pcap", 64, left_out=expression)
    assert argv[-2:] == ["--", f"not ({expression})"]
    # What the user asked for is a whole of its own, whatever is in it.
    argv = _tcpdump.command("tcpdump", Request(filter="udp or tcp"), "any", "/x.pcap", 64, left_out=expression)
    assert argv[-2:] == ["--", f"(udp or tcp) and not ({expression})"]
    for link_type in ("EN10MB", "LINUX_SLL2"):
        subprocess.run(["tcpdump", "-y", link_type, "-d", "--", argv[-1]], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("told", ["", "a b c d", "192.0.2.7 1 192.0.2.1", "192.0.2.7 1 192.0.2.1 22 or", "1.2.3.4) or ( 1 1.2.3.4 22"])
def test_what_is_no_connection(told: str) -> None:
    """The environment is the user's to set, and what is in it becomes part of a filter."""
    with pytest.raises(ValueError):
        _transport.ssh(told)


@pytest.mark.parametrize(
    ("outer", "inner", "expression"),
    [
        ({"SSH_CONNECTION": SSH}, {}, "tcp port 22 and host 192.0.2.7 and host 192.0.2.1"),
        ({"SSH_CONNECTION": SSH}, {"SSH_CONNECTION": "nonsense"}, "tcp port 22 and host 192.0.2.7 and host 192.0.2.1"),
        ({"SSH_CONNECTION": SSH}, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "tcp port 10250"),
    ],
)
def test_those_who_called_are_asked(outer: dict[str, str], inner: dict[str, str], expression: str) -> None:
    known = {key: value for key, value in os.environ.items() if key not in ("SSH_CONNECTION", "KUBERNETES_SERVICE_HOST")}
    calls = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], env=eval(sys.argv[2]), check=True)"
    done = subprocess.run([sys.executable, "-c", calls, ASKS, repr({**known, "PYTHONPATH": os.pathsep.join(sys.path), **inner})],
                          env={**known, **outer}, capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.startswith(expression)


@pytest.mark.parametrize(("name", "found"), [("containerd", True), ("crio", True), ("containerd-shim", False)])
def test_ports_of_runtimes(name: str, found: bool) -> None:
    """kubelet's exec goes through one of them, which the runtime chooses when it starts."""
    with subprocess.Popen([sys.executable, "-c", LISTENS, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        port = int(t.cast("t.IO[bytes]", process.stdout).readline())
        before = _transport.streaming_ports()
        process.communicate()
    assert (port in before) is found and port not in _transport.streaming_ports()
    assert len(before) <= 1 + len(_transport.streaming_ports())
