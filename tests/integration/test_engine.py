"""The fixtures themselves: a test that cannot trust them proves nothing."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request

import leftovers
import own_machine
from engine import address, execute
from waiting import wait_for

TESTS = pathlib.Path(own_machine.__file__).parent


def test_container_serves_a_page_to_the_host(container):
    web = container()

    def served() -> bool:  # it runs, but need not listen yet
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address(web)}/", timeout=5) as page:
            return b"nettap" in page.read()
        return False

    assert wait_for(served)


def test_containers_reach_each_other(container, network):
    own = network()
    web = container(network=own.name)
    client = container(["sleep", "60"], labels={"role": "client"}, network=own.name)
    assert wait_for(lambda: "nettap" in execute(client, "wget", "-q", "-O", "-", f"http://{address(web)}/")[1])
    assert client.labels == {"role": "client"}


def test_restart_makes_a_new_namespace_and_is_quick(container):
    web = container()
    # Held open: the kernel gives the number of a namespace that is gone to the next one.
    with open(f"/proc/{web.attrs['State']['Pid']}/ns/net", "rb") as before:
        web.restart(timeout=5)
        web.reload()
        after = os.stat(f"/proc/{web.attrs['State']['Pid']}/ns/net")
        assert not os.path.samestat(os.fstat(before.fileno()), after)


def test_link_into_a_namespace_carries_packets(netns, veth):
    inside = netns()
    veth(inside, address="10.212.0.2/24", host_address="10.212.0.1/24")
    ping = ["busybox", "ping", "-c", "1", "-W", "1", "10.212.0.2"]
    assert wait_for(lambda: subprocess.run(ping, check=False, stdout=subprocess.DEVNULL).returncode == 0)


def test_ad_hoc_result_is_read(ansible):
    done = ansible("ansible.builtin.command", "echo hello")
    assert done.rc == 0, done.output
    assert done.result("command")["stdout"] == "hello"


def test_playbook_over_ssh_becomes_root_and_knows_the_engine(playbook, sshd):
    play = {
        "hosts": "node",
        "gather_facts": False,
        "tasks": [
            {"name": "Who and where", "ansible.builtin.command": "env"},
            {"name": "Fail", "ansible.builtin.fail": {"msg": "as told"}, "ignore_errors": True},
        ],
    }
    done = playbook([play], hosts={"node": sshd.host_vars})
    assert done.rc == 0, done.output
    told = done.result("Who and where")["stdout_lines"]
    assert {"USER=root", f"SUDO_USER={sshd.user}", f"DOCKER_HOST={os.environ['DOCKER_HOST']}"} <= set(told)
    assert done.result("Fail")["msg"] == "as told"


def test_connection_that_is_cut_is_told(cli, sshd):
    play = {"hosts": "node", "gather_facts": False, "tasks": [{"ansible.builtin.command": "sleep 300"}]}
    running = cli.start_playbook([play], hosts={"node": sshd.host_vars})
    try:
        assert sshd.wait_for_login()
        sshd.cut()
        assert running.wait().results[-1]["status"] == "unreachable"
    finally:
        sshd.listen()


def test_leftovers_are_seen():
    run = "a-run-of-its-own"
    before = leftovers.scan(run)
    with subprocess.Popen(["sleep", "60"], env={"NETTAP_TEST_RUN": run}) as left:
        try:
            # The environment is readable a moment after Popen returns.
            assert wait_for(lambda: leftovers.scan(run) - before == {f"process {left.pid} sleep 60"})
        finally:
            left.kill()


def test_workers_find_pytest_s_folder_where_no_run_has_made_it():
    """Whoever starts the workers makes it when their machines are there already."""
    folder = pathlib.Path(f"/tmp/nettap-never-{os.getpid()}")
    made = folder / "made"
    touch = f"import pathlib; pathlib.Path({str(made)!r}).touch()"
    program = f"import own_machine, pathlib; own_machine.PYTEST = pathlib.Path({str(folder)!r}); raise SystemExit(own_machine.main(['-c', {touch!r}]))"
    try:
        done = subprocess.run([sys.executable, "-c", program], cwd=TESTS, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and made.exists(), done
    finally:
        shutil.rmtree(folder, ignore_errors=True)
