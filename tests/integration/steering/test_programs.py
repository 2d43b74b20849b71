# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of steering in place, run by the real kernel: each branch alone, then where it sends frames on real links."""

from __future__ import annotations

import collections.abc as c
import contextlib
import os
import pathlib
import socket
import time

import bpf_test_run
import program_cases as the
import pytest
from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace import _programs
from ansible_collections.nettap.containers.plugins.module_utils._steering._inplace._filters import Filters
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from engine import ip

CASES = the.cases()
PACKET_OUTGOING = 4  # linux/if_packet.h
Seen = list[tuple[str, str, bytes]]


@contextlib.contextmanager
def a_map(elements: dict[bytes, _programs.Element]) -> c.Iterator[int]:
    """Give the descriptor of a map with these elements."""
    map_fd = _calls.create_map(_programs.KEY_SIZE, _programs.VALUE_SIZE, 16, "test")
    try:
        for key, element in elements.items():
            _calls.update(map_fd, key, element.pack())
        yield map_fd
    finally:
        os.close(map_fd)


def in_map(map_fd: int) -> dict[bytes, _programs.Element]:
    """Return all elements of a map."""
    values = {key: _calls.lookup(map_fd, key, _programs.VALUE_SIZE) for key in _calls.keys(map_fd, _programs.KEY_SIZE)}
    return {key: _programs.Element.unpack(value) for key, value in values.items() if value is not None}


@contextlib.contextmanager
def loaded(code: bytes) -> c.Iterator[int]:
    """Give the descriptor of a program."""
    program = _calls.load(code, "test")
    try:
        yield program
    finally:
        os.close(program)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_branch(case: the.Case) -> None:
    with a_map(case.elements()) as map_fd, loaded(case.code(map_fd)) as program:
        ran = bpf_test_run.run(program, case.frame, case.mark, case.segments)
        assert (ran, in_map(map_fd)) == ((case.action, case.after, case.mark_after), case.elements(after=True))


def test_counters_add_up() -> None:
    case = CASES["outbound-bridge-ipv4"]
    with a_map(case.elements()) as map_fd, loaded(case.code(map_fd)) as program:
        for segments in (0, 1, 2, 40):  # 0: the kernel does not say
            bpf_test_run.run(program, case.frame, segments=segments)
        assert in_map(map_fd)[_programs.key(the.MAC)] == the.element(out_sent=44)


@pytest.mark.parametrize("length", [0, 13])
def test_no_frame_is_shorter_than_its_header(length: int) -> None:
    """The programs ask, for the verifier wants it; the kernel itself gives them no such frame."""
    case = CASES["outbound-bridge-ipv4"]
    with a_map(case.elements()) as map_fd, loaded(case.code(map_fd)) as program, pytest.raises(OSError, match="Invalid argument"):
        bpf_test_run.run(program, case.frame[:length])


class Bench:
    """A host's links in a namespace of their own, with the filters of one steered container, and a socket that hears all links.

    peer is the host's end of the container's veth, eth0 the container's; vth0 and vth1 (in tag mode vth) are the engine's.
    """

    def __init__(self, fd: int, name: str, tagged: bool, ipv6: str = "steer") -> None:
        self._undo = contextlib.ExitStack()
        self._fd = fd
        self._service = [("vbr", "vth")] if tagged else [("vbr0", "vth0"), ("vbr1", "vth1")]
        for one, other in [("peer", "eth0"), *self._service]:
            ip("-n", name, "link", "add", one, "type", "veth", "peer", "name", other)
            for link in (one, other):
                ip("-n", name, "link", "set", link, "addrgenmode", "none", "up")
        with _netns.entered(fd):
            self._numbers = {link: number for number, link in socket.if_nameindex()}
            self._ear = self._undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        key = _programs.key(the.TAG if tagged else the.MAC)
        self.map_fd = self._undo.enter_context(a_map({key: _programs.Element(self._numbers["peer"], the.MAC)}))
        tag = the.TAG if tagged else None
        first, last = self._service[0][0], self._service[-1][0]
        with contextlib.closing(Filters(fd)) as filters:
            for link, direction, code in [
                ("peer", "ingress", _programs.outbound(self.map_fd, the.MAC, tag, self._numbers[first], ipv6)),
                ("peer", "egress", _programs.inbound(self.map_fd, the.MAC, tag, self._numbers[last], ipv6)),
                *((one, "ingress", _programs.returning(self.map_fd, one == first, one == last, tagged)) for one, _other in self._service),
            ]:
                if filters.qdisc(self._numbers[link]) is None:
                    filters.add_clsact(self._numbers[link])
                with loaded(code) as program:
                    filters.add(self._numbers[link], direction, 1, program, "test")

    def close(self) -> None:
        """Close what is open; the links go with their namespace."""
        self._undo.close()

    def send(self, link: str, frame: bytes, expected: int) -> Seen:
        """Send a frame on a link; return link, in or out, and bytes wherever it is seen, until that is so often and no more comes."""
        with _netns.entered(self._fd), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((link, 0))
            sender.send(frame)
        seen: Seen = []
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            # Frames take no time here; a short while more shows those that are too many.
            self._ear.settimeout(5 if len(seen) < expected else 0.02)
            try:
                data, (name, _protocol, kind, *_rest) = self._ear.recvfrom(4096)
            except TimeoutError:
                break
            if data[14:] == frame[14:]:
                seen.append((name, "out" if kind == PACKET_OUTGOING else "in", data))
        return seen

    def counters(self) -> dict[str, int]:
        """Return the counters of the container that are not 0."""
        (element,) = in_map(self.map_fd).values()
        return {name: getattr(element, name) for name in the.BEFORE if getattr(element, name)}


