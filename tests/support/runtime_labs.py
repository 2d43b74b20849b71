# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of every runtime on one machine, with each runtime's own programs, state and places; all is removed at the end.

    Docker       the engine of the tests
    Podman       root's, and a user's without root: netavark's bridge, slirp4netns
    containerd   its own daemon; `ctr`, plain and with the labels, annotations and cgroups that its CRI plugin gives
    CRI-O        is in no distribution that the tests run on: conmon and runc, which it runs, on the layout that its source has

Podman and containerd are used where they are on every host, since that is what is looked at. A machine that has containers
of theirs keeps them.
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
import socket
import subprocess
import tarfile
import tempfile
import typing as t
import uuid

import docker
import engine as docker_engine
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from ssh_server import processes_of
from waiting import wait_for

PORT = 40000
HYBRID = not os.path.exists("/sys/fs/cgroup/cgroup.controllers")
RUNC = "/usr/sbin/runc"
PAUSE = ["sleep", "6000"]
SERVE = ("httpd", "-f", "-p", "80", "-h", "/www")
SECONDS = 120
STATE, ROOT = "/run/containerd", "/var/lib/containerd"
PODMAN_ROOT = "/var/lib/containers/storage"
CRIO = pathlib.Path("/run/containers/storage/overlay-containers")
PODS = {"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "6b1e3f02-7c1a-4b1e-9d6e-0a1b2c3d4e5f"}


def command(*argv: str, **options: t.Any) -> str:
    """Run a program and return what it prints, without the last newline; fail with its own words."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120, **options)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout.strip()


@dataclasses.dataclass
class Box:
    """A running container. gateway answers on its network; peer: it has a veth to the host; pid asks its engine; netns: where its namespace is bound."""

    runtime: str
    name: str
    id: str
    pid: t.Callable[[], int]
    gateway: str = ""
    peer: bool = True
    address: str = ""
    image: str = docker_engine.IMAGE
    restart: t.Callable[[], object] | None = None
    netns: str = ""

    @property
    def place(self) -> str:
        """Path of its network namespace."""
        return self.netns or f"/proc/{self.pid()}/ns/net"

    @property
    def monitor(self) -> int:
        """The process that watches its first one: a shim or conmon."""
        text = pathlib.Path(f"/proc/{self.pid()}/stat").read_text()
        return int(text.rpartition(")")[2].split()[1])

    def send(self, lengths: t.Iterable[int]) -> None:
        """Send a datagram of each length from inside to the gateway.

        Until the kernel has seen a new link's carrier, within a second, what is sent goes nowhere, and no capture sees it.
        """
        links = ["nsenter", f"--net={self.place}", "ip", "-oneline", "link", "show", "up"]
        assert wait_for(lambda: "DOWN " not in command(*links), SECONDS)
        fd = os.open(self.place, os.O_RDONLY)
        try:
            with _netns.entered(fd):
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sender:
                for length in lengths:
                    sender.sendto(bytes(length), (self.gateway, PORT))
        finally:
            os.close(fd)


class Wire:
    """A veth from the host into a namespace, as a CNI plugin makes one."""

    def __init__(self, number: int) -> None:
        self.name, self.gateway, self.address = f"nr{os.getpid()}x{number}"[:15], f"10.214.{number}.1", f"10.214.{number}.2"

    def connect(self, inside: str) -> None:
        """Make it; inside is what `ip link ... netns` takes, a name or a PID."""
        docker_engine.ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", inside)
        docker_engine.ip("address", "add", f"{self.gateway}/24", "dev", self.name)
        docker_engine.ip("link", "set", self.name, "up")
        enter = ["nsenter", f"--net={path_of(inside)}", "ip"]
        for arguments in (["address", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            command(*enter, *arguments)
        # Until the kernel has seen the carrier, within a second, what is sent goes nowhere, and no capture sees it.
        links = [["ip", "link", "show", self.name], [*enter, "link", "show", "eth0"]]
        assert wait_for(lambda: all("state UP" in command(*argv) for argv in links), SECONDS)

    def remove(self) -> None:
        """Remove it; it may have gone with its namespace, which the kernel clears away in its own time."""
        subprocess.run(["ip", "link", "delete", self.name], check=False, capture_output=True)


def path_of(namespace: str) -> str:
    """Path of a network namespace, by its name or the PID of a process in it."""
    return f"/proc/{namespace}/ns/net" if namespace.isdigit() else f"/run/netns/{namespace}"


# --- Docker


def docker_box(container: t.Any) -> Box:
    """A container that the fixture has started."""

    def pid() -> int:
        container.reload()
        return int(container.attrs["State"]["Pid"])

    networks = container.attrs["NetworkSettings"]["Networks"]
    return Box("docker", container.name, container.id, pid, gateway=next(iter(networks.values()))["Gateway"], address=docker_engine.address(container),
               restart=lambda: container.restart(timeout=0))


# --- Podman


class Podman:
    """Podman of root, or of a user who is made for it."""

    def __init__(self, folder: pathlib.Path, archive: pathlib.Path, rootless: bool) -> None:
        self.undo = contextlib.ExitStack()
        self.environment = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "CONTAINERS_CONF": str(folder / "containers.conf"), "HOME": "/root"}
        # Limits: what a container gets by default may be above what this machine allows. runc: crun refuses a hybrid hierarchy.
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024", "memlock=65536:65536"]\n'
            f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\ninfra_image = "{docker_engine.IMAGE}"\n'
        )
        self.prefix: list[str] = []
        try:
            if rootless:
                self._user(folder)
            else:
                self._clean_packet_filter()
                if not os.path.exists(PODMAN_ROOT):
                    self.undo.callback(self, "system", "reset", "--force")
            self.known = set(self("ps", "--all", "--quiet", "--no-trunc").split())
            had = bool(self("images", "--quiet", docker_engine.IMAGE))
            self("load", "--quiet", "--input", str(archive))
            if not had:
                self.undo.callback(self, "rmi", "--force", docker_engine.IMAGE)
            self.undo.callback(self._remove_containers)
        except BaseException:
            self.undo.close()
            raise

    def __call__(self, *arguments: str) -> str:
        return command(*self.prefix, "podman", *arguments, cwd="/", env=self.environment)

    def run(self, name: str, *options: str, gateway: str = "", peer: bool = True, argv: t.Sequence[str] = SERVE) -> Box:
        """Start a container."""
        identifier = self("run", "--detach", "--name", name, *options, docker_engine.IMAGE, *argv)

        def asked(what: str) -> str:
            return self("inspect", "--format", what, name)

        def address() -> str:
            return asked("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")

        def restart() -> None:
            self("restart", "--time", "0", name)
            box.address = address()

        gateway = gateway or asked("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}")
        box = Box("podman", name, identifier, lambda: int(asked("{{.State.Pid}}")), gateway, peer, address(), f"localhost/{docker_engine.IMAGE}", restart)
        return box

    def close(self) -> None:
        """Remove everything."""
        self.undo.close()

    def _remove_containers(self) -> None:
        for identifier in set(self("ps", "--all", "--quiet", "--no-trunc").split()) - self.known:
            self("rm", "--force", "--time", "0", "--depend", identifier)

    def _user(self, folder: pathlib.Path) -> None:
        name = f"nettap-podman{os.getpid()}"
        command("useradd", "--create-home", "--shell", "/bin/sh", name)
        self.undo.callback(command, "userdel", "--force", "--remove", name)
        self.uid = pwd.getpwnam(name).pw_uid
        for option, path in (("--add-subuids", "/etc/subuid"), ("--add-subgids", "/etc/subgid")):
            if f"{name}:" not in pathlib.Path(path).read_text():
                command("usermod", option, f"{200000 + 65536 * (self.uid % 1000)}-{200000 + 65536 * (self.uid % 1000) + 65535}", name)
        home, runtime = pwd.getpwnam(name).pw_dir, f"/run/user/{self.uid}"
        os.makedirs(runtime, exist_ok=True)
        os.chmod(runtime, 0o700)
        os.chown(runtime, self.uid, self.uid)
        self.undo.callback(shutil.rmtree, runtime, ignore_errors=True)
        self.undo.callback(self._end_user)
        folder.chmod(0o755)
        mode = os.stat("/dev/net/tun").st_mode & 0o777
        os.chmod("/dev/net/tun", 0o666)  # as udev has it everywhere
        self.undo.callback(os.chmod, "/dev/net/tun", mode)
        self.environment.update(HOME=home, XDG_RUNTIME_DIR=runtime)
        self.prefix = ["setpriv", "--reuid", name, "--regid", name, "--init-groups"]
        if not HYBRID:  # what systemd's user manager would have: a cgroup that the user may divide
            self.prefix = [*delegated(self.uid, self.undo), *self.prefix]

    def _end_user(self) -> None:
        for pid in processes_of(self.uid):  # its pause process, which holds its user namespace
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not processes_of(self.uid), SECONDS)

    def _clean_packet_filter(self) -> None:
        """netavark leaves its chains, and packets are forwarded from then on."""
        forward = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
        before = forward.read_text()
        self.undo.callback(forward.write_text, before)
        if "NETAVARK" not in command("iptables-save"):
            self.undo.callback(remove_chains, "NETAVARK")


def remove_chains(word: str) -> None:
    """Remove the chains of a name from iptables, and what leads to them."""
    kept = [line for line in command("iptables-save").splitlines() if word not in line]
    subprocess.run(["iptables-restore"], input="\n".join([*kept, ""]), text=True, check=True)


def delegated(uid: int, undo: contextlib.ExitStack) -> list[str]:
    """Make a cgroup of the user's own, and return what runs a program in it."""
    folder = pathlib.Path(f"/sys/fs/cgroup/nettap-{uid}")
    folder.mkdir()
    undo.callback(remove_cgroups, folder)
    for file in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(folder / file, uid, uid)
    return ["sh", "-c", f'echo $$ >{folder}/cgroup.procs && exec "$@"', "sh"]


def remove_cgroups(folder: pathlib.Path) -> None:
    """Remove a cgroup and those below it, which have no processes any more."""
    for top, _folders, _files in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(top)


# --- containerd


class Containerd:
    """containerd, which is started where none runs."""

    def __init__(self, folder: pathlib.Path, archive: pathlib.Path) -> None:
        self.undo = contextlib.ExitStack()
        self.image = f"docker.io/{docker_engine.IMAGE}"
        try:
            if subprocess.run(["ctr", "version"], capture_output=True, check=False).returncode != 0:
                self._start(folder)
            for namespace in ("default", "k8s.io"):
                self(namespace, "images", "import", str(archive))
                self.undo.callback(self, namespace, "images", "rm", self.image)
        except BaseException:
            self.undo.close()
            raise

    def __call__(self, namespace: str, *arguments: str) -> str:
        return command("ctr", "--namespace", namespace, *arguments)

    def run(self, name: str, wire: Wire | None, *options: str, namespace: str = "default", argv: t.Sequence[str] = SERVE) -> Box:
        """Start a container; with a wire it has a network."""
        self(namespace, "run", "--detach", *options, self.image, name, *argv)
        self.undo.callback(self._remove, namespace, name)

        def connect() -> None:
            if wire is not None:
                wire.remove()
                wire.connect(str(pid()))

        def pid() -> int:
            rows = [line.split() for line in self(namespace, "tasks", "ls").splitlines()]
            return int(next(row[1] for row in rows if row[0] == name))

        def restart() -> None:
            self._end(namespace, name)
            self(namespace, "tasks", "start", "--detach", name)
            connect()

        if wire is not None:
            self.undo.callback(wire.remove)
        connect()
        return Box("containerd", name, name, pid, wire.gateway if wire else "", address=wire.address if wire else "", image=self.image, restart=restart)

    def pod(self, name: str, wire: Wire) -> tuple[Box, Box]:
        """Start a pod shop/NAME with a container app, as the CRI plugin does; give its sandbox and that container."""
        sandbox = self.cri(name, None, wire, f"io.kubernetes.cri.sandbox-name={name}")
        return sandbox, self.cri(name, "app", None, f"io.kubernetes.cri.sandbox-name={name}", "--with-ns", f"network:/proc/{sandbox.pid()}/ns/net")

    def cri(self, pod: str, container: str | None, wire: Wire | None, annotation: str, *options: str) -> Box:
        """Start one container of a pod (None: the sandbox); it has the pod's labels in containerd's metadata alone."""
        identifier = uuid.uuid4().hex * 2
        kind = "container" if container else "sandbox"
        annotations = [annotation, f"io.kubernetes.cri.container-type={kind}", "io.kubernetes.cri.sandbox-namespace=shop"]
        labels = [f"io.cri-containerd.kind={kind}", f"io.kubernetes.pod.name={pod}", *(f"{key}={value}" for key, value in PODS.items())]
        if container:
            labels.append(f"io.kubernetes.container.name={container}")
            annotations.append(f"io.kubernetes.cri.container-name={container}")
        else:
            labels.append(f"app={pod}")
        words = [word for one in annotations for word in ("--annotation", one)] + [word for one in labels for word in ("--label", one)]
        box = self.run(identifier, wire, *words, "--cgroup", f"/kubepods/burstable/pod{PODS['io.kubernetes.pod.uid']}/{identifier}", *options,
                       namespace="k8s.io", argv=SERVE if container else PAUSE)  # fmt: skip
        box.name = f"shop/{pod}/{container}" if container else f"shop/{pod}"
        return box

    def close(self) -> None:
        """Remove everything."""
        self.undo.close()

    def _end(self, namespace: str, name: str) -> None:
        subprocess.run(["ctr", "--namespace", namespace, "tasks", "kill", "--signal", "SIGKILL", name], capture_output=True, check=False)
        assert wait_for(lambda: "RUNNING" not in "".join(line for line in self(namespace, "tasks", "ls").splitlines() if line.startswith(f"{name} ")), SECONDS)
        subprocess.run(["ctr", "--namespace", namespace, "tasks", "rm", name], capture_output=True, check=False)

    def _remove(self, namespace: str, name: str) -> None:
        self._end(namespace, name)
        subprocess.run(["ctr", "--namespace", namespace, "containers", "rm", name], capture_output=True, check=False)

    def _start(self, folder: pathlib.Path) -> None:
        there = [path for path in (STATE, ROOT) if os.path.exists(path)]
        for path in (STATE, ROOT):
            if path not in there:
                self.undo.callback(shutil.rmtree, path, ignore_errors=True)
        config = folder / "containerd.toml"
        config.write_text(f'version = 2\nroot = "{ROOT}"\nstate = "{STATE}"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        with (folder / "containerd.log").open("wb") as log:
            daemon = subprocess.Popen(["containerd", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                      preexec_fn=docker_engine.end_with_parent)  # fmt: skip
        self.undo.callback(daemon.wait, SECONDS)
        self.undo.callback(daemon.terminate)
        answers = wait_for(lambda: subprocess.run(["ctr", "version"], capture_output=True, check=False).returncode == 0, SECONDS)
        assert answers, (folder / "containerd.log").read_text()


# --- CRI-O


class Crio:
    """What CRI-O 1.37 leaves on a node, made with the programs that it runs: no CRI-O is here.

    The layout is that of its server/sandbox_run_linux.go, internal/factory/container/container.go and internal/config/nsmgr: by default
    (drop_infra_ctr) a pod's sandbox is a config.json without a process, and a network namespace bound to /var/run/netns/UUID.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.undo = contextlib.ExitStack()
        self.folder = folder
        self.rootfs = folder / "rootfs"
        with tarfile.open(fileobj=io.BytesIO(docker_engine.root_filesystem())) as tar:
            tar.extractall(self.rootfs, filter="tar")

    def pod(self, name: str, wire: Wire, infra: bool = False, kubelet: bool = True) -> tuple[Box, Box]:
        """Start a pod shop/NAME with a container app; give its sandbox and that container.

        With infra, a process stands for the sandbox, as with drop_infra_ctr = false. Without kubelet, crictl has made the pod: its container has no labels.
        """
        sandbox = self.sandbox(name, wire, infra)
        return sandbox, self.container(sandbox, "app", kubelet)

    def sandbox(self, name: str, wire: Wire | None, infra: bool = False) -> Box:
        """Start the sandbox of a pod shop/NAME. Without a wire it is in the host's network, which is bound to a path, too."""
        namespace, identifier = str(uuid.uuid4()), uuid.uuid4().hex * 2
        docker_engine.ip("netns", *(["add", namespace] if wire else ["attach", namespace, "1"]))
        self.undo.callback(subprocess.run, ["ip", "netns", "delete", namespace], capture_output=True, check=False)  # a test may have removed the pod
        if wire:
            self.undo.callback(wire.remove)
            wire.connect(namespace)
        box = Box("crio", f"shop/{name}", identifier, lambda: int((CRIO / identifier / "userdata/pidfile").read_text()), wire.gateway if wire else "",
                  address=wire.address if wire else "", image="registry.k8s.io/pause:3.10", netns=f"/var/run/netns/{namespace}")  # fmt: skip
        metadata = {"name": name, "uid": PODS["io.kubernetes.pod.uid"], "namespace": "shop"}
        labels = {"app": name, "io.kubernetes.pod.name": name, **PODS, "io.kubernetes.container.name": "POD"}
        self._start(box, PAUSE, infra, {
            **labels, **self._common(box), "io.kubernetes.cri-o.Name": f"k8s_{name}_shop_{metadata['uid']}_0", "io.kubernetes.cri-o.Namespace": "shop",
            "io.kubernetes.cri-o.KubeName": name, "io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.Image": box.image,
            "io.kubernetes.cri-o.Metadata": json.dumps(metadata), "io.kubernetes.cri-o.Labels": json.dumps(labels),
            "io.kubernetes.cri-o.HostNetwork": str(not wire).lower(), "io.kubernetes.cri-o.RuntimeHandler": "",
            **({} if infra else {"io.kubernetes.cri-o.Spoofed": "true"}), "io.kubernetes.cri-o.ResolvPath": str(CRIO / identifier / "userdata/resolv.conf"),
        })  # fmt: skip
        (CRIO / identifier / "userdata/resolv.conf").write_text("nameserver 192.0.2.53\n")
        return box

    def container(self, sandbox: Box, name: str, kubelet: bool = True) -> Box:
        """Start a container in a pod. The kubelet makes a new one for each restart."""
        pod, identifier = sandbox.name.partition("/")[2], uuid.uuid4().hex * 2
        pid_file = CRIO / identifier / "userdata" / "pidfile"
        box = Box("crio", f"shop/{pod}/{name}", identifier, lambda: int(pid_file.read_text()), sandbox.gateway, address=sandbox.address,
                  image="quay.io/shop/app:1", netns=sandbox.netns)  # fmt: skip
        labels = {"io.kubernetes.pod.name": pod, **PODS, "io.kubernetes.container.name": name} if kubelet else {}
        self._start(box, SERVE, True, {
            **labels, **self._common(sandbox), "io.kubernetes.cri-o.Name": f"k8s_{name}_{pod}_shop_{PODS['io.kubernetes.pod.uid']}_0",
            "io.kubernetes.cri-o.SandboxName": f"k8s_{pod}_shop_{PODS['io.kubernetes.pod.uid']}_0", "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.cri-o.Metadata": json.dumps({"name": name}), "io.kubernetes.cri-o.Labels": json.dumps(labels),
            "io.kubernetes.cri-o.Image": "sha256:" + "0" * 64, "io.kubernetes.cri-o.ImageName": box.image,
        })  # fmt: skip
        return box

    @staticmethod
    def _common(sandbox: Box) -> dict[str, str]:
        return {"io.container.manager": "cri-o", "io.kubernetes.cri-o.SandboxID": sandbox.id}

    def _start(self, box: Box, argv: t.Sequence[str], runs: bool, annotations: dict[str, str]) -> None:
        identifier, bundle = box.id, CRIO / box.id / "userdata"
        made = next(path for path in [bundle, *bundle.parents] if path.parent.exists())
        bundle.mkdir(parents=True)
        self.undo.callback(shutil.rmtree, made, ignore_errors=True)
        command("runc", "spec", "--bundle", str(self._spec(bundle)))
        config = json.loads((bundle / "spec/config.json").read_text())
        shutil.rmtree(bundle / "spec")
        config["process"].update(args=list(argv), terminal=False)
        config["root"] = {"path": str(self.rootfs), "readonly": True}
        config["annotations"] = annotations
        config["linux"]["cgroupsPath"] = f"/kubepods/burstable/pod{PODS['io.kubernetes.pod.uid']}/crio-{identifier}"
        next(one for one in config["linux"]["namespaces"] if one["type"] == "network")["path"] = box.netns
        (bundle / "config.json").write_text(json.dumps(config))
        if runs:
            command("conmon", "--cid", identifier, "--cuuid", identifier, "--name", identifier[:12], "--bundle", str(bundle),
                    "--container-pidfile", str(bundle / "pidfile"),
                    "--runtime", shutil.which("runc", path=os.environ["PATH"] + ":/usr/sbin") or RUNC, "--log-path", f"k8s-file:{self.folder}/{identifier}.log",
                    "--exit-dir", str(self.folder), "--persist-dir", str(bundle), "--socket-dir-path", str(self.folder))  # fmt: skip
            self.undo.callback(subprocess.run, ["runc", "delete", "--force", identifier], capture_output=True, check=False)  # a test may have removed it
            assert wait_for(lambda: (bundle / "pidfile").exists() and (bundle / "pidfile").read_text() != "", SECONDS)
            command("runc", "start", identifier)

    @staticmethod
    def _spec(bundle: pathlib.Path) -> pathlib.Path:
        """A folder for what runc writes: CRI-O writes config.json at last and once."""
        (bundle / "spec").mkdir()
        return bundle / "spec"

    def kill(self, box: Box) -> None:
        """Kill the process of a container or sandbox. What CRI-O knows of it stays until the kubelet has it removed."""
        command("runc", "kill", box.id, "KILL")
        assert wait_for(lambda: '"status": "stopped"' in command("runc", "state", box.id), SECONDS)

    def remove(self, box: Box) -> None:
        """Remove a container, or a sandbox with its namespace, whose links the CNI has taken before."""
        subprocess.run(["runc", "delete", "--force", box.id], capture_output=True, check=False)
        if box.name.count("/") == 1:
            command("nsenter", f"--net={box.netns}", "ip", "link", "delete", "eth0")
            docker_engine.ip("netns", "delete", os.path.basename(box.netns))
        shutil.rmtree(CRIO / box.id)

    def close(self) -> None:
        """Remove everything."""
        self.undo.close()


# --- all of them


class Fleet:
    """One container of each kind, side by side, by the names of the table in docs/runtimes.md."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.undo = contextlib.ExitStack()
        self.boxes: dict[str, Box] = {}
        # A user without root must come here too: not below pytest's own folder.
        self.folder = folder = pathlib.Path(tempfile.mkdtemp(prefix="nettap-labs-", dir="/tmp"))
        self.undo.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        try:
            archive = folder / "image.tar"
            with archive.open("wb") as stream:
                stream.writelines(client.images.get(docker_engine.IMAGE).save(named=True))
            archive.chmod(0o644)
            self.podman, self.rootless = (self._add(Podman(self._folder(name), archive, name == "rootless")) for name in ("root", "rootless"))
            self.containerd = self._add(Containerd(self._folder("containerd"), archive))
            self.crio = self._add(Crio(self._folder("crio")))
            tag = f"r{os.getpid()}"
            web = client.containers.create(docker_engine.IMAGE, name=f"{tag}-docker", labels={"lab": tag}, stop_signal="SIGKILL")
            self.undo.callback(web.remove, force=True)
            web.start()
            web.reload()
            self.boxes["docker"] = docker_box(web)
            self.boxes["podman, root"] = self.podman.run(f"{tag}-podman", "--label", f"lab={tag}")
            self.boxes["podman, rootless, slirp4netns"] = self.rootless.run(
                f"{tag}-slirp", "--network", "slirp4netns", "--label", f"lab={tag}", gateway="10.0.2.2", peer=False)  # fmt: skip
            self.boxes["podman, rootless, bridge"] = self.rootless.run(f"{tag}-bridge", "--network", "bridge", "--label", f"lab={tag}", peer=False)
            self.boxes["containerd"] = self.containerd.run(f"{tag}-ctr", Wire(1), "--label", f"lab={tag}")
            self.sandbox, self.boxes["containerd, CRI"] = self.containerd.pod("web-7d9f", Wire(2))
            self.boxes["containerd, CRI"] = dataclasses.replace(self.boxes["containerd, CRI"], gateway=self.sandbox.gateway, address=self.sandbox.address)
            self.pause, self.boxes["CRI-O"] = self.crio.pod("db-0", Wire(3))
            self.infra, _app = self.crio.pod("kept", Wire(4), infra=True)
            self.tag = tag
        except BaseException:
            self.undo.close()
            raise

    def close(self) -> None:
        """Remove everything."""
        self.undo.close()

    def _folder(self, name: str) -> pathlib.Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def _add(self, lab: t.Any) -> t.Any:
        self.undo.callback(lab.close)
        return lab
