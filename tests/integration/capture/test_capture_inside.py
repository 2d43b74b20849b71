# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures from inside of containers, over community.docker's connections and over ssh, that leave no trace."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import tarfile
import typing as t
import uuid

import engine as engine_module
import pytest
from capture_tools import TRAFFIC, count, everything_is_private, lengths, processes_naming, reach, send
from ssh_server import command
from waiting import wait_for

MODULE = "nettap.containers.container_capture_inside"
SECONDS = 120
MARK = ".nettap-"  # of every path that is made in a container
# A first process that reaps nobody: whatever loses its parent there stays as a zombie.
IDLE = ["sleep", "100000"]


@pytest.fixture
def inside(cli, tmp_path):
    """Give inside(container, connection=…, host_vars={}, env={}, **options): a play that captures in a container, started."""
    started = []

    def start(container: t.Any, connection: str = "community.docker.docker", host_vars: dict | None = None, check: bool = False,
              env: dict[str, str] | None = None, **options: t.Any):
        task = {"name": "Capture", MODULE: {"dest": str(tmp_path / "here"), "filter": TRAFFIC, **options}}
        play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
        host = {"ansible_connection": connection, "ansible_host": container.name, **(host_vars or {})} if container else host_vars
        started.append(cli.start_playbook([play], *(["--check"] if check else []), hosts={"inner": host}, env=env))
        return started[-1]

    yield start
    for play in started:
        play.interrupt(signal.SIGKILL)  # of a test that has failed


def processes(container: t.Any) -> list[str]:
    """The command lines of all processes in a container but its first; zombies are among them."""
    container.reload()
    listed = container.top(ps_args="-eww -o pid,args")["Processes"]
    return [" ".join(words) for pid, *words in listed if int(pid) != container.attrs["State"]["Pid"]]


def files(container: t.Any) -> list[str]:
    """What differs in a container's file system from its image."""
    return sorted(entry["Path"] for entry in container.diff() or [] if entry["Path"] != "/")


def traces(container: t.Any) -> list[str]:
    """All that is not as it was."""
    return processes(container) + files(container)


def captures_in(container: t.Any) -> bool:
    """Whether a tcpdump has its socket open in a container."""
    code, said = engine_module.execute(container, "sh", "-c", f"cat /{MARK}*/log")
    return code == 0 and "listening on" in said


@pytest.fixture
def image_of(engine):
    """Give image_of(name, {path: file}, changes): an image of just that."""
    with contextlib.ExitStack() as made:

        def build(name: str, content: dict[str, str], *changes: str) -> str:
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as tar:
                for path, source in content.items():
                    tar.add(os.path.realpath(source), path)
            repository = f"nettap/{name}{uuid.uuid4().hex}"
            engine.api.import_image_from_data(out.getvalue(), repository=repository, tag="latest", changes=list(changes))
            made.callback(engine.images.remove, f"{repository}:latest", force=True)
            return f"{repository}:latest"

        yield build


@pytest.mark.parametrize("connection", ["community.docker.docker", "community.docker.docker_api"])
def test_nothing_but_busybox(container, inside, tmp_path, connection):
    """No Python, no tcpdump, no library; and afterwards no trace, neither files nor processes nor zombies."""
    target = container(IDLE)
    where = reach(target)
    play = inside(target, connection, interface="eth0", duration=0, packet_count=20)
    assert wait_for(lambda: captures_in(target), SECONDS), play.output
    assert any(MARK in line for line in processes(target)), processes(target)
    send(where, range(1, 31))
    done = play.wait()
    assert done.rc == 0, done.output
    result = done.result("Capture")
    [file], capture = result["files"], result["capture"]
    assert lengths(file["dest"]) == list(range(1, 21)) and count(file["dest"]) == file["packets"] == capture["packets_captured"] == 20
    assert result["changed"] and (capture["stop_reason"], capture["packets_dropped"], file["host"]) == ("packet_count", 0, "inner")
    assert pathlib.Path(file["dest"]).parent == tmp_path / "here" / "inner" and file["size"] == os.path.getsize(file["dest"])
    everything_is_private(tmp_path / "here")
    assert wait_for(lambda: traces(target) == [], SECONDS), traces(target)


