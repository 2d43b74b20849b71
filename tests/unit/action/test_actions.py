# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's halves: what is shown while a capture runs, and where its files go."""

from __future__ import annotations

import hashlib
import os
import pathlib
import signal
import time
import types
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.become.sudo import BecomeModule
from ansible_cli import ROOT
from ansible_collections.nettap.containers.plugins.action import container_capture_fetch as fetch
from ansible_collections.nettap.containers.plugins.action import container_capture_inside as inside
from ansible_collections.nettap.containers.plugins.action import container_capture_stream as stream
from ansible_collections.nettap.containers.plugins.action import container_capture_wait as wait
from ansible_collections.nettap.containers.plugins.plugin_utils import _inside
from ansible_collections.nettap.containers.tests.unit.pcap import builder


def test_file_is_the_same_only_by_its_content(tmp_path: pathlib.Path) -> None:
    content = b"x" * (3 << 20)
    (tmp_path / "file").write_bytes(content)
    record = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert fetch._same(str(tmp_path / "file"), record)
    assert not fetch._same(str(tmp_path / "none"), record) and not fetch._same(str(tmp_path), record)
    for other in (content[:-1], content[:-1] + b"y", b""):
        (tmp_path / "file").write_bytes(other)
        assert not fetch._same(str(tmp_path / "file"), record)


def segment(**fields: t.Any) -> dict[str, t.Any]:
    return {"container": "web", "containers": ["web"], "interface": "eth0", "device": "eth0", "vantage": "container", "packets_received": 1600,
            "packets_captured": 1200, "packets_kept": 1200, "packets_overwritten": 0, "packets_dropped": 3, "packets_unread": None, "bytes": 1_234_567,
            "status": "running", "stop_reason": None, "error": None, "pid": 7, **fields}


def session(*segments: dict[str, t.Any], **fields: t.Any) -> dict[str, t.Any]:
    return {"name": "x", "status": "running", "start_at": None, "started_at": "2026-01-31T03:00:00.000000Z", "clock": None, "segments": list(segments),
            "duration": 0.01, **fields}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "web eth0: 1200 packets, 1.2 MB, 3 dropped"),
        ({"vantage": "host", "device": "veth1234"}, "web eth0 (veth1234): 1200 packets, 1.2 MB, 3 dropped"),
        ({"packets_captured": None, "packets_kept": None, "packets_dropped": None, "bytes": 0}, "web eth0: 0 packets, 0 B, 0 dropped"),
        ({"packets_kept": 59, "packets_overwritten": 1141}, "web eth0: 59 of 1200 packets are in the file, the ring overwrote the rest, 1.2 MB, 3 dropped"),
        ({"status": "stopped", "stop_reason": "duration"}, "web eth0: 1200 packets, 1.2 MB, 3 dropped, stopped (duration)"),
        ({"status": "failed", "stop_reason": "error", "error": "The interface went down"},
         "web eth0: 1200 packets, 1.2 MB, 3 dropped, failed (The interface went down)"),
        ({"interface": "any", "device": "any", "bytes": 999}, "web any: 1200 packets, 999 B, 3 dropped"),
        ({"bytes": 1000}, "web eth0: 1200 packets, 1.0 kB, 3 dropped"),
        ({"bytes": 25_500_000_000}, "web eth0: 1200 packets, 25.5 GB, 3 dropped"),
    ],
)
def test_progress(fields: dict[str, t.Any], line: str) -> None:
    assert wait.progress(session(segment(**fields))) == [line]


def test_progress_of_several() -> None:
    assert wait.progress(session()) == []
    assert wait.progress({**session(), "waiting": ["pod shop/web is waited for"]}) == ["pod shop/web is waited for"]
    lines = wait.progress(session(segment(containers=["db", "vpn"]), segment(), segment(interface="eth1")))
    assert [line.partition(":")[0] for line in lines] == ["db+vpn eth0", "web eth0", "web eth1"]