@pytest.fixture
def bench(netns: c.Callable[..., str]) -> c.Iterator[c.Callable[..., Bench]]:
    """Give bench(tagged, ipv6="steer"): a Bench in a namespace of its own."""
    with contextlib.ExitStack() as made:

        def make(tagged: bool, ipv6: str = "steer") -> Bench:
            name = netns()
            fd = os.open(pathlib.Path("/run/netns", name), os.O_RDONLY)
            made.callback(os.close, fd)
            return made.enter_context(contextlib.closing(Bench(fd, name, tagged, ipv6)))

        yield make


# Of each mode: where a frame is sent, its MACs there, and where it must be seen then, with which MACs.
OUT, IN = (the.MAC, the.STATION), (the.STATION, the.MAC)
OUT_TAGGED, IN_TAGGED = (the.TAG, the.STATION), (the.STATION, the.TAG)
WAYS = {
    # From the container: to the engine, not to the host; from the engine: to the host, with a mark that keeps it from the engine.
    "outbound": (False, "eth0", OUT, [("eth0", "out", OUT), ("peer", "in", OUT), ("vbr0", "out", OUT), ("vth0", "in", OUT)]),
    "inbound": (False, "peer", IN, [("vbr1", "out", IN), ("vth1", "in", IN)]),
    "returning-out": (False, "vth1", OUT, [("vth1", "out", OUT), ("vbr1", "in", OUT), ("peer", "in", OUT)]),
    "returning-in": (False, "vth0", IN, [("vth0", "out", IN), ("vbr0", "in", IN), ("peer", "out", IN), ("eth0", "in", IN)]),
    "tag-outbound": (True, "eth0", OUT, [("eth0", "out", OUT), ("peer", "in", OUT), ("vbr", "out", OUT_TAGGED), ("vth", "in", OUT_TAGGED)]),
    "tag-inbound": (True, "peer", IN, [("vbr", "out", IN_TAGGED), ("vth", "in", IN_TAGGED)]),
    "tag-returning-out": (True, "vth", OUT_TAGGED, [("vth", "out", OUT_TAGGED), ("vbr", "in", OUT_TAGGED), ("peer", "in", OUT)]),
    "tag-returning-in": (True, "vth", IN_TAGGED, [("vth", "out", IN_TAGGED), ("vbr", "in", IN_TAGGED), ("peer", "out", IN), ("eth0", "in", IN)]),
    # What does not come back.
    "stranger": (False, "vth1", IN, [("vth1", "out", IN), ("vbr1", "in", IN)]),
    "foreign-source": (False, "eth0", IN, [("eth0", "out", IN), ("peer", "in", IN)]),
}
COUNTED = {"outbound": "out_sent", "inbound": "in_sent", "returning-out": "out_returned", "returning-in": "in_returned", "foreign-source": "refused"}


@pytest.mark.parametrize("way", WAYS)
def test_where_frames_go(way: str, bench: c.Callable[..., Bench]) -> None:
    """By which link, and in or out of it: a test run does not tell that."""
    tagged, link, macs, expected = WAYS[way]
    links = bench(tagged)
    seen = links.send(link, the.frame(*macs), len(expected))
    assert seen == [(name, direction, the.frame(*those)) for name, direction, those in expected]
    counter = COUNTED.get(way.replace("tag-", ""))
    assert links.counters() == ({counter: 1} if counter else {})


def test_what_passes_goes_its_old_way(bench: c.Callable[..., Bench]) -> None:
    links = bench(False, "bypass")
    for data in (the.frame(the.MAC, the.BROADCAST, the.ARP), the.frame(the.MAC, the.STATION, the.IPV6), the.frame(the.MAC, the.MULTICAST4)):
        assert links.send("eth0", data, 2) == [("eth0", "out", data), ("peer", "in", data)]
    for data in (the.frame(the.STATION, the.MAC, the.ARP), the.frame(the.STATION, the.NEIGHBOUR)):
        assert links.send("peer", data, 2) == [("peer", "out", data), ("eth0", "in", data)]
    assert links.counters() == {}