# What a busy controller does: it reads the engine's answer only when what follows the headers is there as well. Here, each third time.
LATE = """
import http.client, itertools, time
Connection, numbers = http.client.HTTPConnection, itertools.count()
ask, hear = Connection.putrequest, Connection.getresponse
def putrequest(self, method, url, *more, **options):
    self.late = "/exec/" in url and url.endswith("/start") and next(numbers) % 3 == 0
    ask(self, method, url, *more, **options)
def getresponse(self):
    time.sleep(0.3 if self.late else 0)
    return hear(self)
Connection.putrequest, Connection.getresponse = putrequest, getresponse
"""


def test_answers_that_are_lost(container, inside, tmp_path):
    """community.docker.docker_api loses what arrives together with the headers; nothing is concluded from what was not said."""
    (tmp_path / "late").mkdir()
    (tmp_path / "late/sitecustomize.py").write_text(LATE)
    target = container(IDLE)
    where = reach(target)
    play = inside(target, "community.docker.docker_api", env={"PYTHONPATH": str(tmp_path / "late")}, duration=0, packet_count=8)
    assert wait_for(lambda: captures_in(target), SECONDS), play.output
    send(where, range(1, 9))
    done = play.wait()
    assert done.rc == 0, done.output
    result = done.result("Capture")
    assert lengths(result["files"][0]["dest"]) == list(range(1, 9)) and result["capture"]["packets_captured"] == 8
    assert wait_for(lambda: traces(target) == [], SECONDS), traces(target)


def test_ends_by_duration_with_all_that_came(container, inside):
    target = container(IDLE)
    where = reach(target)
    play = inside(target, duration=10)
    assert wait_for(lambda: captures_in(target), SECONDS), play.output
    send(where, [8, 9])
    done = play.wait()
    assert done.rc == 0, done.output
    result = done.result("Capture")
    assert lengths(result["files"][0]["dest"]) == [8, 9] and result["capture"]["stop_reason"] == "duration"
    assert wait_for(lambda: traces(target) == [], SECONDS), traces(target)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_in_mid_run(container, inside, tmp_path, number):
    """What there is comes, also when Ansible itself is killed and only its worker lives on."""
    target = container(IDLE)
    where = reach(target)
    play = inside(target, duration=1000)
    assert wait_for(lambda: captures_in(target), SECONDS), play.output
    send(where, [5, 6])
    assert processes(target) and files(target)
    play.interrupt(number)
    assert play.wait().rc != 0
    assert wait_for(lambda: traces(target) == [], SECONDS), traces(target)
    assert wait_for(lambda: "[inner] interrupted: the capture was stopped and fetched to " in play.output, SECONDS), play.output
    [file] = (tmp_path / "here" / "inner").iterdir()
    assert lengths(file) == [5, 6]


@pytest.mark.parametrize("when", [lambda target: len(files(target)) > 2, captures_in], ids=["while it uploads", "while it captures"])
def test_killed(container, inside, tmp_path, when):
    """Nobody is left who could remove anything: what is in the container sees to itself."""
    target = container(IDLE)
    play = inside(target, duration=1000)
    assert wait_for(lambda: when(target), SECONDS), play.output
    for pid in processes_naming(tmp_path):  # Ansible and its worker
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    play.wait()
    assert wait_for(lambda: traces(target) == [], SECONDS), traces(target)


def test_container_that_ends(container, inside):
    target = container(IDLE)
    play = inside(target, duration=1000)
    assert wait_for(lambda: captures_in(target), SECONDS), play.output
    target.kill()
    done = play.wait()
    assert done.rc == 2 and "The capture in inner was given up: inner could not be reached for 15 s" in done.result("Capture")["msg"], done.output


