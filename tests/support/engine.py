"""A Docker engine and an image for tests, demo and bench, on a machine that need not have either.

    python tests/support/engine.py run COMMAND [ARGUMENT…]

runs the command with DOCKER_HOST naming an engine that has the image nettap/test:latest. An engine that
answers already is used, and left as it was. Otherwise `dockerd` is started by hand, with everything of its
own (data, socket, bridge), and taken away at the end.
"""

from __future__ import annotations

import collections.abc as c
import contextlib
import ctypes
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

import docker
import docker.errors
import docker.models.containers

IMAGE = "nettap/test:latest"
BUSYBOX = "/bin/busybox"
READY_SECONDS = 120
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class EngineError(Exception):
    """What keeps an engine from running, in one sentence."""


@contextlib.contextmanager
def engine() -> c.Iterator[docker.DockerClient]:
    """Give the client of an engine that answers; while it is given, DOCKER_HOST names that engine."""
    client = answering()
    if client:
        with contextlib.closing(client):
            yield client
        return
    if os.geteuid() != 0:
        raise EngineError("No Docker engine answers here, and starting one needs root.")
    with own_engine() as url, contextlib.closing(docker.DockerClient(base_url=url)) as client:
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = url
        try:
            yield client
        finally:
            os.environ.pop("DOCKER_HOST")
            if before is not None:
                os.environ["DOCKER_HOST"] = before


def answering() -> docker.DockerClient | None:
    """Return the client of the engine that DOCKER_HOST names, or of the default socket, if it answers."""
    try:
        return docker.from_env(timeout=60)  # asks the engine for its version
    except docker.errors.DockerException:
        return None


@contextlib.contextmanager
def own_engine() -> c.Iterator[str]:
    """Start dockerd and give the URL of its socket; at the end nothing of it is left."""
    program = shutil.which("dockerd", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not program:
        raise EngineError("No Docker engine answers here and there is no dockerd to start: run `make deps`.")
    # Not in TMPDIR: the path of a UNIX socket has at most 107 characters.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nettap-engine-", dir="/tmp"))
    made_by_daemon = [path for path in ("/run/docker/plugins", "/run/containerd/s") if not os.path.exists(path)]
    try:
        with network() as (bridge, pool), (folder / "log").open("wb") as log:
            (folder / "config.json").write_text("{}")
            # No iptables and no forwarding: containers and host reach one another over the bridge, and the
            # machine's rules stay as they are. The storage driver is what dockerd finds to work here.
            url = f"unix://{folder}/docker.sock"
            argv = [
                program, f"--host={url}", f"--bridge={bridge}",
                f"--config-file={folder}/config.json", f"--data-root={folder}/data",
                f"--default-address-pool=base={pool},size=24",
                f"--exec-root={folder}/run", f"--pidfile={folder}/pid",
                "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false",
            ]  # fmt: skip
            with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  start_new_session=True, preexec_fn=end_with_parent) as daemon:
                try:
                    wait_until_ready(daemon, url, folder / "log")
                    try:
                        yield url
                    finally:
                        remove_everything(url)
                finally:
                    daemon.terminate()
                    try:
                        daemon.wait(READY_SECONDS)
                    except subprocess.TimeoutExpired:
                        daemon.kill()
    finally:
        mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)
        for path in made_by_daemon:
            with contextlib.suppress(OSError):  # not there, or in use by somebody
                os.removedirs(path)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


@contextlib.contextmanager
def network() -> c.Iterator[tuple[str, str]]:
    """Make the bridge of the engine's default network and give its name and the address pool for other networks.

    Both are the engine's own: docker0 and 172.17.0.0/16 may be somebody else's.
    """
    name = f"nettap{os.getpid()}"[:15]
    taken = ip("-4", "-o", "address")
    prefix = next((p for p in (f"10.213.{n}" for n in range(0, 256, 16)) if f" {p}." not in taken), None)
    if not prefix:
        raise EngineError("Every network from 10.213.0.0/20 to 10.213.240.0/20 is in use here: end the other engines.")
    pool = f"{prefix}.0/20"
    # Where another engine runs or has run, the kernel may hand bridged frames to a FORWARD chain that drops them.
    forward = ["FORWARD", "--source", pool, "--destination", pool, "--jump", "ACCEPT"]
    dropped = ":FORWARD DROP" in command("iptables-save")
    with contextlib.ExitStack() as made:
        ip("link", "add", name, "type", "bridge")
        made.callback(ip, "link", "delete", name)
        ip("address", "add", f"{prefix}.1/24", "dev", name)
        ip("link", "set", name, "up")
        if dropped:
            command("iptables", "--insert", *forward)
            made.callback(command, "iptables", "--delete", *forward)
        yield name, pool


