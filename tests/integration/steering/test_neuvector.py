# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""neuvector_dataplane against the stand-in for dp (tests/support/dp_peer.py), with frames on a real service link."""

from __future__ import annotations

import collections.abc as c
import concurrent.futures
import contextlib
import dataclasses
import glob
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

import ansible_cli
import dp_peer
import engine as docker_engine
import pytest
import steering_tools as tools
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._sockets import Sockets
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp, _follow
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _protocol as protocol
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._session import NotRunning, Session
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns
from waiting import wait_for

Result = dict[str, t.Any]
MAC, TAG, ADDRESS = "02:42:0a:63:00:02", "4e:65:75:56:00:01", "10.99.0.2"
MAC2, TAG2, ADDRESS2 = "02:42:0a:63:00:03", "4e:65:75:56:00:02", "10.99.0.3"
PEER, OUTSIDE = "10.99.0.1", "192.0.2.1"
OTHER = "02:00:00:00:00:99"  # the MAC of whoever a workload talks to
WEB: Result = {"mac": MAC, "tag_mac": TAG, "addresses": [ADDRESS]}
DB: Result = {"mac": MAC2, "tag_mac": TAG2, "addresses": [ADDRESS2]}
BASE: Result = {"internal_networks": ["10.99.0.0/24"], "service_port": "vth", "workloads": [WEB]}
TCP, UDP, ICMP = 6, 17, 1
RECORDS = "/run/nettap/dataplane"


def frame(
    source: str, destination: str, protocol_number: int = TCP, port: int = 80, client_port: int = 40000, tag: str = TAG, size: int = 0,
    flags: int = dp_peer.SYN,
) -> bytes:
    """A frame as it comes on the service link: to the workload if it has the destination, from it otherwise."""
    inward = destination in (ADDRESS, ADDRESS2)
    macs = [tag, OTHER] if inward else [OTHER, tag]
    if protocol_number == ICMP:
        inner = struct.pack(">BBHHH", 8, 0, 0, 7, 1)
    else:
        inner = struct.pack(">HH", client_port, port) + (struct.pack(">IIBBHHH", 1, 0, 5 << 4, flags, 1000, 0, 0) if protocol_number == TCP else bytes(4))
    inner += bytes(size)
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(inner), 0, 0, 64, protocol_number, 0, socket.inet_aton(source), socket.inet_aton(destination))
    return bytes.fromhex("".join(macs).replace(":", "")) + b"\x08\x00" + header + inner


@dataclasses.dataclass
class Dp:
    """A running stand-in, and the far end of its service link."""

    path: str
    netns: str
    process: subprocess.Popen[str]
    wire: socket.socket

    def module(self, check: bool = False, diff: bool = False, name: str = "neuvector_dataplane", **options: t.Any) -> Result:
        done = ansible_cli.run_module(name, {"socket": self.path, "timeout": 5, **options}, check=check, diff=diff)
        done["warnings"] = [warning["event"]["msg"] for warning in done.get("warnings", [])]
        return done

    def told(self, check: bool = False, diff: bool = False, **options: t.Any) -> Result:
        """What the module returns when it has done well."""
        done = self.module(check, diff, **options)
        assert not done.get("failed") and not done.get("exception"), done
        assert done["pid"] == self.process.pid
        return done

    def info(self, **options: t.Any) -> Result:
        """Return what the info module says."""
        done = self.told(name="neuvector_dataplane_info", **options)
        assert not done["changed"]
        return done

    def send(self, *messages: protocol.Message) -> None:
        """Tell dp something, as somebody else."""
        with Session(self.path, 5) as session:
            session.send(messages)

    def follow(self, sockets: dict[str, Sockets], anew: bool = False) -> bool:
        """Have dp told the sockets of workloads; return whether its record changed."""
        (path,) = glob.glob(f"{RECORDS}/neuvector-{self.process.pid}-*")
        before = pathlib.Path(path).read_text()
        _follow.follow({mac: lambda connections, one=one: one for mac, one in sockets.items()}, self.path, 5, anew, 5)  # type: ignore[misc]
        return pathlib.Path(path).read_text() != before

    def counters(self) -> dict[str, int]:
        return t.cast("dict[str, int]", _dp.statistics(self.path, 5)["counters"])

    def passes(self, data: bytes) -> bool:
        """Whether a frame comes back as it was; judged when dp has seen it."""
        before = self.counters()
        while self.wire in select.select([self.wire], [], [], 0)[0]:
            self.wire.recv(1 << 16)
        self.wire.send(data)
        deadline = time.monotonic() + 10
        while (now := self.counters())["rx_packets"] == before["rx_packets"]:
            assert time.monotonic() < deadline, "the frame has not reached dp"
        if now["tx_packets"] == before["tx_packets"]:
            return False
        assert select.select([self.wire], [], [], 10)[0], "what dp has given back has not arrived"
        assert self.wire.recv(1 << 16) == data
        return True

    def knows(self, mac: str) -> bool:
        with Session(self.path, 5) as session:
            return protocol.parse_stats(session.ask(protocol.stats_macs([mac]), protocol.MAC_STATS)[0])[0]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit code: 3 would be a violation of the protocol."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        code = self.process.wait(10)
        assert code != 3, self.process.stderr and self.process.stderr.read()
        return code


Start = t.Callable[..., Dp]


@pytest.fixture(name="folder")
def make_folder() -> c.Iterator[str]:
    """Give a folder with a short path: that of a socket has at most 107 characters."""
    path = tempfile.mkdtemp(prefix="nettap-dp-", dir="/tmp")
    yield path
    left = [name for name in os.listdir(path) if name.startswith("nettap-")]
    shutil.rmtree(path)
    assert not left, f"replies were left behind: {left}"