def test_waiting_for_an_instant_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And every look at what was captured, though nothing came."""
    waiting = session(segment(pid=None, packets_captured=None), start_at="2000-01-31T03:00:00.000000Z", started_at=None)
    answers = [waiting, waiting, waiting, session(segment()), session(segment()), session(segment(), status="stopped")]
    said: list[str] = []
    monkeypatch.setattr(wait.Display, "display", lambda _self, words: said.append(words))
    action = bare(wait, _execute_module=lambda **_arguments: {"captures": [answers.pop(0)]})
    args = {"name": "default", "path": "/x", "owner": None, "interval": 0.01, "patience": 1}
    action._wait(args, {"inventory_hostname": "node"}, types.SimpleNamespace(happened=False, sleep=lambda _seconds: None))
    line = "[node] web eth0: 1200 packets, 1.2 MB, 3 dropped"
    assert said == ["[node] x waits until 03:00:00 UTC on 2000-01-31", line, line, line]


@pytest.mark.parametrize("name", ["/etc/cron.d/mine", "../other/default.pcapng", "a/../../b", "", "."])
def test_host_does_not_choose_where_its_captures_go(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, name: str) -> None:
    arguments = {"dest": str(tmp_path), "name": "default", "merge": "host", "compress": False, "remove": False, "dest_lasts": None, "path": "/x", "owner": None}
    staged = {"staged": [{"dest": name, "path": "/tmp/folder/1.staged", "size": 1, "sha256": "x"}], "capture": {"status": "stopped"}}
    action = bare(fetch, _task=types.SimpleNamespace(check_mode=False), _connection=types.SimpleNamespace(fetch_file=None))
    monkeypatch.setattr(fetch.ActionBase, "run", lambda *_arguments: {})
    answers = {"validate_argument_spec": (None, arguments), "_make_tmp_path": "/tmp/folder", "_remove_tmp_path": None, "_execute_module": staged,
               "_low_level_execute_command": {"stdout": "1\n"}}
    for method, value in answers.items():
        monkeypatch.setattr(action, method, lambda *_arguments, _value=value, **_more: _value)
    with pytest.raises(AnsibleActionFail, match=r"node gives a capture the name .*, which leads out of \S+/node, so it was not fetched"):
        action.run(task_vars={"inventory_hostname": "node"})
    assert list(tmp_path.iterdir()) == []


def bare(action: t.Any, **attributes: t.Any) -> t.Any:
    """An action without a task."""
    made = action.ActionModule.__new__(action.ActionModule)
    vars(made).update(_host="inner", _shell_path="/bin/sh", _reached=time.monotonic(), **attributes)
    return made


@pytest.mark.parametrize(
    ("tail", "complaint"),
    [
        (b"", None),
        (bytes(4096), "a record of zeros"),
        (b"\xa5" * 300, "no packet at offset 252"),
        (builder.record(builder.sequence(1)[0]), "4 packets, of 3"),
    ],
)
def test_complaint_about_a_damaged_file(tmp_path: pathlib.Path, tail: bytes, complaint: str | None) -> None:
    """A file that did not come as tcpdump wrote it is brought again."""
    report: t.Any = types.SimpleNamespace(counts=types.SimpleNamespace(packets_captured=3))
    found = inside._complaint(builder.write(tmp_path / "x.pcap", builder.pcap(builder.sequence(3)) + tail), report)
    assert found is None if complaint is None else found is not None and complaint in found


def test_threads_share_no_connection() -> None:
    """What a connection and its become know of the command that they run would be mixed up."""
    connection = types.SimpleNamespace(become=BecomeModule(), _docker_args=["-H", "here"], _play_context=object())
    other = bare(inside, _connection=connection)._apart()._connection
    assert other is not connection and other._play_context is connection._play_context
    assert (other.become is not connection.become, other._docker_args is not connection._docker_args, other._docker_args) == (True, True, ["-H", "here"])
    connection.become = None
    assert bare(inside, _connection=connection)._apart()._connection.become is None


class Broken:
    """A container whose commands get lost: by an exception, or by a code only; states are what beats tell, the last one again and again,
    and "" is one of which nothing arrives."""

    def __init__(self, *lost: str, states: t.Sequence[str]) -> None:
        self.lost, self.states = list(lost), list(states)
        self.ran: list[str] = []

    def __call__(self, text: str, *_arguments: str) -> dict[str, t.Any]:
        name = next(name for name in ("BEAT", "STOP", "LEAVE") if getattr(_inside, name) == text)
        self.ran.append(name)
        assert len(self.ran) < 1000, "It goes on for ever."
        if name == "BEAT":
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return {"rc": 0, "stdout": f"nettap: {state}\nnettap: all\n" if state else ""}
        how = self.lost.pop(0) if self.lost else "no"
        if how == "raises":
            raise AnsibleConnectionFailure("cut")
        return {"rc": 1 if how == "code" else 0, "stdout": "nettap: gone\n" if name == "LEAVE" and how == "no" else ""}


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes by as it is slept."""
    slept = [time.monotonic()]
    monkeypatch.setattr(inside, "time", types.SimpleNamespace(monotonic=lambda: slept[0], sleep=lambda seconds: slept.append(slept.pop() + seconds)))


