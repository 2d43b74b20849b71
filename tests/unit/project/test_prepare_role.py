"""The role prepare, run by ansible-playbook on the facts of many distributions: all hosts in one run, for a run costs seconds.

The modules that would change the machine are replaced by a stand-in (host_python.py) that returns their arguments.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
import sys
import typing as t

import ansible_cli
import pytest
import yaml

HERE = pathlib.Path(__file__).parent
FACTS: dict[str, dict[str, t.Any]] = yaml.safe_load((HERE / "distributions.yml").read_text())
EL = ["rhel-9", "rhel-10", "rocky-9", "alma-10"]
APT = {"install_recommends": False, "update_cache": True, "cache_valid_time": 86400}

NO_DNF = {"failed": True, "msg": "Failed to install some of the specified packages", "failures": ["No package python3-docker available."]}
NO_APT = {"failed": True, "msg": "No package matching 'python3-docker' is available"}
NO_ZYPPER = {"failed": True, "msg": "No provider of 'python311-docker' found."}
NO_SDK = {"rc": 1, "stderr": "Traceback (most recent call last):\nModuleNotFoundError: No module named 'docker'"}


@dataclasses.dataclass
class Host:
    """A host with the facts of a distribution, variables of the role, and what modules return there."""

    distribution: str
    variables: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    returns: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    def inventory(self, python: pathlib.Path) -> dict[str, t.Any]:
        """Its variables in the inventory; python is made."""
        returns = {"command": {"rc": 0, "changed": False}, **self.returns}
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -S {HERE / "host_python.py"} {shlex.quote(json.dumps(returns))} "$1"\n')
        python.chmod(0o755)
        version, executable = FACTS[self.distribution]["python"]
        major, minor, micro = map(int, version.split("."))
        facts = {**FACTS[self.distribution], "python": {"executable": executable, "version": {"major": major, "minor": minor, "micro": micro}}}
        return {"ansible_connection": "local", "ansible_python_interpreter": str(python), "recorded": facts, **self.variables}


HOSTS = {name: Host(name) for name in FACTS} | {
    "no-docker-rocky": Host("rocky-9", {"prepare_docker": False}),
    "no-docker-sles": Host("sles-15", {"prepare_docker": False}),
    "own-packages": Host("debian-12", {"prepare_docker": False, "prepare_packages": ["tcpdump-mine"]}),
    "other-packages": Host("arch", {"prepare_packages": ["tcpdump-mine"]}),
    "nowhere-rhel": Host("rhel-9", returns={"dnf": NO_DNF}),
    "nowhere-ubuntu": Host("ubuntu-22.04", returns={"apt": NO_APT}),
    "nowhere-debian": Host("debian-11", returns={"apt": NO_APT}),
    "nowhere-sles": Host("sles-15", returns={"zypper": NO_ZYPPER}),
    "nowhere-no-docker": Host("rocky-9", {"prepare_docker": False}, {"dnf": NO_DNF}),
    # EL 9 with a python3.12 beside its own
    "other-python": Host("rocky-9", returns={"command": NO_SDK}),
}


def prepare(folder: pathlib.Path, hosts: t.Iterable[str], *options: str) -> ansible_cli.Finished:
    """Run the role on these of HOSTS."""
    library = folder / "library"
    library.mkdir()
    # Without a module zypper, which is in community.general, nothing would be tried; what runs is the stand-in.
    (library / "zypper.py").write_text("from ansible.module_utils.basic import AnsibleModule\n")
    inventory = {name: HOSTS[name].inventory(folder / f"python-{name}") for name in hosts}
    facts = {key: f"{{{{ hostvars[item].recorded.{key} }}}}" for key in next(iter(inventory.values()))["recorded"]}
    told = {"ansible.builtin.set_fact": {**facts, "cacheable": True}, "delegate_to": "{{ item }}", "delegate_facts": True}
    play = {
        "hosts": "all", "gather_facts": False, "roles": ["nettap.containers.prepare"],
        # By one worker for all hosts, and not by one for each.
        "pre_tasks": [{"name": "Know what setup has found", "run_once": True, "loop": list(inventory), **told}],
    }  # fmt: skip
    env = {"ANSIBLE_LIBRARY": str(library), "ANSIBLE_COLLECTIONS_PATH": str(ansible_cli.ROOT / "collections")}
    return ansible_cli.AnsibleCLI(folder).playbook([play], *options, hosts=inventory, env=env)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> ansible_cli.Finished:
    """The one run over all HOSTS."""
    return prepare(tmp_path_factory.mktemp("prepare"), HOSTS)


def installed(done: ansible_cli.Finished, host: str) -> tuple[str, dict[str, t.Any]]:
    """The module that would have installed packages on a host, and its arguments."""
    found, = [entry["result"] for entry in done.results if entry["host"] == host and entry["result"].get("module") not in (None, "command")]
    return found["module"], found["args"]


def failed(done: ansible_cli.Finished) -> set[str]:
    """The hosts that have not gone through."""
    return {entry["host"] for entry in done.results if entry["status"] == "failed"}


@pytest.mark.parametrize(
    ("hosts", "module", "packages", "options"),
    [
        (["debian-11", "debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"], "apt",
         ["tcpdump", "util-linux", "iproute2", "python3-pyroute2", "python3-docker"], APT),
        (EL, "dnf", ["tcpdump", "util-linux", "iproute", "python3-pyroute2", "python3-docker"], {"state": "present"}),
        (["fedora"], "dnf5", ["tcpdump", "util-linux", "iproute", "python3-pyroute2", "python3-docker"], {"state": "present"}),
        # Of the Python on which Ansible runs: the python3 of SUSE 15 is 3.6.
        (["leap-15.6", "sles-15"], "zypper", ["tcpdump", "util-linux", "iproute2", "python311-pyroute2", "python311-docker"], {"state": "present"}),
        (["leap-16", "sles-16", "tumbleweed"], "zypper", ["tcpdump", "util-linux", "iproute2", "python313-pyroute2", "python313-docker"], {"state": "present"}),
    ],
)  # fmt: skip
def test_packages(done: ansible_cli.Finished, hosts: list[str], module: str, packages: list[str], options: dict[str, t.Any]) -> None:
    for host in hosts:
        assert installed(done, host) == (module, {"name": packages, **options}), host
        assert done.result("Look for the libraries", host)["args"]["argv"] == [FACTS[host]["python"][1], "-c", "import pyroute2, docker.errors"], host
        assert host not in failed(done)


def test_distribution_that_is_not_known(done: ansible_cli.Finished) -> None:
    """It is told what to do; no other of those with recorded facts fails."""
    assert failed(done) & set(FACTS) == {"arch"}
    assert done.result("Check that its packages are known", "arch")["msg"] == (
        "The packages of Archlinux are not known to this role: set prepare_packages to those that bring tcpdump, nsenter, ip, and "
        "pyroute2 and docker for Python."
    )  # fmt: skip


def test_options(done: ansible_cli.Finished) -> None:
    base = {"no-docker-rocky": ["iproute", "python3-pyroute2"], "no-docker-sles": ["iproute2", "python311-pyroute2"]}
    wanted = {host: ["tcpdump", "util-linux", *own] for host, own in base.items()} | {"own-packages": ["tcpdump-mine"]}
    assert {host: installed(done, host)[1]["name"] for host in wanted} == wanted
    for host in wanted:
        assert done.result("Look for the libraries", host)["args"]["argv"][-1] == "import pyroute2", host
    assert not failed(done) & set(wanted)


def test_package_that_is_nowhere(done: ansible_cli.Finished) -> None:
    """The package manager's words, and the repository that has the package."""
    told = {host: done.result("Fail with the packages that could not be installed", host)["msg"] for host in HOSTS if host.startswith("nowhere-")}
    why = "Failed to install some of the specified packages No package python3-docker available."
    assert told["nowhere-rhel"] == (
        f"tcpdump, util-linux, iproute, python3-pyroute2, python3-docker could not be installed on RedHat 9.7: {why} The libraries for Python are in EPEL "
        "(https://docs.fedoraproject.org/en-US/epel/getting-started/): enable it."
    )  # fmt: skip
    assert told["nowhere-no-docker"].startswith(f"tcpdump, util-linux, iproute, python3-pyroute2 could not be installed on Rocky 9.6: {why} The libraries")
    assert "are in the component universe (" in told["nowhere-ubuntu"]
    assert told["nowhere-debian"].endswith("on Debian 11.11: No package matching 'python3-docker' is available")
    assert "are in the Python 3 Module (" in told["nowhere-sles"]


