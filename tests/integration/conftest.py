"""Fixtures of the integration tests: the real kernel, a real Docker engine, the real command lines.

Whatever a fixture makes, it removes, also when the test fails; at the end `leftovers` fails the run if a
test left anything behind.
"""

from __future__ import annotations

import collections.abc as c
import contextlib
import fcntl
import functools
import itertools
import os
import pathlib
import signal
import typing as t
import uuid

import ansible_cli
import capture_tools
import docker
import docker.models.containers
import docker.models.networks
import engine as docker_engine
import leftovers as machine
import pytest
import ssh_server
from waiting import wait_for

numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """Return a name that fits a link (15 characters) and that no other run uses."""
    return f"{prefix}{os.getpid()}n{next(numbers)}"


def pytest_configure() -> None:
    """Refuse what cannot work, and clean up also when the run is told to end."""
    if os.geteuid() != 0:
        pytest.exit("The integration tests make namespaces, links and containers: run them as root.", 1)
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 128 + signal.SIGTERM))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Wait until no other run is under way on this machine: each would take the other's links for leftovers."""
    # With workers, these run the tests, each on a machine of its own (see own_machine.py).
    if not session.config.option.collectonly and session.config.getoption("dist", "no") == "no":
        machine_lock = os.open("/run", os.O_RDONLY)  # a folder can be locked, and nothing is left behind
        fcntl.flock(machine_lock, fcntl.LOCK_EX)  # given up by the kernel when this process ends


@pytest.fixture(scope="session", autouse=True)
def leftovers() -> c.Iterator[None]:
    """Fail the run when something is there after the tests that was not there before."""
    run = uuid.uuid4().hex
    before = machine.scan(run)
    os.environ["NETTAP_TEST_RUN"] = run  # inherited by every process of this run
    yield
    left: set[str] = set()

    def clean() -> bool:
        nonlocal left
        left = machine.scan(run) - before
        return not left

    if not wait_for(clean):
        pytest.fail("The tests left behind:\n" + "\n".join(sorted(left)), pytrace=False)


@pytest.fixture(scope="session")
def engine(leftovers: None) -> c.Iterator[docker.DockerClient]:
    """Give the client of a real Docker engine, which DOCKER_HOST names."""
    with docker_engine.engine() as client:
        before = {container.id for container in client.containers.list(all=True)}
        yield client
        left = [k for k in client.containers.list(all=True) if k.id not in before]
        for container in left:
            container.remove(force=True)
        assert not left, f"The tests left containers behind: {[k.name for k in left]}"


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> c.Iterator[str]:
    """Give the name of an image with busybox (sh, httpd, wget, nc, ping, ip …); it serves a page on port 80."""
    with docker_engine.image(engine) as name:
        yield name


@pytest.fixture
def container(
    engine: docker.DockerClient, image: str, network: c.Callable[..., docker.models.networks.Network]
) -> c.Iterator[c.Callable[..., docker.models.containers.Container]]:
    """Give container(command=None, name="", **docker_options): it starts one and returns the SDK's object.

    Useful options: labels={}, network="name" | "none" | "host" | "container:ID". Without a command it serves
    http://address(container)/ (`from engine import address`).
    """
    made = []

    def start(command: str | list[str] | None = None, name: str = "", **options: t.Any) -> docker.models.containers.Container:
        made.append(
            # Its first process is PID 1 there, for which SIGTERM does nothing unless handled.
            engine.containers.create(image, command, name=name or unique("c"), **{"stop_signal": "SIGKILL", **options})
        )
        made[-1].start()
        made[-1].reload()
        assert wait_for(functools.partial(has_begun, made[-1].attrs["State"]["Pid"]))
        return made[-1]

    yield start
    for one in made:
        with contextlib.suppress(docker.errors.NotFound):
            one.remove(force=True, v=True)


@pytest.fixture
def network(engine: docker.DockerClient) -> c.Iterator[c.Callable[..., docker.models.networks.Network]]:
    """Give network(name="", **docker_options): it makes a network of the engine."""
    with contextlib.ExitStack() as made:

        def make(name: str = "", **options: t.Any) -> docker.models.networks.Network:
            new = engine.networks.create(name or unique("net"), **options)
            made.callback(new.remove)
            return new

        yield make


