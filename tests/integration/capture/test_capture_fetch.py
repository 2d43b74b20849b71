# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures on their way to the controller: over ssh from a user who becomes root, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import signal
import sys

import pytest
from capture_tools import (
    TRAFFIC,
    Captures,
    by,
    capinfos,
    command_line,
    count,
    everything_is_private,
    flood,
    lengths,
    only,
    processes_naming,
    reach,
    records,
    send,
    tshark,
)
from waiting import wait_for


class Fetcher:
    """container_capture_fetch on the host `node`, and what it leaves there."""

    def __init__(self, captures: Captures, cli, sshd, dest: pathlib.Path) -> None:
        self.captures, self.cli, self.sshd, self.dest = captures, cli, sshd, dest

    def start(self, tasks: dict[str, dict], **host_vars):
        """Start a play of named fetches with further options."""
        play = {"hosts": "all", "gather_facts": False, "tasks": [
            {
                "name": name,
                "check_mode": options.pop("check", False),
                "nettap.containers.container_capture_fetch": {"path": str(self.captures.path), "dest": str(self.dest), **options},
                "ignore_errors": True,
            }
            for name, options in tasks.items()
        ]}  # fmt: skip
        return self.cli.start_playbook([play], hosts={"node": {**self.sshd.host_vars, **host_vars}})

    def __call__(self, **tasks: dict) -> list[dict]:
        """The results of fetches with further options, in their order."""
        done = self.start(tasks).wait()
        assert [entry["task"] for entry in done.results] == list(tasks), done.output
        return [{**entry["result"], "failed": entry["status"] != "ok"} for entry in done.results]

    def staged(self) -> list[pathlib.Path]:
        """What is left of captures in the login user's temporary folder."""
        return list((self.sshd.home / ".ansible" / "tmp").glob("*/*.staged"))


@pytest.fixture
def fetch(captures, cli, sshd, tmp_path):
    return Fetcher(captures, cli, sshd, tmp_path / "here")


def intact(file: dict) -> bool:
    """Whether a file is what the task says it is."""
    content = pathlib.Path(file["dest"]).read_bytes()
    return (len(content), hashlib.sha256(content).hexdigest(), count(file["dest"])) == (file["size"], file["sha256"], file["packets"])


def test_merged_and_in_segments(captures, container, fetch):
    targets = [container(), container()]
    addresses = [reach(target) for target in targets]
    started = captures.start(*targets, interface=["eth0"], filter=TRAFFIC)["capture"]
    for number in range(1, 101):
        send(addresses[number % 2], [number])
    captures.stop()
    stamp = re.sub(r"[-:]|\.\d+", "", started["started_at"])
    predicted, merged, segments, compressed = fetch(
        predicted={"check": True}, merged={}, segments={"merge": "segment"}, compressed={"merge": "segment", "compress": True}
    )
    assert predicted["changed"] and predicted["files"][0]["sha256"] == merged["files"][0]["sha256"]

    [file] = merged["files"]
    assert merged["changed"] and not merged["removed"] and intact(file)
    assert file["dest"] == str(fetch.dest / "node" / f"default-{stamp}.pcapng")
    assert (file["host"], file["containers"]) == ("node", sorted(target.name for target in targets))
    found = [line.split("\t") for line in tshark(file["dest"], "frame.interface_name", "data.len")]
    assert found == [[f"node/{targets[number % 2].name}/eth0", str(number)] for number in range(1, 101)]
    told = capinfos(file["dest"])
    assert "Strict time order:   True" in told
    assert all(words in told for target in targets for words in (f"container: {target.name}\n", f"id: {target.id}\n"))
    assert told.count("image: nettap/test:latest\n") == told.count(f"filter: {TRAFFIC}\n") == 2
    assert lengths(file["dest"]) == list(range(1, 101)), "tcpdump does not read the merged file"

    assert segments["changed"] and len(segments["files"]) == 2
    for file in segments["files"]:
        assert intact(file) and pathlib.Path(file["dest"]).parent == fetch.dest / "node" / f"default-{stamp}"
        odd = file["containers"] == [targets[1].name]
        assert lengths(file["dest"]) == list(range(1, 101))[not odd :: 2]
    assert [file["dest"] for file in compressed["files"]] == [file["dest"] + ".gz" for file in segments["files"]]
    for plain, file in zip(segments["files"], compressed["files"], strict=True):
        assert intact(file) and tshark(file["dest"], "data.len", "frame.time_epoch") == tshark(plain["dest"], "data.len", "frame.time_epoch")
    everything_is_private(fetch.dest)
    assert fetch.staged() == []

    def picture() -> dict[pathlib.Path, tuple[int, int]]:
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in fetch.dest.rglob("*")}

    before = picture()
    again = fetch(predicted={"check": True}, merged={}, segments={"merge": "segment"}, compressed={"merge": "segment", "compress": True})
    assert [result["changed"] for result in again] == [False] * 4
    assert again[1]["files"] == merged["files"] and picture() == before


