"""A virtual machine with systemd, sshd, Docker, containerd, Podman and a stock kernel: a managed node as in the field, on any Linux machine.

    python tests/vm.py start FOLDER [KERNEL]     boot it with the kernel 6.1 of Debian 12, or with its backports' 6.12
    python tests/vm.py ssh FOLDER [COMMAND…]     a shell in it, or one command
    python tests/vm.py stop FOLDER               end it

The disk (of tests/image.py) is never written to: what a run changes is gone with it. KVM is used only where
NETTAP_VM_KVM=1 asks for it: /dev/kvm can exist and hang a guest. See machine.py for what is in FOLDER.
"""

from __future__ import annotations

import os
import sys

import image
from machine import Machine, main

SUITE = "bookworm"
# Suricata's libraries want SSE 4.2.
CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"


class VirtualMachine(Machine):
    """A machine that QEMU runs."""

    variants = tuple(image.KERNELS[SUITE])

    def program(self, variant: str, port: int) -> list[str]:
        """Return QEMU's command line for a kernel."""
        files = image.build(SUITE)
        kvm = os.environ.get("NETTAP_VM_KVM") == "1"
        public = (self.folder / "key.pub").read_text().strip()
        return [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            *(["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg,thread=multi", "-cpu", CPU]), "-smp", "2", "-m", "2048",
            "-kernel", str(files / f"vmlinuz-{variant}"), "-initrd", str(files / f"initrd-{variant}"),
            # Nobody attacks it, and what guards the kernel against its processes costs time.
            "-append", "console=ttyS0 root=/dev/vda rw net.ifnames=0 mitigations=off",
            # What is written goes to a file without a name, which is gone with the process. Nothing needs to survive a crash.
            "-drive", f"if=virtio,format=raw,snapshot=on,cache=unsafe,file={str(files / 'disk').replace(',', ',,')}",
            "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-rng-pci",
            "-smbios", f"type=11,value=io.systemd.credential:ssh.key={public}",
            "-serial", f"file:{self.console}",
        ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(VirtualMachine))
