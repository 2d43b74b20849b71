# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a session captures, from its first packet to its last, and how it ends."""

from __future__ import annotations

import concurrent.futures
import datetime
import os
import pathlib
import signal
import time

import pytest
from capture_tools import PORT, TRAFFIC, by, count, everything_is_private, flood, lengths, only, reach, send, succeeded, tcpdump, tshark
from engine import execute, ip


def test_started_means_capturing(captures, container):
    target = container()
    where = reach(target)
    for number in (1, 2):  # one packet could be lucky
        captures.start_here(target, filter=TRAFFIC)
        send(where, [number])
        assert lengths(*only(captures.stop_here())["files"]) == [number]


def test_stop_loses_nothing_that_was_sent_before(captures, container):
    """A tcpdump that is ended at once leaves what its kernel ring still holds: up to a second of packets."""
    target = container()
    where = reach(target)
    captures.start(target, filter=TRAFFIC)
    send(where, range(1, 1001))
    segment = only(captures.stop_here())
    assert lengths(*segment["files"]) == list(range(1, 1001))
    assert (segment["status"], segment["stop_reason"]) == ("stopped", "user")
    assert (segment["packets_captured"], segment["packets_received"], segment["packets_dropped"]) == (1000, 1000, 0)


@pytest.mark.parametrize("end", ["kill", "restart", "remove"])
def test_container_that_ends_keeps_its_last_packets(captures, container, end):
    """On any, that is: with a named interface the kernel takes away what tcpdump has not read yet, and only counts it."""
    target = container()
    where = reach(target)
    captures.start(target, interface=["any", "eth0"], filter=TRAFFIC)
    send(where, range(1, 501))
    target.remove(force=True) if end == "remove" else getattr(target, end)()
    told = captures.until(lambda capture: all(segment["status"] != "running" for segment in capture["segments"][:2]))
    segments = by({"segments": told["segments"][:2]}, "interface")
    for segment in segments.values():
        assert (segment["status"], segment["stop_reason"], segment["packets_received"]) == ("stopped", "container_gone", 500)
        assert lengths(*segment["files"]) == list(range(1, segment["packets_captured"] + 1))
    assert (segments["any"]["packets_captured"], segments["any"]["packets_unread"]) == (500, None)
    unread = segments["eth0"]["packets_unread"]
    assert unread == 500 - segments["eth0"]["packets_captured"] > 0
    assert any(f"{unread} gone unread with the interface" in line for line in told["summary"])


def test_it_ends_by_itself(captures, container):
    cases: dict[str, tuple] = {  # name: options, datagrams sent, captured, reason
        "idle": ({"duration": 1}, 0, 0, "duration"),  # nothing comes: tcpdump alone would wait for ever
        "few": ({"duration": 10, "packet_count": 9}, 5, 5, "duration"),
        "count": ({"packet_count": 3}, 5, 3, "packet_count"),
        "single": ({"packet_count": 3, "duration": 60, "file_size": 0}, 5, 3, "packet_count"),
    }
    target = container()
    where = reach(target)
    for port, (name, (options, sent, _captured, _reason)) in enumerate(cases.items(), start=PORT):
        captures.start(target, name=name, filter=f"udp port {port}", **options)
        send(where, range(1, sent + 1), port)
    for name, (options, _sent, captured, reason) in cases.items():
        capture = captures.until_ended(name)
        segment = only(capture)
        assert (capture["status"], segment["stop_reason"], segment["packets_captured"], segment["error"]) == ("stopped", reason, captured, None)
        assert sum(map(count, segment["files"])) == captured
        if reason == "duration":
            started, stopped = (datetime.datetime.fromisoformat(capture[key]).timestamp() for key in ("started_at", "stopped_at"))
            assert stopped - started >= options["duration"]
    assert not captures.processes()


def test_wait_returns_the_final_figures(captures, container):
    target = container()
    capture = captures.start(target, interface=["lo"], filter="icmp", duration=1, wait=True)["capture"]
    segment = only(capture)
    assert (capture["status"], capture["supervisor"]["alive"], segment["stop_reason"], segment["packets_captured"]) == ("stopped", False, "duration", 0)
    assert capture["stopped_at"] > capture["started_at"]
    assert "give duration or packet_count" in captures.task(container=[target.name], name="endless", wait=True)["msg"]


