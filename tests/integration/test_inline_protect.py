# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inline protection as a whole: the playbooks, real containers on Docker's bridge, a real Suricata, and dp's stand-in."""

from __future__ import annotations

import collections.abc as c
import contextlib
import glob
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time
import typing as t

import docker.models.containers
import docker.types
import dp_peer
import pytest
import steering_tools as tools
import suricata_role
from ansible_cli import AnsibleCLI, Finished, Running
from ping_stream import PingStream

Container = docker.models.containers.Container
RunModule = t.Callable[..., t.Dict[str, t.Any]]
GOOD, EVIL, WORSE = "/", "/?evil", "/?worse"
RULES = [f'drop http any any -> any any (msg:"{word} page"; http.uri; content:"{word}"; sid:{sid}; rev:1;)' for sid, word in ((1, "evil"), (2, "worse"))]
NO_PINGS = 'drop icmp any any -> any any (msg:"ping"; sid:3; rev:1;)'
NETNS, SOCKET, JOURNAL = "/run/netns/nettap", "/run/nettap/suricata-nettap.socket", "/run/nettap/steering/nettap"


class Site:
    """A web server in a container, and those who ask it: this host, and a container on the same bridge."""

    def __init__(self, web: Container, client: Container, network: str) -> None:
        self.web, self.client = web, client
        settings = web.attrs["NetworkSettings"]["Networks"][network]
        self.v4, self.v6 = settings["IPAddress"], settings["GlobalIPv6Address"]
        assert tools.wait_for(lambda: all(self.answers(GOOD)), 20)

    @property
    def pid(self) -> int:
        """The PID of the server."""
        return int(self.web.attrs["State"]["Pid"])

    def answers(self, path: str) -> list[bool]:
        """Who gets the page: the host by IPv4 and IPv6, then the container by both."""
        places = [self.v4, f"[{self.v6}]"]
        return [tools.get(place, path, timeout=1) == 200 for place in places] + [self.client_gets(place, path) for place in places]

    def client_gets(self, place: str, path: str = GOOD) -> bool:
        """Whether the container gets the page."""
        # Not with -T: Debian's static busybox crashes then.
        code, page = self.client.exec_run(["timeout", "1", "wget", "-q", "-O", "-", f"http://{place}{path}"])
        return code == 0 and b"nettap" in page


@pytest.fixture(name="site")
def make_site(container: c.Callable[..., Container], network: c.Callable[..., t.Any]) -> Site:
    pool = docker.types.IPAMPool(subnet=f"fd00:{os.getpid() & 0xFFFF:x}::/64")
    name = network(enable_ipv6=True, ipam=docker.types.IPAMConfig(pool_configs=[pool])).name
    return Site(container(network=name), container("sleep 1000", network=name), name)


class Protection:
    """The playbooks about one container; their files are in a folder of the test's own."""

    def __init__(self, cli: AnsibleCLI, folder: pathlib.Path, run_module: RunModule) -> None:
        self.folder = folder
        self.name = ""  # of the container
        self._cli, self._run_module = cli, run_module

    def start(self, playbook: str, *options: str, **variables: t.Any) -> Running:
        """Start a playbook; variables are the role's, without its name."""
        values = {"container": [self.name], "rules": RULES[:1], "suricata_stats_interval": 1, **variables}
        return self._cli.start_playbook(playbook, *options, extra_vars={
            **suricata_role.paths(self.folder), **{f"inline_protect_{name}": value for name, value in values.items()},
        }, env={"ANSIBLE_PIPELINING": "1"})  # fmt: skip

    def play(self, playbook: str, *options: str, **variables: t.Any) -> Finished:
        """Run a playbook, which must not fail."""
        done = self.start(playbook, *options, **variables).wait()
        assert done.rc == 0, done.output
        return done

    def refused(self, **variables: t.Any) -> str:
        """Run protect.yml, which must fail, and return what it says at last."""
        done = self.start("protect.yml", **variables).wait()
        assert done.rc != 0, done.output
        return t.cast("str", done.results[-1]["result"]["msg"])

    def info(self) -> dict[str, t.Any]:
        """What container_steering_info tells."""
        return self._run_module("container_steering_info")

    def engine(self) -> int:
        """The PID of the engine, once there is one that reads."""
        pids: list[int] = []
        assert tools.wait_for(lambda: pids.extend(self.info()["dataplane"]["engine_pids"]) or pids, 20)
        return pids[0]

    def left(self) -> list[str]:
        """What is there of a dataplane and its engine, but for the log."""
        paths = [NETNS, SOCKET, *glob.glob("/run/nettap/services/*"), *glob.glob(f"{JOURNAL}/*.json"), *map(str, self.folder.glob("etc/*"))]
        return [path for path in [*paths, str(self.folder / "logrotate.conf")] if os.path.exists(path)]

    def clean(self) -> None:
        """Whatever has happened, take all out."""
        for state in (self._run_module("container_steering", {"container": ["*"], "state": "absent", "allow_missing": True}),
                      self._run_module("container_dataplane", {"state": "absent"})):  # fmt: skip
            assert "msg" not in state, state
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)


