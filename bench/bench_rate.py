#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets kept and dropped, and CPU time, of container_capture with its defaults next to the classic command.

The classic: nsenter --net=... tcpdump -i any -U -C 2 -W 5 -w FILE. Both tap the same namespace while one process sends UDP
into it, over a veth, as fast as it can; taken in turns, of several runs the median counts. "Dropped" is tcpdump's own final
figure; "kept" is what the files still hold, and is less than what was captured where a ring has wrapped.

Then ours with buffers of several sizes while tcpdump is stopped in the middle of a run, as it is when it waits for the disk: how much of
what arrives meanwhile is lost.

Before the first measured run, both sides run once, so that all memory has been used before. Where this is a virtual machine that
hands freed memory back to its host (free page reporting), that is turned off meanwhile: a page that has to be fetched from the host
again costs some 10 us, ten times what tcpdump takes for a packet, and the 1 GB of our ring would pay it over and over.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "collections"))

from ansible_collections.nettap.containers.plugins.module_utils._capture import _control, _tcpdump  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import scan  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target  # noqa: E402

SPACE = f"nettap-bench-{os.getpid()}"
LINK = f"nb{os.getpid()}"
REPORTING = pathlib.Path("/sys/module/page_reporting/parameters/page_reporting_order")
LARGEST_ORDER = 11  # above MAX_PAGE_ORDER of linux/mmzone.h: no block of free pages is that large
TICK = os.sysconf("SC_CLK_TCK")


class Figures(t.NamedTuple):
    """One run: packets sent, received by the filter, dropped by the kernel and kept in the files; CPU seconds of the capture from when it
    was ready: what a start costs is bench_start.py's."""

    sent: int
    received: int
    dropped: int
    kept: int
    cpu: float

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds for a million packets that were not dropped."""
        return self.cpu / max(1, self.received - self.dropped) * 1e6


@contextlib.contextmanager
def memory_kept() -> t.Iterator[None]:
    """Keeps a virtual machine from handing freed memory back to its host."""
    if not REPORTING.exists():
        yield
        return
    before = REPORTING.read_text(encoding="ascii")
    REPORTING.write_text(str(LARGEST_ORDER), encoding="ascii")
    try:
        yield
    finally:
        REPORTING.write_text(before, encoding="ascii")


def ip(*arguments: str) -> None:
    """ip(8)."""
    subprocess.run(["ip", *arguments], check=True)


def blast(size: int, seconds: float) -> int:
    """Sends UDP datagrams with so many bytes of payload to the namespace; returns how many."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("198.18.0.2", 9))
        payload, sent, send = b"x" * size, 0, sender.send
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for _number in range(200):
                try:
                    send(payload)
                except ConnectionRefusedError:
                    continue
                sent += 1
    return sent


def cpu(pid: int) -> float:
    """User and system seconds of a process (proc(5) stat, fields 14 and 15)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def classic(folder: str, size: int, seconds: float) -> Figures:
    """The hand-made way."""
    log = os.path.join(folder, "log")
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{SPACE}", "tcpdump", "-i", "any", "-Z", "root", "-U", "-C", "2", "-W", "5", "-w", f"{folder}/c.pcap"], stderr=stream
        )
    while not _tcpdump.read(log).ready:
        time.sleep(0.01)
    before = cpu(process.pid)
    sent = blast(size, seconds)
    time.sleep(1.5)  # it reads what its ring still holds
    used = cpu(process.pid) - before
    process.send_signal(signal.SIGTERM)
    process.wait()
    counts = _tcpdump.read(log).counts
    kept = sum(scan(path).packets for path in glob.glob(f"{folder}/c.pcap*"))
    return Figures(sent, counts.packets_received or 0, counts.packets_dropped or 0, kept, used)


def ours(folder: str, size: int, seconds: float, request: Request | None = None, stall: float = 0) -> Figures:
    """container_capture, by default with its defaults; the supervisor's CPU time is counted too. stall: seconds for which tcpdump is stopped."""
    sessions = _control.Sessions(os.path.join(folder, "captures"))
    with _target.resolved({"netns": SPACE}) as targets:
        sessions.start("bench", request or Request(), targets)
    capture = sessions.about("bench")[0]
    processes = capture["segments"][0]["pid"], capture["supervisor"]["pid"]
    before = sum(map(cpu, processes))
    if stall:
        threading.Timer(seconds / 2, os.kill, (processes[0], signal.SIGSTOP)).start()
        threading.Timer(seconds / 2 + stall, os.kill, (processes[0], signal.SIGCONT)).start()
    sent = blast(size, seconds)
    time.sleep(1.5)
    used = sum(map(cpu, processes)) - before
    capture = sessions.stop("bench").capture or {}
    segment = capture["segments"][0]
    kept = sum(scan(path).packets for path in segment["files"])
    return Figures(sent, segment["packets_received"], segment["packets_dropped"], kept, used)