def ip(*arguments: str) -> str:
    """Run ip(8) and return what it prints."""
    return command("ip", *arguments)


def command(*argv: str) -> str:
    """Run a program of the system and return what it prints; raise EngineError with its own words if it fails."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    except FileNotFoundError:
        raise EngineError(f"There is no {argv[0]} here: run `make deps`.") from None
    if done.returncode != 0:
        raise EngineError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def wait_until_ready(daemon: subprocess.Popen, url: str, log: pathlib.Path) -> None:
    """Return when the engine answers; raise with the end of its log when it ends or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while daemon.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(docker.errors.DockerException):
            docker.DockerClient(base_url=url).close()
            return
        time.sleep(0.05)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    what = f"did not answer in {READY_SECONDS} s" if daemon.poll() is None else "ended at once"
    raise EngineError(f"dockerd {what}. The end of its log:\n{tail}")


def remove_everything(url: str) -> None:
    """Remove the containers and networks of an engine of ours: it leaves their bridges when it ends."""
    with contextlib.closing(docker.DockerClient(base_url=url)) as client:
        for container in client.containers.list(all=True):
            container.remove(force=True, v=True)
        client.networks.prune()


@contextlib.contextmanager
def image(client: docker.DockerClient) -> c.Iterator[str]:
    """Give the name of the image that test containers run: busybox, and a page served on port 80."""
    ours = not client.images.list(IMAGE)
    if ours:
        repository, tag = IMAGE.split(":")
        serve = 'CMD ["httpd", "-f", "-p", "80", "-h", "/www"]'
        client.api.import_image_from_data(root_filesystem(), repository=repository, tag=tag, changes=[serve])
    try:
        yield IMAGE
    finally:
        if ours:
            client.images.remove(IMAGE, force=True)


def root_filesystem() -> bytes:
    """Return a tar file with a root filesystem made of busybox-static alone."""
    applets = subprocess.run([BUSYBOX, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for applet in applets:
            if applet != "busybox":  # it lists itself, and a link to itself is a loop
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for path, text in {"www/index.html": "<h1>nettap</h1>\n", "etc/passwd": "root:x:0:0::/:/bin/sh\n"}.items():
            file = tarfile.TarInfo(path)
            file.size, file.mode = len(text), 0o644
            tar.addfile(file, io.BytesIO(text.encode()))
    return out.getvalue()


def address(container: docker.models.containers.Container, network: str = "") -> str:
    """Return the IPv4 address of a running container, on its only network or on the one named."""
    container.reload()
    networks = container.attrs["NetworkSettings"]["Networks"]
    return (networks[network] if network else next(iter(networks.values())))["IPAddress"]


def execute(container: docker.models.containers.Container, *argv: str) -> tuple[int, str]:
    """Run a program in a running container; return its exit code, and what it prints.

    By the engine's own client: what the SDK's exec_run gets together with the headers of the answer is lost there.
    """
    done = subprocess.run(["docker", "exec", str(container.id), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def unix_socket() -> str:
    """Return the path of the engine's socket on this machine."""
    url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not url.startswith("unix://"):
        raise EngineError(f"The engine at {url} is not reached by a socket of this machine.")
    return url.removeprefix("unix://")


def run(argv: list[str]) -> int:
    """Run a command beside an engine that has the image; return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with engine() as client, image(client), subprocess.Popen(argv) as command:
        try:
            return command.wait()
        except KeyboardInterrupt:  # the terminal told the command as well: let it finish in its own way
            return command.wait()
        finally:
            command.terminate()


if __name__ == "__main__":
    if sys.argv[1:2] != ["run"] or len(sys.argv) < 3:
        sys.exit("usage: python tests/support/engine.py run COMMAND [ARGUMENT...]")
    try:
        sys.exit(run(sys.argv[2:]))
    except EngineError as error:
        sys.exit(f"engine: {error}")