@pytest.fixture(name="protection")
def make_protection(cli: AnsibleCLI, tmp_path: pathlib.Path, run_module: RunModule, site: Site) -> c.Iterator[Protection]:
    protection = Protection(cli, tmp_path, run_module)
    protection.name = str(site.web.name)
    yield protection
    protection.clean()


def changed(done: Finished) -> list[str]:
    """The tasks that changed something."""
    return [entry["task"].rpartition(" : ")[2] for entry in done.results if entry["result"].get("changed")]


def summary(done: Finished) -> list[str]:
    """What the play says of the containers."""
    return t.cast("list[str]", done.result("Say how they fare")["msg"])


@pytest.mark.slow
@pytest.mark.timeout(600)  # nine runs of ansible-playbook
def test_protect_and_unprotect(protection: Protection, site: Site) -> None:
    """A connection that is there all the time goes on, whatever is done; each step does what check mode says, once."""
    assert all(site.answers(EVIL))
    tools.settle()
    host, inside = tools.snapshot(), tools.snapshot(site.pid)
    planned = protection.play("protect.yml", "--check")
    assert protection.left() == [] and not tools.differences(host, tools.snapshot())

    with tools.Transfer(site.pid, site.v4, 5e6), tools.Transfer(site.pid, site.v6, 5e6):
        done = protection.play("protect.yml")
        assert changed(done) == [*changed(planned), "Confirm"] and "Send the traffic through it" in changed(done), changed(planned)
        assert all(site.answers(GOOD)) and not any(site.answers(EVIL))
        assert changed(protection.play("protect.yml")) == []
        assert not tools.differences(inside, tools.snapshot(site.pid))

        told = summary(protection.play("playbooks/protect_status.yml"))
        figures = re.fullmatch(rf"{site.web.name} eth0: steered, (\d+) packets out \(\d+ dropped\), (\d+) in \((\d+) dropped\), 4 alerts", told[0])
        assert figures and told[1:] == ["    4 x blocked evil page (1)"], told
        # A handshake and a request at least, of each of the eight; each evil request was dropped.
        assert int(figures[1]) >= 16 and int(figures[2]) >= 24 and int(figures[3]) >= 4, told

        engine = protection.engine()
        bypassed = protection.play("protect.yml", state="bypassed")
        assert summary(bypassed)[0].startswith(f"{site.web.name} eth0: bypassed, ") and all(site.answers(EVIL))
        assert changed(protection.play("protect.yml", rules=RULES)) == ["Write the rules, unless Suricata refuses one", "Have the engine read its rules",
                                                                        "Send the traffic through it"]  # fmt: skip
        assert protection.engine() == engine
        assert all(site.answers(GOOD)) and not any(site.answers(EVIL)) and not any(site.answers(WORSE))

        os.kill(engine, signal.SIGKILL)
        assert tools.wait_for(lambda: protection.info()["steering"][0]["status"] == "bypassed")
        assert tools.wait_for(lambda: protection.info()["steering"][0]["status"] == "steered", 20)
        assert protection.engine() != engine
        assert all(site.answers(GOOD)) and not any(site.answers(EVIL)) and not any(site.answers(WORSE))

        planned = protection.play("unprotect.yml", "--check")
        assert not any(site.answers(EVIL))
        done = protection.play("unprotect.yml")
        assert changed(done) == changed(planned) and all(site.answers(EVIL))
        taken_out = "Give the containers back their way"
        assert done.result(taken_out)["diff"] == planned.result(taken_out)["diff"] and done.result(taken_out)["diff"]["before"]["filters"]
    assert protection.left() == []
    assert not tools.differences(inside, tools.snapshot(site.pid)) and not tools.differences(host, tools.snapshot())
    assert changed(protection.play("unprotect.yml")) == []
