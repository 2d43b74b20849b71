# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""container_nsenter: host programs in a container's namespaces, without a shell, and nothing of them left behind."""

from __future__ import annotations

import collections.abc as c
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import typing as t
import uuid

import ansible_cli
import pytest
from engine import address, execute
from waiting import wait_for

Running = t.Any  # a docker.models.containers.Container, of which the SDK's types say that it may have no name
Result = dict[str, t.Any]
IDLE = ["sleep", "600"]


def nsenter(container: Running | None, *argv: str, **options: t.Any) -> Result:
    """What the module returns, a failure too."""
    modes = {mode: options.pop(mode) for mode in ("check",) if mode in options}
    target = {} if container is None else {"container": container.name}
    return ansible_cli.run_module("container_nsenter", {**target, **({"argv": list(argv)} if argv else {}), **options}, **modes)


def printed(done: Result) -> str:
    """What a program that went well has printed."""
    assert not done.get("failed"), done
    assert (done["rc"], done["stderr"], done["changed"]) == (0, "", True)
    return t.cast("str", done["stdout"])


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def pid_of(container: Running) -> int:
    return int(container.attrs["State"]["Pid"])


def processes(word: str) -> list[int]:
    """The processes with this argument, wherever they are and whoever started them."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and word in (entry / "cmdline").read_text().split("\0"):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


@pytest.fixture(name="word")
def make_word() -> c.Iterator[str]:
    """Give an argument that no other process has; those that have it at the end are killed."""
    word = str(10**6 + uuid.uuid4().int % 10**9)  # as seconds, too, it is long enough
    yield word
    for pid in processes(word):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- what runs, and where

def test_tools_of_the_host_see_the_containers_network(container: c.Callable[..., Running]) -> None:
    one = container(["httpd", "-f", "-p", "8099", "-h", "/www"])
    assert wait_for(lambda: ":8099" in printed(nsenter(one, "ss", "-ltn")))
    assert ":8099" not in subprocess.run(["ss", "-ltn"], capture_output=True, text=True, check=True).stdout
    links = {link["ifname"]: link for link in json.loads(printed(nsenter(one, "ip", "-j", "address")))}
    assert address(one) in [each["local"] for each in links["eth0"]["addr_info"]]
    # All else is the host's: its files, its processes, its names.
    look = ("sh", "-c", "for kind in net mnt uts ipc pid user cgroup; do readlink /proc/self/ns/$kind; done")
    told = printed(nsenter(one, *look, container_files=False)).splitlines()
    assert told == [namespace(pid_of(one), "net"), *(namespace("self", kind) for kind in ("mnt", "uts", "ipc", "pid", "user", "cgroup"))]


@pytest.mark.parametrize(
    "kinds",
    [["net"], ["uts"], ["ipc"], ["mnt", "pid"], ["net", "net"], ["uts", "user"], ["user"], ["net", "mnt", "uts", "ipc", "pid", "user", "cgroup"]],
    ids="+".join,
)
def test_namespaces(container: c.Callable[..., Running], kinds: list[str]) -> None:
    """Those that are named, and no other. The user namespace is the host's own, which the kernel refuses to enter again.
    With mnt goes pid: the container's /proc would else know nothing of us."""
    one = container(IDLE, network="none")
    names = ["net", "mnt", "uts", "ipc", "pid", "user"]
    look = ("sh", "-c", f"for kind in {' '.join(names)}; do readlink /proc/self/ns/$kind; done")
    told = printed(nsenter(one, *look, namespaces=kinds, container_files=False)).splitlines()
    assert told == [namespace(pid_of(one) if name in kinds else "self", name) for name in names]


# --- names and /sys, as the container sees them

