"""A machine of its own for a run of tests, on this kernel: network, processes, mounts, users and state of no other run.

    python tests/support/own_machine.py ARGUMENT…        runs `python ARGUMENT…` there, as `make integration` has each worker of pytest run

Tests look at all of a machine: its links, processes, packet filter and users, /run, /var/lib/nettap. Runs side by side would take
each other's for their own. Here each has a network namespace, a PID namespace whose end ends whatever a test has started, an empty
/run, /tmp and state, and /etc and /home to which only it writes. The kernel, its modules and the cgroups are everybody's.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import engine

ROOT = pathlib.Path(__file__).resolve().parents[2]
# linux/sched.h
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

# The folder with what is mounted is in the last.
EMPTY = ("/tmp", "/var/lib/nettap", "/var/lib/containers", "/var/lib/containerd", "/var/tmp")
CHANGED = ("/etc", "/home")  # as they are, with what is written kept apart
# Whoever starts workers makes it later than they start.
PYTEST = pathlib.Path("/tmp/pytest-of-root")


def main(arguments: list[str]) -> int:
    """Run Python with the arguments in a machine of its own; return its exit code."""
    with tempfile.TemporaryDirectory(prefix="nettap-machine-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        unshare(CLONE_NEWPID)
        # The first process of the new PID namespace: with it, all others end.
        first = os.fork()
        if first == 0:
            engine.end_with_parent(signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)
            furnish(pathlib.Path(folder))
            os._exit(run([sys.executable, *arguments]))
        try:
            return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
        except SystemExit:  # told to end: nothing of the machine must use the folder any more
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
            raise


def unshare(kinds: int) -> None:
    """Leave the namespaces of these kinds for new ones (unshare(2))."""
    if LIBC.unshare(kinds):
        raise OSError(ctypes.get_errno(), "no namespaces of its own: own_machine.py needs root")


def furnish(folder: pathlib.Path) -> None:
    """Make what the machine has for itself: /proc and /sys of its namespaces, its folders, its loopback link."""
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    # A new one shows the links of this namespace; the cgroups below it stay what they are.
    cgroups = folder / "cgroup"
    cgroups.mkdir()
    mount("--rbind", "/sys/fs/cgroup", str(cgroups))
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("--rbind", str(cgroups), "/sys/fs/cgroup")

    written = folder / "written"
    written.mkdir()
    mount("-t", "tmpfs", "tmpfs", str(written))  # where / is an overlay itself, another one cannot be written to it
    for path in CHANGED:
        upper, work = written / f"upper{path}", written / f"work{path}"
        for new in (upper, work):
            new.mkdir(parents=True)
        mount("-t", "overlay", "-o", f"lowerdir={path},upperdir={upper},workdir={work}", "overlay", path)
    PYTEST.mkdir(0o700, exist_ok=True)
    for path in EMPTY:
        empty = folder / f"empty{path}"
        empty.mkdir(parents=True)
        if path.endswith("/tmp"):
            empty.chmod(0o1777)
        # What the run itself is may lie there: this checkout, its Python, the folder that pytest gives to its workers.
        for needed in dict.fromkeys([str(ROOT), sys.prefix, sys.base_prefix, str(PYTEST)]):
            if needed.startswith(f"{path}/") and os.path.isdir(needed):
                (folder / f"empty{needed}").mkdir(parents=True, exist_ok=True)
                mount("--rbind", needed, str(folder / f"empty{needed}"))
        os.makedirs(path, exist_ok=True)
    for path in EMPTY:
        mount("--rbind", str(folder / f"empty{path}"), path)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    engine.ip("link", "set", "lo", "up")


def mount(*arguments: str) -> None:
    """Run mount(8)."""
    engine.command("mount", *arguments)


def run(argv: list[str]) -> int:
    """Run a program as the first process of a PID namespace must: whatever has lost its parent is waited for; return the exit code."""
    with subprocess.Popen(argv) as program:
        while True:
            pid, status = os.wait()
            if pid == program.pid:
                program.returncode = os.waitstatus_to_exitcode(status)
                return program.returncode if program.returncode >= 0 else 128 - program.returncode


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