def test_nothing_but_its_program(inside, image_of, engine):
    """Without a shell no connection can run anything there: the error says so, and what to do."""
    image = image_of("alone", {"httpd": engine_module.BUSYBOX}, 'CMD ["/httpd", "-f", "-p", "80", "-h", "/"]')
    target = engine.containers.run(image, detach=True)
    try:
        done = inside(target).wait()
        assert done.rc != 0 and re.search(
            r"Nothing can be run in inner \(.*/bin/sh.*\): connections run all by a shell, /bin/sh\. .* nettap\.containers\.container_capture\.",
            done.result("Capture")["msg"],
        ), done.output
        assert wait_for(lambda: traces(target) == [], SECONDS), traces(target)
    finally:
        target.remove(force=True)


def test_shell_elsewhere(inside, image_of, engine):
    """As in images that keep a busybox for debugging in a folder of its own; without /etc/passwd, Debian's tcpdump gives up."""
    applets = {f"busybox/{name}": engine_module.BUSYBOX for name in ("sh", "mkdir", "rm", "chmod", "sleep", "dd", "uname")}
    for users in (True, False):
        content = {**applets, **({"etc/passwd": "/etc/passwd"} if users else {})}
        image = image_of("elsewhere", content, 'CMD ["/busybox/sleep", "100000"]', "ENV PATH=/busybox")
        target = engine.containers.run(image, detach=True, stop_signal="SIGKILL")
        try:
            done = inside(target, host_vars={"ansible_shell_executable": "/busybox/sh"}, duration=1).wait()
            result = done.result("Capture")
            assert (done.rc == 0 and count(result["files"][0]["dest"]) == 0) if users else "needs that user in its /etc/passwd" in result["msg"], done.output
            assert wait_for(lambda: traces(target) == [], SECONDS), traces(target)
        finally:
            target.remove(force=True)


def test_root_that_cannot_change_its_groups(container, inside, tmp_path):
    """As in a pod with `drop: [ALL], add: [NET_RAW]`: a tcpdump that stays root is not told to become root.

    No distribution under test has one that stays root. The stand-in is Debian's, which asks for process IDs instead of user IDs, and so sees no root.
    """
    stays = tmp_path / "tcpdump"
    stays.write_bytes(pathlib.Path("/usr/bin/tcpdump").read_bytes().replace(b"\0getuid\0", b"\0getpid\0").replace(b"\0geteuid\0", b"\0getppid\0"))
    target = container(IDLE, cap_drop=["ALL"], cap_add=["NET_RAW"])
    where = reach(target)
    play = inside(target, packet_count=3, duration=0, tcpdump=str(stays))
    assert wait_for(lambda: captures_in(target), SECONDS), play.output
    code, argv = engine_module.execute(target, "sh", "-c", f"cat /proc/$(cat /{MARK}*/pid)/cmdline")
    assert code == 0 and "-i\0any" in argv and "-Z" not in argv
    send(where, [201, 202, 203])
    done = play.wait()
    assert done.rc == 0 and lengths(done.result("Capture")["files"][0]["dest"]) == [201, 202, 203], done.output
    assert wait_for(lambda: traces(target) == [], SECONDS), traces(target)