def test_rings_wrap_and_keep_the_newest_in_order(captures, container):
    """-W names 2..10 and 11..100 files differently, and a ring that has wrapped is not in the order of its names."""
    rings = {1: 1, 2: 1, 3: 2, 4: 2, 10: 2, 11: 2}  # number of files: digits, for eight names more than files
    target = container()
    where = reach(target)
    for files in rings:
        captures.start(target, name=f"ring{files}", filter=TRAFFIC, file_size=1, file_count=files)
    captures.start(target, name="one", filter=TRAFFIC, file_size=0)
    sent = flood(where, 12.5)
    for files, digits in rings.items():
        segment = only(captures.stop_here(f"ring{files}"))
        assert len(segment["files"]) == files and {len(path.rpartition(".pcap")[2]) for path in segment["files"]} == {digits}
        assert (segment["packets_captured"], segment["packets_dropped"]) == (len(sent), 0)
        assert segment["bytes"] == sum(map(os.path.getsize, segment["files"])) <= files * 1_002_000
        found = lengths(*segment["files"])
        assert found == sent[-len(found) :], "these are not the newest in order and without a gap"
        assert len(found) >= (files - 1) * 1_000_000 // 1500, "files other than the one being written are not full"
        assert (segment["packets_kept"], segment["packets_overwritten"]) == (len(found), len(sent) - len(found))
    segment = only(captures.stop_here("one"))
    assert [pathlib.Path(path).suffix for path in segment["files"]] == [".pcap"]
    assert lengths(*segment["files"]) == sent


