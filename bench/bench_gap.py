#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stream of 1000 pings a second notices: of a container put behind an engine and taken out, and of an engine that is killed.

Each is next to the same stream left alone, for as long: what a busy machine loses and delays by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import time
import typing as t

import traffic
from steer_lab import Lab, LabContainer, engines_of, tools

import ping_stream  # isort: skip  (steer_lab has told Python where the programs of tests/ are)
from waiting import wait_for

RATE = 1000
# Seconds of the stream before and after what is done. The kernel tells a bridge of the carrier that a takeover loses up to a second later.
BEFORE, AFTER = 0.2, {"inplace": 0.3, "takeover": 2.0}


def streamed(lab: Lab, container: LabContainer, action: t.Callable[[], object], topology: str = "inplace") -> ping_stream.Result:
    """What a stream noticed of the action."""
    with ping_stream.PingStream(container.address, RATE, lab.client) as stream:
        time.sleep(BEFORE)
        action()
        time.sleep(AFTER[topology])
    return stream.result


def report(name: str, results: list[ping_stream.Result], left_alone: list[ping_stream.Result]) -> None:
    """One line; the ratio is that of the silences."""
    silence = statistics.median(one.silence for one in results)
    ratio = silence / statistics.median(one.silence for one in left_alone)
    print(f"  {name:28} lost {statistics.median(one.lost for one in results):5.0f} (most {max(one.lost for one in results)}), "
          f"longest silence {silence * 1000:6.1f} ms (most {max(one.silence for one in results) * 1000:6.1f}): {ratio:.1f} of it", flush=True)


def put_in_and_taken_out(lab: Lab, rounds: int) -> None:
    """Both topologies, through the reflector."""
    container = lab.container()
    planes = {topology: lab.reflector(topology=topology) for topology in ("inplace", "takeover")}
    results: dict[str, list[ping_stream.Result]] = {"left alone": []}
    for _round in range(rounds):
        results["left alone"].append(streamed(lab, container, lambda: time.sleep(0.5)))
        for topology, plane in planes.items():
            for what, action in (("put in", lab.steer), ("taken out", lab.release)):
                results.setdefault(f"{topology}, {what}", []).append(streamed(lab, container, lambda: action(plane, container), topology))
    print(f"Put in and taken out, median of {rounds}")
    for name, found in results.items():
        report(name, found, results["left alone"])


def killed(lab: Lab, rounds: int) -> None:
    """An engine ends by SIGKILL while TCP flows; it is started again by what runs it."""
    results: dict[str, list[ping_stream.Result]] = {"left alone": []}
    again: dict[str, list[float]] = {}
    for name, plane in {"forwarder": lab.forwarder(), "Suricata": lab.suricata()}.items():
        container = lab.container()
        lab.steer(plane, container)

        def kill() -> None:
            (pid,) = engines_of(plane)
            begun = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            for wanted in (0, 2):
                if not wait_for(lambda: len(tools.own_filters(container.link)) == wanted, 60):
                    raise SystemExit(f"{name}: after 60 s there are not {wanted} filters on {container.link}.")
            again.setdefault(name, []).append(time.monotonic() - begun)

        with contextlib.closing(traffic.Server(container.name)) as server, tools.Transfer(server.pid, container.address):
            for _round in range(rounds):
                results["left alone"].append(streamed(lab, container, lambda: time.sleep(1)))
                results.setdefault(f"{name} killed", []).append(streamed(lab, container, kill))
    print(f"The engine is killed under load, fail open, median of {rounds}")
    for name, found in results.items():
        report(name, found, results["left alone"])
    for name, seconds in again.items():
        print(f"  {name}: inspected again after {statistics.median(seconds):.2f} s (most {max(seconds):.2f})")


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="rounds, the median counts (default: %(default)s)")
    rounds = parser.parse_args().rounds
    with Lab() as lab:
        put_in_and_taken_out(lab, rounds)
        killed(lab, rounds)


if __name__ == "__main__":
    main()
