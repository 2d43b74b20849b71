# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks of steering measure on: containers on a bridge as Docker's, and dataplanes with an engine each.

A container is a network namespace with a veth to the bridge, so that 200 need no 200 containers of an engine; steering knows it
by its name (the option netns). The first one is the client.
"""

from __future__ import annotations

import collections.abc as c
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import typing as t

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "collections"), str(CHECKOUT / "tests/support")]

import engine  # noqa: E402
import steering_tools as tools  # noqa: E402
import takeover_lab  # noqa: E402
from ansible_cli import AnsibleCLI  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._steering import _control, _lifecycle  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._steering._bench import Bench  # noqa: E402
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target  # noqa: E402

MTU = 1500


class LabContainer(t.NamedTuple):
    """A namespace's name, its address and the host's end of its veth."""

    name: str
    address: str
    link: str


class Lab:
    """Use as a context manager; at its end nothing is left of it."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._number = 0
        self._requests: dict[str, _control.Request] = {}

    def __enter__(self) -> Lab:
        with contextlib.ExitStack() as stack:
            self._bridge, pool = stack.enter_context(engine.network())
            self._prefix = pool.rpartition(".")[0]
            self._undo = stack.pop_all()
        try:
            self.client = self.container().name
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._undo.close()

    def container(self, behind: str | None = None) -> LabContainer:
        """Makes one; behind is a namespace that its way to the bridge leads through, by the links vth0 and vth1. Docker, too, makes the
        host's end without a queue."""
        self._number += 1
        name, link, address = f"nettap-bench-{os.getpid()}-{self._number}", f"b{os.getpid()}n{self._number}", f"{self._prefix}.{self._number + 1}"
        self._namespace(name)
        self._link(link, "", *(("vth0", behind) if behind else ("eth0", name)))
        self._undo.callback(engine.ip, "link", "delete", link)  # with the namespace it would go in the kernel's own time
        engine.ip("link", "set", link, "master", self._bridge)
        if behind:
            self._link("vth1", behind, "eth0", name)
        engine.ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        engine.ip("-n", name, "link", "set", "lo", "up")
        return LabContainer(name, address, link)

    def _namespace(self, name: str) -> None:
        engine.ip("netns", "add", name)
        self._undo.callback(engine.ip, "netns", "delete", name)

    @staticmethod
    def _link(near: str, netns: str, far: str, far_netns: str) -> None:
        """Makes a veth from a namespace ("" is the host's) to another, and sets both ends up."""
        own = ["-n", netns] if netns else []
        engine.ip(*own, "link", "add", near, "mtu", str(MTU), "txqueuelen", "0", "type", "veth", "peer", "name", far, "mtu", str(MTU), "netns", far_netns)
        engine.ip(*own, "link", "set", near, "up")
        engine.ip("-n", far_netns, "link", "set", far, "up")

    def reflector(self, mode: str = "bridge", topology: str = "inplace") -> str:
        """Makes a dataplane whose engine is the kernel; returns its name."""
        name = self._dataplane(mode, topology)
        _lifecycle.present(name, topology, mode)
        takeover_lab.reflect(name, mode)
        return name

    def forwarder(self) -> str:
        """Makes a dataplane whose engine is the simplest process that is one; returns its name."""
        return self._run(*tools.FORWARDER, "vth0", "vth1")

    def suricata(self) -> str:
        """Makes a dataplane with Suricata; returns its name."""
        return self._run(*self._suricata())

    def suricata_by_hand(self) -> LabContainer:
        """Makes a container with the same Suricata as a plain bump between its link and the bridge, where no end has offloads, as Suricata's
        manual asks for."""
        space = f"nettap-hand-{os.getpid()}"
        self._namespace(space)
        container = self.container(behind=space)
        for netns, end in (("", container.link), (space, "vth0"), (space, "vth1"), (container.name, "eth0")):
            tools.command(*(["ip", "netns", "exec", netns] if netns else []), "ethtool", "-K", end, "tx", "off")
        process = self._undo.enter_context(subprocess.Popen(["ip", "netns", "exec", space, *self._suricata()], stdout=subprocess.DEVNULL))
        self._undo.callback(process.terminate)
        if not tools.wait_for(lambda: takeover_lab.ping(self.client, container.address), 60):
            raise SystemExit("Suricata by hand does not forward.")
        return container

    def _suricata(self) -> list[str]:
        """The command line of Suricata as the role configures it, with one rule that matches nothing here."""
        folder = pathlib.Path(self._undo.enter_context(tempfile.TemporaryDirectory(dir="/var/lib")))
        role = "nettap.containers.inline_protect"
        tasks = [{"ansible.builtin.include_role": {"name": role, "tasks_from": f"suricata/{part}"}} for part in ("install", "configure")]
        paths = {"folder": "etc", "log": "log", "socket": "run/socket", "logrotate": "logrotate.conf"}
        done = AnsibleCLI(folder / "ansible").playbook([{"hosts": "all", "gather_facts": False, "tasks": tasks}], extra_vars={
            **{f"inline_protect_suricata_{key}": str(folder / path) for key, path in paths.items()},
            "inline_protect_rules": ['drop http any any -> any any (msg:"bench"; http.uri; content:"nettap-bench"; sid:1; rev:1;)'],
        })
        if done.rc:
            raise SystemExit(done.output)
        return ["suricata", "-c", f"{folder}/etc/suricata.yaml", "--af-packet"]

    def _run(self, *argv: str) -> str:
        name = self._dataplane("bridge", "inplace")
        _lifecycle.present(name, "inplace", "bridge", engine=argv, timeout=60)
        return name

    def steer(self, dataplane: str, *containers: LabContainer) -> float:
        """What container_steering does with state: present, in one call for all; returns the seconds it took."""
        begun = time.perf_counter()
        with _targets(containers) as targets:
            _control.steer(targets, self._requests[dataplane], False)
        return time.perf_counter() - begun

    def release(self, dataplane: str, *containers: LabContainer) -> None:
        """What container_steering does with state: absent."""
        with _targets(containers) as targets:
            _control.release(targets, [], self._requests[dataplane], False)

    def _dataplane(self, mode: str, topology: str) -> str:
        name = f"b{os.getpid()}{len(self._requests)}"
        self._requests[name] = _control.Request(name, topology, mode, None, "steer", "open", 0, 20, None)
        self._undo.callback(self._remove, name)
        return name

    @staticmethod
    def _remove(name: str) -> None:
        with Bench(name) as bench, bench.journal.locked():
            bench.undo(bench.journal.records())
        _lifecycle.absent(name, False)


def engines_of(dataplane: str) -> list[int]:
    """The PIDs of a dataplane's engine."""
    pids: list[int] = _lifecycle.describe(dataplane)["engine_pids"]
    return pids


@contextlib.contextmanager
def _targets(containers: c.Sequence[LabContainer]) -> c.Iterator[list[_target.Target]]:
    with contextlib.ExitStack() as stack:
        yield [target for one in containers for target in stack.enter_context(_target.resolved({"netns": one.name}))]


@contextlib.contextmanager
def packets_as_on_a_wire(*names: str) -> c.Iterator[None]:
    """Without transmit checksums, and so without segmentation offload, in these containers."""
    for value in ("off", "on"):
        for name in names:
            tools.command("ip", "netns", "exec", name, "ethtool", "-K", "eth0", "tx", value)
        if value == "off":
            yield