def test_ring_is_joined_in_order(captures, container, fetch):
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC, file_size=1, file_count=3)
    sent = flood(where, 5)
    ring = only(captures.stop())
    assert sorted(ring["files"]) != ring["files"] or len(ring["files"]) != 3 or ring["packets_captured"] == len(sent)
    for result in fetch(host={"merge": "host"}, segment={"merge": "segment"}):
        [file] = result["files"]
        assert intact(file) and "Strict time order:   True" in capinfos(file["dest"])
        found = lengths(file["dest"])
        assert found == sent[-len(found) :] and 1500 < len(found) < len(sent)


@pytest.mark.parametrize("garbage", [b"\xa5" * 300, bytes(4096)], ids=["a5", "zeros of a power cut"])
def test_damaged_files(captures, container, fetch, garbage):
    """A file damaged after its 5th packet, one that is empty, one that was never written, and a clock that was set back."""
    targets = [container() for dummy in range(4)]
    captures.start(*targets, filter=TRAFFIC, snaplen=96)
    for target in targets:
        send(reach(target), range(1, 11))
    capture = by(captures.stop(), "container")
    damaged, empty, never, back = (pathlib.Path(capture[target.name]["files"][0]) for target in targets)
    packets = records(damaged)
    assert len(packets) == 11
    good = b"".join(packets[:6])
    damaged.write_bytes(b"".join([good, garbage, *packets[6:]]))
    empty.write_bytes(b"")
    never.unlink()
    packets = records(back)
    back.write_bytes(b"".join([*packets[:6], *((int.from_bytes(one[:4], sys.byteorder) - 5).to_bytes(4, sys.byteorder) + one[4:] for one in packets[6:])]))
    predicted, merged, segments, again = fetch(predicted={"check": True}, merged={}, segments={"merge": "segment"}, again={})
    assert not merged["failed"] and not segments["failed"] and not again["changed"], merged
    [file] = merged["files"]
    assert intact(file) and (file["packets"], file["in_order"]) == (15, False) and predicted["files"] == merged["files"]
    assert sorted(lengths(file["dest"])) == sorted([*range(1, 6), *range(1, 11)])  # tcpdump -r reads it all
    words = [f"{damaged}: no packet at offset {len(good)}: ", f"{empty}: is empty", "not in the order of time: some are "]
    missing = f"{targets[2].name} any: 0 of 10 packets are in the file, the rest is damaged or was not written; look at the host's disk."
    assert [len(file["damage"]), len(merged["warnings"])] == [2, 4] and missing in merged["warnings"]
    assert not [warning for warning in merged["warnings"] if "DEPRECATION" in warning]
    told = capinfos(file["dest"])
    assert all(any(word in warning for warning in merged["warnings"]) and word in told for word in words), (merged["warnings"], told)
    found = {one["containers"][0]: (one["packets"], len(one["damage"]), one["in_order"]) for one in segments["files"]}
    assert [found[target.name] for target in targets] == [(5, 1, True), (0, 1, True), (0, 0, True), (10, 0, False)]
    assert all(intact(one) for one in segments["files"]) and len(segments["warnings"]) == 4
    kept = by(merged["capture"], "container")
    assert [kept[target.name]["packets_kept"] for target in targets] == [5, 0, 0, 10]


def test_running_session_and_remove(captures, container, fetch):
    target = container()
    where = reach(target)
    captures.start(target, filter=TRAFFIC)
    flood(where, 1)
    captures.until(lambda capture: (only(capture)["packets_captured"] or -1) == only(capture)["packets_received"])
    early, kept = fetch(early={}, remove={"remove": True})
    assert early["changed"] and intact(early["files"][0]) and early["files"][0]["packets"] > 0
    assert kept["failed"] and "is still running: stop it before" in kept["msg"]
    send(where, [9])
    assert captures.info()["status"] == "running"
    captures.stop()
    late, predicted, removed, gone = fetch(late={}, check={"check": True, "remove": True}, removed={"remove": True}, gone={"remove": True})
    assert late["changed"] and intact(late["files"][0])
    assert late["files"][0]["dest"] == early["files"][0]["dest"] and late["files"][0]["packets"] > early["files"][0]["packets"]
    assert lengths(late["files"][0]["dest"])[-1] == 9
    assert [result["changed"] for result in (predicted, removed)] == [True, True] and removed["removed"]
    assert os.listdir(captures.path) == []
    assert gone["failed"] and "There is no capture session 'default'" in gone["msg"]
    assert pathlib.Path(late["files"][0]["dest"]).exists()