def test_refusals(container, inside, tmp_path):
    """Each is one sentence that says what to do, and leaves nothing in the container."""
    plain = container(IDLE)
    powerless = container(IDLE, cap_drop=["NET_RAW"])
    hardened = container(IDLE, cap_drop=["ALL"], cap_add=["NET_RAW"])
    sealed = container(IDLE, read_only=True)
    (tmp_path / "script").write_text("#!/bin/sh\n")
    foreign = tmp_path / "foreign"
    binary = bytearray(pathlib.Path(engine_module.BUSYBOX).read_bytes())
    binary[18:20] = (183).to_bytes(2, "little")  # e_machine, elf(5): aarch64
    foreign.write_bytes(binary)
    for target, options, words in (
        (plain, {"filter": "udp prot 7"}, r"tcpdump does not capture in inner: can't parse filter expression: syntax error"),
        (plain, {"interface": "eth9"}, r"tcpdump does not capture in inner: eth9: No such device exists"),
        (plain, {"tcpdump": str(foreign)}, r"inner is x86_64 and \S+/foreign on the controller is for aarch64: give the path of a static tcpdump for x86_64"),
        (plain, {"tcpdump": str(tmp_path / "script")}, r"\S+/script is not a program of Linux"),
        (plain, {"tcpdump": str(tmp_path / "none")}, r"\S+/none on the controller cannot be read \(No such file or directory\)"),
        (plain, {"duration": 0}, "would never end: give duration or packet_count"),
        (plain, {"upload_to": ["/nowhere", "/dev/shm"]}, r"inner has no folder in which files can be made and run \(tried /nowhere, /dev/shm\)"),
        (powerless, {}, r"tcpdump does not capture in inner: .*ermi.* It needs CAP_NET_RAW there"),
        (sealed, {}, r"inner has no folder in which files can be made and run"),
        # Debian's becomes a user of its own, whatever it is told.
        (hardened, {}, r"Couldn't find user 'tcpdump'\. This tcpdump becomes another user, .* CAP_SETUID and CAP_SETGID: give one that stays root"),
    ):
        done = inside(target, **options).wait()
        assert done.rc == 2 and re.search(words, done.result("Capture")["msg"]), done.output
        assert wait_for(lambda: traces(target) == [], SECONDS), words
    predicted = inside(plain, check=True).wait()
    assert predicted.rc == 0 and predicted.result("Capture")["changed"] and not (tmp_path / "here").exists()
    assert predicted.result("Capture")["files"] == [] and predicted.result("Capture")["capture"]["started_at"] is None


@pytest.fixture
def late_sudo(sshd):
    """Give variables with which the login user becomes root by a password, a second late: time for what runs beside it to get in between."""
    sudoers, late = pathlib.Path(f"/etc/sudoers.d/{sshd.user}"), sshd.home / "late-sudo"
    before = sudoers.read_text()
    late.write_text('#!/bin/sh\nsleep 1\nexec sudo "$@"\n')
    late.chmod(0o755)
    try:
        command("usermod", "--password", subprocess.check_output(["openssl", "passwd", "-6", "secret"], text=True).strip(), sshd.user)
        sudoers.write_text(before.replace("NOPASSWD: ", "") + f"Defaults:{sshd.user} timestamp_timeout=0\n")
        yield {**sshd.host_vars, "ansible_become_exe": str(late), "ansible_become_password": "secret"}
    finally:
        sudoers.write_text(before)
        command("usermod", "--password", "*", sshd.user)
        late.unlink()


def captures_loopback(play):
    """See that a play on this machine captures what is sent to the loopback address."""
    assert wait_for(lambda: "listening on" in "".join(path.read_text() for path in pathlib.Path("/tmp").glob(f"{MARK}*/log")), SECONDS), play.output
    send("127.0.0.1", [1, 2, 3])
    done = play.wait()
    assert done.rc == 0, done.output
    assert lengths(done.result("Capture")["files"][0]["dest"]) == [1, 2, 3]


def test_over_ssh_with_a_password(inside, late_sudo):
    """Several commands at a time become root, each by its own prompt; it lasts longer than ssh waits for one."""
    captures_loopback(inside(None, host_vars=late_sudo, interface="lo", duration=15))
    assert not list(pathlib.Path("/tmp").glob(f"{MARK}*")) and not processes_naming(pathlib.Path(f"/tmp/{MARK}"))


def test_over_ssh(inside, sshd):
    """Any connection will do: here the host itself is what it looks into, as root by sudo."""
    captures_loopback(inside(None, host_vars=sshd.host_vars, interface="lo", duration=0, packet_count=3))
    assert not list(pathlib.Path("/tmp").glob(f"{MARK}*")) and not processes_naming(pathlib.Path(f"/tmp/{MARK}"))
