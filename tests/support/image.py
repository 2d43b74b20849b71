"""Root filesystems of Debian for managed nodes, and a disk with kernels for virtual machines: built once, then kept.

    python tests/support/image.py SUITE…        build those that are missing, and print where they are

An image is a folder of ~/.cache/nettap (or of XDG_CACHE_HOME), named after the digest of what it is made of:

    root/                               the root filesystem, as root; whoever uses it must not write to it
    disk, vmlinuz-6.1, initrd-6.1, …    of suites with KERNELS: the same as an ext4 file (with tcpdump), and what boots it

Building needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

from engine import EngineError, command

USER = "admin"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
# In root/ there is no tcpdump, so that the role `prepare` has something to install.
PACKAGES = [
    "systemd", "systemd-sysv", "libpam-systemd", "dbus", "udev", "procps", "openssh-server", "sudo", "iproute2", "ethtool", "ca-certificates",
    "docker.io", "iptables", "python3", "python3-apt",
]  # fmt: skip
# Further packages of a suite; SUITE/NAME takes it from that suite.
MORE = {
    "bullseye": [],
    "bookworm": [
        "linux-image-cloud-amd64", "initramfs-tools", "kmod", "curl", "python3-docker", "python3-pyroute2",
        # Where the kernel has AppArmor, Docker starts a container only if it can load its profile.
        "apparmor",
        # Its user manager is where a container without root has its cgroup.
        "podman", "netavark", "slirp4netns", "uidmap", "dbus-user-session",
        "suricata/bookworm-backports", "libhtp2/bookworm-backports",
        "tcpdump",  # of the disk: installing it takes the virtual machine as long as half a boot
    ],
    "trixie": ["docker-cli"],
}  # fmt: skip
# Kernels of a suite's image by version; None is the suite's own, a suite's name takes the one that its metapackage names.
KERNELS: dict[str, dict[str, str | None]] = {"bookworm": {"6.1": None, "6.12": "bookworm-backports"}}
# The lists of packages stay in the image: reading them in the virtual machine is slow.
INSTALL = ["--mode=root", "--variant=apt", "--format=directory", "--skip=cleanup/apt/lists"]
DISK_SIZE = "4G"  # a sparse file
SETUP = """#!/bin/sh -eu
sed -n "s/ $2 main/ $2-backports main/p" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"
# An initrd with all drivers takes long to unpack where every instruction is emulated.
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/nettap"
printf '%s\\n' virtio_pci virtio_blk ext4 >"$1/usr/share/initramfs-tools/modules.d/nettap"
"""
# By the name that the metapackage of another suite depends on: two versions of the metapackage cannot both be installed.
FURTHER_KERNEL = """#!/bin/sh -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" DEBIAN_FRONTEND=noninteractive
kernel=$(apt-cache show -t "$2" linux-image-cloud-amd64/"$2" | sed -n 's/^Depends: \\(linux-image-[^ ,]*\\).*/\\1/p' | head -n 1)
apt-get -qq -o DPkg::Chroot-Directory="$1" install "$kernel" >/dev/null
"""
FILES = {
    "etc/hostname": "nettap-node\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 nettap-node\n::1 localhost\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",  # of QEMU's and of slirp4netns' user-mode network
    # No translated descriptions: half of what apt fetches.
    "etc/apt/apt.conf.d/nettap": "Acquire::Languages \"none\";\n",
    # By its driver, so that no link of a container is taken for it.
    "etc/systemd/network/nettap.network": "[Match]\nDriver=virtio_net\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    # The strictest that a managed node can be: no process of a login outlives it.
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
# Only on the disk: of 300 devices, those that a virtual machine's network and disk are made of.
DISK_FILES = {
    "etc/systemd/system/systemd-udev-trigger.service.d/nettap.conf": """[Service]
ExecStart=
ExecStart=udevadm trigger --action=add --subsystem-match=virtio --subsystem-match=net --subsystem-match=block
""",
}
CUSTOMISE = f"""
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
useradd --create-home --shell /bin/bash --password '*' {USER}
systemctl --quiet enable systemd-networkd
if [ -e /lib/systemd/system/suricata.service ]; then systemctl --quiet disable suricata; fi
apt-cache gencaches
# They would take apt's lock from a play.
systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer
"""


def cache() -> pathlib.Path:
    """Return the folder that holds the images (XDG Base Directory Specification)."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "nettap"


def build(suite: str) -> pathlib.Path:
    """Return the folder of a suite's image; make it where none of these inputs is there."""
    kernels = KERNELS.get(suite, {})
    packages = [*PACKAGES, *MORE[suite]]
    inputs = json.dumps([suite, packages, kernels, DISK_SIZE, SETUP, FURTHER_KERNEL, FILES, kernels and DISK_FILES, CUSTOMISE, INSTALL])
    image = cache() / f"{suite}-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if image.exists():
            return image
        if os.geteuid() != 0:
            raise EngineError(f"Building the image of {suite} needs root.")
        # Ours alone while the lock is held: images of other inputs, and what a killed build has left.
        for old in cache().glob(f"{suite}-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(prefix=f"{suite}-building-", dir=cache()) as folder:
            new = pathlib.Path(folder, "image")
            new.mkdir()
            populate(suite, packages, kernels, new)
            new.rename(image)
    return image


def populate(suite: str, packages: list[str], kernels: dict[str, str | None], image: pathlib.Path) -> None:
    """Install a suite in the folder image, and take disk, kernels and initrds from it."""
    root = image / "root"
    setup, further = script(image / "setup", SETUP), script(image / "further-kernel", FURTHER_KERNEL)
    hooks = [f'--setup-hook={setup} "$1" {suite}'] if kernels else []
    hooks += [f'--customize-hook={further} "$1" {source}' for source in kernels.values() if source]
    command("mmdebstrap", *INSTALL, f"--include={','.join(packages)}", *hooks, suite, str(root))
    for hook in (setup, further):
        hook.unlink()
    write(root, FILES)
    command("chroot", str(root), "/bin/sh", "-euc", CUSTOMISE)
    if kernels:
        for version in kernels:
            for name in ("vmlinuz", "initrd.img"):
                (file,) = (root / "boot").glob(f"{name}-{version}.*")
                shutil.move(file, image / f"{name.removesuffix('.img')}-{version}")
        write(root, DISK_FILES)
        command("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", str(root), str(image / "disk"), DISK_SIZE)
        for path in DISK_FILES:
            (root / path).unlink()
        command("chroot", str(root), "/bin/sh", "-euc", "dpkg --purge tcpdump; apt-cache gencaches")


def write(root: pathlib.Path, files: dict[str, str]) -> None:
    """Write files below root."""
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        file.write_text(text)
        file.chmod(0o440 if "sudoers" in path else 0o644)


def script(path: pathlib.Path, text: str) -> pathlib.Path:
    """Write a program and return its path."""
    path.write_text(text)
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:]:
            print(build(wanted))
    except EngineError as error:
        sys.exit(f"image: {error}")
