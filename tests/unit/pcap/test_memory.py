# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory and file descriptors do not grow with the input. Each figure comes from a process of its own."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
from ansible_collections.nettap.containers.tests.unit.pcap import builder
from ansible_collections.nettap.containers.tests.unit.pcap.builder import START, Packet

MERGE = """
import resource, sys
from ansible_collections.nettap.containers.plugins.module_utils._pcap._pcapng import SegmentInput, merge
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
with open(sys.argv[1], "wb") as out:
    result = merge([SegmentInput([path], path) for path in sys.argv[2:]], out)
print(result.packets, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

JOIN = """
import resource, sys
from ansible_collections.nettap.containers.plugins.module_utils._pcap._ring import join_ring
with open(sys.argv[1], "wb") as out:
    result = join_ring(sys.argv[2:], out)
print(result.packets, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

# The small input already fills every chunk and window: 200 KiB is all that the large one was seen to add.
SMALL, LARGE = 100_000, 400_000
GROWTH_KIB = 4 * 1024
LIMIT_KIB = 60 * 1024


def inputs(folder: pathlib.Path, streams: int, packets: int, step: int, apart: int, length: int) -> list[str]:
    """Files of all packets together; each stream starts `apart` nanoseconds after the one before."""
    folder.mkdir()
    paths = []
    for number in range(streams):
        path = folder / f"{number:03}.pcap"
        with path.open("wb") as file:
            file.write(builder.header())
            data = bytes(length)
            file.writelines(builder.record(Packet(START + number * apart + step * packet, data, length or 60)) for packet in range(packets // streams))
        paths.append(str(path))
    return paths


def run(script: str, tmp_path: pathlib.Path, paths: list[str]) -> tuple[int, int]:
    """Packets and the peak of memory in KiB."""
    argv = [sys.executable, "-c", script, str(tmp_path / "out"), *paths]
    # A process starts with its parent's peak: this small one in between keeps pytest's own out of the figure.
    argv = [sys.executable, "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))", *argv]
    packets, peak = subprocess.run(argv, check=True, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}).stdout.split()
    return int(packets), int(peak)


@pytest.mark.parametrize(
    ("streams", "step", "apart", "length"),
    [
        pytest.param(2, 6000, 3000, 100, id="interleaved"),
        pytest.param(100, 300_000, 3000, 100, id="many"),
        pytest.param(20, 3000, 10**12, 100, id="one after the other"),
        pytest.param(2, 0, 0, 100, id="all at one time"),
        pytest.param(2, 1000, 0, 0, id="without data"),
    ],
)
def test_merge(tmp_path: pathlib.Path, streams: int, step: int, apart: int, length: int) -> None:
    small, small_peak = run(MERGE, tmp_path, inputs(tmp_path / "small", streams, SMALL, step, apart, length))
    large, large_peak = run(MERGE, tmp_path, inputs(tmp_path / "large", streams, LARGE, step, apart, length))
    assert (small, large) == (SMALL, LARGE)
    assert large_peak < LIMIT_KIB
    assert large_peak - small_peak < GROWTH_KIB


def test_join(tmp_path: pathlib.Path) -> None:
    small, small_peak = run(JOIN, tmp_path, inputs(tmp_path / "small", 4, SMALL, 1000, 10**12, 100))
    large, large_peak = run(JOIN, tmp_path, inputs(tmp_path / "large", 4, LARGE, 1000, 10**12, 100))
    assert (small, large) == (SMALL, LARGE)
    assert large_peak - small_peak < GROWTH_KIB