@pytest.mark.parametrize("megabytes", [3.5, 10.6, 13.2])
def test_ring_of_a_supervisor_that_comes_late(captures, container, megabytes):
    """It removes the oldest file for tcpdump; what tcpdump has come to meanwhile is not the oldest any more."""
    target = container()
    where = reach(target)
    pid = captures.start(target, filter=TRAFFIC, file_size=1, file_count=3)["capture"]["supervisor"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    sent = flood(where, megabytes)
    captures.until(lambda capture: only(capture)["packets_captured"] == len(sent))
    os.kill(pid, signal.SIGCONT)
    segment = only(captures.stop())
    found = lengths(*segment["files"])
    assert found == sent[-len(found) :] and len(found) * 1200 > 2_000_000 and len(segment["files"]) == 3
    assert (segment["packets_kept"], segment["packets_overwritten"]) == (len(found), len(sent) - len(found))


def test_interfaces_are_segments_of_their_own(captures, container):
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0", "lo", "eth0"], filter=f"icmp or {TRAFFIC}")
    send(where, [7])
    assert execute(target, "ping", "-c", "2", "-W", "1", "127.0.0.1")[0] == 0
    segments = by(captures.stop(), "interface")
    assert {name: segment["device"] for name, segment in segments.items()} == {"eth0": "eth0", "lo": "lo"}
    assert lengths(*segments["eth0"]["files"]) == [7]
    assert [line.split()[2] for line in tcpdump(segments["lo"]["files"][0])] == ["127.0.0.1"] * 4


def test_vantage_host_listens_at_the_peer(captures, container):
    cases = {
        "host": ("host", ["eth0"], ["host"]),
        "both": ("both", ["eth0"], ["container", "host"]),
        "any": ("both", ["any"], ["container", "host"]),
        "twice": ("host", ["any", "eth0"], ["host"]),
    }
    target = container()
    where = reach(target)
    # The peer is a link of this machine; the container knows its number.
    iflink = execute(target, "cat", "/sys/class/net/eth0/iflink")[1]
    for name, (vantage, interface, _expected) in cases.items():
        captures.start(target, name=name, interface=interface, vantage=vantage, filter=TRAFFIC)
    send(where, [5, 6])
    for name, (_vantage, interface, expected) in cases.items():
        segments = by(captures.stop_here(name), "vantage")
        assert sorted(segments) == expected
        assert all(lengths(*segment["files"]) == [5, 6] for segment in segments.values())
        assert segments["host"]["interface"] == "eth0"
        assert pathlib.Path(f"/sys/class/net/{segments['host']['device']}/ifindex").read_text() == iflink
        if "container" in segments:
            assert segments["container"]["device"] == interface[0]
    failed = captures.task(container=[target.name], name="lo", interface=["lo"], vantage="host")
    assert "Interface lo of" in failed["msg"] and "has no peer on the host" in failed["msg"]


def test_targets_by_label_glob_and_list(captures, container):
    shop = [container(labels={"app": "shop", "n": str(n)}, name=f"shop-{os.getpid()}-{n}") for n in range(2)]
    other = container(labels={"app": "other"})
    cases: dict[str, tuple] = {
        "labels": ({"labels": {"app": "shop"}}, shop),
        "both": ({"labels": {"app": "shop", "n": "1"}}, shop[1:]),
        "glob": ({"container": [f"shop-{os.getpid()}-*"]}, shop),
        "list": ({"container": [other.name, shop[0].id[:20], shop[0].name]}, [other, shop[0]]),
    }
    for name, (options, _expected) in cases.items():
        captures.start(name=name, filter=TRAFFIC, **options)
    for length, target in enumerate([*shop, other], start=1):
        send(reach(target), [length])
    for name, (_options, expected) in cases.items():
        segments = by(captures.stop_here(name), "container")
        assert {segment["id"] for segment in segments.values()} == {target.id for target in expected}
        for length, target in enumerate([*shop, other], start=1):
            if target in expected:
                assert lengths(*segments[target.name]["files"]) == [length]


def test_start_at_is_the_instant(captures, container):
    target = container()
    where = reach(target)
    instant = time.time() + 8
    capture = captures.start(target, filter=TRAFFIC, start_at=str(instant), duration=60)["capture"]
    assert time.time() < instant, "the task did not return before the instant"
    assert (capture["status"], capture["started_at"], only(capture)["pid"]) == ("running", None, None)
    send(where, [1])  # too early
    again = captures.start(target, filter=TRAFFIC, start_at=str(instant), duration=60)
    assert not again["changed"]
    capture = captures.until_started()
    send(where, [2])
    assert datetime.datetime.fromisoformat(capture["started_at"]).timestamp() == pytest.approx(instant, abs=1e-5)
    segment = only(captures.stop())
    assert lengths(*segment["files"]) == [2]
    assert segment["first_packet"] == segment["last_packet"] > capture["started_at"]


def test_start_at_while_containers_are_stopped(captures, container):
    """They are looked for until the instant, and after it. One that is not there again was not captured, and that is no success."""
    before, after, never = targets = [container() for _number in range(3)]
    instant = time.time() + 10
    captures.start(*targets, filter=TRAFFIC, start_at=str(instant), interface=["eth0"], vantage="both")
    for target in targets:
        target.kill()
    before.start()
    assert time.time() < instant, "too late for this test"
    waiting = captures.until_started()
    assert {(one["container"], one["vantage"]) for one in waiting["segments"]} == {(before.name, "container"), (before.name, "host")}
    assert {f"{target.name} waits for its start" for target in (after, never)} <= set(waiting["waiting"])
    after.start()
    captures.until(lambda capture: sum(segment["packets_captured"] is not None for segment in capture["segments"]) == 4)
    for number, target in enumerate([before, after], start=1):
        send(reach(target), [number])
    capture = captures.stop()
    told = {(one["container"], one["vantage"]): (one["status"], one["stop_reason"], lengths(*one["files"])) for one in capture["segments"]}
    for place in ("container", "host"):
        assert [told[target.name, place] for target in (before, after)] == [("stopped", "user", [1]), ("stopped", "user", [2])]
    assert told[never.name, "container"] == ("failed", "user", [])
    assert capture["status"] == "failed" and len(told) == len(capture["segments"])
    assert {one["error"] for one in capture["segments"]} == {None, "it was not started meanwhile"}


def test_start_at_when_the_container_is_gone(captures, container):
    """Nothing can come of waiting for the instant, and the task that waits for the end fails."""
    target = container()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(captures.task, container=[target.name], start_at="2100-01-01", duration=1, wait=True)
        captures.until(lambda capture: capture["status"] == "running")
        target.remove(force=True)
        done = waiting.result()
    assert done["failed"] and f"{target.name} ended before the capture began" in done["msg"]
    capture = done["capture"]
    segment = only(capture)
    assert (capture["status"], capture["started_at"], segment["status"], segment["stop_reason"]) == ("failed", None, "failed", "container_gone")


def test_start_at_can_be_called_off(captures, container):
    target = container()
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    captures.start(target, start_at=later.isoformat())
    capture = captures.stop()
    assert (capture["status"], only(capture)["stop_reason"], only(capture)["files"], capture["started_at"]) == ("stopped", "user", [], None)
    assert not captures.processes()
    assert "start_at must be" in captures.task(container=[target.name], name="never", start_at="tomorrow")["msg"]


def test_options_reach_tcpdump(captures, container):
    target = container()
    where = reach(target)
    captures.start(target, interface=["eth0"], filter=TRAFFIC, snaplen=60, buffer_size=8192, promiscuous=True)
    send(where, [1000])
    capture = captures.stop()
    segment = only(capture)
    assert tshark(segment["files"][0], "frame.len", "frame.cap_len") == ["1042\t60"]
    argv = segment["argv"]
    assert argv[argv.index("-B") + 1] == str(capture["buffer_size"]) == "8192"
    assert "-p" not in argv
    # A filter may begin with a dash: tcpdump has to be told that it is no option.
    expression = f"-1 > len and {TRAFFIC}"
    captures.start(target, name="dash", filter=expression)
    send(where, [7])
    segment = only(captures.stop_here("dash"))
    assert segment["argv"][-2:] == ["--", expression] and lengths(*segment["files"]) == [7]


def test_live_figures(captures, container):
    target = container()
    where = reach(target)
    started = captures.start(target, filter=TRAFFIC)
    send(where, [1, 2, 3])
    segment = only(captures.until(lambda capture: capture["segments"][0]["packets_received"] == 3))
    assert (segment["status"], segment["pid"], segment["stop_reason"]) == ("running", only(started["capture"])["pid"], None)
    everything_is_private(captures.path)


def test_drops_are_told_and_can_fail_the_task(captures, container):
    target = container()
    where = reach(target)
    pid = only(captures.start(target, filter=TRAFFIC, buffer_size=128)["capture"])["pid"]
    os.kill(pid, signal.SIGSTOP)  # it reads nothing, and the buffer runs full
    sent = flood(where, 2)
    os.kill(pid, signal.SIGCONT)
    done = captures.task(state="stopped", max_drop_percent=1)
    segment = only(done["capture"])
    assert segment["packets_received"] == len(sent)
    assert segment["packets_captured"] + segment["packets_dropped"] == len(sent) < 2 * segment["packets_dropped"]
    assert count(segment["files"][0]) == segment["packets_captured"]
    assert done["failed"] and f"{target.name} any {segment['packets_dropped']} of {len(sent)}" in done["msg"]
    assert not captures.stop(max_drop_percent=100).get("failed")


def test_one_supervisor_for_ten_containers_is_small(captures, container):
    targets = [container() for _number in range(10)]
    capture = captures.start(*targets, interface=["eth0"], filter=TRAFFIC)["capture"]
    for length, target in enumerate(targets, start=1):
        send(reach(target), [length])
    status = pathlib.Path(f"/proc/{capture['supervisor']['pid']}/status").read_text()
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert memory <= 25 * 1024, f"{memory} KiB"
    assert len(captures.processes()) == 11
    segments = by(captures.stop(), "container")
    assert [lengths(*segments[target.name]["files"]) for target in targets] == [[n] for n in range(1, 11)]


def test_containers_that_share_a_namespace(captures, container):
    """As with network_mode: service:NAME. Each packet once, for as long as one of them lives, and again once for those that come back."""
    vpn = container()
    app, job = (container(["sleep", "600"], network=f"container:{vpn.id}") for _number in range(2))
    other = container()
    capture = captures.start(app, job, vpn, other, filter=TRAFFIC)["capture"]
    assert [(one["container"], one["containers"]) for one in sorted(capture["segments"], key=lambda one: len(one["containers"]))] == [
        (other.name, [other.name]), (vpn.name, [vpn.name, *sorted([app.name, job.name])])]  # fmt: skip
    assert not captures.start(app, job, vpn, other, filter=TRAFFIC)["changed"]
    send(reach(vpn), [1])
    app.restart()  # into the same namespace
    vpn.restart()  # into a new one; the others stay where they were
    vpn.reload()
    where = reach(vpn)

    def back(found):
        send(where, [2])
        return any(one["containers"] == [vpn.name] and one["packets_received"] for one in found["segments"])

    captures.until(back)
    job.restart()  # into the new one
    captures.until(lambda found: any(one["containers"] == [vpn.name, job.name] for one in found["segments"]))
    send(where, [3])
    shared = [one for one in captures.stop_here()["segments"] if vpn.name in one["containers"]]
    assert [(one["containers"], {*lengths(*one["files"])}, one["stop_reason"]) for one in shared] == [
        ([vpn.name, *sorted([app.name, job.name])], {1}, "user"), ([vpn.name, job.name], {2, 3}, "user")]  # fmt: skip
    assert [length for one in shared for length in lengths(*one["files"]) if length != 2] == [1, 3]


@pytest.mark.parametrize("expression", [TRAFFIC, ""])
def test_interfaces_whose_names_begin_with_any(captures, netns, veth, expression):
    """tcpdump compares three letters and would ask for the link type of any; a tun has another one than Ethernet."""
    inside = netns()
    veth(inside, "anyhost0", "anycast0", "10.99.3.2/24", "10.99.3.1/24")
    for words in (["tuntap", "add", "anytun0", "mode", "tun"], ["link", "set", "anytun0", "up"]):
        ip("-n", inside, *words)
    names = ["anycast0", "anytun0", "any"]
    succeeded(captures.task(netns=inside, interface=names, filter=expression))
    send("10.99.3.2", [7])
    segments = by(captures.stop(), "interface")
    told = {name: one["argv"][one["argv"].index("-y") + 1] if "-y" in one["argv"] else None for name, one in segments.items()}
    assert told == {"anycast0": "EN10MB", "anytun0": "RAW", "any": None} and not any(one["error"] for one in segments.values())
    assert all(segments[name]["packets_captured"] for name in ("anycast0", "any"))
    succeeded(captures.task(name="host", netns=inside, interface=["anycast0"], vantage="host", filter=expression))
    send("10.99.3.2", [8])
    assert (one := only(captures.stop("host")))["device"] == "anyhost0" and one["packets_captured"]