def test_names_are_the_container_s(container: c.Callable[..., Running], network: c.Callable[..., t.Any]) -> None:
    """By its hosts file, and by the resolver that Docker gives it; the host's files and mounts stay as they were."""
    net = network()
    one, db = container(IDLE, network=net.name, extra_hosts={"cache": "192.0.2.7"}), container(IDLE, network=net.name, name=f"db{os.getpid()}")
    before = [pathlib.Path(path).read_text() for path in ("/proc/self/mountinfo", "/etc/hosts")]
    assert printed(nsenter(one, "getent", "ahostsv4", "cache")).startswith("192.0.2.7 ")
    assert printed(nsenter(one, "getent", "ahostsv4", db.name)).startswith(f"{address(db)} "), "Docker's DNS, which only the container reaches"
    assert printed(nsenter(one, "cat", "/etc/resolv.conf")) == execute(one, "cat", "/etc/resolv.conf")[1].rstrip("\n")
    assert printed(nsenter(one, "cat", "/etc/nsswitch.conf")) == "hosts: files dns", "it has none; the host's may ask the host's resolver"
    assert printed(nsenter(one, "ls", "/sys/class/net")).split() == ["eth0", "lo"]
    # What is mounted below /sys is the host's as before.
    assert printed(nsenter(one, "sh", "-c", "ls /sys/fs/cgroup")).split() == sorted(os.listdir("/sys/fs/cgroup"))
    assert nsenter(one, "getent", "ahostsv4", "cache", container_files=False)["rc"] == 2
    assert printed(nsenter(one, "ls", "/sys/class/net", container_files=False)).split() == sorted(os.listdir("/sys/class/net"))
    assert before == [pathlib.Path(path).read_text() for path in ("/proc/self/mountinfo", "/etc/hosts")]


def test_files_of_a_named_namespace(netns: c.Callable[..., str]) -> None:
    """As ip netns exec takes them from /etc/netns; those that are not there are the host's."""
    name = netns()
    folder = pathlib.Path(f"/etc/netns/{name}")
    assert printed(nsenter(None, "cat", "/etc/hosts", netns=name)) == pathlib.Path("/etc/hosts").read_text().rstrip("\n")
    assert printed(nsenter(None, "ls", "/sys/class/net", netns=name)) == "lo"
    folder.mkdir(parents=True)
    try:
        (folder / "hosts").write_text("192.0.2.8 far\n")
        assert printed(nsenter(None, "getent", "hosts", "far", netns=name)).split() == ["192.0.2.8", "far"]
        assert printed(nsenter(None, "ls", "/sys/class/net", netns=f"/run/netns/{name}")) == "lo"
    finally:
        shutil.rmtree(folder)


