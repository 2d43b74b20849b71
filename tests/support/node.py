"""A node with systemd, logind, sshd, Docker, containerd and Podman that runs on this machine's kernel: a managed node without emulation.

    python tests/support/node.py start FOLDER [SUITE]    boot Debian 12 (bookworm), or 11 (bullseye) or 13 (trixie)
    python tests/support/node.py ssh FOLDER [COMMAND…]   a shell in it, or one command
    python tests/support/node.py stop FOLDER             end it

systemd-nspawn runs it, in namespaces of its own: what it mounts, and what it writes over the root filesystem of
tests/support/image.py, is in memory, and its network reaches others through slirp4netns alone. All of it is gone when its first
process is. A reboot inside is one as on any machine, with the same disk: its network and its /run begin anew. See
machine.py for what is in FOLDER. Needs root.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t

import image
from engine import EngineError, command, end_with_parent
from machine import Machine, MachineError, main

# systemd-nspawn keeps its own files there; in the node's mount namespace this is a filesystem in memory.
MEMORY = pathlib.Path("/run/systemd/nspawn")
ROOT = MEMORY / "root"
ADDRESS, GATEWAY = "10.0.2.100/24", "10.0.2.2"  # of slirp4netns(1)
LINK = "tap0"
REBOOT = 133  # systemd-nspawn's exit code when it is asked for another boot (its option --keep-unit)
SECONDS = 10
# Storage drivers lay an overlay, which cannot lie on another one.
STORAGE = ["var/lib/docker", "var/lib/containerd", "var/lib/containers"]
FILES = {
    "etc/systemd/network/node.network": f"[Match]\nName={LINK}\n[Network]\nAddress={ADDRESS}\nGateway={GATEWAY}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    # Where the machine has cgroups of both versions, version 2 is without controllers, and by its default Podman insists on this one.
    "etc/containers/containers.conf": "[containers]\npids_limit = 0\n",
}
# Of /proc/sys, it can write what is of its network, not what is of the whole kernel.
ENVIRONMENT = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}


class Node(Machine):
    """A machine that systemd-nspawn runs."""

    variants = ("bookworm", "bullseye", "trixie")
    connect_seconds = 1  # a connection that came before sshd is answered late

    def program(self, variant: str, port: int) -> list[str]:
        """Return the command line of keep() for a suite."""
        return [sys.executable, __file__, "keep", str(image.build(variant) / "root"), str(self.folder), str(port)]

    def stop(self) -> int:
        """End it, and remove the control group that one leaves that was killed."""
        pid = super().stop()
        if pid:
            remove(cgroup(pid))
        return pid


def cgroup(pid: int) -> pathlib.Path:
    """Return the control group of version 2 for the node whose recorded process is this."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, _dash, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return pathlib.Path(before.split()[4], f"nettap-node-{pid}")
    raise MachineError("There are no control groups of version 2 here: mount them at /sys/fs/cgroup/unified.")


def remove(group: pathlib.Path) -> None:
    """Remove a control group with those below it, as soon as their processes have ended."""
    deadline = time.monotonic() + SECONDS
    while group.exists():
        try:
            for folder, _folders, _files in os.walk(group, topdown=False):
                os.rmdir(folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def keep(root: str, folder: str, port: str) -> None:
    """Run a node until it is shut down, and take away what no namespace takes with it."""
    end_with_parent()
    group = cgroup(os.getppid())
    group.mkdir()
    try:
        # The first process of a PID namespace takes all others with it, and so does the end of the mount namespace with its mounts.
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        subprocess.run(
            [*namespaces, sys.executable, __file__, "boot", root, folder, port],
            check=False, preexec_fn=functools.partial(enter, group),
        )  # fmt: skip
    finally:
        remove(group)


def enter(group: pathlib.Path) -> None:
    """Move this process into a control group, and let it end with its parent."""
    end_with_parent(signal.SIGKILL)
    (group / "cgroup.procs").write_text("0")


def boot(root: str, folder: str, port: str) -> None:
    """Boot a node as often as it asks for it; its root filesystem is that of an image, with what is written kept apart."""
    node = Node(pathlib.Path(folder))
    furnish(root, (node.folder / "key.pub").read_text())
    with node.console.open("wb") as console:
        while boot_once(int(port), console) == REBOOT:
            pass


def furnish(root: str, public_key: str) -> None:
    """Lay the run's files over a root filesystem."""
    MEMORY.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=755", "nettap-node", MEMORY)
    upper, work = MEMORY / "upper", MEMORY / "work"
    for folder in (ROOT, upper, work):
        folder.mkdir()
    mount("-t", "overlay", "-o", f"lowerdir={root},upperdir={upper},workdir={work}", "nettap-node", ROOT)
    for name in STORAGE:
        (MEMORY / name).mkdir(parents=True)
        (ROOT / name).mkdir(parents=True, exist_ok=True)
        mount("--bind", MEMORY / name, ROOT / name)
    home = ROOT / "home" / image.USER
    key = home / ".ssh" / "authorized_keys"
    for file, text in {**{ROOT / name: text for name, text in FILES.items()}, key: public_key}.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path in (key.parent, key):
        shutil.chown(path, home.stat().st_uid, home.stat().st_gid)


def mount(*arguments: str | pathlib.Path) -> None:
    """Run mount(8)."""
    command("mount", *map(str, arguments))


def boot_once(port: int, console: t.IO[bytes]) -> int:
    """Run the node from its boot to its end, in a network of its own; return systemd-nspawn's exit code."""
    network, control = MEMORY / "network", MEMORY / "slirp4netns.sock"
    network.touch()
    command("unshare", f"--net={network}", "true")
    argv = ["slirp4netns", "--disable-host-loopback", f"--api-socket={control}", "--netns-type=path", str(network), LINK]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as way:
        try:
            forward(control, port)
            return subprocess.run(
                [
                    "systemd-nspawn", f"--directory={ROOT}", "--boot", "--register=no", "--keep-unit", "--private-users=no", "--capability=all",
                    "--system-call-filter=bpf keyctl add_key request_key perf_event_open", f"--network-namespace-path={network}",
                    "--bind=/dev/net/tun",  # for containers without root, which have slirp4netns too
                ],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, check=False, env={**os.environ, **ENVIRONMENT},
            ).returncode  # fmt: skip
        finally:
            way.kill()
            command("umount", str(network))
            control.unlink(missing_ok=True)


def forward(control: pathlib.Path, port: int) -> None:
    """Have slirp4netns lead a port of the loopback address to the node's sshd (its man page: API SOCKET)."""
    request = {"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": port, "guest_port": 22}}
    deadline = time.monotonic() + SECONDS
    with socket.socket(socket.AF_UNIX) as connection:
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                connection.connect(str(control))
                break
            if time.monotonic() > deadline:
                raise MachineError("slirp4netns did not come up.")
            time.sleep(0.02)
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = json.loads(connection.recv(4096))
    if "error" in answer:
        raise MachineError(f"slirp4netns does not lead port {port} to the node: {answer['error']}.")


if __name__ == "__main__":
    if sys.argv[1:2] in (["keep"], ["boot"]):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            (keep if sys.argv[1] == "keep" else boot)(*sys.argv[2:])
        except (MachineError, EngineError) as error:
            sys.exit(f"node: {error}")
    else:
        sys.exit(main(Node))
