"""Kubelets for the API server of kube_api.py: one that only says that pods run, and one that runs them in a real Docker engine."""

from __future__ import annotations

import contextlib
import io
import pathlib
import subprocess
import tarfile
import typing as t

import docker
import docker.errors
from engine import unix_socket
from kube_api import Object

IMAGE = "nettap/node-tools:latest"
# Debian's merged /usr: with it, and /usr of this machine, the image has python3, tcpdump and what else is installed here.
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run"}

# By their numbers, see linux/capability.h; the engine may not know those that came later, which are parts of SYS_ADMIN.
CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN
    NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG
    MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ""".split()


class PaperKubelet:
    """Pods are in the state that the test wants, and nothing runs but what only looks whether Python does."""

    def __init__(self) -> None:
        self.status: Object = {"phase": "Running"}

    def start(self, pod: Object) -> Object:
        """Say what the test wants."""
        return self.status

    def stop(self, pod: Object) -> None:
        """Nothing runs."""

    def execute(self, pod: Object, container: str, argv: list[str]) -> subprocess.Popen[bytes]:
        """Say that Python is there."""
        assert argv == ["/bin/sh", "-c", "/usr/bin/python3 --version"], argv
        return subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class DockerKubelet:
    """This machine as a node, with the Docker engine of the tests: pods run as their spec says, so that what it lacks is missed.

    The image is this machine's /usr, for there is no registry. hostPath volumes come from `host`, a folder that stands for the
    node's root; the engine's socket is where it is on a node. With real_run, /run is this machine's own, for what works outside of its pod.
    """

    def __init__(self, client: docker.DockerClient, host: pathlib.Path) -> None:
        self._client = client
        self._host = host
        self.real_run = False
        (host / "run/systemd/system").mkdir(parents=True)
        repository, tag = IMAGE.split(":")
        client.api.import_image_from_data(_root_filesystem(), repository=repository, tag=tag)

    def close(self) -> None:
        """Remove the image."""
        self._client.images.remove(IMAGE, force=True)

    def start(self, pod: Object) -> Object:
        """Run the pod's only container, or say why its image cannot be had."""
        spec = pod["spec"]
        [container] = spec["containers"]
        if container["image"] != IMAGE:
            waiting = {"reason": "ErrImagePull", "message": f"pull access denied for {container['image']}"}
            return {"phase": "Pending", "containerStatuses": [{"name": container["name"], "state": {"waiting": waiting}}]}
        mounts = ["/usr:/usr:ro"]
        for mount in container["volumeMounts"]:
            [volume] = [volume for volume in spec["volumes"] if volume["name"] == mount["name"]]
            if self.real_run and volume.get("hostPath", {}).get("path") == "/run":
                mounts.append(f"/run:{mount['mountPath']}")
            elif "hostPath" in volume:
                mounts.append(f"{self._host}{volume['hostPath']['path']}:{mount['mountPath']}")
                if volume["hostPath"]["path"] == "/run":
                    mounts.append(f"{unix_socket()}:{mount['mountPath']}/docker.sock")
            else:
                assert volume["emptyDir"] == {}
                folder = self._host / "volumes" / pod["metadata"]["name"] / volume["name"]
                folder.mkdir(parents=True)
                mounts.append(f"{folder}:{mount['mountPath']}")
        self._client.containers.run(
            container["image"], container["command"], name=pod["metadata"]["name"], detach=True, volumes=mounts,
            **(_privileged() if container["securityContext"].get("privileged") else {}),
            pid_mode="host" if spec.get("hostPID") else None, network_mode="host" if spec.get("hostNetwork") else "bridge",
        )  # fmt: skip
        return {"phase": "Running", "containerStatuses": [{"name": container["name"], "ready": True, "state": {"running": {}}}]}

    def stop(self, pod: Object) -> None:
        """End and remove the container."""
        with contextlib.suppress(docker.errors.NotFound):
            self._client.containers.get(pod["metadata"]["name"]).remove(force=True, v=True)

    def execute(self, pod: Object, container: str, argv: list[str]) -> subprocess.Popen[bytes]:
        """Run a program in the container by the engine's own client."""
        command = ["docker", "exec", "--interactive", pod["metadata"]["name"], *argv]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _privileged() -> dict[str, t.Any]:
    """What privileged means, with the capabilities that root has here: the test machine may lack some, and Docker would then refuse."""
    [bounding] = [line.split()[1] for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd:")]
    missing = [name for bit, name in enumerate(CAPABILITIES) if not int(bounding, 16) >> bit & 1]
    if not missing:
        return {"privileged": True}
    added = [name for name in CAPABILITIES if name not in missing]
    return {"cap_add": added, "cap_drop": missing, "security_opt": ["seccomp=unconfined", "apparmor=unconfined"]}


def _root_filesystem() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in ("etc", "root", "run", "tmp", "usr", "var"):
            folder = tarfile.TarInfo(path)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            tar.addfile(folder)
        for path, target in LINKS.items():
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        passwd = tarfile.TarInfo("etc/passwd")
        text = pathlib.Path("/etc/passwd").read_bytes()
        passwd.size = len(text)
        tar.addfile(passwd, io.BytesIO(text))
    return out.getvalue()