def test_nothing_captured_is_a_valid_file(captures, container, fetch):
    captures.start(container(), interface=["eth0", "any"], vantage="both", filter=TRAFFIC, duration=0.2, wait=True)
    captures.start(container(), name="never", start_at="2100-01-01")
    captures.stop("never")
    results = fetch(merged={}, segments={"merge": "segment"}, gz={"compress": True}, early={"name": "never"}, alone={"name": "never", "merge": "segment"})
    assert [len(result["files"]) for result in results] == [1, 3, 1, 1, 1]
    for file in (file for result in results for file in result["files"]):
        assert intact(file) and file["packets"] == 0
        assert tshark(file["dest"], "frame.number") == []


def test_host_vantage_has_its_own_interface_name(captures, container, fetch):
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], vantage="both", filter=TRAFFIC)
    send(where, [8])
    device = by(captures.stop(), "vantage")["host"]["device"]
    [result] = fetch(both={})
    names = tshark(result["files"][0]["dest"], "frame.interface_name")
    assert sorted(names) == [f"node/{target.name}/eth0", f"node/{target.name}/eth0@{device}"]


def test_transfer_that_breaks(captures, container, fetch):
    """What was there stays, nothing half is left here, and what is left there goes with the next fetch, or with the session."""
    target = container()
    where = reach(target)
    captures.start(target, filter=TRAFFIC)
    flood(where, 0.5)
    captures.until(lambda capture: only(capture)["packets_captured"])
    [old] = fetch(old={})
    assert old["changed"]
    flood(where, 12)
    captures.stop()

    def break_it() -> None:
        slow = fetch.start({"broken": {}}, ansible_sftp_extra_args="-l 8000")  # 1 MB a second
        try:
            assert wait_for(lambda: any(path.stat().st_size for path in fetch.dest.rglob(".*.part/*")), 30)
            fetch.sshd.cut()
            done = slow.wait()
        finally:
            fetch.sshd.listen()
        assert done.results[-1]["status"] in ("failed", "unreachable") and done.rc != 0
        assert not list(fetch.dest.rglob("*.part")) and len(fetch.staged()) == 1

    break_it()
    assert intact(old["files"][0])
    [new] = fetch(new={})
    assert new["changed"] and intact(new["files"][0]) and new["files"][0]["packets"] > old["files"][0]["packets"]
    assert new["files"][0]["dest"] == old["files"][0]["dest"] and fetch.staged() == []
    os.unlink(new["files"][0]["dest"])
    break_it()
    assert captures.task(state="absent")["changed"]
    assert fetch.staged() == [] and [path for path in fetch.dest.rglob("*") if path.is_file()] == []


def test_two_fetches_at_the_same_time(captures, container, fetch, tmp_path):
    """The second neither takes the staged files of the first for forgotten ones, nor removes them with the session."""
    targets = [container(), container()]
    captures.start(*targets, filter=TRAFFIC)
    for target in targets:
        flood(reach(target), 4)
    packets = [segment["packets_captured"] for segment in captures.stop()["segments"]]
    slow = fetch.start({"slow": {"merge": "segment"}}, ansible_sftp_extra_args="-l 8000")  # 1 MB a second
    assert wait_for(lambda: any(path.stat().st_size for path in fetch.dest.rglob(".*.part/*")), 120)
    transfers = [pid for pid in processes_naming(fetch.sshd.folder) if command_line(pid).startswith("sftp ")]
    for pid in transfers:
        os.kill(pid, signal.SIGSTOP)
    try:
        [second] = fetch(second={"dest": str(tmp_path / "there"), "merge": "segment", "remove": True})
        assert len(list(fetch.dest.rglob(".*.part/*"))) == len(transfers) == 1, "the first had ended before"
    finally:
        for pid in transfers:
            os.kill(pid, signal.SIGCONT)
    done = slow.wait()
    assert done.rc == 0, done.output
    first = done.results[-1]["result"]
    for result in (first, second):
        assert all(intact(file) for file in result["files"]) and [file["packets"] for file in result["files"]] == packets
    assert fetch.staged() == [] and captures.find() is None