@pytest.mark.parametrize("how", ["raises", "code"])
def test_capture_that_hears_the_third_stop(hurry: None, how: str) -> None:
    container = Broken(how, how, states=[*["running"] * 3, "ended 0"])
    action = bare(inside, _run=container)
    reason, _report = action._wait("/tmp/x", types.SimpleNamespace(duration=0.001), types.SimpleNamespace(happened=True))
    assert reason == "user" and container.ran.count("STOP") == 3


def test_capture_that_hears_no_stop(hurry: None) -> None:
    """It is given up: what runs there ends without beats."""
    action = bare(inside, _run=Broken(states=["running"]))
    with pytest.raises(AnsibleActionFail, match=r"tcpdump could not be ended in inner within 30 s, and its packets are lost: see whether"):
        action._wait("/tmp/x", types.SimpleNamespace(duration=0), types.SimpleNamespace(happened=True))


def test_leaving_waits_for_the_container_not_for_a_thread(hurry: None) -> None:
    container = Broken("raises", "code", "code", states=["running"])
    bare(inside, _run=container)._leave("/tmp/x", types.SimpleNamespace(ended=True))
    assert container.ran == ["LEAVE"] * 4
    deaf = Broken(*["code"] * 1000, states=["running"])
    action = bare(inside, _run=deaf)
    action._reached = inside.time.monotonic()
    action._leave("/tmp/x", types.SimpleNamespace(ended=True))
    assert inside.time.monotonic() - action._reached == pytest.approx(_inside.LEASE, abs=1)


LOST = ["", "nettap: running\n", "listening on eth0\nnettap: all\n", "nettap: ended 0\n"]
WHOLE = "nettap: ended 0\n8 packets captured\n8 packets received by filter\n0 packets dropped by kernel\nnettap: all\n"


def test_beat_of_which_a_part_is_lost(hurry: None) -> None:
    """What is missing at its beginning or at its end is not taken for what was said."""
    answers = [*LOST, WHOLE]
    action = bare(inside, _run=lambda *_arguments: {"rc": 0, "stdout": answers.pop(0)})
    state, report = action._beat("/tmp/x")
    assert (state, report.captured, answers) == ("ended 0", 8, [])


@pytest.mark.parametrize("lost", ["", "nettap: machine x86_64\n", "nettap: place /tmp\n"])
def test_look_around_of_which_a_part_is_lost(lost: str) -> None:
    answers = [{"rc": 0, "stdout": text, "stderr": ""} for text in (lost, lost, "nettap: machine x86_64\nnettap: passwd\nnettap: place /tmp\n")]
    action = bare(inside, _low_level_execute_command=lambda *_arguments: answers.pop(0))
    folder, users = action._probe(["/tmp"], types.SimpleNamespace(check=lambda machine, host: None))
    assert folder.startswith("/tmp/.nettap-") and users and not answers
    silent = bare(inside, _low_level_execute_command=lambda *_arguments: {"rc": 0, "stdout": lost, "stderr": ""})
    with pytest.raises(AnsibleActionFail, match="Nothing can be run in inner "):
        silent._probe(["/tmp"], types.SimpleNamespace())


@pytest.mark.parametrize("error", [AnsibleConnectionFailure("cut"), AnsibleActionFail("did not arrive intact")])
def test_transfer_that_breaks(hurry: None, error: AnsibleError) -> None:
    """It is tried again, for what is in the container is still there; in the end its error is told."""
    action = bare(inside, _run=Broken("no", states=["ended 0"]))
    ways: list[AnsibleError | None] = [error, error, None]

    def work() -> None:
        if way := ways.pop(0):
            raise way

    action._beating("/tmp/x", work)
    assert not ways
    ways = [error] * 10
    with pytest.raises(type(error)):
        action._beating("/tmp/x", work)
    assert len(ways) == 10 - inside._TRIES


