#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What steering in place costs: throughput and round trips from container to container, direct and steered; 1 and 200 steered.

The reflector is an engine that costs next to nothing: the kernel copies one service link to the other. What is lost with it is
steering's part, the rest is the engine's.

All ways are there at the same time, each with a container of its own, and are measured in turns; each round makes a ratio, and the
median of them counts. The ratio of the best rounds is what a machine shows that has nothing else to do.

An engine has to see packets as they are on a wire, so that steering has the kernel cut the large ones that a container hands out.
The like of it is measured with the containers' own offloads off; what a host pays that has them on is told as well.

Suricata by hand has the same configuration and rule, and stands between the container's link and the bridge: what steering costs beside it
is the redirects. Its container has its offloads off throughout, for else it would lose all that is larger than a frame.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import typing as t

import traffic
from steer_lab import Lab, LabContainer, packets_as_on_a_wire

ASKED = 2000  # round trips in a round


class Way:
    """One of those that are compared, and what was measured of it: bits a second, seconds of each round trip, a round each."""

    def __init__(self, name: str, container: LabContainer) -> None:
        self.name = name
        self.container = container
        self.rates: list[float] = []
        self.trips: list[list[float]] = []

    def measure(self, client: str, seconds: float) -> None:
        """One round."""
        self.rates.append(8 * traffic.throughput(client, self.container.address, seconds))
        self.trips.append(traffic.round_trips(client, self.container.address, ASKED))

    def report(self, first: Way) -> str:
        """One line, with the ratios to the first of them."""
        rate = f"{statistics.median(self.rates) / 1e9:6.2f} Gbit/s"
        middle, last = ([trip[int(len(trip) * part)] for trip in self.trips] for part in (0.5, 0.99))
        trip = f"{statistics.median(middle) * 1e6:5.0f} us, p99 {statistics.median(last) * 1e6:5.0f} us"
        if self is first:
            return f"  {self.name:24} {rate}{'':32} round trip {trip}"
        paired = statistics.median(ours / theirs for ours, theirs in zip(self.rates, first.rates))
        slower = statistics.median(ours[len(ours) // 2] / theirs[len(theirs) // 2] for ours, theirs in zip(self.trips, first.trips))
        return f"  {self.name:24} {rate}: {paired:5.2f} of it (best rounds {max(self.rates) / max(first.rates):5.2f}) round trip {trip}: {slower:.2f} of it"


def compare(lab: Lab, options: argparse.Namespace) -> None:
    """Direct, through the reflector in both modes, through Suricata, and through one that was put between by hand."""
    with contextlib.ExitStack() as servers:
        places: list[tuple[str, LabContainer]] = []
        for name, make in {
            "direct": None, "reflector, mode bridge": lab.reflector, "reflector, mode tag": lambda: lab.reflector("tag"), "Suricata": lab.suricata,
        }.items():  # fmt: skip
            container = lab.container()
            servers.enter_context(contextlib.closing(traffic.Server(container.name)))
            if make:
                lab.steer(make(), container)
            places.append((name, container))
        wired = [place.name for _name, place in places]
        by_hand = lab.suricata_by_hand()
        servers.enter_context(contextlib.closing(traffic.Server(by_hand.name)))
        places.append(("Suricata, by hand", by_hand))
        for title, setting in (
            ("offloads off in the containers", packets_as_on_a_wire(lab.client, *wired)),
            ("offloads on in the containers", contextlib.nullcontext()),
        ):
            print(title, flush=True)
            with setting:
                ways = [Way(name, container) for name, container in places]
                turns(ways, lab.client, options)
                print("  and beside the one by hand:")
                print(ways[-2].report(ways[-1]), flush=True)


def turns(ways: list[Way], client: str, options: argparse.Namespace) -> None:
    """All ways in turns, and a line for each."""
    for _round in range(options.rounds):
        for way in ways:
            way.measure(client, options.seconds)
    for way in ways:
        print(way.report(ways[0]), flush=True)


def many(lab: Lab, options: argparse.Namespace) -> None:
    """One container, while it alone and while as many as are wanted are steered by the same dataplane."""
    dataplane = lab.reflector()
    containers = [lab.container() for _number in range(options.links)]
    counts: t.Final = {1: Way("1 steered", containers[0]), options.links: Way(f"{options.links} steered", containers[0])}
    taken: dict[int, list[float]] = {count: [] for count in counts}
    print("1 and many, through the reflector, mode bridge; offloads off in the containers")
    with contextlib.closing(traffic.Server(containers[0].name)), packets_as_on_a_wire(lab.client, containers[0].name):
        for _round in range(options.rounds // 3 or 1):  # to put in and take out takes longer than to measure
            for count, way in counts.items():
                taken[count].append(lab.steer(dataplane, *containers[:count]))
                way.measure(lab.client, options.seconds)
                lab.release(dataplane, *containers[:count])
    for way in counts.values():
        print(way.report(counts[1]))
    one, all_ = (statistics.median(seconds) for seconds in taken.values())
    print(f"  one call steers 1 in {one:.2f} s, {options.links} in {all_:.2f} s: {all_ / one:.1f} times as long, {all_ / options.links * 1000:.0f} ms each")


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement of throughput (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds, the median counts; a third for 1 and many (default: %(default)s)")
    parser.add_argument("--links", type=int, default=200, help="the larger number of steered containers (default: %(default)s)")
    options = parser.parse_args()
    for part in (compare, many):
        with Lab() as lab:
            part(lab, options)


if __name__ == "__main__":
    main()