@pytest.fixture(name="start")
def make_start(netns: c.Callable[..., str], folder: str) -> c.Iterator[Start]:
    """Give start(*options, prefix=[]): it starts the stand-in; each has the same namespace, link and socket."""
    name = netns()
    docker_engine.command("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    docker_engine.ip("-n", name, "link", "add", "vbr", "type", "veth", "peer", "name", "vth")
    for link in ("vbr", "vth"):
        docker_engine.ip("-n", name, "link", "set", link, "up", "mtu", "9000")
    namespace = _netns.open_path(name)
    with contextlib.ExitStack() as undo:
        undo.callback(namespace.close)
        with _netns.entered(namespace.fd):
            wire = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
            wire.setsockopt(socket.SOL_PACKET if hasattr(socket, "SOL_PACKET") else 263, 23, 1)  # PACKET_IGNORE_OUTGOING
            wire.bind(("vbr", 3))
        started: list[Dp] = []

        def start(*options: str, prefix: c.Sequence[str] = (), path: str = "") -> Dp:
            path = path or os.path.join(folder, "dp.sock")
            process = subprocess.Popen(
                ["ip", "netns", "exec", name, *prefix, sys.executable, dp_peer.__file__, "--socket", path, *options],
                stderr=subprocess.PIPE, text=True, preexec_fn=docker_engine.end_with_parent,
            )  # fmt: skip
            started.append(Dp(path, name, process, wire))
            deadline = time.monotonic() + 30
            while not prefix:
                with contextlib.suppress(DataplaneError):
                    if _dp.alive(path, 1) == process.pid:
                        break
                assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
                time.sleep(0.02)
            return started[-1]

        yield start
        codes = []
        for dp in started:
            if dp.process.poll() is None:
                dp.stop()
            codes.append(dp.process.returncode)
            assert dp.process.stderr is not None
            dp.process.stderr.close()
        for path in glob.glob(f"{RECORDS}/neuvector-*"):
            os.unlink(path)
        assert 3 not in codes, "the protocol was violated"


@pytest.fixture(name="dp")
def make_dp(start: Start) -> Dp:
    return start()


def test_configured_once_and_for_all(dp: Dp) -> None:
    assert not dp.info()["workloads"]
    planned = dp.told(check=True, diff=True, **BASE)
    assert planned["changed"] and not planned["workloads"]
    assert not dp.knows(MAC) and not glob.glob(f"{RECORDS}/neuvector-*"), "check mode tells nothing and records nothing"
    done = dp.told(diff=True, **BASE)
    assert done["changed"] and done["diff"] == planned["diff"] and planned.keys() == done.keys()
    assert planned["reason"] == done["reason"] == "Not as asked for: internal_networks, service_port, workloads."
    assert done["diff"]["before"]["service_port"] is None and done["diff"]["after"]["service_port"] == "vth"
    (web,) = done["workloads"]
    assert web == {
        **WEB, "tap": False, "known": True, "sessions": 0, "sessions_in": 0, "sessions_out": 0, "current_sessions_in": 0, "current_sessions_out": 0,
        "packets_in": 0, "packets_out": 0, "bytes_in": 0, "bytes_out": 0,
    }  # fmt: skip
    for check in (True, False):
        again = dp.told(check=check, diff=True, **BASE)
        assert not again["changed"] and "reason" not in again and again["diff"]["before"] == again["diff"]["after"]
    (record,) = glob.glob(f"{RECORDS}/neuvector-*")
    assert (stat.S_IMODE(os.stat(record).st_mode), stat.S_IMODE(os.stat(RECORDS).st_mode)) == (0o600, 0o700)


def test_frames_and_figures(dp: Dp) -> None:
    assert dp.told(**BASE)["changed"]
    assert dp.passes(frame(PEER, ADDRESS)) and dp.passes(frame(ADDRESS, PEER, port=40000, client_port=80))
    assert dp.passes(frame(ADDRESS, OUTSIDE, UDP, 53)) and dp.passes(frame(PEER, ADDRESS, ICMP)) and dp.passes(frame(PEER, ADDRESS, size=8900))
    assert not dp.passes(frame(PEER, ADDRESS, tag=TAG2)), "of a workload that dp does not know"
    arp = frame(PEER, ADDRESS)
    assert dp.passes(arp[:12] + b"\x08\x06" + arp[14:]), "not IP"
    done = dp.info(list_sessions=True)
    assert not done["changed"]
    (web,) = done["workloads"]
    assert (web["packets_in"], web["packets_out"], web["sessions"]) == (4, 2, 3)
    assert web["bytes_in"] == sum(map(len, [frame(PEER, ADDRESS)] * 3 + [frame(PEER, ADDRESS, ICMP)])) + 8900
    assert done["sessions"] == 3 and done["session_counts"] == {"total": 3, "tcp": 1, "udp": 1, "icmp": 1, "ip": 0}
    assert (done["counters"]["rx_packets"], done["counters"]["tx_packets"], done["counters"]["no_workload_packets"]) == (7, 6, 1)
    assert done["stats"]["packets_in"] == 4
    told = [{name: one[name] for name in ("mac", "protocol", "client", "server", "server_port", "direction", "client_packets")} for one in done["session_list"]]
    assert told == [
        {"mac": MAC, "protocol": "tcp", "client": PEER, "server": ADDRESS, "server_port": 80, "direction": "ingress", "client_packets": 2},
        {"mac": MAC, "protocol": "udp", "client": ADDRESS, "server": OUTSIDE, "server_port": 53, "direction": "egress", "client_packets": 1},
        {"mac": MAC, "protocol": "icmp", "client": PEER, "server": ADDRESS, "server_port": 0, "direction": "ingress", "client_packets": 1},
    ]


def test_sessions_in_several_datagrams(dp: Dp) -> None:
    dp.told(**BASE)
    for port in range(1, 101):
        dp.wire.send(frame(PEER, ADDRESS, port=port))
    assert wait_for(lambda: dp.counters()["rx_packets"] >= 100)
    assert dp.passes(frame(PEER, ADDRESS, UDP))
    done = dp.info(list_sessions=True)
    assert len(done["session_list"]) == done["sessions"] == 101
    assert sorted(one["server_port"] for one in done["session_list"]) == [*range(1, 101), 40000], "UDP to a port that nobody serves"


def test_first_rule_that_matches_holds(dp: Dp) -> None:
    policy = [
        {"action": "deny", "source": PEER, "destination": ADDRESS, "port": 80, "protocol": "tcp"},
        {"action": "allow", "source": "10.99.0.0/24", "port": "80-90", "protocol": "tcp"},
        {"action": "violate", "source": "10.99.0.8", "port": 443, "protocol": "tcp"},
        {"action": "deny", "port": 443, "protocol": "tcp"},
        {"action": "deny", "direction": "egress", "destination": "192.0.2.0/24", "protocol": "udp", "id": 77},
    ]
    done = dp.told(policy=policy, **BASE)
    assert (done["counters"]["policy_exact_rules"], done["counters"]["policy_range_rules"]) == (2, 4), "four ranges with dp's own for ICMP"
    assert not dp.passes(frame(PEER, ADDRESS)) and dp.passes(frame(PEER, ADDRESS, port=81)) and dp.passes(frame("10.99.0.5", ADDRESS))
    assert not dp.passes(frame(PEER, ADDRESS, port=443)) and dp.passes(frame("10.99.0.8", ADDRESS, port=443))
    assert not dp.passes(frame(OUTSIDE, ADDRESS, port=443)), "an address outside the internal networks"
    assert dp.passes(frame(ADDRESS, PEER, port=443)), "the other direction"
    assert not dp.passes(frame(ADDRESS, "192.0.2.9", UDP)) and dp.passes(frame(ADDRESS, "192.0.2.9")) and dp.passes(frame(PEER, ADDRESS, ICMP))
    listed = {one["rule"]: one["action"] for one in dp.info(list_sessions=True)["session_list"]}
    assert listed[2] == "allow" and listed[3] == "violate" and not {1, 77} & listed.keys(), "dp makes no session of what it denies"
    assert dp.told(policy=[*reversed(policy[:2]), *policy[2:]])["changed"], "the order counts"
    assert dp.passes(frame(PEER, ADDRESS)), "an open session follows the policy"
    assert dp.told(policy=[])["changed"]
    assert dp.passes(frame(PEER, ADDRESS, port=443)) and not dp.counters()["policy_range_rules"]
    assert not dp.told(**BASE)["changed"]


def test_what_no_rule_matches(dp: Dp) -> None:
    allow = [{"action": "allow", "source": PEER, "port": 80, "protocol": "tcp"}]
    dp.told(policy=allow, default_action="deny", **BASE)
    assert dp.passes(frame(PEER, ADDRESS)) and dp.passes(frame(ADDRESS, PEER, port=40000, client_port=80)), "the answer belongs to the session"
    assert not dp.passes(frame(PEER, ADDRESS, port=81)), "at once, although dp has never heard of that peer"
    assert not dp.passes(frame("10.99.0.77", ADDRESS)) and not dp.passes(frame(OUTSIDE, ADDRESS)) and not dp.passes(frame(ADDRESS, "10.99.0.78", UDP))
    assert dp.passes(frame(PEER, ADDRESS, ICMP)), "as dp has it"
    assert dp.told(default_action="violate")["changed"]
    assert dp.passes(frame("10.99.0.77", ADDRESS))
    assert dp.told(default_action="deny", icmp_policy=True)["changed"]
    assert not dp.passes(frame("10.99.0.80", ADDRESS, ICMP))


@pytest.mark.parametrize("networks", [[], ["10.0.0.0/8"]])
def test_default_action_for_peers_too_many_to_name(start: Start, networks: list[str]) -> None:
    """A dp without a strict group mode would leave each of them open for eleven minutes."""
    dp = start("--old")
    bare = {**BASE, "internal_networks": networks, "workloads": [{**WEB, "addresses": []}], "default_action": "deny"}
    (warning,) = dp.told(**bare)["warnings"]
    assert warning.startswith(f"For workload {MAC} the default action can take eleven minutes to hold for new peers, unless dp knows its strict")
    assert not dp.told(**bare)["warnings"], "said when it was done"
    assert dp.passes(frame("10.99.0.77", ADDRESS)) and dp.passes(frame(OUTSIDE, ADDRESS)), "what the warning is about"
    assert not dp.told(workloads=[WEB])["warnings"]
    assert not dp.passes(frame("10.99.0.78", ADDRESS)) and not dp.passes(frame("192.0.2.2", ADDRESS)) and not dp.passes(frame(ADDRESS, "10.99.0.79"))
    assert dp.told(policy=[{"action": "allow", "source": PEER}])["changed"] and dp.passes(frame(PEER, ADDRESS))


def test_icmp_policy(dp: Dp) -> None:
    dp.told(policy=[{"action": "deny", "source": PEER}], icmp_policy=True, **BASE)
    assert not dp.passes(frame(PEER, ADDRESS, ICMP)) and dp.passes(frame("10.99.0.7", ADDRESS, ICMP))
    assert dp.told(icmp_policy=False, policy=[{"action": "deny", "source": "10.99.0.7", "protocol": "icmp"}])["changed"]
    assert dp.passes(frame(PEER, ADDRESS, ICMP)) and not dp.passes(frame("10.99.0.7", ADDRESS, ICMP))


def test_tap_forwards_nothing(dp: Dp) -> None:
    tapped = {**BASE, "workloads": [{**WEB, "tap": True}, DB]}
    assert dp.told(**tapped)["changed"] and not dp.told(**tapped)["changed"]
    assert not dp.passes(frame(PEER, ADDRESS)) and dp.passes(frame(PEER, ADDRESS2, tag=TAG2))
    web, db = dp.info()["workloads"]
    assert (web["tap"], web["packets_in"], db["tap"]) == (True, 1, False)
    assert dp.told(workloads=[WEB, {**DB, "tap": True}])["changed"]
    assert dp.passes(frame(PEER, ADDRESS)) and not dp.passes(frame(PEER, ADDRESS2, tag=TAG2))


def test_workloads_come_and_go(dp: Dp) -> None:
    policy = [{"action": "deny", "port": 22, "protocol": "tcp"}, {"action": "deny", "port": 23, "protocol": "tcp", "workloads": [MAC2]}]
    dp.told(**{**BASE, "workloads": [WEB, DB]}, policy=policy)
    assert not dp.passes(frame(PEER, ADDRESS2, port=23, tag=TAG2)) and dp.passes(frame(PEER, ADDRESS, port=23))
    swapped = dp.told(workloads=[{**WEB, "tag_mac": TAG2}, {**DB, "tag_mac": TAG}])
    assert swapped["changed"] and not dp.passes(frame(PEER, ADDRESS2, port=23, tag=TAG)) and not dp.passes(frame(PEER, ADDRESS, port=22, tag=TAG2))
    assert dp.passes(frame(PEER, ADDRESS, port=23, tag=TAG2))
    gone = dp.told(state="absent", workloads=[{"mac": MAC2.upper()}], check=True, diff=True)
    assert gone["changed"] and dp.knows(MAC2)
    gone = dp.told(state="absent", workloads=[{"mac": MAC2.upper()}], diff=True)
    assert gone["changed"] and not dp.knows(MAC2) and dp.knows(MAC)
    assert [rule["port"] for rule in gone["diff"]["after"]["policy"]] == ["22"], "a rule for that one alone does not become one for all"
    assert not dp.told(state="absent", workloads=[{"mac": MAC2}])["changed"]
    assert dp.passes(frame(PEER, ADDRESS, port=23, tag=TAG2))
    back = dp.told(workloads=[{**WEB, "tag_mac": TAG2}, {**DB, "tag_mac": TAG}])
    assert back["changed"] and not dp.passes(frame(PEER, ADDRESS2, port=22, tag=TAG)), "the policy is for those who come later too"
    for changed in (True, False):
        assert dp.told(state="absent")["changed"] is changed
    assert not dp.knows(MAC) and not glob.glob(f"{RECORDS}/neuvector-*")
    dp.wire.send(frame(PEER, ADDRESS))
    time.sleep(0.05)
    assert not select.select([dp.wire], [], [], 0.05)[0], "the service link is closed"


def test_dp_that_was_started_again_is_told_anew(dp: Dp, start: Start) -> None:
    dp.told(**BASE, policy=[{"action": "deny", "port": 80, "protocol": "tcp"}])
    dp.stop()
    again = start()
    assert not again.knows(MAC)
    assert not again.info()["workloads"]
    policy = [{"action": "deny", "port": 80, "protocol": "tcp"}]
    assert again.told(**BASE, policy=policy, check=True)["changed"]
    assert again.told(**BASE, policy=policy)["changed"] and not again.told(**BASE, policy=policy)["changed"]
    assert not again.passes(frame(PEER, ADDRESS)) and again.passes(frame(PEER, ADDRESS, port=81))
    assert len(glob.glob(f"{RECORDS}/neuvector-*")) == 1, "the record of the other is gone"


@pytest.mark.parametrize(
    ("meddling", "words"),
    [
        (protocol.delete_mac("vth", MAC), f"it does not know workload {MAC}"),
        (protocol.policy(protocol.CFG_DELETE, 2, [MAC], [])[0], "0 rules are in force, not 2"),
        (protocol.delete_service_port("vth"), "it does not listen on vth"),
    ],
)
def test_what_somebody_else_changed_is_put_right(dp: Dp, meddling: protocol.Message, words: str) -> None:
    policy = [{"action": "deny", "port": 80, "protocol": "tcp"}]
    dp.told(**BASE, policy=policy)
    dp.send(meddling)
    for check in (True, False):
        done = dp.told(**BASE, policy=policy, check=check, diff=True)
        assert done["changed"] and words in done["reason"] and done["reason"] in done["warnings"]
        assert (done["diff"]["before"]["in_force"], done["diff"]["after"]["in_force"]) == (False, True)
    assert not dp.told(**BASE, policy=policy)["changed"]
    assert not dp.passes(frame(PEER, ADDRESS)) and dp.passes(frame(PEER, ADDRESS, port=81))


def test_task_that_was_killed_is_made_good(dp: Dp) -> None:
    """Its record says that anything may have been told: what it wanted, and what was before."""
    dp.told(**{**BASE, "workloads": [WEB, DB]})
    (path,) = map(pathlib.Path, glob.glob(f"{RECORDS}/neuvector-*"))
    record = json.loads(path.read_text())
    record["sure"], record["rules"], record["config"]["workloads"] = False, [], record["config"]["workloads"][:1]
    path.write_text(json.dumps(record))
    done = dp.told(**BASE)
    assert done["changed"] and any("was interrupted" in warning for warning in done["warnings"])
    assert dp.knows(MAC) and not dp.knows(MAC2) and not dp.told(**BASE)["changed"] and dp.passes(frame(PEER, ADDRESS))


def test_killed_at_any_message(dp: Dp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it ends, the same task brought again gets there, and takes out what is not wanted."""
    final = {**BASE, "default_action": "deny", "policy": [{"action": "allow", "source": PEER, "port": 80, "protocol": "tcp"}]}
    real = Session.send
    for last in range(1, 20):
        _dp.withdraw(None, dp.path, 5)
        _dp.configure({**BASE, "workloads": [DB], "internal_networks": ["10.0.0.0/8"]}, dp.path, 5)
        left = last

        def send(session: Session, messages: t.Iterable[protocol.Message]) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            real(session, messages)

        monkeypatch.setattr(Session, "send", send)
        try:
            _dp.configure(final, dp.path, 5)
        except KeyboardInterrupt:
            monkeypatch.setattr(Session, "send", real)
            assert _dp.configure(final, dp.path, 5).changed
        monkeypatch.setattr(Session, "send", real)
        assert not _dp.configure(final, dp.path, 5).changed
        assert dp.knows(MAC) and not dp.knows(MAC2)
        assert dp.passes(frame(PEER, ADDRESS)) and not dp.passes(frame("10.99.0.9", ADDRESS))
        if left > 0:
            break
    assert 6 < last < 19, "every message was the last once"


def test_five_hundred_rules(dp: Dp) -> None:
    policy = [{"action": "deny", "source": f"10.98.{n // 250}.{n % 250}", "destination": ADDRESS, "port": f"{n}-{n + 9}", "protocol": "tcp"}
              for n in range(1, 501)]  # fmt: skip
    done = dp.told(**BASE, policy=policy)
    assert done["changed"] and done["counters"]["policy_range_rules"] == 501
    assert not dp.passes(frame("10.98.2.0", ADDRESS, port=500)) and dp.passes(frame("10.98.2.0", ADDRESS, port=499))
    assert not dp.passes(frame("10.98.0.1", ADDRESS, port=1))
    assert not dp.told(**BASE, policy=policy)["changed"] and dp.told(policy=policy[:-1])["changed"]
    assert dp.passes(frame("10.98.2.0", ADDRESS, port=500))


def test_many_workloads(dp: Dp) -> None:
    workloads = [{"mac": f"02:00:00:00:{n // 256:02x}:{n % 256:02x}", "tag_mac": f"4e:65:75:56:{n // 256:02x}:{n % 256:02x}"} for n in range(300)]
    done = dp.told(**{**BASE, "workloads": workloads}, default_action="deny")
    assert len(done["workloads"]) == 300 and all(one["known"] for one in done["workloads"])
    assert done["counters"]["policy_range_rules"] == 3, "a policy for each hundred"
    assert not dp.told(workloads=workloads)["changed"] and dp.told(workloads=workloads[:-1])["changed"]


def test_tasks_at_the_same_time_take_turns(dp: Dp) -> None:
    """The parts of two long policies that mix are lost in dp; the stand-in takes it for a violation."""
    def policy(port: int) -> list[dict[str, t.Any]]:
        return [{"action": "deny", "source": f"10.98.0.{n}", "port": port, "protocol": "tcp"} for n in range(1, 200)]

    dp.told(**BASE)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert all(done["changed"] for done in pool.map(lambda port: dp.told(policy=policy(port)), range(1, 7)))
    assert dp.counters()["policy_exact_rules"] == 199


def test_dp_that_hangs(dp: Dp) -> None:
    dp.told(**BASE)
    dp.process.send_signal(signal.SIGSTOP)
    ways: list[dict[str, t.Any]] = [{"state": "present"}, {"state": "absent"}, {"name": "neuvector_dataplane_info"}]
    for options in ways:
        begun = time.monotonic()
        done = dp.module(timeout=0.5, **options)
        assert done["failed"] and time.monotonic() - begun < 30
        assert done["msg"].startswith(f"dp at {dp.path} has not taken or answered the keep-alive for 0.5 s: it hangs or is stopped"), done["msg"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood, pytest.raises(BlockingIOError):
        while True:
            flood.sendto(b'{"ctrl_cfg_mac":{"macs":[],"tap":false}}', socket.MSG_DONTWAIT, dp.path)
    assert "has not taken or answered ctrl_keep_alive for 0.2 s" in dp.module(timeout=0.2)["msg"]
    dp.process.kill()


def test_dp_that_ends_meanwhile(dp: Dp) -> None:
    with Session(dp.path, 30) as session:
        dp.process.send_signal(signal.SIGSTOP)
        threading.Timer(0.3, dp.process.kill).start()
        begun = time.monotonic()
        with pytest.raises(DataplaneError, match=rf"dp \(process {dp.process.pid}\) has ended while it was talked to"):
            session.fence()
        assert time.monotonic() - begun < 20  # the session would wait for 30
        with pytest.raises(NotRunning, match="has ended while it was talked to"):
            session.fence()


def test_no_dp(folder: str) -> None:
    path = os.path.join(folder, "dp.sock")

    def message(name: str = "neuvector_dataplane", **options: t.Any) -> str:
        return t.cast("str", ansible_cli.run_module(name, {"socket": path, **options})["msg"])

    assert message(**BASE).startswith(f"There is no NeuVector dp at {path}: start dp, or name its socket")
    assert ansible_cli.run_module("neuvector_dataplane", {"socket": path, "state": "absent"})["changed"] is False
    assert message("neuvector_dataplane_info").startswith("There is no NeuVector dp")
    assert message("neuvector_dataplane_info", socket=f"/proc/{os.getpid()}/root{path}").startswith("There is no NeuVector dp")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(path)
        other.listen()
        assert message() == f"{path} is another kind of socket than NeuVector's dp has: name the right one (socket)."
    os.unlink(path)
    pathlib.Path(path).touch()
    assert message().startswith(f"Nobody listens at {path}")
    assert message(timeout=0) == "timeout must be more than 0 seconds."
    long = pathlib.Path(folder, "x" * 200)
    long.touch()
    assert message(socket=str(long)) == f"dp at {long} cannot be reached: AF_UNIX path too long."


def test_stale_socket(dp: Dp, start: Start) -> None:
    dp.stop(signal.SIGKILL)
    assert os.path.exists(dp.path)
    assert dp.module(**BASE)["msg"] == f"Nobody listens at {dp.path}: dp has ended and left its socket behind; start dp again, which replaces it."
    assert dp.module(state="absent")["changed"] is False
    assert start().told(**BASE)["changed"]


def test_without_the_right_to_write(dp: Dp) -> None:
    os.chmod(dp.path, 0)
    program = f"from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp; _dp.alive({dp.path!r})"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ansible_cli.ROOT / "collections")},
    )  # fmt: skip
    assert f"The socket {dp.path} of dp is not for this user: root is needed (become: true)." in done.stderr, done.stderr


def test_somebody_else_who_answers(dp: Dp, folder: str) -> None:
    """Only dp can send to the socket, and its PID is what the kernel says."""
    with Session(dp.path, 5) as session:
        (reply,) = glob.glob(f"{folder}/nettap-*/reply")
        assert stat.S_IMODE(os.stat(os.path.dirname(reply)).st_mode) == 0o700
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as intruder, pytest.raises(PermissionError):
            intruder.sendto(b"", reply)
        session.fence()
        assert session.namespace.pid == dp.process.pid


def test_socket_that_another_user_put_there(folder: str) -> None:
    """/tmp is everybody's. Who is not root cannot reach the folder for the answers, and so cannot pass for dp."""
    path = os.path.join(folder, "dp.sock")
    os.chmod(folder, 0o777)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as fake:
        fake.bind(path)
        child = os.fork()
        if not child:
            code = 0
            try:
                os.setuid(65534)
                number = json.loads(fake.recvfrom(1 << 16)[0])["ctrl_keep_alive"]["seq_num"]
                fake.sendto(struct.pack(">BBHI", 10, 0, 8, number), glob.glob(f"{folder}/nettap-*")[0] + "/reply")
            except PermissionError:
                code = 7
            finally:
                os._exit(code)
        with pytest.raises(DataplaneError, match="has not taken or answered the keep-alive"):
            _dp.alive(path, 5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_dp_of_another_dataplane_that_has_taken_the_socket(dp: Dp, start: Start, netns: c.Callable[..., str]) -> None:
    """The path is dp's own choice, so that the second one is talked to in place of the first."""
    mine, other = dp.netns, netns()
    assert dp.told(**BASE, dataplane_netns=mine)["changed"]
    second = start(prefix=["ip", "netns", "exec", other])

    def taken() -> bool:
        with contextlib.suppress(NotRunning):  # the second one has removed the socket of the first, and not yet made its own
            return _dp.alive(dp.path, 5) != dp.process.pid
        return False

    assert wait_for(taken)
    for options in ({**BASE}, {"state": "absent"}, {"name": "neuvector_dataplane_info"}):
        said = dp.module(**options, dataplane_netns=mine)["msg"]
        assert said.startswith(f"The dp that answers at {dp.path} (process {second.process.pid}) runs in another network namespace"), said
        assert "private_tmp" in said
    inode = os.stat(f"/run/netns/{mine}").st_ino
    for ask in (lambda: _dp.told(dp.path, 5, inode), lambda: _dp.returns_beats(dp.path, 5, inode), lambda: _follow.follow({}, dp.path, 5, True, 5, inode)):
        with pytest.raises(DataplaneError, match="another network namespace"):
            ask()
    assert second.info(dataplane_netns=other)["workloads"] == []
    assert dp.module(**BASE, dataplane_netns="nobody")["msg"].startswith("There is no network namespace /run/netns/nobody")


def test_what_is_steered_stays_known(dp: Dp, veth: c.Callable[..., t.Any], netns: c.Callable[..., str], run_module: c.Callable[..., Result]) -> None:
    """All of its packets would stop, so it has to be taken out first."""
    made = run_module("container_dataplane", {"mode": "tag", "engine": [*tools.FORWARDER, "vth"]})
    assert made.get("changed"), made
    inside = netns()
    veth(inside, address="10.99.0.2/24", host_address="10.99.0.1/24")
    try:
        (steered,) = run_module("container_steering", {"netns": inside, "mode": "tag", "verify": False})["steering"]
        socket_path = f"{dp.path}.steered"
        with contextlib.ExitStack() as undo:
            process = undo.enter_context(subprocess.Popen(["ip", "netns", "exec", "nettap", sys.executable, dp_peer.__file__, "--socket", socket_path]))
            undo.callback(process.terminate)
            assert wait_for(lambda: os.path.exists(socket_path))
            workload = {"mac": steered["mac"], "tag_mac": steered["tag"], "addresses": ["10.99.0.2"]}

            def module(**options: t.Any) -> Result:
                return run_module("neuvector_dataplane", {"socket": socket_path, "dataplane_netns": "nettap", **options})

            assert module(**{**BASE, "workloads": [workload, DB]})["changed"]
            refusal = f"dp would forward no more packets for eth0 of {steered['container']}, steered through it: take them out first"
            ways: list[Result] = [{"state": "absent"}, {"state": "absent", "workloads": [workload]}, {**BASE, "workloads": [DB]},
                                  {"workloads": [{**workload, "tap": True}]}, {"workloads": [], "service_port": ""}]  # fmt: skip
            for options in ways:
                assert module(**options)["msg"].startswith(refusal), options
            assert module(state="absent", workloads=[DB])["changed"]
            assert run_module("container_steering", {"netns": inside, "state": "absent"})["changed"]
            assert module(state="absent")["changed"]
    finally:
        run_module("container_steering", {"netns": inside, "state": "absent", "allow_missing": True})
        assert "msg" not in run_module("container_dataplane", {"state": "absent"})


@pytest.mark.parametrize("isolated", [["--mount"], ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]])
def test_dp_in_a_file_system_of_its_own(start: Start, folder: str, isolated: list[str]) -> None:
    """The path for its answers has to exist for dp, not for us; and its /proc may have other numbers."""
    hidden = os.path.join(folder, "own")
    os.mkdir(hidden)
    dp = start(prefix=["unshare", *isolated, "sh", "-c", f'mount -t tmpfs tmpfs {hidden} && exec "$@"', "sh"], path=f"{hidden}/dp.sock")
    children = f"/proc/{dp.process.pid}/task/{dp.process.pid}/children"
    deadline = time.monotonic() + 10
    while True:
        inside = pathlib.Path(children).read_text().split()
        pid = int(inside[0]) if inside else dp.process.pid
        if os.path.exists(f"/proc/{pid}/root{hidden}/dp.sock"):
            break
        assert time.monotonic() < deadline
    seen = f"/proc/{pid}/root{hidden}/dp.sock"
    assert dp.module(**BASE)["msg"].startswith("There is no NeuVector dp at")
    done = dp.module(**{**BASE, "socket": seen})
    assert done.get("changed") and done["pid"] == pid, done
    assert not dp.module(**{**BASE, "socket": seen})["changed"]
    assert os.listdir(f"/proc/{pid}/root{hidden}") == ["dp.sock"]
    os.kill(pid, signal.SIGTERM)
    dp.process.wait(10)


def test_dp_that_is_not_ready_passes_the_link_over(start: Start) -> None:
    dp = start("--late", "2")
    assert dp.told(**BASE)["changed"] and dp.passes(frame(PEER, ADDRESS))


def test_service_link(dp: Dp) -> None:
    done = dp.module(**{**BASE, "service_port": "vth9"})
    assert done["msg"] == "dp's network namespace has no link vth9 (it has lo, vbr, vth): make it first, or name another (service_port)."
    assert dp.module(workloads=[WEB])["msg"].startswith("Workloads need a service_port")
    dp.told(service_port="vbr")
    assert dp.told(**BASE)["changed"] and dp.passes(frame(PEER, ADDRESS))
    dp.told(state="absent")
    dp.send(protocol.add_service_port("lo", False))
    done = dp.module(**BASE, timeout=3)
    assert f"dp (process {dp.process.pid}) was told to serve vth and does not listen there: it serves another link already" in done["msg"]


def answered(dp: Dp, port: int, peer_port: int, protocol_number: int = UDP, first: str = "in", peer: str = PEER) -> bool:
    """Whether packets of a flow that dp has not seen begin both pass, the first one that way."""
    inward = frame(peer, ADDRESS, protocol_number, port, peer_port, flags=dp_peer.ACK)
    outward = frame(ADDRESS, peer, protocol_number, peer_port, port, flags=dp_peer.ACK)
    passed = [dp.passes(one) for one in ((inward, outward) if first == "in" else (outward, inward))]
    return all(passed)


def test_udp_is_held_to_the_rules_of_its_direction(dp: Dp) -> None:
    """dp takes a workload for the server of the ports that it was told, and of no other."""
    policy = [{"action": "allow", "port": port, "protocol": "udp"} for port in (5000, "6000-6001")]
    dp.told(policy=policy, default_action="deny", **BASE)
    assert answered(dp, 5000, 40000) and answered(dp, 5000, 1024), "the policy names the port"
    assert not answered(dp, 5001, 40000) and not answered(dp, 6001, 40000)
    web = Sockets([], [5001, 6001, 40500], [], (32768, 60999))
    dp.follow({MAC: web})
    assert answered(dp, 6001, 40000) and not answered(dp, 5001, 40000) and not answered(dp, 6000, 40000)
    assert {one["direction"] for one in dp.info(list_sessions=True)["session_list"]} == {"ingress"}
    assert dp.told(policy=[{"action": "deny", "port": 5000, "protocol": "udp"}], default_action="allow")["changed"]
    assert not answered(dp, 5000, 40001) and answered(dp, 5001, 40001) and answered(dp, 53, 40001)
    dp.told(policy=[{"action": "allow", "direction": "egress", "port": 5000, "protocol": "udp"}], default_action="deny")
    assert answered(dp, 40500, 5000, first="out"), "a client without a connected socket has a port of the kernel's choice"
    assert not answered(dp, 40501, 5002, first="out")
    dp.told(policy=[{"action": "deny", "port": "40000-41000", "protocol": "udp"}], default_action="allow")
    assert not answered(dp, 40500, 50000) and answered(dp, 40501, 50001), "unless a rule names it"
    assert not dp.follow({MAC: web}) and not dp.told()["changed"]


@pytest.mark.parametrize("peer", [PEER, OUTSIDE])
def test_tcp_in_mid_stream_is_held_to_the_rules_of_its_direction(dp: Dp, peer: str) -> None:
    """Whatever its ports: dp takes the smaller one for the server's, unless the workload serves."""
    rules = [{"action": "allow", "source": peer, "port": 60000, "protocol": "tcp"},
             {"action": "allow", "direction": "egress", "destination": peer, "port": 50000}]  # fmt: skip
    dp.told(**BASE, policy=rules[1:], default_action="deny")
    assert not answered(dp, 33000, 50000, TCP, peer=peer), "taken for a connection to the workload"
    connections = [(ADDRESS, 33000, peer, 50000), (ADDRESS, 33001, peer, 50001), (ADDRESS, 50000, peer, 50000)]
    dp.follow({MAC: Sockets([60000], [], connections, (32768, 60999))}, anew=True)
    assert answered(dp, 33000, 50000, TCP, peer=peer) and not answered(dp, 33001, 50001, TCP, peer=peer)
    assert answered(dp, 50000, 50000, TCP, "out", peer)
    assert not answered(dp, 60000, 33000, TCP, peer=peer)
    dp.told(policy=rules)
    assert all(answered(dp, 60000, port, TCP, first, peer) for port, first in ((33000, "in"), (33001, "out"), (61000, "in")))
    assert answered(dp, 33000, 50000, TCP, "out", peer) and not answered(dp, 33002, 50000, TCP, peer=peer)
    dp.follow({MAC: Sockets([60000], [], [], (32768, 60999))})
    dp.told(policy=[])
    dp.told(policy=rules)
    assert dp.counters()["policy_exact_rules"] == 3, "the rules of connections go with them"


def test_connection_whose_server_has_stopped_listening(dp: Dp) -> None:
    """Nothing tells who opened it: it passes if the policy lets it pass either way."""
    dp.told(**BASE, policy=[{"action": "allow", "port": "60000-60001", "protocol": "tcp"}], default_action="deny")
    assert not answered(dp, 60000, 33000, TCP)
    dp.follow({MAC: Sockets([], [], [(ADDRESS, 60000, PEER, 33000), (ADDRESS, 60002, PEER, 33001)], (32768, 60999))}, anew=True)
    assert answered(dp, 60000, 33000, TCP) and answered(dp, 60000, 33000, TCP, "out") and not answered(dp, 60002, 33001, TCP)


def test_dp_forgets_ports_that_are_closed(dp: Dp) -> None:
    """One message removes 64 of them."""
    dp.told(**BASE, policy=[{"action": "deny", "protocol": "udp"}])
    dp.follow({MAC: Sockets([], list(range(2000, 2145)), [], (32768, 60999))})
    assert not answered(dp, 2000, 40000) and not answered(dp, 2144, 40000)
    dp.follow({MAC: Sockets([], [2144], [], (32768, 60999))})
    assert not answered(dp, 2144, 40001) and all(answered(dp, port, 40001, first="out") for port in (2000, 2070, 2143))


def test_frames_as_long_as_the_link_takes(dp: Dp) -> None:
    """dp loses longer ones than fit its ring, and does not tell: with a longer MTU it gets jumbo frames without being asked for them."""
    overhead = len(frame(PEER, ADDRESS, UDP)) - 14
    said = dp.module(**BASE, jumbo_frames=False)["msg"]
    assert said == ("vth has an MTU of 9000, and dp without jumbo frames loses all packets of more than 1968 bytes: leave jumbo_frames out, or make the "
                    "dataplane anew with a smaller mtu.")  # fmt: skip
    done = dp.told(diff=True, **BASE)
    assert done["diff"]["after"]["jumbo_frames"] is True and dp.passes(frame(PEER, ADDRESS, UDP, size=9000 - overhead))
    for mtu, jumbo in ((1968, False), (1969, True)):
        for link in ("vbr", "vth"):
            docker_engine.ip("-n", dp.netns, "link", "set", link, "mtu", str(mtu))
        done = dp.told(diff=True, **BASE)
        assert done["changed"] and done["diff"]["after"]["jumbo_frames"] is jumbo and not dp.told(**BASE)["changed"]
        assert dp.passes(frame(PEER, ADDRESS, UDP, size=mtu - overhead))
    for link in ("vbr", "vth"):
        docker_engine.ip("-n", dp.netns, "link", "set", link, "mtu", "16305")
    assert "vth has an MTU of 16305, and dp loses all packets of more than 16304 bytes" in dp.module(**BASE)["msg"]


def test_what_dp_holds_to_no_rule(dp: Dp) -> None:
    """The steering has to drop it where it must not pass (container_steering, drop and ipv6)."""
    dp.told(**BASE, default_action="deny")
    assert dp.passes(frame("169.254.1.1", ADDRESS)) and dp.passes(frame(ADDRESS, "169.254.169.254"))
    assert all(dp.passes(frame(PEER, ADDRESS, number)) for number in (47, 50, 132))
    data = frame(PEER, ADDRESS)
    assert all(dp.passes(data[:12] + kind + data[14:]) for kind in (b"\x86\xdd", b"\x08\x06", b"\x88\xb5"))
    assert not any(dp.passes(frame(*way, number)) for number in (TCP, UDP) for way in ((PEER, ADDRESS), (ADDRESS, PEER), (OUTSIDE, ADDRESS)))


def test_outside_peers_match_only_rules_for_them(dp: Dp) -> None:
    """dp looks them up again as 0.0.0.0, which a range from there would hold."""
    policy = [{"action": "deny", "source": "0.0.0.0-9.255.255.255", "port": 80, "protocol": "tcp"}, {"action": "allow", "port": 80, "protocol": "tcp"},
              {"action": "deny", "direction": "egress", "destination": "0.0.0.0/1", "protocol": "tcp"}]  # fmt: skip
    dp.told(**BASE, policy=policy, default_action="deny")
    assert dp.passes(frame(OUTSIDE, ADDRESS)) and not dp.passes(frame("9.1.1.1", ADDRESS))
    dp.told(default_action="allow")
    assert dp.passes(frame(ADDRESS, OUTSIDE)) and not dp.passes(frame(ADDRESS, "8.8.8.8"))


def test_heartbeats_go_the_way_of_the_packets(dp: Dp) -> None:
    """dp returns them while its data thread reads the link, and not while only its control thread answers."""
    beat = bytes.fromhex(protocol.BEAT_TAG.replace(":", "")) + bytes.fromhex(OTHER.replace(":", "")) + b"\x88\xb5" + bytes(46)
    dp.told(service_port="vth")
    assert not dp.passes(beat) and not _dp.returns_beats(dp.path), "before it has workloads"
    dp.told(**BASE, default_action="deny")
    assert dp.passes(beat) and _dp.returns_beats(dp.path) and dp.info()["stats"]["packets_in"] == 0
    assert [one["mac"] for one in dp.info()["workloads"]] == [MAC]
    dp.process.send_signal(signal.SIGUSR1)
    dp.info()
    dp.wire.send(beat)
    assert dp.info()["pid"] == dp.process.pid and not select.select([dp.wire], [], [], 0.2)[0]
    dp.process.send_signal(signal.SIGUSR2)
    assert select.select([dp.wire], [], [], 10)[0] and dp.wire.recv(100) == beat
    dp.told(state="absent", workloads=[WEB])
    assert not dp.knows(protocol.BEAT_MAC) and not _dp.returns_beats(dp.path)


def test_stand_in_is_strict(dp: Dp) -> None:
    """A peer that let everything pass would prove nothing."""
    message = protocol.add_mac("vth", MAC, TAG)
    del message["ctrl_add_mac"]["pmac"]
    with pytest.raises(DataplaneError, match="has ended while it was talked to"):
        dp.send(message)
    assert dp.process.wait(10) == 3 and dp.process.stderr is not None
    assert dp.process.stderr.read() == "VIOLATION: ctrl_add_mac lacks ['pmac']\n"
    dp.process.returncode = 0  # as it was meant to


def test_from_a_playbook(dp: Dp, playbook: c.Callable[..., ansible_cli.Finished]) -> None:
    module = "nettap.containers.neuvector_dataplane"
    done = playbook([{
        "hosts": "all", "gather_facts": False, "module_defaults": {"group/nettap.containers.neuvector": {"socket": dp.path}},
        "tasks": [
            {"name": "first", module: {**BASE, "policy": [{"action": "deny", "port": 80, "protocol": "tcp"}]}},
            {"name": "again", module: BASE},
        ],
    }])  # fmt: skip
    assert done.rc == 0, done.output
    assert done.result("first")["changed"] and not done.result("again")["changed"]
    assert not dp.passes(frame(PEER, ADDRESS))