def test_links_in_the_container_lead_nowhere_else(container: c.Callable[..., Running], tmp_path: pathlib.Path) -> None:
    """The container's files are its own to write. What would lead out of its root leads into it, and what is no file is an error."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    root = tmp_path / "root"
    for folder in ("etc", "bin", "inside"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "inside/hosts").write_text("192.0.2.9 near\n")
    (root / "etc/hosts").symlink_to("/../inside/./../../inside/hosts")
    (root / "etc/resolv.conf").symlink_to(f"../../../../../..{secret}")
    with subprocess.Popen(["unshare", "--net", "--mount", "chroot", str(root), "/bin/busybox", "sleep", "600"]) as process:
        try:
            assert wait_for(lambda: os.readlink(f"/proc/{process.pid}/root") == str(root))
            assert printed(nsenter(None, "getent", "hosts", "near", pid=process.pid)).split() == ["192.0.2.9", "near"]
            assert printed(nsenter(None, "cat", "/etc/resolv.conf", pid=process.pid)) == ""
            (root / "etc/resolv.conf").unlink()
            os.mkfifo(root / "etc/resolv.conf")
            text = nsenter(None, "true", pid=process.pid)["msg"]
            assert text.startswith(f"/etc/resolv.conf of process {process.pid} cannot be read: ") and text.endswith("set container_files: false to do without.")
            assert printed(nsenter(None, "echo", "x", pid=process.pid, container_files=False)) == "x"
        finally:
            process.kill()


def test_processes_and_files_of_the_container(container: c.Callable[..., Running]) -> None:
    one = container(["sleep", "601"], network="none")
    lines = printed(nsenter(one, "ps", "-o", "pid,args", namespaces=["mnt", "pid"])).splitlines()
    assert lines[1].split() == ["1", "sleep", "601"] and len(lines) == 3, "PID 1, and ps itself"
    assert printed(nsenter(one, "cat", "/www/index.html", namespaces=["mnt"])) == "<h1>nettap</h1>"
    assert printed(nsenter(one, "hostname", namespaces=["uts"])) == one.id[:12]


def test_user_namespace_of_its_own() -> None:
    """As of a rootless container."""
    with subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "600"]) as process:
        try:
            while pathlib.Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":  # until it is inside
                assert process.poll() is None
            both = ("readlink", "/proc/self/ns/user", "/proc/self/ns/net")
            told = printed(nsenter(None, *both, pid=process.pid, namespaces=["user", "net"])).splitlines()
            assert told == [namespace(process.pid, "user"), namespace(process.pid, "net")]
            told = printed(nsenter(None, *both, pid=process.pid)).splitlines()
            assert told == [namespace("self", "user"), namespace(process.pid, "net")]
        finally:
            process.kill()


def test_named_namespace(netns: c.Callable[..., str]) -> None:
    name = netns()
    inode = os.stat(f"/run/netns/{name}").st_ino
    assert printed(nsenter(None, "readlink", "/proc/self/ns/net", netns=name)) == f"net:[{inode}]"
    done = nsenter(None, "true", netns=name, namespaces=["net", "mnt"])
    assert done["failed"] and done["msg"].startswith(f"/run/netns/{name} names a network namespace only: it has no mnt namespace to enter. If it is a pod's")


def test_chdir(container: c.Callable[..., Running], tmp_path: pathlib.Path) -> None:
    one = container(IDLE, network="none")
    assert printed(nsenter(one, "pwd", chdir=str(tmp_path))) == str(tmp_path)
    assert printed(nsenter(one, "pwd", chdir="/www", namespaces=["mnt"])) == "/www"
    assert printed(nsenter(one, "pwd", namespaces=["mnt"])) == "/"
    assert not os.path.exists("/www"), "that folder is the container's"
    assert nsenter(one, "pwd", chdir="/www")["msg"] == "The folder /www to change to does not exist on the host."
    done = nsenter(one, "pwd", chdir=str(tmp_path), namespaces=["mnt"])
    assert done["failed"] and done["rc"] != 0 and "No such file or directory" in done["stderr"]


# --- arguments, input and output

@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("a 'b c' \"d  e\" f\\ g", ["a", "b c", "d  e", "f g"]),
        ("$HOME ${HOME} $(id) `id` ~", ["$HOME", "${HOME}", "$(id)", "`id`", "~"]),
        ("a; touch /x | cat && b > c < d & *", ["a;", "touch", "/x", "|", "cat", "&&", "b", ">", "c", "<", "d", "&", "*"]),
        ("'' \"\" 'it'\\''s'", ["", "", "it's"]),
        ("# no comment", ["#", "no", "comment"]),
    ],
)
def test_command_is_split_and_given_to_no_shell(netns: c.Callable[..., str], command: str, words: list[str]) -> None:
    done = nsenter(None, command=f"printf '<%s>' {command}", netns=netns())
    assert printed(done) == "".join(f"<{word}>" for word in words) and done["cmd"] == ["printf", "<%s>", *words]


@pytest.mark.parametrize(
    "words",
    [["two\nlines", "ü€漢🐙", "\t", ""], ["-n", "--help", "--", "-x"], ["$HOME", ";", "|", "'", '"', "\\"], ["{{ 7 * 7 }}", "%s%n"]],
)
def test_argv_arrives_as_it_is(netns: c.Callable[..., str], words: list[str]) -> None:
    done = nsenter(None, "printf", "<%s>", *words, netns=netns())
    assert printed(done) == "".join(f"<{word}>" for word in words)


@pytest.mark.parametrize(
    ("stdin", "stdout"),
    [(None, ""), ("", ""), ("one\ntwo\n", "one\ntwo"), ("ü\r\nb\rc", "ü\r\nb\rc"), ("no end of line", "no end of line")],
)
def test_stdin_and_stdout(netns: c.Callable[..., str], stdin: str | None, stdout: str) -> None:
    """As ansible.builtin.command: as they are, but for the last ends of lines. Without stdin there is none to wait for."""
    assert printed(nsenter(None, "cat", netns=netns(), stdin=stdin)) == stdout


def test_ends_of_stdin_and_stdout(netns: c.Callable[..., str]) -> None:
    """As community.docker's docker_container_exec has them: a newline is added, empty lines at the end are taken away."""
    name = netns()

    def counted(**options: t.Any) -> str:
        return printed(nsenter(None, "wc", "-c", netns=name, **options))

    assert [counted(stdin="a\n"), counted(stdin="a\n", stdin_add_newline=False), counted(stdin=""), counted(stdin="", stdin_add_newline=False)] == [
        "3", "2", "1", "0"
    ]
    script = ["sh", "-c", "printf 'a\\r\\n\\n'; printf 'b\\n\\n' >&2"]
    for options, ends in (({}, ("a", "b")), ({"strip_empty_ends": False}, ("a\r\n\n", "b\n\n"))):
        done = nsenter(None, *script, netns=name, **options)
        assert (done["stdout"], done["stderr"]) == ends


