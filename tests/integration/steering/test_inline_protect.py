# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inline protection as a whole: the playbooks, real containers on Docker's bridge, a real Suricata, and dp's stand-in."""

from __future__ import annotations

import collections.abc as c
import contextlib
import glob
import os
import pathlib
import re
import signal
import statistics
import sys
import time
import typing as t

import docker.models.containers
import docker.types
import dp_notices
import dp_peer
import pytest
import steering_tools as tools
import suricata_role
from ansible_cli import AnsibleCLI, Finished, Running
from ansible_collections.nettap.containers.plugins.module_utils._background import _keeper
from ansible_collections.nettap.containers.plugins.module_utils._system import _process
from engine import address, execute
from ping_stream import PingStream, Result
from suricata_role import SuricataRole
from waiting import wait_for

Container = docker.models.containers.Container
RunModule = t.Callable[..., dict[str, t.Any]]
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
        assert wait_for(lambda: all(self.answers(GOOD)), 20)

    def settles(self, path: str, *wanted: bool) -> bool:
        """Whether so it is answered in the end, by default to all: what is lost once is sent again."""
        return wait_for(lambda: self.answers(path) == list(wanted or [True] * 4))

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
        code, page = execute(self.client, "timeout", "1", "wget", "-q", "-O", "-", f"http://{place}{path}")
        return code == 0 and "nettap" in page


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
        assert wait_for(lambda: self.info()["dataplane"]["engine_pids"], 20)
        (pid,) = self.info()["dataplane"]["engine_pids"]
        return int(pid)

    def left(self) -> list[str]:
        """What is there of a dataplane and its engine, but for the log."""
        ours = [f"{self.folder}/etc/*", f"{self.folder}/logrotate.conf"]
        patterns = [NETNS, SOCKET, "/run/nettap/services/*", f"{JOURNAL}/*.json", "/run/nettap/dataplane/*", "/run/nettap/private/*", *ours]
        return [path for pattern in patterns for path in glob.glob(pattern)]

    def clean(self) -> None:
        """Whatever has happened, take all out."""
        for state in (self._run_module("container_steering", {"container": ["*"], "state": "absent", "allow_missing": True}),
                      self._run_module("container_dataplane", {"state": "absent"})):  # fmt: skip
            assert "msg" not in state, state
        for path in (SOCKET, "/run/nettap/events/nettap.json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


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
    return t.cast("list[str]", done.result("Show the containers' state")["msg"])


@pytest.mark.slow
def test_protect_and_unprotect(protection: Protection, site: Site) -> None:
    """A connection that is there all the time goes on, whatever is done; each step does what check mode says, once."""
    assert site.settles(EVIL)
    tools.settle()
    host, inside = tools.snapshot(), tools.snapshot(site.pid)
    planned = protection.play("protect.yml", "--check")
    assert protection.left() == [] and not tools.differences(host, tools.snapshot())

    with tools.Transfer(site.pid, site.v4, 1e6), tools.Transfer(site.pid, site.v6, 1e6):
        done = protection.play("protect.yml")
        assert changed(done) == [*changed(planned), "Confirm"] and "Steer the traffic through the engine" in changed(done), changed(planned)
        assert site.settles(GOOD) and not any(site.answers(EVIL))
        assert changed(protection.play("protect.yml")) == []
        assert not tools.differences(inside, tools.snapshot(site.pid))

        told = summary(protection.play("playbooks/protect_status.yml"))
        figures = re.fullmatch(rf"{site.web.name} eth0: steered, (\d+) packets out \(\d+ dropped\), (\d+) in \((\d+) dropped\), 4 alerts", told[0])
        assert figures and told[1:] == ["    4 x blocked evil page (1)"], told
        # A handshake and a request at least, of each of the eight; each evil request was dropped.
        assert int(figures[1]) >= 16 and int(figures[2]) >= 24 and int(figures[3]) >= 4, told

        engine = protection.engine()
        bypassed = protection.play("protect.yml", state="bypassed")
        assert summary(bypassed)[0].startswith(f"{site.web.name} eth0: bypassed, ") and site.settles(EVIL)
        assert changed(protection.play("protect.yml", rules=RULES)) == ["Write the rules, unless Suricata refuses one", "Reload the engine's rules",
                                                                        "Steer the traffic through the engine"]  # fmt: skip
        assert protection.engine() == engine
        assert site.settles(GOOD) and not any(site.answers(EVIL)) and not any(site.answers(WORSE))

        with tools.kept_down(engine):
            assert wait_for(lambda: protection.info()["steering"][0]["status"] == "bypassed")
        assert wait_for(lambda: protection.info()["steering"][0]["status"] == "steered")
        assert protection.engine() != engine
        assert site.settles(GOOD) and not any(site.answers(EVIL)) and not any(site.answers(WORSE))

        planned = protection.play("unprotect.yml", "--check", "--diff")
        assert not any(site.answers(EVIL))
        done = protection.play("unprotect.yml", "--diff")
        assert changed(done) == changed(planned) and site.settles(EVIL)
        taken_out = "Restore the containers' original path"
        assert done.result(taken_out)["diff"] == planned.result(taken_out)["diff"] and done.result(taken_out)["diff"]["before"]["filters"]
    assert protection.left() == []
    assert not tools.differences(inside, tools.snapshot(site.pid)) and not tools.differences(host, tools.snapshot())
    words = rf"Suricata's logs .*stay in {protection.folder}/log: 1 file with [\d.]+ [KM]B. With inline_protect_remove_logs=true they are removed."
    assert re.fullmatch(words, done.result("Show where they are")["msg"])
    assert changed(protection.play("unprotect.yml", remove_logs=True)) == ["Remove Suricata's logs"]
    assert not (protection.folder / "log").exists()


@pytest.mark.slow
def test_what_fails_is_undone(protection: Protection, site: Site) -> None:
    """All of it, with a message that says what and where."""
    tools.settle()
    host = tools.snapshot()
    said = protection.refused(rules=[NO_PINGS])
    assert said.startswith(f"eth0 of {site.web.name} does not answer pings to {site.v4}, {site.v6} any more through the dataplane nettap")
    assert "inline_protect_verify: false" in said
    assert protection.left() == [] and not tools.differences(host, tools.snapshot())
    said = protection.refused(rules=["drop tcp any any -> any any (msg:no; no_such_keyword; sid:9;)"])
    assert said.startswith("The rules were not written") and "no_such_keyword" in said
    assert protection.left() == []
    said = protection.refused(suricata_argv=["sh", "-c", "echo mute; sleep 1000"], engine_timeout=5)
    assert "does not forward" in said and "The engine said: mute" in said
    assert protection.left() == [] and site.settles(EVIL) and not tools.differences(host, tools.snapshot())


@pytest.mark.slow
def test_half_done_runs_and_a_dataplane_that_is_gone(protection: Protection, site: Site) -> None:
    tools.settle()
    host = tools.snapshot()

    def killed_once(there: t.Callable[[], object]) -> None:
        running = protection.start("protect.yml", fail_mode="closed")
        try:
            assert wait_for(there, 120), running.output
        finally:
            running.kill()
        assert running.wait().rc == -signal.SIGKILL

    killed_once(lambda: os.path.exists(NETNS))
    assert protection.left()
    protection.play("unprotect.yml")
    assert protection.left() == [] and not tools.differences(host, tools.snapshot())

    killed_once(lambda: glob.glob(f"{JOURNAL}/*.json"))
    protection.play("protect.yml", fail_mode="closed")
    assert site.settles(GOOD) and not any(site.answers(EVIL))

    engine = protection.engine()
    tools.command("ip", "netns", "delete", "nettap")
    os.kill(engine, signal.SIGKILL)
    assert wait_for(lambda: not os.path.exists(f"/proc/{engine}"))
    assert not any(site.answers(GOOD)), "closed"
    protection.play("unprotect.yml")
    # The watchdog was the last that held the namespace, which the kernel takes down in its own time.
    assert wait_for(lambda: not os.path.exists("/sys/class/net/vbr0"))
    assert protection.left() == [] and site.settles(EVIL) and not tools.differences(host, tools.snapshot())


@pytest.fixture(name="suricata", scope="module")
def make_suricata(tmp_path_factory: pytest.TempPathFactory) -> SuricataRole:
    role = SuricataRole(tmp_path_factory.mktemp("suricata"))
    done = role.run("configure", rules=RULES[:1])
    assert done.rc == 0, done.output
    return role


@pytest.fixture(name="behind")
def make_behind(protection: Protection, suricata: SuricataRole, run_module: RunModule) -> c.Callable[..., str]:
    """Give behind(check=False, **options): the container is steered through Suricata, by the modules; returns the host's end of its veth."""
    made = run_module("container_dataplane", {"engine": suricata.argv})
    assert made.get("changed"), made

    def steer(check: bool = False, **options: t.Any) -> str:
        result = run_module("container_steering", {"container": [protection.name], **options}, check=check)
        assert result.get("changed"), result
        return t.cast("str", result["steering"][0]["host_peer"])

    return steer


def noise(steady: list[Result]) -> float:
    """Return how late pings are where nothing is changed: 0, or seconds where the machine is busy with other things."""
    silence = statistics.median(one.silence for one in steady)
    return silence if silence >= 0.01 else 0


@pytest.mark.alone
@pytest.mark.slow
def test_silence_when_put_in_and_taken_out(site: Site, behind: c.Callable[..., str]) -> None:
    """Each round beside one in which the same tasks, in check mode, change nothing."""
    results: dict[bool, list[Result]] = {True: [], False: []}
    with tools.Transfer(site.pid, site.v4, 2e6):
        for _round in range(10):
            for check in (True, False):
                with PingStream(site.v4, 500) as stream:
                    behind(check)
                    time.sleep(0.1)
                    behind(check, state="absent" if not check else "present")
                results[check].append(stream.result)
    print("lost and silence, steady and put in and out:", [[(one.lost, round(one.silence, 4)) for one in some] for some in results.values()])
    lost = {check: statistics.median(one.lost for one in some) for check, some in results.items()}
    # With a link's first qdisc and its last the kernel stops the link's queue for an instant, and drops what the link sends meanwhile.
    assert lost[False] <= lost[True] + 2, results
    assert statistics.median(one.silence for one in results[False]) <= 0.030 + noise(results[True]), results


@pytest.mark.alone
@pytest.mark.slow
def test_killed_engine_is_passed_by(protection: Protection, site: Site, behind: c.Callable[..., str]) -> None:
    link = behind()
    steady, killed = [], []
    with tools.Transfer(site.pid, site.v4):
        for _round in range(5):
            with PingStream(site.v4, 500) as stream:
                engine = protection.engine()
            steady.append(stream.result)
            with PingStream(site.v4, 500) as stream:
                time.sleep(0.1)
                with tools.kept_down(engine):
                    assert wait_for(lambda: tools.own_filters(link) == [])
                    assert tools.get(site.v4, EVIL) == 200
                assert wait_for(lambda: len(tools.own_filters(link)) == 2, 20)
                assert tools.get(site.v4, EVIL, timeout=1) == 0 and tools.get(site.v4) == 200
            killed.append(stream.result)
    print("silence, steady and killed:", [[round(one.silence, 4) for one in some] for some in (steady, killed)])
    assert statistics.median(one.silence for one in killed) <= 0.1 + noise(steady), (steady, killed)


@pytest.mark.slow
def test_killed_engine_is_not_passed_by_when_closed(protection: Protection, site: Site, behind: c.Callable[..., str]) -> None:
    behind(fail_mode="closed")
    engine = protection.engine()
    with PingStream(site.v4, 500) as stream:
        with tools.kept_down(engine):
            assert wait_for(lambda: _process.start_time(engine) is None)
            assert [tools.get(site.v4, timeout=0.2) for _round in range(3)] == [0] * 3
        assert wait_for(lambda: tools.get(site.v4, timeout=1) == 200)
    assert stream.result.silence > _keeper.PAUSE
    assert not any(site.answers(EVIL)) and site.settles(GOOD)


@pytest.mark.slow
def test_neuvector(protection: Protection, site: Site, run_module: RunModule) -> None:
    """The role's other engine, for which tests/support/dp_peer.py stands in: it speaks dp's protocol and keeps its IPv4 rules."""
    host, asking = f"{site.v4.rpartition('.')[0]}.1", address(site.client)
    options = {
        "dataplane": "neuvector", "neuvector_dp": [sys.executable, dp_peer.__file__], "neuvector_internal_networks": [f"{host}/24"],
        "default_action": "deny",
    }  # fmt: skip
    socket = "/run/nettap/private/nettap/tmp/dp_listen.sock"

    def policy(allowed: str, denied: str) -> list[dict[str, t.Any]]:
        return [{"action": action, "source": source, "port": 80, "protocol": "tcp"} for action, source in (("allow", allowed), ("deny", denied))]

    def rules() -> list[tuple[str, int, str]]:
        sessions = run_module("neuvector_dataplane_info", {"socket": socket, "list_sessions": True})["session_list"]
        return sorted({(one["client"], one["rule"], one["action"]) for one in sessions if one["server_port"] == 80 and one["direction"] == "ingress"})

    done = protection.play("protect.yml", policy=policy(host, asking), **options)
    assert re.match(rf"{site.web.name} eth0: steered, [1-9]\d* packets out \(0 dropped\), [1-9]\d* in \(0 dropped\)", summary(done)[0])
    # dp has rules for IPv4 alone, and the default is to deny: IPv6 is dropped.
    assert site.settles(GOOD, True, False, False, False)
    assert rules() == [(host, 1, "allow")], "dp makes no session of what it denies"
    assert changed(protection.play("protect.yml", policy=policy(host, asking), **options)) == []
    engine = protection.engine()
    assert os.path.getsize(f"/proc/{engine}/root/dev/shm/dp_mnt.shm") == 20, "dp needs it, whatever its command line is"
    assert not os.path.exists("/tmp/dp_listen.sock") and os.path.exists(f"/proc/{engine}/root/tmp/dp_listen.sock")
    assert changed(protection.play("protect.yml", policy=policy(asking, host), **options)) == ["Configure dp"]
    assert site.settles(GOOD, False, False, True, False) and protection.engine() == engine

    # Another container: first what fails leaves nothing of it in dp, then it gets a policy of its own.
    web, protection.name = protection.name, str(site.client.name)
    (known,) = run_module("neuvector_dataplane_info", {"socket": socket})["workloads"]
    os.kill(engine, signal.SIGUSR1)  # it answers at its socket, and forwards nothing
    assert "does not forward" in protection.refused(policy=policy(asking, host), engine_timeout=1, **options)
    os.kill(engine, signal.SIGUSR2)
    assert [one["mac"] for one in run_module("neuvector_dataplane_info", {"socket": socket})["workloads"]] == [known["mac"]]
    outward = [{"action": "allow", "direction": "egress", "destination": "any", "port": 80, "protocol": "tcp"}]
    assert changed(protection.play("protect.yml", policy=outward, **options)) == ["Configure dp", "Steer the traffic through the engine", "Confirm"]
    assert site.settles(GOOD, False, False, True, False)

    # One that is started again knows nothing; the watchdog tells it what the one before was told.
    with tools.kept_down(engine):
        assert wait_for(lambda: protection.info()["steering"][0]["status"] == "bypassed") and tools.get(site.v4) == 200
    assert wait_for(lambda: [one["status"] for one in protection.info()["steering"]] == ["steered"] * 2)
    assert site.settles(GOOD, False, False, True, False) and protection.engine() != engine

    # What dp reports reaches the log, with the container's name, and from there the summary. Nobody has to say again which engine it is.
    (mac,) = [one["mac"] for one in protection.info()["steering"] if one["container"] == web]
    dp_notices.send(os.path.join(os.path.dirname(socket), "ctrl_listen.sock"), dp_notices.connections((mac, host, site.v4, 80, dp_notices.DENY, 2, 3)),
                    dp_notices.threat(mac, 1002, host, site.v4, count=70))  # fmt: skip
    assert wait_for(lambda: len(run_module("neuvector_events_info")["events"]) == 2)
    told = summary(protection.play("playbooks/protect_status.yml"))
    assert [line for line in told if line.startswith(" ")] == ["    70 x drop icmp_flood", "    3 x deny by rule 2"], told
    assert any(re.fullmatch(rf"{web} eth0: steered, .*, 73 alerts", line) for line in told), told

    assert changed(protection.play("unprotect.yml")) == ["Restore the containers' original path", "Remove the containers from NeuVector's dp"]
    assert [one["mac"] for one in run_module("neuvector_dataplane_info", {"socket": socket})["workloads"]] == [mac]
    assert site.settles(GOOD, False, False, True, False)
    protection.name = web
    protection.play("unprotect.yml")
    assert site.settles(GOOD) and protection.left() == []
