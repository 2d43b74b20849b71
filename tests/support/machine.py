"""A managed node for tests, reached by ssh. What runs it is told by vm.py and node.py; both are used in one way:

    python tests/… start FOLDER [VARIANT]     boot it
    python tests/… ssh FOLDER [COMMAND…]      a shell in it, or one command
    python tests/… stop FOLDER                end it

FOLDER gets what a run of its own has: the login user's key, `known_hosts`, the `port` of sshd on the loopback address
and the logs.
"""

from __future__ import annotations

import abc
import contextlib
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tarfile
import time
import typing as t

from engine import IMAGE, EngineError, command, root_filesystem
from image import USER

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where Python finds the collection with PYTHONPATH=/opt/nettap.
CHECKOUT = "/opt/nettap/ansible_collections/nettap/containers"
LIFETIME = "60m"  # after which a machine is ended that nobody has stopped
BOOT_SECONDS = 600
STOP_SECONDS = 15


class MachineError(Exception):
    """What keeps a machine from running, in one sentence and the log's own words."""


class Machine(abc.ABC):
    """One machine and the folder of its run."""

    variants: t.Sequence[str]  # of which the first is started where none is named
    without_engine: t.Collection[str] = ()  # variants in which Docker does not run
    connect_seconds = 10  # for which ssh waits for an answer before it is asked again

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder.absolute()
        self.console = self.folder / "console.log"
        self._pid_file = self.folder / "pid"
        self._log = self.folder / "machine.log"

    @abc.abstractmethod
    def program(self, variant: str, port: int) -> list[str]:
        """Return the command line that runs a variant with its sshd at a port of the loopback address until SIGTERM; build what it needs."""

    def start(self, variant: str) -> None:
        """Boot a variant; return when all its services are up, its Docker engine, if any, has the image nettap/test, and CHECKOUT is there."""
        self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", USER, "-f", str(self.folder / "key"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (self.folder / "port").write_text(f"{port}\n")
        try:
            self._wait_for(self._run(self.program(variant, port)))
            if variant not in self.without_engine:
                serve = 'CMD ["httpd", "-f", "-p", "80", "-h", "/www"]'
                self._give(f"sudo docker import --change '{serve}' - {IMAGE}", root_filesystem())
            self._give(f"sudo mkdir -p {CHECKOUT} && sudo tar -C {CHECKOUT} -x", checkout())
        except BaseException:
            self.stop()
            raise

    def _run(self, argv: list[str]) -> subprocess.Popen:
        """Start the program, in a session of its own: it outlives whoever starts it, and its process group is it and nothing else."""
        with self._log.open("wb") as log:
            process = subprocess.Popen(["timeout", "--kill-after=10", LIFETIME, *argv],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # fmt: skip
        self._pid_file.write_text(json.dumps([process.pid, start_time(process.pid)]))
        return process

    def _wait_for(self, process: subprocess.Popen) -> None:
        """Return when all services are up; raise with the end of the console's log when that fails or takes too long."""
        deadline = time.monotonic() + BOOT_SECONDS
        state = "it did not answer"
        while process.poll() is None and time.monotonic() < deadline:
            # It waits for the end of the boot, so its time is limited by ours.
            with contextlib.suppress(subprocess.TimeoutExpired):
                answer = subprocess.run(
                    self.ssh("systemctl is-system-running --wait; systemctl list-units --failed --plain --no-legend"),
                    stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=max(1, deadline - time.monotonic()),
                )  # fmt: skip
                if answer.stdout.startswith("running"):
                    return
                state = answer.stdout.strip() or answer.stderr.strip() or state
                if answer.stdout.startswith("degraded"):
                    break
            time.sleep(0.2)
        if process.poll() is not None:
            state = f"its program ended: {self._log.read_text(errors='replace').strip()}"
        with contextlib.suppress(FileNotFoundError):
            tail = self.console.read_text(errors="replace").splitlines()[-30:]
            state += f"\nThe end of {self.console}:\n" + "\n".join(tail)
        raise MachineError(f"The machine did not come up: {state}")

    def ssh(self, *words: str) -> list[str]:
        """The command line of ssh(1) that logs in, for a shell or for a command."""
        return [
            "ssh", "-F", "none", "-i", str(self.folder / "key"), "-p", (self.folder / "port").read_text().strip(),
            "-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR",
            "-o", "BatchMode=yes", "-o", f"ConnectTimeout={self.connect_seconds}", f"{USER}@127.0.0.1", *words,
        ]  # fmt: skip

    def _give(self, words: str, given: bytes) -> None:
        """Run a command in the machine, with something to read."""
        done = subprocess.run(self.ssh(words), input=given, capture_output=True, check=False)
        if done.returncode != 0:
            raise MachineError(f"{words}: {done.stderr.decode(errors='replace').strip()}")

    def stop(self) -> int:
        """End the process that start() has started, and no other; leave nothing of the run but its logs. Return the PID that it had, or 0."""
        try:
            pid, started = json.loads(self._pid_file.read_text())
        except FileNotFoundError:
            pid, started = 0, None
        if pid and start_time(pid) == started:
            os.kill(pid, signal.SIGTERM)  # timeout(1) passes it on
            deadline = time.monotonic() + STOP_SECONDS
            while start_time(pid) == started and time.monotonic() < deadline:
                time.sleep(0.1)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        for name in ("key", "key.pub", "known_hosts", "port", "pid"):
            (self.folder / name).unlink(missing_ok=True)
        return pid


def checkout() -> bytes:
    """Return an archive of plugins and tests of this checkout: what tests run in the machine itself."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("plugins", "tests"):
            tar.add(ROOT / name, name, filter=lambda one: None if one.name.endswith("__pycache__") else one)
    return archive.getvalue()


def start_time(pid: int) -> str | None:
    """When a process was started, in clock ticks since the boot (proc(5), field 22 of stat); None when it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def main(kind: t.Callable[[pathlib.Path], Machine]) -> int:
    """Do what the command line says; return the exit code."""
    # Molecule ends its steps with it: what was begun is taken away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    program, action, folder, *more = sys.argv if len(sys.argv) > 2 else [sys.argv[0], "", ""]
    machine = kind(pathlib.Path(folder))
    try:
        if action == "ssh":
            return subprocess.call(machine.ssh(*more))
        if action == "start" and (not more or more in [[variant] for variant in machine.variants]):
            machine.start(*more or [machine.variants[0]])
        elif action == "stop" and not more:
            machine.stop()
        else:
            print(f"usage: python {program} start FOLDER [{'|'.join(machine.variants)}], ssh FOLDER [COMMAND...], or stop FOLDER", file=sys.stderr)
            return 2
    except (MachineError, EngineError) as error:
        print(f"{pathlib.Path(program).stem}: {error}", file=sys.stderr)
        return 1
    return 0
