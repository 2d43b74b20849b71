"""A virtual machine with systemd, sshd, Docker, containerd, Podman and a stock kernel: a managed node as in the field, on any Linux machine.

    python tests/vm.py start FOLDER              build the image, if need be, and boot it
    python tests/vm.py ssh FOLDER [COMMAND…]     a shell in it, or one command
    python tests/vm.py stop FOLDER               end it
    python tests/vm.py build                     only build the image, and tell where it is

FOLDER gets what a run of its own has: the login user's key, `known_hosts`, the `port` of sshd on the loopback address
and the console's log. The disk is never written to: what a run changes is gone with it. Building needs root. KVM is
used only where NETTAP_VM_KVM=1 asks for it: /dev/kvm can exist and hang a guest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

from engine import IMAGE, EngineError, command, root_filesystem

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Where Python finds the collection with PYTHONPATH=/opt/nettap.
CHECKOUT = "/opt/nettap/ansible_collections/nettap/containers"
USER = "admin"
SUITE = "bookworm"
# Not tcpdump, so that the role `prepare` has something to install; its libraries would take two minutes here.
PACKAGES = [
    "linux-image-cloud-amd64", "initramfs-tools", "kmod", "systemd", "systemd-sysv", "libpam-systemd", "dbus", "udev", "procps",
    # Where the kernel has AppArmor, Docker starts a container only if it can load its profile.
    "apparmor", "docker.io", "iptables",
    # Its user manager is where a container without root has its cgroup.
    "podman", "netavark", "slirp4netns", "uidmap", "dbus-user-session",
    "openssh-server", "sudo", "iproute2", "ethtool", "curl", "ca-certificates",
    "python3", "python3-apt", "python3-docker", "python3-pyroute2",
    f"suricata/{SUITE}-backports", f"libhtp2/{SUITE}-backports",
]  # fmt: skip
# The lists of packages stay in the image: reading them in the machine is slow.
INSTALL = ["--mode=root", "--variant=apt", "--format=directory", "--skip=cleanup/apt/lists"]
DISK_SIZE = "4G"  # a sparse file
SETUP = f"""#!/bin/sh -eu
sed -n 's/ {SUITE} main/ {SUITE}-backports main/p' "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"
# An initrd with all drivers takes long to unpack where every instruction is emulated.
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/nettap"
printf '%s\\n' virtio_pci virtio_blk ext4 >"$1/usr/share/initramfs-tools/modules.d/nettap"
"""
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
FILES = {
    "etc/hostname": "nettap-vm\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 nettap-vm\n::1 localhost\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",  # QEMU's own
    # No translated descriptions: half of what apt fetches.
    "etc/apt/apt.conf.d/nettap": "Acquire::Languages \"none\";\n",
    # By its driver, so that no link of a container is taken for it.
    "etc/systemd/network/nettap.network": "[Match]\nDriver=virtio_net\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    # The strictest that a managed node can be: no process of a login's outlives it.
    "etc/systemd/logind.conf.d/nettap.conf": "[Login]\nKillUserProcesses=yes\n",
    f"etc/sudoers.d/{USER}": f"Defaults use_pty\n{USER} ALL=(ALL) NOPASSWD: ALL\n",
    # The image holds no key: sshd's is made at the first boot, the user's comes with the machine (see tmpfiles.d(5) for `^`).
    "etc/ssh/sshd_config.d/nettap.conf": f"HostKey {HOST_KEY}\nPasswordAuthentication no\n",
    "etc/systemd/system/ssh.service.d/nettap.conf": f"""[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'test -s {HOST_KEY} || ssh-keygen -q -t ed25519 -N "" -f {HOST_KEY}'
ExecStartPre=/usr/sbin/sshd -t
""",
    "etc/tmpfiles.d/nettap.conf": f"""d /home/{USER}/.ssh 0700 {USER} {USER}
f^ /home/{USER}/.ssh/authorized_keys 0600 {USER} {USER} - ssh.key
""",
    "etc/systemd/system/systemd-tmpfiles-setup.service.d/nettap.conf": "[Service]\nLoadCredential=ssh.key\n",
}
CUSTOMISE = f"""
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
useradd --create-home --shell /bin/bash --password '*' {USER}
systemctl --quiet enable systemd-networkd
systemctl --quiet disable suricata
apt-cache gencaches
# They would take apt's lock from a play.
systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer
"""
LIFETIME = "60m"  # after which a machine is ended that nobody has stopped
# Suricata's libraries want SSE 4.2.
CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
BOOT_SECONDS = 600
STOP_SECONDS = 15


class VMError(Exception):
    """What keeps the machine from running, in one sentence and the log's own words."""


def cache() -> pathlib.Path:
    """The folder that holds the images (XDG Base Directory Specification)."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "nettap"


def build() -> pathlib.Path:
    """Return the folder with `disk`, `kernel` and `initrd`; make it where no image of these inputs is there."""
    inputs = json.dumps([SUITE, PACKAGES, DISK_SIZE, SETUP, FILES, CUSTOMISE, INSTALL])
    image = cache() / f"vm-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "vm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if image.exists():
            return image
        if os.geteuid() != 0:
            raise VMError("Building the image of the virtual machine needs root.")
        # Ours alone while the lock is held: images of other inputs, and what a killed build has left.
        for old in cache().glob("vm-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(prefix="vm-building-", dir=cache()) as folder:
            new = pathlib.Path(folder, "image")
            new.mkdir()
            populate(pathlib.Path(folder, "root"), new)
            new.rename(image)
    return image


def populate(root: pathlib.Path, image: pathlib.Path) -> None:
    """Install the system below root, and make disk, kernel and initrd of it in the folder image."""
    hook = image / "setup"
    hook.write_text(SETUP)
    hook.chmod(0o755)
    command(
        "mmdebstrap", *INSTALL, f"--include={','.join(PACKAGES)}", f"--setup-hook={hook}", SUITE, str(root),
    )  # fmt: skip
    hook.unlink()
    for path, text in FILES.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(0o440 if "sudoers" in path else 0o644)
    command("chroot", str(root), "/bin/sh", "-euc", CUSTOMISE)
    for name, pattern in {"kernel": "vmlinuz-*", "initrd": "initrd.img-*"}.items():
        (file,) = (root / "boot").glob(pattern)
        file.rename(image / name)
    command("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", str(root), str(image / "disk"), DISK_SIZE)


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

    def start(self) -> None:
        """Boot it; return when all its services are up, its Docker engine has the image nettap/test, and CHECKOUT is there."""
        image = build()
        self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", USER, "-f", str(self.folder / "key"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (self.folder / "port").write_text(f"{port}\n")
        try:
            process = self._boot(image, port)
            self._wait_for(process)
            serve = 'CMD ["httpd", "-f", "-p", "80", "-h", "/www"]'
            self._run(f"sudo docker import --change '{serve}' - {IMAGE}", root_filesystem())
            self._run(f"sudo mkdir -p {CHECKOUT} && sudo tar -C {CHECKOUT} -x", checkout())
        except BaseException:
            self.stop()
            raise

    def _boot(self, image: pathlib.Path, port: int) -> subprocess.Popen:
        kvm = os.environ.get("NETTAP_VM_KVM") == "1"
        public = (self.folder / "key.pub").read_text().strip()
        argv = [
            "timeout", "--kill-after=10", LIFETIME,
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            *(["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", CPU]), "-smp", "2", "-m", "2048",
            "-kernel", str(image / "kernel"), "-initrd", str(image / "initrd"),
            # Nobody attacks it, and what guards the kernel against its processes costs time.
            "-append", "console=ttyS0 root=/dev/vda rw net.ifnames=0 mitigations=off",
            # What is written goes to a file without a name, which is gone with the process. Nothing needs to survive a crash.
            "-drive", f"if=virtio,format=raw,snapshot=on,cache=unsafe,file={str(image / 'disk').replace(',', ',,')}",
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
    if arguments == ["build"]:
        print(build())
        return 0
    if len(arguments) < 2 or arguments[0] not in ("start", "ssh", "stop") or (arguments[0] != "ssh" and len(arguments) > 2):
        print(re.sub(r"^ {4}", "usage: ", "\n".join((__doc__ or "").splitlines()[2:6])), file=sys.stderr)
        return 2
    machine = Machine(pathlib.Path(arguments[1]))
    if arguments[0] == "ssh":
        return subprocess.call(machine.ssh(*arguments[2:]))
    if arguments[0] == "start":
        machine.start()
    else:
        machine.stop()
    return 0


if __name__ == "__main__":
    # Molecule ends its steps with it: what was begun is taken away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(main(sys.argv[1:]))
    except (VMError, EngineError) as error:
        sys.exit(f"vm: {error}")
