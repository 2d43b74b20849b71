# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of engines that are not like the others, each with its own programs; all is removed at the end.

    rootless Docker    a user's, with RootlessKit and slirp4netns, as dockerd-rootless.sh starts it
    nested Docker      dockerd in a PID namespace of its own, as in Docker in Docker and kind
    systemd-nspawn     without systemd-machined, which needs systemd; a test writes what that would have registered
    LXC                lxc-start

The machine must be the tests' own (own_machine.py): rootless Docker, nspawn and LXC have their places on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
import typing as t

import engine as docker_engine
from runtime_labs import SECONDS, Box, Wire, command
from ssh_server import processes_of
from waiting import wait_for

# As dockerd-rootless.sh of moby does, which packages have in various places.
ROOTLESS = ["rootlesskit", "--net=slirp4netns", "--mtu=65520", "--disable-host-loopback", "--copy-up=/etc", "--copy-up=/run", "--propagation=rslave",
            "sh", "-c", 'rm -f /run/docker /run/containerd /run/xtables.lock; exec dockerd "$@"', "sh"]  # fmt: skip
LXC = pathlib.Path("/var/lib/lxc")


class Lab:
    """A folder and what has to be undone."""

    def __init__(self) -> None:
        self.undo = contextlib.ExitStack()
        # The path of a UNIX socket has at most 107 characters, and users without root must come here.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="nettap-lab-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.undo.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        self.undo.close()

    def start(self, *argv: str, **options: t.Any) -> subprocess.Popen[bytes]:
        """Start a program, which is told to end when the lab is closed."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **options)
        self.undo.callback(process.wait, SECONDS)
        self.undo.callback(process.terminate)
        return process

    @property
    def log(self) -> str:
        """What its programs have said."""
        return (self.folder / "log").read_text(errors="replace")

    def root(self, name: str) -> pathlib.Path:
        """Make the root folder of a container."""
        root = pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / name
        with tarfile.open(fileobj=io.BytesIO(docker_engine.root_filesystem())) as tar:
            tar.extractall(root, filter="tar")
        for folder in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"):
            (root / folder).mkdir(exist_ok=True)
        (root / "etc/os-release").write_text("ID=nettap\n")
        return root


class Docker(Lab):
    """A Docker at a socket of its own."""

    address = ""

    def __call__(self, *arguments: str) -> str:
        return command("docker", "--host", self.address, *arguments)

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        asks = ["docker", "--host", self.address, "version"]
        answers = wait_for(lambda: process.poll() is not None or subprocess.run(asks, capture_output=True, check=False).returncode == 0, SECONDS)
        assert answers and process.poll() is None, self.log
        (self.folder / "root.tar").write_bytes(docker_engine.root_filesystem())
        self("import", str(self.folder / "root.tar"), docker_engine.IMAGE)

    def run(self, name: str, *options: str) -> Box:
        """Start a container."""
        identifier = self("run", "--detach", "--name", name, *options, docker_engine.IMAGE, "sleep", "600")
        self.undo.callback(self, "rm", "--force", name)
        return Box("docker", name, identifier, lambda: int(self("inspect", "--format", "{{.State.Pid}}", name)),
                   restart=lambda: self("restart", "--time", "0", name))  # fmt: skip


class RootlessDocker(Docker):
    """A user's, at the place that it has unless it is given another."""

    def __init__(self) -> None:
        super().__init__()
        try:
            self.user = f"nettap-docker{os.getpid()}"
            command("useradd", "--create-home", "--shell", "/bin/sh", self.user)
            self.undo.callback(command, "userdel", "--force", "--remove", self.user)
            self.uid = pwd.getpwnam(self.user).pw_uid
            for option, path in (("--add-subuids", "/etc/subuid"), ("--add-subgids", "/etc/subgid")):
                if f"{self.user}:" not in pathlib.Path(path).read_text():
                    command("usermod", option, "400000-465535", self.user)
            runtime = pathlib.Path(f"/run/user/{self.uid}")
            runtime.mkdir(parents=True, mode=0o700)
            os.chown(runtime, self.uid, self.uid)
            self.undo.callback(shutil.rmtree, runtime, ignore_errors=True)
            self.undo.callback(self._end_user)
            mode = os.stat("/dev/net/tun").st_mode & 0o777
            os.chmod("/dev/net/tun", 0o666)  # as udev has it everywhere
            self.undo.callback(os.chmod, "/dev/net/tun", mode)
            self.address = f"unix://{runtime}/docker.sock"
            environment = {"HOME": pwd.getpwnam(self.user).pw_dir, "XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
            self._await(self.start("setpriv", "--reuid", self.user, "--regid", self.user, "--init-groups", *ROOTLESS, "--storage-driver=vfs",
                                   "--iptables=false", env=environment))  # fmt: skip
        except BaseException:
            self.close()
            raise

    def run(self, name: str, *options: str) -> Box:
        """Start a container on the bridge of the user's own."""
        box = super().run(name, *options)
        box.gateway, box.peer = self("inspect", "--format", "{{.NetworkSettings.Gateway}}", name), False
        return box

    def _end_user(self) -> None:
        for pid in processes_of(self.uid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not processes_of(self.uid), SECONDS)


class NestedDocker(Docker):
    """One that counts processes from its own first one."""

    def __init__(self) -> None:
        super().__init__()
        try:
            self.address = f"unix://{self.folder}/docker.sock"
            (self.folder / "config.json").write_text("{}")
            process = self.start("unshare", "--pid", "--fork", "--mount", "--mount-proc", "dockerd", f"--host={self.address}",
                                 "--bridge=none", f"--config-file={self.folder}/config.json", f"--data-root={self.folder}/data",
                                 f"--exec-root={self.folder}/run", f"--pidfile={self.folder}/pid", "--iptables=false", "--ip-forward=false",
                                 "--storage-driver=vfs")  # fmt: skip
            self.undo.callback(self._end, process)
            self._await(process)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        for pid in children(process.pid):  # dockerd; with it, all in its namespace ends, and then unshare
            os.kill(pid, signal.SIGTERM)
        process.wait(SECONDS)

    def run(self, name: str, *options: str) -> Box:
        """Start a container. Its PID is that on this machine, which its engine does not know."""
        box = super().run(name, "--network", "none", *options)

        def pid() -> int:
            return next(pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if box.id in pathlib.Path(f"/proc/{pid}/cgroup").read_text())

        return dataclasses.replace(box, pid=pid)


class Nspawn(Lab):
    """Machines of systemd-nspawn."""

    def run(self, name: str, number: int, *options: str) -> tuple[Box, subprocess.Popen[bytes]]:
        """Start a machine with a link to the host; give also its supervisor."""
        root = self.root(name)
        wire = Wire(number)
        self.undo.callback(remove_cgroups, "payload", "supervisor")
        process = self.start("systemd-nspawn", "--register=no", "--keep-unit", "--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
                             "--directory", str(root), *options, "sleep", "600")  # fmt: skip

        def pid() -> int:
            return next((child for child in children(process.pid) if pathlib.Path(f"/proc/{child}/comm").read_text() == "sleep\n"), 0)

        assert wait_for(lambda: process.poll() is not None or pid(), SECONDS) and process.poll() is None, self.log
        wire.connect(str(pid()))
        self.undo.callback(wire.remove)
        return Box("nspawn", name, name, pid, wire.gateway, address=wire.address), process


class Lxc(Lab):
    """Containers of LXC, which finds them in a folder of its own choice, as Incus and LXD do."""

    def run(self, name: str, number: int, path: pathlib.Path = LXC) -> Box:
        """Start a container with a link to the host."""
        made = next((folder for folder in [path, *path.parents][::-1] if not folder.exists()), path / name)
        (path / name).mkdir(parents=True)
        self.undo.callback(shutil.rmtree, made)
        (path / name / "config").write_text(
            f"lxc.uts.name = {name}\nlxc.rootfs.path = dir:{self.root(name)}\nlxc.net.0.type = empty\nlxc.init.cmd = /bin/sleep 600\n"
            "lxc.mount.auto = proc:mixed sys:ro\nlxc.apparmor.profile = unconfined\n"
        )
        where = ["--lxcpath", str(path), "--name", name]
        wire = Wire(number)

        def begin() -> None:
            command("lxc-start", *where)
            wire.remove()
            wire.connect(str(pid()))

        def pid() -> int:
            return int(command("lxc-info", *where, "--no-humanize", "--pid"))

        def restart() -> None:
            command("lxc-stop", *where, "--kill")
            begin()

        self.undo.callback(remove_cgroups, "lxc.pivot", f"lxc.monitor.{name}", f"lxc.payload.{name}")
        self.undo.callback(subprocess.run, ["lxc-stop", *where, "--kill"], check=False, capture_output=True)
        self.undo.callback(wire.remove)
        begin()
        return Box("lxc", name, name, pid, wire.gateway, address=wire.address, restart=restart)


def children(pid: int) -> list[int]:
    """The PIDs of the children of a process."""
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def remove_cgroups(*names: str) -> None:
    """Remove cgroups that a program leaves when it ends, in every hierarchy, unless another run uses them."""
    for place in [pathlib.Path("/sys/fs/cgroup"), *pathlib.Path("/sys/fs/cgroup").iterdir()]:
        for name in names:
            with contextlib.suppress(OSError):
                (place / name).rmdir()


def register(name: str, leader: int, unit: str) -> pathlib.Path:
    """Write what systemd-machined would have written about a machine, as recorded of systemd 252."""
    path = pathlib.Path(f"/run/systemd/machines/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    escaped = unit.replace("\\", "\\\\")
    path.write_text(f"# This is private data. Do not parse.\nNAME={name}\nSCOPE={escaped}\nSERVICE=systemd-nspawn\nROOT={json.dumps('/x')[1:-1]}\n"
                    f"ID=5b9f3a4e6d3c4f6f9b1a2c3d4e5f6a7b\nLEADER={leader}\nCLASS=container\nREALTIME=1\nMONOTONIC=1\n")  # fmt: skip
    return path
