#!/usr/bin/env python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed and memory of the pcapng merge, next to Wireshark's mergecap on the same files in the same run.

Both are timed as processes, from start to exit; of several runs, taken in turns, the fastest counts. "MB" is 1,000,000
bytes of packets. The packets of all inputs interleave, as those of containers that capture at the same time do.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import typing as t

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
START = 1_700_000_000
GAP = 3  # microseconds from one packet to the next

MERGE = """
import sys
from ansible_collections.nettap.containers.plugins.module_utils._pcap._pcapng import SegmentInput, merge
with open(sys.argv[1], "wb") as out:
    merge([SegmentInput([path], path) for path in sys.argv[2:]], out)
"""


class Run(t.NamedTuple):
    """One process: seconds from start to exit and peak memory in MB."""

    seconds: float
    memory: float


def write_inputs(folder: pathlib.Path, inputs: int, packets: int, length: int) -> list[str]:
    """Write `packets` packets of `length` bytes, dealt out to `inputs` files in turn."""
    record, data = struct.Struct("<4I").pack, os.urandom(length)
    paths = []
    for number in range(inputs):
        path = folder / f"{number}.pcap"
        with path.open("wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
            for packet in range(number, packets, inputs):
                seconds, microseconds = divmod(packet * GAP, 1_000_000)
                file.write(record(START + seconds, microseconds, length, length) + data)
        paths.append(str(path))
    return paths


def run(argv: list[str], environment: dict[str, str]) -> Run:
    """Run one process to its end; it must succeed."""
    start = time.perf_counter()
    with subprocess.Popen(argv, env=environment) as process:
        dummy, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{argv[0]}: exit code {process.returncode}")
    return Run(seconds, usage.ru_maxrss * 1024 / 1e6)


def measure(folder: pathlib.Path, options: argparse.Namespace, packets: int, length: int) -> None:
    """Print one line for each program on one kind of input."""
    paths = write_inputs(folder, options.inputs, packets, length)
    output = str(folder / "merged.pcapng")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    programs = {"nettap": [options.python, "-c", MERGE, output], "mergecap": ["mergecap", "-w", output]}
    best: dict[str, Run] = {}
    for dummy in range(options.runs):
        for name, argv in programs.items():
            this = run(argv + paths, environment)
            best[name] = min(best.get(name, this), this)
    for name, (seconds, memory) in best.items():
        speed = f"{packets / seconds:11,.0f} packets/s  {packets * length / seconds / 1e6:7.1f} MB/s"
        more = f"  {best['mergecap'].seconds / seconds:5.2f} x mergecap  peak {memory:5.1f} MB" if name == "nettap" else ""
        print(f"{length:5} B x {packets:9,} in {options.inputs} files  {name:8}  {speed}{more}")
    for path in [*paths, output]:
        os.unlink(path)


def main() -> None:
    """Parse the options, make a folder that goes away by itself, measure small and large packets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packets", type=int, default=1_000_000, help="number of 100-byte packets (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=200, help="MB of 1400-byte packets (default: %(default)s)")
    parser.add_argument("--inputs", type=int, default=4, help="number of files to merge (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each program, the fastest counts (default: %(default)s)")
    parser.add_argument("--python", default=sys.executable, help="the Python that merges (default: the one that runs this)")
    parser.add_argument("--folder", help="where the files go, about three times the input (default: the system's temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_merge.", dir=options.folder) as name:
        folder = pathlib.Path(name)
        # The collection must be importable by its full name wherever the checkout lies.
        (folder / "ansible_collections" / "nettap").mkdir(parents=True)
        (folder / "ansible_collections" / "nettap" / "containers").symlink_to(CHECKOUT)
        measure(folder, options, options.packets, 100)
        measure(folder, options, options.megabytes * 1_000_000 // 1400, 1400)


if __name__ == "__main__":
    main()
