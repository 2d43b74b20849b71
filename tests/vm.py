"""A virtual machine with systemd, sshd, Docker, containerd, Podman and a stock kernel: a managed node as in the field, on any Linux machine.

    python tests/vm.py start FOLDER [KERNEL]     boot it with the kernel 6.1 of Debian 12, or with its backports' 6.12
    python tests/vm.py ssh FOLDER [COMMAND…]     a shell in it, or one command
    python tests/vm.py stop FOLDER               end it

FOLDER gets what a run of its own has: the login user's key, `known_hosts`, the `port` of sshd on the loopback address
and the console's log. The disk (of tests/image.py) is never written to: what a run changes is gone with it. KVM is
used only where NETTAP_VM_KVM=1 asks for it: /dev/kvm can exist and hang a guest.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time

import image
from engine import IMAGE, EngineError, command, root_filesystem
from image import USER

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Where Python finds the collection with PYTHONPATH=/opt/nettap.
CHECKOUT = "/opt/nettap/ansible_collections/nettap/containers"
SUITE = "bookworm"
LIFETIME = "60m"  # after which a machine is ended that nobody has stopped
# Suricata's libraries want SSE 4.2.
CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
BOOT_SECONDS = 600
STOP_SECONDS = 15


class VMError(Exception):
    """What keeps the machine from running, in one sentence and the log's own words."""


def checkout() -> bytes:
    """Return an archive of plugins and tests of this checkout: what tests run in the machine itself."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("plugins", "tests"):
            tar.add(ROOT / name, name, filter=lambda one: None if one.name.endswith("__pycache__") else one)
    return archive.getvalue()


class Machine:
    """One machine and the folder of its run."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder.absolute()
        self._pid_file = self.folder / "pid"
        self._console = self.folder / "console.log"
        self._log = self.folder / "qemu.log"

    def start(self, kernel: str) -> None:
        """Boot it with a kernel of its image; return when all its services are up, its Docker engine has the image nettap/test, and CHECKOUT is there."""
        files = image.build(SUITE)
        self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", USER, "-f", str(self.folder / "key"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (self.folder / "port").write_text(f"{port}\n")
        try:
            process = self._boot(files, kernel, port)
            self._wait_for(process)
            serve = 'CMD ["httpd", "-f", "-p", "80", "-h", "/www"]'
            self._run(f"sudo docker import --change '{serve}' - {IMAGE}", root_filesystem())
            self._run(f"sudo mkdir -p {CHECKOUT} && sudo tar -C {CHECKOUT} -x", checkout())
        except BaseException:
            self.stop()
            raise

    def _boot(self, files: pathlib.Path, kernel: str, port: int) -> subprocess.Popen:
        kvm = os.environ.get("NETTAP_VM_KVM") == "1"
        public = (self.folder / "key.pub").read_text().strip()
        argv = [
            "timeout", "--kill-after=10", LIFETIME,
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            *(["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", CPU]), "-smp", "2", "-m", "2048",
            "-kernel", str(files / f"vmlinuz-{kernel}"), "-initrd", str(files / f"initrd-{kernel}"),
            # Nobody attacks it, and what guards the kernel against its processes costs time.
            "-append", "console=ttyS0 root=/dev/vda rw net.ifnames=0 mitigations=off",
            # What is written goes to a file without a name, which is gone with the process. Nothing needs to survive a crash.
            "-drive", f"if=virtio,format=raw,snapshot=on,cache=unsafe,file={str(files / 'disk').replace(',', ',,')}",
            "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-rng-pci",
            "-smbios", f"type=11,value=io.systemd.credential:ssh.key={public}",
            "-serial", f"file:{self._console}",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            # A session of its own: it outlives whoever starts it, and its process group is it and nothing else.
            try:
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            except FileNotFoundError as error:
                raise VMError(f"There is no {error.filename} here: run `make deps`.") from None
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
            time.sleep(1)
        if process.poll() is not None:
            state = f"QEMU ended: {self._log.read_text(errors='replace').strip()}"
        with contextlib.suppress(FileNotFoundError):
            tail = self._console.read_text(errors="replace").splitlines()[-30:]
            state += f"\nThe end of {self._console}:\n" + "\n".join(tail)
        raise VMError(f"The virtual machine did not come up: {state}")

    def ssh(self, *words: str) -> list[str]:
        """The command line of ssh(1) that logs in, for a shell or for a command."""
        return [
            "ssh", "-F", "none", "-i", str(self.folder / "key"), "-p", (self.folder / "port").read_text().strip(),
            "-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR",
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", f"{USER}@127.0.0.1", *words,
        ]  # fmt: skip

    def _run(self, words: str, given: bytes) -> None:
        """Run a command in the machine, with something to read."""
        done = subprocess.run(self.ssh(words), input=given, capture_output=True, check=False)
        if done.returncode != 0:
            raise VMError(f"{words}: {done.stderr.decode(errors='replace').strip()}")

    def stop(self) -> None:
        """End the process that start() has started, and no other; leave nothing of the run but its logs."""
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


def start_time(pid: int) -> str | None:
    """When a process was started, in clock ticks since the boot (proc(5), field 22 of stat); None when it has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    action, folder, *more = arguments if len(arguments) > 1 else ("", "")
    machine = Machine(pathlib.Path(folder))
    if action == "ssh":
        return subprocess.call(machine.ssh(*more))
    if action == "start" and (not more or more in [[kernel] for kernel in image.KERNELS[SUITE]]):
        machine.start(*more or ["6.1"])
    elif action == "stop" and not more:
        machine.stop()
    else:
        print(re.sub(r"^ {4}", "usage: ", "\n".join((__doc__ or "").splitlines()[2:5])), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    # Molecule ends its steps with it: what was begun is taken away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(main(sys.argv[1:]))
    except (VMError, EngineError) as error:
        sys.exit(f"vm: {error}")
