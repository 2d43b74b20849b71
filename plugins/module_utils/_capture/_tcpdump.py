# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tcpdump: its command line, the check of its filters, and its messages."""

from __future__ import annotations

import dataclasses
import re
import shutil
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, DependencyError
from ansible_collections.nettap.containers.plugins.module_utils._system import _program

_SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
# ARPHRD_ of linux/if_arp.h to the names of tcpdump -y. For any other number tcpdump itself decides.
_LINK_TYPES = {1: "EN10MB", 772: "EN10MB", 65534: "RAW", 512: "PPP", 768: "RAW", 769: "RAW", 776: "RAW", 778: "RAW"}
# How many more names than files a ring has. tcpdump empties the file whose name it comes to again; a supervisor that is no more than so
# many files late has removed it before, with its packets counted.
SPARE = 8
_FILTER_SECONDS = 60  # tcpdump compiles the usual filter in milliseconds
_READY = re.compile(r"^(?:tcpdump: )?listening on .*?, link-type (\w+)", re.MULTILINE)
_COUNTS = re.compile(r"(\d+) packets? (captured|received by filter|dropped by kernel|dropped by interface)")
_NOISE = re.compile(r"listening on |data link type |\d+ packets? |WARNING: |Warning: ")
_FIELDS = {
    "captured": "packets_captured",
    "received by filter": "packets_received",
    "dropped by kernel": "packets_dropped",
    "dropped by interface": "packets_dropped_by_interface",
}


def program() -> str:
    """Return the path of tcpdump on this host. Raise DependencyError."""
    # These folders come first, because sudo may leave root's folders out of PATH. NixOS has tcpdump in none of them.
    path = shutil.which("tcpdump", path=_SEARCH) or shutil.which("tcpdump")
    if path is None:
        raise DependencyError("tcpdump is not installed on the host: install the package tcpdump, or run the role nettap.containers.prepare.")
    return path


def looks_like_any(device: str) -> bool:
    """Return whether tcpdump takes a device for any: it compares three letters only, and then refuses the link type of anycast0."""
    return device.startswith("any") and device != "any"


def link_type(hardware: int | None) -> str | None:
    """Return what tcpdump -y calls the link type of a device with that ARPHRD_ number; None where that is left to tcpdump."""
    return _LINK_TYPES.get(hardware or 0)


def command(tcpdump: str, request: Request, device: str, output: str, buffer_size: int, link_type: str | None = None, left_out: str = "") -> list[str]:
    """Return the argument list for one segment.

    buffer_size is in KiB; link_type is that of link_type(), for a device that looks like any. left_out is a filter of packets not to capture.
    """
    # -Z root: Debian's build drops privileges before it opens the first file of a ring, and then could not write into our folder.
    argv = [tcpdump, "-n", "-i", device, "-s", str(request.snaplen), "-B", str(buffer_size), "-Z", "root"]
    if link_type:
        argv += ["-y", link_type]
    if not request.promiscuous:
        argv.append("-p")
    if request.live:
        argv.append("-U")  # writes each packet at once, at the cost of one write(2) a packet
    if request.packet_count:
        argv += ["-c", str(request.packet_count)]
    if request.file_size:
        argv += ["-C", str(request.file_size), "-W", str(request.file_count + SPARE)]
    argv += ["-w", output]
    expression = request.filter
    if left_out:
        expression = f"({expression}) and not ({left_out})" if expression else f"not ({left_out})"
    # After -- tcpdump takes nothing as an option, whatever the filter holds.
    return [*argv, "--", expression] if expression else argv


def check_filter(tcpdump: str, expression: str, device: str, hardware: int | None) -> None:
    """Compile the filter for the device's link type; hardware is its ARPHRD_ number. Raise CaptureError with tcpdump's message."""
    # Without -y, tcpdump compiles for Ethernet. The device any has the link type LINUX_SLL2 since 4.99, LINUX_SLL before.
    link_types = ["LINUX_SLL2", "LINUX_SLL"] if device == "any" else [link_type(hardware)]
    error = ""
    for name in filter(None, link_types):
        done = _program.run([tcpdump, "-y", name, "-d", "--", expression], CaptureError, _FILTER_SECONDS, "write a simpler filter")
        if done.returncode == 0:
            return
        error = complaint(done.stderr)
        if "invalid data link type" not in error:
            break
    if error:
        raise CaptureError(f"tcpdump does not take the filter {expression!r} on {device}: {error}.")


@dataclasses.dataclass(frozen=True)
class Counts:
    """The counts of one tcpdump; None for those that it has not reported. The received packets include the dropped ones."""

    packets_captured: int | None = None
    packets_received: int | None = None
    packets_dropped: int | None = None
    packets_dropped_by_interface: int | None = None

    def updated(self, newer: Counts) -> Counts:
        """Return these counts, with the newer ones in their place where those are known."""
        return dataclasses.replace(self, **{name: value for name, value in dataclasses.asdict(newer).items() if value is not None})


@dataclasses.dataclass(frozen=True)
class Report:
    """The messages of one tcpdump so far.

    link_type is known once it captures. counts are its newest, answers is how often it has reported any. complaint is its error message.
    """

    link_type: str | None
    counts: Counts
    answers: int
    complaint: str
    interface_gone: bool

    @property
    def ready(self) -> bool:
        """Return whether the socket is open."""
        return self.link_type is not None

    @property
    def arrived(self) -> int:
        """Return how many packets the socket has taken in and not dropped."""
        return (self.counts.packets_received or 0) - (self.counts.packets_dropped or 0)

    @property
    def captured(self) -> int:
        """Return how many of the arrived packets tcpdump has read."""
        return self.counts.packets_captured or 0


def read(path: str) -> Report:
    """Read the log of a tcpdump (its standard error). A missing log counts as empty."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except FileNotFoundError:
        text = ""
    return parse(text)


def parse(text: str) -> Report:
    """Parse the text that a tcpdump has written to its standard error so far."""
    # tcpdump writes an answer piece by piece. A line without its end would give new counts beside old ones.
    text = text[: text.rfind("\n") + 1]
    ready = _READY.search(text)
    found = _COUNTS.findall(text)
    counts = Counts(**{_FIELDS[kind]: int(number) for number, kind in found})  # the last of each kind stays
    answers = sum(kind == "dropped by kernel" for _number, kind in found)
    words = complaint(text)
    return Report(ready[1] if ready else None, counts, answers, words, "interface disappeared" in words or "interface went down" in words)


def complaint(text: str) -> str:
    """Return tcpdump's error message without its name; "" if there is none."""
    lines: t.Iterable[str] = (line.strip() for line in text.splitlines())
    words = [re.sub(r"^tcpdump: (pcap_loop: )?", "", line) for line in lines]
    return "; ".join(word.rstrip(".") for word in words if word and not _NOISE.match(word) and not word.startswith("("))