def test_env(container: c.Callable[..., Running], netns: c.Callable[..., str]) -> None:
    done = nsenter(None, "sh", "-c", 'printf "$A,$HOME"', netns=netns(), env={"A": "b c=$HOME\nü", "HOME": ""})
    assert printed(done) == "b c=$HOME\nü,"
    one = container(["sh", "-c", "mkdir /tools && ln -s /bin/busybox /tools/pwd && touch /ready && sleep 600"], network="none")
    assert wait_for(lambda: one.exec_run(["test", "-e", "/ready"]).exit_code == 0)
    # The program is looked up in the container, in PATH as it is given.
    options = {"namespaces": ["mnt"], "chdir": "/tools"}
    assert printed(nsenter(one, "pwd", env={"PATH": "/tools"}, **options)) == "/tools"
    assert nsenter(one, "ls", env={"PATH": "/tools"}, **options)["rc"] == 127


def test_large_stdin_also_unread(netns: c.Callable[..., str]) -> None:
    name, large = netns(), "x" * 3_000_000
    assert printed(nsenter(None, "wc", "-c", netns=name, stdin=large)) == "3000001"
    assert printed(nsenter(None, "true", netns=name, stdin=large)) == ""


def test_output_that_is_no_utf_8(netns: c.Callable[..., str], ansible: c.Callable[..., ansible_cli.Finished]) -> None:
    """Binary output is no use in a result, but no reason to fail; by the command line, which adds the lines."""
    done = ansible("container_nsenter", {"netns": netns(), "argv": ["printf", "a\\377\\nb"]})
    assert done.rc == 0, done.output
    told = done.result()
    assert (told["stdout"], told["stdout_lines"], told["stderr_lines"]) == ("a\ufffd\nb", ["a\ufffd", "b"], [])


# --- what goes wrong

def test_program_that_fails(container: c.Callable[..., Running]) -> None:
    done = nsenter(container(IDLE, network="none"), "sh", "-c", "echo out; echo err >&2; exit 3")
    assert {key: done[key] for key in ("failed", "changed", "rc", "stdout", "stderr", "msg")} == {
        "failed": True, "changed": True, "rc": 3, "stdout": "out", "stderr": "err", "msg": "non-zero return code"}
    assert done["cmd"] == ["sh", "-c", "echo out; echo err >&2; exit 3"]


@pytest.mark.parametrize("program", ["no-such-program", "/no/such", "--help", "-S", ""])
def test_program_that_is_not_there(netns: c.Callable[..., str], program: str) -> None:
    """Also what looks like an option of nsenter is a program."""
    done = nsenter(None, program, netns=netns())
    assert done["failed"] and done["rc"] == 127 and "No such file or directory" in done["stderr"] and done["stdout"] == ""


