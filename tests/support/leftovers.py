"""What tests can leave behind on a machine, to be compared before and after."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import subprocess

STATE = ("/var/lib/nettap", "/run/nettap")


def scan(run: str) -> set[str]:
    """Return a line for each namespace, link, mount, user and file that a test could have made, and for each
    process that has this run's id in its environment (whatever its name, session or parent may be)."""
    mounts = {line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()}
    return {
        *(f"network namespace {name}" for name in names_in("/run/netns")),
        *(f"link {name}" for name in names_in("/sys/class/net")),
        # ip(8) makes that one with a machine's first namespace, for good.
        *(f"mount {path}" for path in mounts - {"/run/netns"}),
        *(f"user {user.pw_name}" for user in pwd.getpwall()),
        *(f"sudo rule {name}" for name in names_in("/etc/sudoers.d")),
        *(f"file {folder}/{name}" for top in STATE for folder, folders, files in os.walk(top) for name in files),
        *(f"process {line}" for line in processes_of_run(run)),
        *(f"packet filter {line}" for line in packet_filter()),
    }


def names_in(folder: str) -> list[str]:
    """Return the names in a folder, none if there is no such folder."""
    return os.listdir(folder) if os.path.isdir(folder) else []


def processes_of_run(run: str) -> list[str]:
    """Return "PID COMMAND LINE" of the processes that were started by this run."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        # A process can end between these lines.
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                if f"NETTAP_TEST_RUN={run}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if arguments:  # a zombie has none
                        found.append(f"{entry.name} {arguments.strip()}")
    return found


def packet_filter() -> list[str]:
    """Return the chains and rules of iptables, without counters and comments; an empty chain that lets all pass is as none."""
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    return [line.split(" [")[0] for line in saved.splitlines() if line[:1] == "-" or (line[:1] == ":" and " ACCEPT [" not in line)]