class Following:
    """container_capture_stream without a host: answers are what the program there says, an exception is raised, None is silence."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: t.Any, check: bool = False, **arguments: t.Any) -> None:
        self.answers, self.arguments = list(answers), arguments
        self.modules: list[str] = []
        self.logged = False
        task = types.SimpleNamespace(args=arguments, check_mode=check, async_val=0, diff=False)
        self.action = bare(stream, _task=task, _play_context=types.SimpleNamespace(no_log=False))
        for name in ("_execute_module", "_low_level_execute_command", "_make_tmp_path", "_remove_tmp_path"):
            monkeypatch.setattr(self.action, name, getattr(self, name[1:]))
        monkeypatch.setattr(stream.ActionBase, "run", lambda *_arguments: {})
        monkeypatch.setattr(self.action, "validate_argument_spec", self.validate)
        monkeypatch.setattr(stream, "_RETRY", 0.01)
        monkeypatch.setattr(stream, "_CYCLE", 0)

    def validate(self, argument_spec: dict[str, t.Any], **_rules: t.Any) -> tuple[None, dict[str, t.Any]]:
        return None, {**{name: option.get("default") for name, option in argument_spec.items()}, **self.arguments}

    def make_tmp_path(self) -> str:
        return "/tmp/folder"

    def remove_tmp_path(self, _folder: str) -> None:
        self.modules.append("cleaned up")

    def execute_module(self, module_name: str, module_args: dict[str, t.Any], **_more: t.Any) -> dict[str, t.Any]:
        self.modules.append(module_args.get("state") or "staged")
        capture = {"live": True, "status": "running"}
        return {"capture": capture, "python": "python3", "program": "follow.zip", "changed": True} if module_name == stream._MODULE else {"changed": True}

    def low_level_execute_command(self, _command: str) -> dict[str, t.Any]:
        self.logged = self.logged or not self.action._play_context.no_log
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return {"rc": 1, "stdout": "", "stderr": "error: unable to upgrade connection\n"}
        return {"rc": 0, "stdout": stream.json.dumps(answer) + "\n", "stderr": ""}

    def run(self) -> dict[str, t.Any]:
        return self.action.run(task_vars={"inventory_hostname": "node"})


def answer(number: int, last: bool = False) -> dict[str, t.Any]:
    capture = {"segments": [{"packets_captured": number, "packets_followed": number}]} if last else None
    return {"data": "eA==", "cursor": f"at {number}", "packets": number, "lost": [], "damage": [], "disorder": [], "capture": capture}


def test_stream_over_a_connection_that_breaks_by_a_code(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """As kubectl's and docker's do, which raise nothing. The first answer is another matter: what has never run is not tried again."""
    dest = tmp_path / "dest"
    following = Following(monkeypatch, answer(1), None, AnsibleConnectionFailure("cut"), None, answer(2, last=True), dest=str(dest))
    result = following.run()
    assert (result["packets"], result["missed"], dest.read_bytes()) == (2, 0, b"xx")
    with pytest.raises(AnsibleActionFail, match=r"ended with code 1 \(error: unable to upgrade connection\)\."):
        Following(monkeypatch, None, dest=str(dest)).run()


def test_stream_is_never_logged(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Some connections show at -vvv what a command says: here that is packets. Other tasks are shown as before."""
    following = Following(monkeypatch, answer(1), None, answer(2, last=True), dest=str(tmp_path / "dest"))
    following.run()
    assert not following.logged and following.action._play_context.no_log is False


@pytest.mark.parametrize(("lost", "why"), [([], "their files are damaged on the host"), (["web eth0"], "their ring files were overwritten")])
def test_stream_tells_of_damage_and_disorder(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, lost: list[str], why: str) -> None:
    """As warnings and in the result; and what is missing for the damage's sake is not laid to the ring."""
    said: list[str] = []
    monkeypatch.setattr(stream.Display, "warning", lambda _self, words: said.append(words))
    last = answer(2, last=True)
    last["capture"]["segments"][0]["packets_captured"] = 5
    found = {**answer(1), "lost": lost, "damage": ["x.pcap0 is damaged"], "disorder": ["the clock was set back"]}
    result = Following(monkeypatch, found, last, dest=str(tmp_path / "dest")).run()
    assert (result["damage"], result["in_order"], result["missed"]) == (["x.pcap0 is damaged"], False, 3)
    assert said[-3:-1] == ["[node] x.pcap0 is damaged", "[node] the clock was set back"]
    assert said[-1].startswith(f"[node] 3 packets of the session default are not in the stream: {why}")