def test_program_of_the_host_is_not_in_the_container(container: c.Callable[..., Running]) -> None:
    done = nsenter(container(IDLE, network="none"), "tcpdump", "--version", namespaces=["mnt"])
    assert done["failed"] and done["rc"] == 127


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"argv": []}, "There is no program to run: argv or command is empty."),
        ({"command": "   "}, "There is no program to run: argv or command is empty."),
        ({"command": "echo 'open"}, "command cannot be split into arguments (No closing quotation): echo 'open"),
        ({"argv": ["true"], "command": "true"}, "parameters are mutually exclusive: argv|command"),
        ({}, "one of the following is required: argv, command"),
        ({"argv": ["true"], "namespaces": ["net", "time"]}, "value of namespaces must be one or more of: net, mnt"),
        # An empty variable must not make it run on the host.
        ({"argv": ["true"], "namespaces": []}, "namespaces is empty: name at least one to run the program in."),
        ({"argv": ["true"], "env": {"N": 8}}, "env must give N as a string, not 8: put it in quotes, and add '| string' to a template."),
        ({"argv": ["true"], "env": {"A=B": "c"}}, "'true' could not be started with its arguments: illegal environment variable name."),
        ({"argv": ["printf", "a\0b"]}, "'printf' could not be started with its arguments: embedded null byte."),
        ({"argv": ["printf", "x" * (1 << 18)]}, "'printf' could not be started with its arguments: [Errno 7] Argument list too long"),
    ],
)
def test_arguments_that_make_no_sense(netns: c.Callable[..., str], options: dict[str, t.Any], words: str) -> None:
    done = nsenter(None, netns=netns(), **options)
    assert done["failed"] and words in done["msg"] and "rc" not in done and "exception" not in done


def test_exactly_one_container(container: c.Callable[..., Running]) -> None:
    pair = [container(IDLE, name=f"ns{os.getpid()}{letter}", network="none", labels={"of": str(os.getpid())}) for letter in "ab"]
    cases: list[tuple[dict[str, t.Any], str]] = [
        ({"labels": {"of": os.getpid()}}, f"Exactly one container is needed, and the target options match 2 ({pair[0].name}, {pair[1].name})."),
        ({"labels": {"of": "none"}, "allow_missing": True}, "Exactly one container is needed, and the target options match 0 (none)."),
    ]
    for options, words in cases:
        done = nsenter(None, "true", **options)
        assert done["failed"] and done["msg"] == words and "rc" not in done


def test_check_mode_runs_nothing(netns: c.Callable[..., str], tmp_path: pathlib.Path) -> None:
    done = nsenter(None, "touch", str(tmp_path / "made"), netns=netns(), check=True)
    assert done["skipped"] and not done.get("failed") and list(tmp_path.iterdir()) == []


# --- timeout

@pytest.mark.parametrize(
    "script",
    [
        "exec sleep {0}",
        "sleep {0} & sleep {0}; true",
        "trap '' TERM INT HUP; sleep {0}; sleep {0}",
        "(sleep {0} & (sleep {0} & wait) & wait) & wait",
        "timeout 1000 sleep {0}; true",  # timeout(1) makes a process group of its own
        "exec 1>&- 2>&-; sleep {0}; true",
    ],
)
def test_timeout_kills_the_program_and_its_children(netns: c.Callable[..., str], word: str, script: str) -> None:
    done = nsenter(None, "sh", "-c", script.format(word), netns=netns(), timeout=0.3)
    assert done["failed"] and done["msg"] == "sh did not end within 0.3 s and was killed." and "rc" not in done
    assert wait_for(lambda: processes(word) == [])


def test_timeout_in_the_containers_processes(container: c.Callable[..., Running], word: str) -> None:
    """What was killed was only ours: the container goes on."""
    one = container(IDLE, network="none")
    done = nsenter(one, "sh", "-c", f"sleep {word} & sleep {word}; true", namespaces=["mnt", "pid", "net"], timeout=0.3)
    assert done["msg"] == "sh did not end within 0.3 s and was killed."
    assert wait_for(lambda: processes(word) == [])
    one.reload()
    assert one.status == "running"


def test_daemon_does_not_hold_the_task(netns: c.Callable[..., str], word: str) -> None:
    """What makes a session of its own wants to stay; that it keeps our pipe open must not outlast the timeout."""
    done = nsenter(None, "sh", "-c", f"setsid sleep {word} & true", netns=netns(), timeout=4)
    assert done["failed"] and "did not end within 4 s" in done["msg"]
    assert len(processes(word)) == 1


def test_timeout_that_is_not_reached(netns: c.Callable[..., str]) -> None:
    assert printed(nsenter(None, "echo", "done", netns=netns(), timeout=100)) == "done"