@pytest.fixture
def netns() -> c.Iterator[c.Callable[..., str]]:
    """Give netns(name=""): it makes a named network namespace, its loopback up, and returns the name."""
    with contextlib.ExitStack() as made:

        def make(name: str = "") -> str:
            name = name or unique("nt")
            docker_engine.ip("netns", "add", name)
            made.callback(docker_engine.ip, "netns", "delete", name)
            docker_engine.ip("-n", name, "link", "set", "lo", "up")
            return name

        yield make


@pytest.fixture
def veth(netns: c.Callable[..., str]) -> c.Iterator[c.Callable[..., tuple[str, str]]]:
    """Give veth(inside, name="", peer="eth0", address="", host_address=""): it makes a link `name` here whose
    peer is `peer` in the namespace `inside`, both up, with addresses (ADDRESS/LENGTH) if any; returns both names."""
    with contextlib.ExitStack() as made:

        def make(inside: str, name: str = "", peer: str = "eth0", address: str = "", host_address: str = "") -> tuple[str, str]:
            name = name or unique("v")
            docker_engine.ip("link", "add", name, "type", "veth", "peer", "name", peer, "netns", inside)
            made.callback(remove_link, name)
            for given, link in ((host_address, [name]), (address, ["-n", inside, peer])):
                *where, link_name = link
                if given:
                    docker_engine.ip(*where, "address", "add", given, "dev", link_name, "nodad")
                docker_engine.ip(*where, "link", "set", link_name, "up")
            for where in (["-j", "link", "show", name], ["-j", "-n", inside, "link", "show", peer]):
                assert wait_for(functools.partial(is_up, *where))
            return name, peer

        yield make


def has_begun(pid: int) -> bool:
    """Whether runc has become the container's program, or that has ended: the engine says that it is started a moment before."""
    try:
        return not pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("runc")
    except OSError:
        return True


def is_up(*where: str) -> bool:
    """Whether the kernel has seen the carrier of a link, which `ip link show` tells."""
    return '"operstate":"UP"' in docker_engine.ip(*where)


def remove_link(name: str) -> None:
    """Delete a link that may have gone with its namespace."""
    if os.path.exists(f"/sys/class/net/{name}"):
        docker_engine.ip("link", "delete", name)


@pytest.fixture(scope="session")
def sshd(engine: docker.DockerClient) -> c.Iterator[ssh_server.SSHServer]:
    """Give a real SSH server; its host_vars put it into `hosts` of the command lines."""
    server = ssh_server.SSHServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def run_module() -> c.Callable[..., dict[str, t.Any]]:
    """Give run_module(name, args, check=False, diff=False, env={}, timeout=300): one module, without a command line."""
    return ansible_cli.run_module


@pytest.fixture
def cli(tmp_path: pathlib.Path) -> ansible_cli.AnsibleCLI:
    """Give the command lines; the fixtures `ansible` and `playbook` are its two methods."""
    return ansible_cli.AnsibleCLI(tmp_path / "ansible")


@pytest.fixture
def ansible(cli: ansible_cli.AnsibleCLI) -> c.Callable[..., ansible_cli.Finished]:
    """Give ansible(module, args, *options, hosts={name: vars}, extra_vars={}, env={}, timeout=300)."""
    return cli.ansible


@pytest.fixture
def playbook(cli: ansible_cli.AnsibleCLI) -> c.Callable[..., ansible_cli.Finished]:
    """Give playbook(path, name or plays, *options, hosts={name: vars}, extra_vars={}, env={}, timeout=300)."""
    return cli.playbook


@pytest.fixture
def captures(tmp_path: pathlib.Path) -> c.Iterator[capture_tools.Captures]:
    """Give the capture sessions of a storage path of their own; for what it can do see capture_tools.py."""
    with contextlib.closing(capture_tools.Captures(tmp_path / "sessions")) as sessions:
        yield sessions