def test_destination_that_cannot_be_written(captures, container, fetch):
    captures.start(container(), filter=TRAFFIC, duration=0.1, wait=True)
    fetch.dest.mkdir()
    (fetch.dest / "file").write_text("mine")
    (fetch.dest / "other").mkdir()
    (fetch.dest / "other" / "node").write_text("mine, too")
    results = fetch(file={"dest": str(fetch.dest / "file"), "remove": True}, folder={"dest": str(fetch.dest / "other"), "remove": True})
    for result in results:
        assert result["failed"] and re.search(r"The destination \S+/node/default-\S+ on the controller cannot be written: .*\.$", result["msg"])
    assert [path.read_text() for path in sorted(fetch.dest.rglob("*")) if path.is_file()] == ["mine", "mine, too"]
    assert captures.find() and fetch.staged() == []


def test_hosts_whose_names_have_no_ascii(captures, container, cli, sshd, tmp_path):
    """One underscore for each of their letters would make one folder of two hosts, in which the last would replace the others."""
    where = reach(target := container())
    captures.start(target, interface=["eth0"], filter=TRAFFIC)
    send(where, [1])
    captures.stop()
    hosts = {"сервер1": "%D1%81%D0%B5%D1%80%D0%B2%D0%B5%D1%801", "хостик1": "%D1%85%D0%BE%D1%81%D1%82%D0%B8%D0%BA1", "______1": "______1", "a:b": "a%3Ab"}  # noqa: RUF001
    task = {"name": "fetch", "nettap.containers.container_capture_fetch": {"path": str(captures.path), "dest": str(tmp_path / "here")}}
    play = {"hosts": "all", "serial": 1, "gather_facts": False, "tasks": [task]}  # for they are one host here
    done = cli.start_playbook([play], hosts=dict.fromkeys(hosts, sshd.host_vars)).wait()
    assert done.rc == 0, done.output
    files = {entry["result"]["files"][0]["host"]: entry["result"]["files"][0] for entry in done.results}
    assert {host: pathlib.Path(file["dest"]).parent.name for host, file in files.items()} == hosts
    for host, file in files.items():
        assert intact(file) and tshark(file["dest"], "frame.interface_name") == [f"{host}/{target.name}/eth0"]
    everything_is_private(tmp_path / "here")


def test_file_of_another_capture_stays(captures, container, fetch):
    """It has the same name where a host of another inventory is called the same and has started in the same second."""
    captures.start(container(), filter=TRAFFIC, duration=0.1, wait=True)
    [first] = fetch(first={})
    path = pathlib.Path(first["files"][0]["dest"])
    mine = os.getxattr(path, "user.nettap.origin").decode()
    assert re.fullmatch(r"node default \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", mine)
    path.write_text("other")
    os.setxattr(path, "user.nettap.origin", b"node default 2026-01-31T03:00:00.000001Z")
    for result in fetch(check={"check": True, "remove": True}, removed={"remove": True}):
        assert result["failed"] and result["msg"].startswith(f"{path} holds another capture (node default 2026-01-31T03:00:00.000001Z, not {mine})")
    assert path.read_text() == "other" and captures.info()["status"] == "stopped"
    os.removexattr(path, "user.nettap.origin")
    done = fetch.start({"again": {}}).wait()
    assert done.rc == 0 and f"{path} was there, with other packets" in re.sub(r"\s+", " ", done.output) and intact(done.results[0]["result"]["files"][0])


@pytest.mark.parametrize("name", ["-rf", ".hidden"])
def test_session_with_a_name_that_no_new_one_may_have(captures, container, fetch, name):
    """An older release has taken it: it can be listed, fetched and removed, but not started again."""
    target = container()
    captures.start(target, filter=TRAFFIC, duration=0.1, wait=True)
    os.rename(captures.path / "default", captures.path / name)
    refused = captures.task(name=name, container=[target.name])
    assert refused["failed"] and refused["msg"] == f"{name!r} cannot be a session's name: begin with a letter or a digit."
    assert captures.info(name)["status"] == "stopped"
    kept, removed = fetch(kept={"name": name}, removed={"name": name, "remove": True})
    assert intact(kept["files"][0]) and os.path.basename(kept["files"][0]["dest"]).startswith(f"{name}-2") and removed["removed"]
    assert os.listdir(captures.path) == []
