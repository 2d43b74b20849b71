"""Run the tiers of `make test`: those that can side by side, all of them even when one fails; the last lines tell which did.

    python scripts/tiers.py [TIER…]        all of them, or only those named

Each tier is a target of the Makefile. Its lines come as they are printed, with the tier's name before them, and are kept in
.build/log/TIER. The exit code is 0 only if every tier passed.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOG = ROOT / ".build/log"
# Without what the make that runs this tells the ones below it: they are none of its jobs.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}

# One after another; of each the lanes side by side; in each lane one tier after another. The integration tests keep one core busy
# and wait much, and so do the machines of the other lane. What measures gaps comes last, with nothing beside it.
PLAN: list[list[list[str]]] = [
    [["integration"], ["unit", "lint", "sanity", "molecule", "node", "distributions", "vm"]],
    [["measured"]],
]


class Tier:
    """One target: how long it took, how much processor time, and how it ended."""

    def __init__(self, name: str, width: int) -> None:
        self.name = name
        self.seconds = self.processor = 0.0
        self.code: int | None = None
        self._prefix = f"{name:{width}} | "
        self._last: collections.deque[str] = collections.deque(maxlen=15)
        self._failures: list[str] = []

    def run(self, running: dict[str, subprocess.Popen[str]], ending: threading.Event) -> None:
        """Run it to its end; while it runs, its process is in running. If ending is set as it starts, end it at once."""
        begun = time.monotonic()
        with (LOG / self.name).open("w", buffering=1) as log:
            # A group of its own: whoever ends this run ends make and all that it has started.
            with subprocess.Popen(["make", "--no-print-directory", self.name], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True, env=ENVIRONMENT) as process:  # fmt: skip
                running[self.name] = process
                if ending.is_set():  # the signal came before this process could be found
                    os.killpg(process.pid, signal.SIGTERM)
                assert process.stdout
                for line in process.stdout:
                    log.write(line)
                    self._last.append(line)
                    if line.startswith(("FAILED ", "ERROR ")):  # as pytest's summary names each test
                        self._failures.append(line)
                    print(self._prefix + line, end="", flush=True)
                # Of make and of all below it that was waited for: not of what became a daemon, such as QEMU.
                _pid, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            del running[self.name]
        self.code, self.seconds, self.processor = process.returncode, time.monotonic() - begun, used.ru_utime + used.ru_stime

    @property
    def verdict(self) -> str:
        """A line that tells how it ended."""
        how = {0: "passed", None: "not run"}.get(self.code, "FAILED")
        return f"{self._prefix}{how}" + (f" in {minutes(self.seconds)}, {minutes(self.processor)} of processor time" if self.code is not None else "")

    @property
    def reasons(self) -> str:
        """What a person needs to know of a failure who has only the last lines of the output: the tests, else the tier's own last lines."""
        return "".join(self._prefix + line for line in self._failures[:20] or self._last)


def minutes(seconds: float) -> str:
    """Write a time as a person reads it."""
    return f"{round(seconds) // 60} min {round(seconds) % 60:02} s"


def main(wanted: list[str]) -> int:
    """Run the tiers; return the exit code."""
    names = [name for lanes in PLAN for lane in lanes for name in lane]
    if unknown := sorted(set(wanted) - set(names)):
        raise SystemExit(f"tiers: there is no {', '.join(unknown)} (there are: {', '.join(names)})")
    tiers = {name: Tier(name, max(map(len, names))) for name in names if not wanted or name in wanted}
    LOG.mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[str]] = {}
    ending = threading.Event()

    def end(number: int, _frame: object) -> None:
        ending.set()
        for process in list(running.values()):
            with contextlib.suppress(ProcessLookupError):  # it has just ended; the others must be told all the same
                os.killpg(process.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)

    def run(lane: list[str]) -> None:
        for name in lane:
            if name in tiers and not ending.is_set():
                tiers[name].run(running, ending)

    begun = time.monotonic()
    for lanes in PLAN:
        threads = [threading.Thread(target=run, args=[lane]) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    failed = [tier for tier in tiers.values() if tier.code != 0]
    print(f"\n{'':=<80}", *(tier.verdict for tier in tiers.values()), sep="\n")
    for tier in failed:
        print(tier.reasons, end="")
        print(f"{tier.name} failed: its output is in {LOG.relative_to(ROOT) / tier.name}, and its tests alone are run by `make {tier.name}`")
    print(f"All in {minutes(time.monotonic() - begun)}")
    print(f"Tiers: {len(tiers) - len(failed)} passed, {len(failed)} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