def test_python_without_the_sdk(done: ansible_cli.Finished) -> None:
    assert done.result("Check that Ansible's Python has the libraries", "other-python")["msg"] == (
        "/usr/bin/python3.9, on which Ansible runs the modules of this host, lacks a library (ModuleNotFoundError: No module named 'docker'): "
        "set ansible_python_interpreter to the Python that python3-pyroute2, python3-docker are for, as a rule /usr/bin/python3."
    )  # fmt: skip


def test_no_module_for_the_package_manager(done: ansible_cli.Finished) -> None:
    """As with ansible-core alone on SUSE: zypper is in community.general, too."""
    assert done.result("Fail with the packages that could not be installed", "other-packages")["msg"] == (
        "tcpdump-mine could not be installed on Archlinux NA: Could not find a matching action for the \"pacman\" package manager. "
        "Its module is in the collection community.general, which the controller lacks."
    )  # fmt: skip


def test_check_mode(tmp_path: pathlib.Path) -> None:
    """What is not installed yet cannot be looked for."""
    done = prepare(tmp_path, ["debian-13"], "--check")
    assert installed(done, "debian-13")[0] == "apt" and not failed(done)
    assert not [entry for entry in done.results if "Look for the libraries" in entry["task"] and entry["status"] != "skipped"]