def main() -> None:
    """Prints a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="length of one run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side (default: %(default)s)")
    parser.add_argument("--folder", default="/var/tmp", help="where the files are written (default: %(default)s)")
    options = parser.parse_args()
    ip("netns", "add", SPACE)
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", SPACE)
        ip("addr", "add", "198.18.0.1/24", "dev", LINK)
        ip("link", "set", LINK, "up")
        ip("-n", SPACE, "addr", "add", "198.18.0.2/24", "dev", "eth0")
        ip("-n", SPACE, "link", "set", "eth0", "up")
        # Nobody reads what arrives here: without this socket, each datagram would be answered by an ICMP error.
        with open(f"/run/netns/{SPACE}", "rb") as space, _netns.entered(space.fileno()):
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind(("198.18.0.2", 9))
        with memory_kept(), contextlib.closing(sink):
            measure(1400, options.folder, options.seconds, 1)
            costs = [report(size, measure(size, options.folder, options.seconds, options.rounds), options.seconds) for size in (18, 1400)]
            print(f"A million of each: {sum(cost['container_capture'] for cost in costs) / sum(cost['classic'] for cost in costs):.2f} of the classic's CPU")
            stalled(options.folder, options.seconds, options.rounds)
    finally:
        ip("netns", "del", SPACE)


def measure(size: int, place: str, seconds: float, rounds: int) -> dict[str, list[Figures]]:
    """Both sides in turns."""
    runs: dict[str, list[Figures]] = {"classic": [], "container_capture": []}
    for _round in range(rounds):
        for name, way in (("classic", classic), ("container_capture", ours)):
            with tempfile.TemporaryDirectory(dir=place) as folder:
                runs[name].append(way(folder, size, seconds))
    return runs


def stalled(place: str, seconds: float, rounds: int) -> None:
    """A line for each length of a stall, with the share that each buffer has lost."""
    print("UDP, 1400 bytes of payload, tcpdump stopped meanwhile")
    for stall in (0.3, 0.6, 1.0):
        runs: dict[int, list[Figures]] = {64: [], 256: []}
        for _round in range(rounds):
            for mib, figures in runs.items():
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    figures.append(ours(folder, 1400, seconds, Request(buffer_size=mib * 1024), stall))
        rate = statistics.median(run.sent for figures in runs.values() for run in figures) / seconds / 1000
        lost = (f"{mib} MiB {statistics.median(100 * run.dropped / max(1, run.received) for run in figures):.1f} %" for mib, figures in runs.items())
        print(f"  for {stall:.1f} s at {rate:.0f} kpps, lost of the whole run: {', '.join(lost)}", flush=True)


def report(size: int, runs: dict[str, list[Figures]], seconds: float) -> dict[str, float]:
    """One line a side, then the ratio; returns CPU seconds for a million packets of each side."""
    print(f"UDP, {size} bytes of payload")
    per_million = {}
    for name, figures in runs.items():
        received = sum(run.received for run in figures)
        dropped = sum(run.dropped for run in figures)
        per_million[name] = statistics.median(run.cpu_per_million for run in figures)
        print(f"  {name:18} {statistics.median(run.sent for run in figures) / seconds / 1000:6.0f} kpps sent, {received:9} received, "
              f"{dropped:8} dropped ({100 * dropped / max(1, received):.1f} %), {sum(run.kept for run in figures):9} kept, "
              f"{per_million[name]:.2f} s of CPU per million")
    print(f"  CPU per million packets: {per_million['container_capture'] / per_million['classic']:.2f} of the classic's")
    return per_million


if __name__ == "__main__":
    main()