@pytest.mark.parametrize(("on_close", "ended"), [("keep", []), ("stop", ["stopped"]), ("remove", ["absent"])])
def test_stream_that_fails_ends_its_session(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, on_close: str, ended: list[str]) -> None:
    following = Following(monkeypatch, answer(1), None, dest=str(tmp_path / "dest"), on_close=on_close, patience=0.1)
    with pytest.raises(AnsibleConnectionFailure, match="ended with code 1"):
        following.run()
    assert following.modules == ["staged", *ended, "cleaned up"]
    following = Following(monkeypatch, answer(1), dest="/dev/full", on_close=on_close)
    with pytest.raises(AnsibleActionFail, match="could not be written to /dev/full on the controller: No space left on device"):
        following.run()
    assert following.modules == ["staged", *ended, "cleaned up"]
    following = Following(monkeypatch, {"failed": True, "msg": "Session live was started anew."}, dest=str(tmp_path / "dest"), on_close=on_close)
    with pytest.raises(AnsibleActionFail, match="anew"):
        following.run()
    assert following.modules == ["staged", "cleaned up"]


def test_stream_that_is_interrupted_before_it_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    following = Following(monkeypatch, answer(1), dest=str(tmp_path / "dest"), on_close="remove")
    monkeypatch.setattr(following.action, "_make_tmp_path", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(AnsibleActionFail, match=r"Interrupted: the capture session default was removed\."):
        following.run()
    assert following.modules == ["staged", "absent", "cleaned up"]


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [({"dest": "x"}, True), ({"argv": ["cat"]}, False), ({"argv": ["cat"], "on_close": "stop"}, True), ({"argv": ["cat"], "on_close": "remove"}, True)],
)
def test_stream_predicts_what_it_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, arguments: dict[str, t.Any], changed: bool) -> None:
    if "dest" in arguments:
        arguments["dest"] = str(tmp_path / "x")
    predicted = Following(monkeypatch, None, check=True, **arguments).run()
    assert predicted["changed"] is changed
    assert predicted.keys() == Following(monkeypatch, answer(1, last=True), **arguments).run().keys()


def test_live_capture_ends_by_itself() -> None:
    """Also when the play is killed between its start and its stream."""
    [play] = yaml.safe_load((ROOT / "playbooks" / "live.yml").read_text())
    assert play["tasks"][0]["block"][0]["vars"]["capture_duration"] > 0


def test_interrupted_waiting_tells_of_damaged_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fetch's result is not returned: its warnings would be lost with it."""
    said: list[str] = []
    monkeypatch.setattr(wait.Display, "warning", lambda _self, words: said.append(words))
    fetching = types.SimpleNamespace(run=lambda task_vars: {"files": [{"dest": "/x.pcapng"}], "warnings": ["node: damaged"]}, cleanup=lambda: None)
    loader = types.SimpleNamespace(action_loader=types.SimpleNamespace(get=lambda *_arguments, **_more: fetching))
    others = dict.fromkeys(("_connection", "_play_context", "_loader", "_templar"))
    action = bare(wait, _shared_loader_obj=loader, _task=types.SimpleNamespace(copy=types.SimpleNamespace), **others)
    assert action._fetch({"name": "x", "path": "/p", "owner": None, "fetch_on_interrupt": {}}, {}) == "stopped and fetched to /x.pcapng"
    assert said == ["node: damaged"]


def test_waiting_over_a_connection_that_breaks_by_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """As kubectl's and docker's do, which raise nothing. The first answer is another matter: what has never run is not tried again."""

    def told(status: str) -> dict[str, t.Any]:
        return {"captures": [session(status=status)]}

    unplaced = AnsibleError("Failed to set permissions on remote files (rc: 1, err: error: no upgrade)")  # without pipelining
    silence = {"failed": True, "msg": "Module result deserialization failed.", "module_stdout": "", "module_stderr": "error: no upgrade\n", "rc": 1}

    def waiting(*answers: t.Any, patience: float = 10) -> t.Any:
        left = list(answers)

        def execute_module(**_arguments: t.Any) -> dict[str, t.Any]:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        action = bare(wait, _execute_module=execute_module)
        args = {"name": "default", "path": "/x", "owner": None, "interval": 0.01, "patience": patience}
        return action._wait(args, {}, types.SimpleNamespace(happened=False, sleep=time.sleep))

    assert waiting(told("running"), silence, unplaced, silence, told("stopped"))["status"] == "stopped"
    with pytest.raises(AnsibleActionFail, match="deserialization"):
        waiting(silence, told("stopped"))
    with pytest.raises(AnsibleError, match="Failed to set permissions"):
        waiting(unplaced, told("stopped"))
    with pytest.raises(AnsibleConnectionFailure, match=r"The session default could not be asked for: code 1 \(error: no upgrade\)\."):
        waiting(told("running"), silence, patience=0.1)
