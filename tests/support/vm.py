"""A virtual machine with systemd, sshd and a stock kernel: a managed node as in the field, on any Linux machine.

    python tests/support/vm.py start FOLDER [KERNEL]     boot it with the kernel 6.1 of Debian 12, or, without Docker, with its backports' 6.12
    python tests/support/vm.py ssh FOLDER [COMMAND…]     a shell in it, or one command
    python tests/support/vm.py stop FOLDER               end it

The disk (of tests/support/image.py) is never written to: what a run changes is gone with it. KVM is used only where
NETTAP_VM_KVM=1 asks for it: /dev/kvm can exist and hang a guest. See machine.py for what is in FOLDER.
"""

from __future__ import annotations

import os
import sys

import image
from machine import Machine, main

SUITE = "bookworm"
# With cmpxchg16b, which QEMU 7.2 emulates wrongly (it clobbers the flags), two of three boots of 6.12 end in a panic.
CPU = "qemu64,-cx16"
KERNEL_LINE = [
    "console=ttyS0", "root=/dev/vda", "rw", "net.ifnames=0",
    # Nobody attacks it, and what guards the kernel against its processes costs time.
    "mitigations=off",
    # Where the machine that emulates is busy, the kernel would take its clock for a bad one, and use one that is slow to read.
    "tsc=reliable",
    # Each line costs time, and so does what nobody asks for: half of a boot is systemd's own work.
    "quiet", "audit=0", "systemd.show_status=no", "systemd.log_level=notice",
    "systemd.unit=basic.target", "systemd.wants=ssh.service", "systemd.wants=systemd-networkd.service",
    # Before it, nobody may log in.
    "systemd.wants=systemd-user-sessions.service",
    "systemd.mask=apparmor.service", "systemd.mask=podman.socket",
]  # fmt: skip


class VirtualMachine(Machine):
    """A machine that QEMU runs."""

    variants = tuple(image.KERNELS[SUITE])
    without_engine = ("6.12",)  # its start is a third of the boot

    def program(self, variant: str, port: int) -> list[str]:
        """Return QEMU's command line for a kernel."""
        files = image.build(SUITE)
        docker = "systemd.wants=docker.service" if variant not in self.without_engine else "systemd.mask=docker.socket"
        kvm = os.environ.get("NETTAP_VM_KVM") == "1"
        public = (self.folder / "key.pub").read_text().strip()
        return [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            *(["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", CPU]),
            # A second processor costs a quarter more in all.
            "-smp", "1", "-m", "2048",
            "-kernel", str(files / f"vmlinuz-{variant}"), "-initrd", str(files / f"initrd-{variant}"),
            "-append", " ".join([*KERNEL_LINE, docker]),
            # What is written goes to a file without a name, which is gone with the process. Nothing needs to survive a crash.
            "-drive", f"if=virtio,format=raw,snapshot=on,cache=unsafe,file={str(files / 'disk').replace(',', ',,')}",
            "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-rng-pci",
            "-smbios", f"type=11,value=io.systemd.credential:ssh.key={public}",
            "-serial", f"file:{self.console}",
        ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(VirtualMachine))
