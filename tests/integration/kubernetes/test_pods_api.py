# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods by the Kubernetes API: the real kubernetes.core, its Python client and kubectl against the API server of tests/support/kube_api.py.

The account has the rights that docs/kubernetes.md gives it, and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import tempfile
import typing as t

import kube_api
import pytest
import steering_tools
import yaml
from ansible_cli import LOCAL, ROOT
from capture_tools import TRAFFIC, command_line, lengths, processes_naming, reach, send
from engine import address, command, execute, unix_socket
from kube_api import KubeAPI
from kube_node import IMAGE, DockerKubelet, PaperKubelet
from suricata_role import paths
from waiting import wait_for

PAPER_IMAGE = "registry.example.org/helper:1"
# A user who is told to become root and cannot: what needs no root must not try.
NO_SUDO = {"ANSIBLE_BECOME": "true", "ANSIBLE_BECOME_EXE": "/nonexistent/sudo", "ANSIBLE_BECOME_ALLOW_SAME_USER": "true"}


def documented_rules() -> list[kube_api.Rule]:
    """The rules of the roles in docs/kubernetes.md."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL | re.MULTILINE)
    roles = [yaml.safe_load(block) for block in blocks]
    assert [role["metadata"]["name"] for role in roles] == ["nettap-pod-targets", "nettap-helper"]
    return [rule for role in roles for rule in role["rules"]]


@contextlib.contextmanager
def serving(folder, kubelet):
    """Run an API server for an account with the documented rights; at the end, nothing that a real one would refuse was asked."""
    api = KubeAPI(folder, kubelet)
    api.rules = documented_rules()
    try:
        yield api
    finally:
        api.close()
    assert not api.violations


@pytest.fixture
def kube(tmp_path):
    """Give an API server whose pods are of paper."""
    with serving(tmp_path, PaperKubelet()) as api:
        yield api


@pytest.fixture
def node(engine, tmp_path):
    """Give an API server whose pods run in the Docker engine, on the node `worker`, which is this machine."""
    with contextlib.closing(DockerKubelet(engine, tmp_path / "node")) as kubelet, serving(tmp_path, kubelet) as api:
        yield api


@pytest.fixture
def temporary():
    """Give a folder for what a run makes in TMPDIR: its path is short, since Ansible has UNIX sockets there, whose paths end at 107 bytes (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="k8s-", dir="/tmp") as folder:
        yield folder


@pytest.fixture
def start(cli, tmp_path, temporary):
    """Give start(api, hosts={}, **variables): capture_pod.yml, started; files come to tmp_path/here."""
    (tmp_path / "home").mkdir()

    def run(api, *options, hosts=None, env=None, **variables):
        # kubectl and the Python client keep what they discover in these.
        env = {"HOME": str(tmp_path / "home"), "TMPDIR": temporary, "K8S_AUTH_KUBECONFIG": str(api.kubeconfig), **(env or {})}
        variables = {"capture_dest": str(tmp_path / "here"), "capture_interval": 1, "capture_filter": TRAFFIC, **variables}
        return cli.start_playbook("capture_pod.yml", *options, hosts=hosts or {"worker": LOCAL}, extra_vars=variables, env=env)

    return run


@pytest.fixture
def helper(start):
    """Give helper(api, **variables): what start() does, with helper pods."""

    def run(api, *options, **variables):
        # From where the user is, as everything on the command line.
        named = {"pod_targets_kubeconfig": os.path.relpath(api.kubeconfig, ROOT), "pod_targets_access": "helper", "pod_node_access_image": PAPER_IMAGE}
        return start(api, *options, env={"K8S_AUTH_KUBECONFIG": "", **NO_SUDO}, **{**named, **variables})

    return run


@pytest.fixture
def pod(container):
    """Give pod(name): a container as kubelet and cri-dockerd start them for the pod default/NAME."""

    def run(name):
        return container(labels={
            "io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.name": name, "io.kubernetes.container.name": "app",
            "io.kubernetes.docker.type": "container",
        })  # fmt: skip

    return run


def deployment(name, namespace):
    """Return a deployment whose pods have the label app=NAME."""
    selector = {"matchLabels": {"app": name}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace}, "spec": {"selector": selector}}


def sentence(done) -> str:
    """The only thing that a failed run says."""
    assert done.rc != 0, done.output
    [failed] = [entry for entry in done.results if entry["status"] in ("failed", "unreachable")]
    message = failed["result"]["msg"]
    assert "Traceback" not in done.output and message in done.output.replace("\n", " ") and "\n" not in message
    return message.removeprefix("Task failed: ").removeprefix("Action failed: ")


def until(running, condition) -> None:
    """Wait until the run has come that far; fail at once when it has ended before."""
    assert wait_for(lambda: condition() or running.ended, 100) and condition(), running.output


def guards(api) -> list[int]:
    """Processes that watch over a run with this API."""
    return [pid for pid in processes_naming(api.kubeconfig.parent) if "_exit_guard.py" in command_line(pid)]


def test_from_inside_by_kubectl(node, cli, container, tmp_path):
    """What ksniff does by upload: nothing but the right to exec into the pod."""
    target = container(["sleep", "600"])
    where = reach(target)
    node.add_pod(target.name, "worker")
    node.rules = [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}, {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    task = {"name": "Capture", "nettap.containers.container_capture_inside": {
        "filter": TRAFFIC, "duration": 0, "packet_count": 3, "dest": str(tmp_path / "here")}}  # fmt: skip
    variables = {"ansible_connection": "kubernetes.core.kubectl", "ansible_kubectl_kubeconfig": str(node.kubeconfig),
                 "ansible_kubectl_namespace": "default", "ansible_kubectl_pod": target.name, "ansible_kubectl_container": "app"}  # fmt: skip
    running = cli.start_playbook([{"hosts": "all", "gather_facts": False, "tasks": [task]}], hosts={"inner": variables})
    until(running, lambda: "listening on" in execute(target, "sh", "-c", "cat /.nettap-*/log")[1])
    send(where, [1, 2, 3])
    done = running.wait()
    assert done.rc == 0, done.output
    assert lengths(done.result("Capture")["files"][0]["dest"]) == [1, 2, 3]
    assert wait_for(lambda: len(target.top()["Processes"]) == 1), target.top()
    assert not [entry for entry in target.diff() or [] if ".nettap-" in entry["Path"]]


def test_captures_on_the_nodes_of_a_deployment(node, start, pod, engine, tmp_path):
    """Two pods of a deployment on two nodes, a third that is not of it: each host captures its own pod alone."""
    names = {"web-1": "worker-1", "web-2": "worker-2", "db-1": "worker-3"}
    containers = {name: pod(name) for name in names}
    for name, where in names.items():
        address = {"worker-1": "192.0.2.1", "worker-2": "192.0.2.2"}.get(where, "192.0.2.3")
        node.add_pod(name, where, labels={"app": name.partition("-")[0], "tier": "front"}, hostIP=address)
    node.add_pod("web-3", "worker-3", labels={"app": "web", "tier": "front"}, phase="Pending")
    node.objects["deployments"]["default", "web"] = deployment("web", "default")
    # By a variable; by address; not at all, and that does not matter.
    hosts = {
        "first": {**LOCAL, "kubernetes_node": "worker-1", "capture_path": str(tmp_path / "a")},
        "second": {**LOCAL, "ansible_host": "192.0.2.2", "capture_path": str(tmp_path / "b")},
        "other": {**LOCAL, "ansible_host": "{{ nowhere }}", "kubernetes_node": "{{ nowhere }}"},
    }
    addresses = [reach(target) for target in containers.values()]
    running = start(node, hosts=hosts, pod_targets_deployment="defaul?/web", capture_duration=20)
    try:
        # All start at one instant, which is a few seconds ahead.
        until(running, lambda: len(list(tmp_path.glob("[ab]/default/*.pcap*"))) == 2)
        for number, where in enumerate(addresses, start=1):
            send(where, [number])
    finally:
        done = running.wait()
    assert done.rc == 0, done.output
    assert {path.parent.name: lengths(path) for path in (tmp_path / "here").rglob("*.pcapng")} == {"first": [1], "second": [2]}
    assert "Pod default/web-3 is Pending: it is passed over." in " ".join(done.output.split())
    assert {entry["host"] for entry in done.results if "Start capturing" in entry["task"]} == {"first", "second"}


def test_pods_that_go_away_and_come(node, start, engine, container, tmp_path):
    """Of three pods, one moves to another node, one is made anew where it was and captured all the time, and one goes; another comes."""
    where = {"web-0": "first", "web-1": "first", "web-2": "first"}
    containers = {}
    for name in where:
        labels = {"io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.name": name, "io.kubernetes.docker.type": "container"}
        containers[name] = container(name=f"k8s_app_{name}_default_{os.getpid()}_0", labels=labels)
        node.add_pod(name, where[name], labels={"app": "web"})
    hosts = {"first": {**LOCAL, "capture_path": str(tmp_path / "a")}}
    running = start(node, hosts=hosts, pod_targets_label_selectors=["app=web"], capture_duration=15)
    until(running, lambda: len(list(tmp_path.glob("a/default/*.pcap*"))) == 3 and re.search(r"any: 0 packets", running.output))
    send(reach(containers["web-0"]), [7])
    until(running, lambda: re.search(r"any: 1 packets", running.output))
    for name in ("web-0", "web-2"):
        containers[name].remove(force=True)
    node.add_pod("web-0", "second", labels={"app": "web"})
    node.add_pod("web-1", "first", labels={"app": "web"})
    del node.pods["default", "web-2"]
    node.add_pod("web-3", "third", labels={"app": "web"})
    done = running.wait()
    assert sentence(done) == (
        "During the capture, pod default/web-0 went away from node first and runs anew on node second; pod default/web-2 went away from node first; "
        "pod default/web-3 came on node third. What runs anew or came was not captured: its packets are missing. What was captured is fetched; "
        "run the play again to capture the pods that run now."
    )
    assert [lengths(path) for path in (tmp_path / "here").rglob("*.pcapng")] == [[7]]


def test_captures_in_a_helper_pod(node, helper, pod, engine, tmp_path):
    target = pod("web-1")
    node.add_pod("web-1", "worker")
    running = helper(node, hosts={"unrelated": LOCAL}, pod_targets_pod=["web-1"], pod_node_access_image=IMAGE, capture_duration=600, capture_packet_count=3)
    try:
        until(running, lambda: re.search(r"\[helper-worker\] \S+ any: 0 packets", running.output))
        [made] = node.helpers()
        assert len(guards(node)) == 1
        # The API is away for a while.
        with node.outage():
            until(running, lambda: "cannot be reached" in running.output)
        send(reach(target), [3, 1, 2])
    finally:
        done = running.wait()
    assert done.rc == 0, done.output
    [file] = (tmp_path / "here/helper-worker").iterdir()
    assert lengths(file) == [3, 1, 2]
    [said] = set(re.findall(r"cannot be reached \((.*)\); the capture goes on", done.output))
    assert "refused" in said and not re.search("b'|/tmp/", said)
    # It would end by itself, and none of a service account's tokens is in it.
    assert made["spec"]["activeDeadlineSeconds"] == 3600 and made["spec"]["automountServiceAccountToken"] is False
    # Nothing is left: in the cluster, on the node, and here.
    assert not node.helpers() and wait_for(lambda: not guards(node))
    assert sorted(os.listdir(tmp_path / "node/run")) == ["docker.sock", "systemd"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_with_a_helper_pod(node, helper, pod, tmp_path, number):
    """What was captured is fetched, even by the workers of a run that was killed; then the helper pod goes."""
    target = pod("web-1")
    node.add_pod("web-1", "worker")
    running = helper(node, pod_targets_pod=["web-1"], pod_node_access_image=IMAGE, capture_duration=0)
    until(running, lambda: re.search(r"\[helper-worker\] \S+ any: 0 packets", running.output))
    send(reach(target), [5])
    until(running, lambda: re.search(r"\[helper-worker\] \S+ any: 1 packets", running.output))
    running.interrupt(number)
    assert running.wait().rc != 0
    assert wait_for(lambda: not node.helpers() and not guards(node), 60), running.output
    files = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert [lengths(file) for file in files] == [[5]], running.output
    assert f"stopped and fetched to {files[0]}" in running.output
    assert "ended before its helper pods in namespace default" in running.output
    assert "The capture has no end of its own, but the helper pods have, at 20" in running.output
    assert not [line for line in running.output.splitlines() if "Traceback" in line]


def test_failed_capture_with_a_helper_pod(node, helper, tmp_path):
    """The pod is not what the API says: the node knows no such container."""
    node.add_pod("web-1", "worker")
    done = helper(node, pod_targets_pod=["web-1"], pod_node_access_image=IMAGE).wait()
    assert re.fullmatch(r"No pod on .+ matches .default/web-1.+", sentence(done))
    assert not node.helpers() and wait_for(lambda: not guards(node))


def nobody(api):
    api.close()


def no_rights(api):
    api.rules = []


def foreign(api):
    """Give the kubeconfig the CA of another cluster."""
    text = api.kubeconfig.read_text()
    [known] = re.findall(r"certificate-authority: (\S+)", text)
    other = pathlib.Path(known).with_name("foreign.pem")
    command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=other",
            "-keyout", str(other.with_suffix(".key")), "-out", str(other))  # fmt: skip
    api.kubeconfig.write_text(text.replace(known, str(other)))


def no_list(api):
    api.rules = [rule for rule in api.rules if "pods" not in rule["resources"]]


ERRORS: dict[str, t.Any] = {
    "unreachable": (
        nobody, {},
        "The Kubernetes API at 127.0.0.1:{port} cannot be reached, so it cannot be asked to look up pod default/web-1: "
        "check that it runs, the network to it, and kubeconfig and context.",
    ),
    "wrong CA": (
        foreign, {},
        "The Kubernetes API at 127.0.0.1:{port} cannot be trusted, so it cannot be asked to look up pod default/web-1: its certificate was not issued by "
        "the CA of the kubeconfig (self-signed certificate); take the certificate-authority of this very cluster ('kubectl config view --raw' where "
        "kubectl works).",
    ),
    "silent": (
        lambda api: setattr(api, "silent", True), {"pod_targets_pod": ["web-1"], "pod_targets_api_timeout": 3},
        "The Kubernetes API did not answer within 3 s when asked to look up pod default/web-1: check the network to it, kubeconfig and context.",
    ),
    "forbidden": (
        no_list, {},
        'The Kubernetes API forbids this account to look up pod default/web-1 (pods is forbidden: User "test" cannot list resource "pods" in API group "" '
        'in the namespace "default"): grant it the verb list on pods, see docs/kubernetes.md.',
    ),
    "forbidden deployment": (
        no_rights, {"pod_targets_deployment": "web"},
        'The Kubernetes API forbids this account to look up deployment default/web (deployments is forbidden: User "test" cannot get resource "deployments" '
        'in API group "apps" in the namespace "default"): grant it the verb get on deployments, see docs/kubernetes.md.',
    ),
    "unauthorized": (
        lambda api: api.kubeconfig.write_text(api.kubeconfig.read_text().replace(kube_api.TOKEN, "other")), {},
        "The Kubernetes API does not accept these credentials, so it cannot be asked to look up pod default/web-1: "
        "log in anew, or check kubeconfig and K8S_AUTH_*.",
    ),
    "no kubeconfig": (
        lambda api: api.kubeconfig.unlink(), {},
        "No usable kubeconfig was found, so Kubernetes cannot be asked to look up pod default/web-1: give kubeconfig and context, or set K8S_AUTH_KUBECONFIG.",
    ),
    "nothing wanted": (
        lambda api: None, {"pod_targets_pod": "", "pod_targets_deployment": ""},  # as AWX gives what was not filled in
        "It was not said which pods are meant: give pod, label_selectors or deployment (of the role pod_targets: pod_targets_pod, "
        "pod_targets_label_selectors or pod_targets_deployment).",
    ),
    "no pod": (
        lambda api: None, {"pod_targets_pod": ["web-9"]},
        "There is no pod default/web-9 (the nearest of 1: default/web-1): check its name and namespace.",
    ),
    "no pod for a glob": (
        lambda api: api.add_pod("api-1", "elsewhere", namespace="shop"), {"pod_targets_pod": ["shp/wbe-*"]},
        "No pod matches shp/wbe-* (the nearest of 2: shop/api-1): check its name and namespace.",
    ),
    "no deployment": (
        lambda api: api.objects["deployments"].update({("shop", "web"): deployment("web", "shop")}), {"pod_targets_deployment": "shop/wbe"},
        "There is no deployment shop/wbe (the nearest of 1: shop/web): check its name and namespace.",
    ),
    "pending": (
        lambda api: api.add_pod("web-1", "", phase="Pending", conditions=[
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu."}
        ]), {},
        "Pod default/web-1 is Pending (Unschedulable: 0/3 nodes are available: 3 Insufficient cpu): make room on a node "
        "that fits, or change what it asks for (requests, node selector, tolerations, volumes); then run the play again.",
    ),
    "not in the inventory": (
        lambda api: None, {},
        "Node elsewhere (192.0.2.1), where default/web-1 runs, is not in the inventory: add a host of that name or address, "
        "or set the variable kubernetes_node to elsewhere on the host that it is.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_one_clear_sentence(kube, start, case):
    break_it, variables, expected = ERRORS[case]
    kube.add_pod("web-1", "elsewhere", labels={"app": "web"})
    break_it(kube)
    done = start(kube, **(variables or {"pod_targets_pod": ["web-1"]})).wait()
    kube.silent = False
    assert sentence(done) == expected.format(port=kube.port)
    assert not any("POST" in request for request in kube.requests)


def not_create(api):
    for rule in api.rules:
        rule["verbs"] = [verb for verb in rule["verbs"] if verb != "create"]


def not_pulled(api):
    waiting = {"reason": "ErrImagePull", "message": "pull access denied for registry.example.org/helper."}
    api.kubelet.status = {"phase": "Pending", "containerStatuses": [{"name": "helper", "state": {"waiting": waiting}}]}


def stays_pending(api):
    api.kubelet.status = {"phase": "Pending", "conditions": [{"type": "Initialized", "status": "False", "reason": "NodeNotReady", "message": "no kubelet."}]}


def not_exec(api):
    api.rules = [rule for rule in api.rules if "pods/exec" not in rule["resources"]]


HELPER_ERRORS = {
    "forbidden": (
        not_create,
        'The Kubernetes API forbids this account to create helper pods in namespace default (pods is forbidden: User "test" cannot create resource "pods" '
        'in API group "" in the namespace "default"): grant it the verbs get and create on pods, in a namespace that admits privileged pods, '
        "see docs/kubernetes.md.",
    ),
    "forbidden exec": (
        not_exec,
        "The Kubernetes API forbids this account to run /usr/bin/python3 in the helper pod on node worker: grant it the verbs create and get on pods/exec, "
        "see docs/kubernetes.md.",
    ),
    "image": (
        not_pulled,
        f"Image {PAPER_IMAGE} cannot be pulled on node worker (ErrImagePull: pull access denied for registry.example.org/helper): "
        "give one that the node can pull.",
    ),
    "pending": (
        stays_pending,
        "The helper pod on node worker did not run within 3 s: Pod default/{helper} is Pending (NodeNotReady: no kubelet); "
        "see that the node is ready, or wait longer (start_timeout, of the role pod_node_access: pod_node_access_start_timeout).",
    ),
}


def test_helper_pod_without_an_image(kube, helper):
    kube.add_pod("web-1", "worker")
    done = helper(kube, pod_targets_pod=["web-1"], pod_node_access_image="").wait()
    assert sentence(done) == (
        "Helper pods need an image, and none was given: give image (of the role pod_node_access: pod_node_access_image); docs/kubernetes.md says what it needs."
    )


def test_helper_pod_on_a_node_whose_kubelet_is_down(kube, helper):
    """It says so once, waits for no kubelet to confirm the end of what it never began with, and leaves nothing."""
    kube.add_pod("web-1", "worker")
    kube.dead_nodes = {"worker"}
    done = helper(kube, pod_targets_pod=["web-1"], pod_node_access_start_timeout=2).wait()
    said = sentence(done)
    assert said.endswith(": no kubelet took it up, so see that there is a node worker and its kubelet runs, or wait longer (start_timeout, "
                         "of the role pod_node_access: pod_node_access_start_timeout).".removeprefix(": ")), said  # fmt: skip
    assert said.count("did not run within 2 s") == 1 and "could not be deleted" not in done.output
    assert not kube.helpers() and wait_for(lambda: not guards(kube))


@pytest.mark.parametrize("case", HELPER_ERRORS)
def test_helper_pod_that_cannot_be_had(kube, helper, case):
    break_it, expected = HELPER_ERRORS[case]
    kube.add_pod("web-1", "worker")
    break_it(kube)
    done = helper(kube, pod_targets_pod=["web-1"], pod_node_access_start_timeout=3).wait()
    made = next(iter(re.findall(r"DELETE \S+/(nettap-helper-\w+-1)", "\n".join(kube.requests))), "")
    assert sentence(done) == expected.format(helper=made)
    assert not kube.helpers() and wait_for(lambda: not guards(kube))
    assert bool(made) == (case != "forbidden")


def test_image_without_python(node, helper, tmp_path):
    node.add_pod("web-1", "worker")
    done = helper(node, pod_targets_pod=["web-1"], pod_node_access_image=IMAGE, pod_node_access_python="/opt/python3").wait()
    said = sentence(done)
    assert said.startswith("/opt/python3 does not run in the helper pod on node worker (") and "not found" in said, said
    assert said.endswith(f": see that image {IMAGE} has it there, and that the API reaches the node's kubelet.")
    assert not node.helpers() and wait_for(lambda: not guards(node))


def test_api_that_falls_silent(kube, helper):
    """The run gives up, also its clean-up; the guard does not go with what was ended for being late."""
    kube.add_pod("web-1", "worker")
    stays_pending(kube)
    running = helper(kube, pod_targets_pod=["web-1"], pod_targets_api_timeout=8)
    until(running, kube.helpers)
    kube.silent = True
    done = running.wait(200)
    assert kube.helpers()
    kube.silent = False
    said = sentence(done)
    assert said.startswith("The Kubernetes API did not answer within 8 s when asked to list the helper pods") and "could not be deleted either" in said
    assert wait_for(lambda: not kube.helpers() and not guards(kube), 60), done.output


def test_guard_knows_what_its_run_knows(kube, cli, tmp_path):
    """Collections beside the playbook, the controller's Python, and that nobody need be root. And pods to capture need not be named."""
    (tmp_path / "collections").symlink_to(ROOT / "collections")
    (tmp_path / "ansible.cfg").touch()
    access = {
        "ansible.builtin.include_role": {"name": "nettap.containers.pod_node_access", "apply": {"delegate_to": "localhost"}},
        "vars": {
            "pod_node_access_image": PAPER_IMAGE, "pod_node_access_targets": [{"name": "worker"}], "pod_node_access_kubeconfig": str(kube.kubeconfig),
        },
    }  # fmt: skip
    omitted = {"ansible.builtin.assert": {"that": "'capture_pod' not in hostvars['helper-worker']"}}
    play = tmp_path / "play.json"
    play.write_text(json.dumps([{"hosts": "far", "gather_facts": False, "tasks": [access, omitted]}]))
    far = {"ansible_connection": "local", "ansible_python_interpreter": "/nonexistent/python"}
    running = cli.start_playbook(str(play), hosts={"far": far}, env={"ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), **NO_SUDO})
    done = running.wait()
    assert done.rc == 0, done.output
    assert wait_for(lambda: not kube.helpers() and not guards(kube), 60), running.output


def test_capture_that_outlives_its_helper_pod(kube, helper):
    kube.add_pod("web-1", "worker")
    done = helper(kube, pod_targets_pod=["web-1"], capture_duration=3400).wait()
    assert sentence(done) == (
        "A capture of 3400 s, with 300 s to start and to fetch it, does not fit into the 3600 s after which helper pods end: "
        "set pod_node_access_deadline to 3700 or more."
    )
    assert not kube.requests


def test_orphans_of_earlier_runs(kube, helper, cli, tmp_path):
    """Those that have ended, and those whose run has ended on this machine; not those of a run that goes on, here or elsewhere."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    here = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    started = pathlib.Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    owners = {
        "ended": ("elsewhere pid:[1] 1 1", "Failed"), "dead": (f"{here} {os.getpid()} 1", "Running"),
        "gone": (f"{here} {os.getpid()} 1", "Running"), "going": (f"{here} {os.getpid()} 1", "Running"),
        "alive": (f"{here} {os.getpid()} {started}", "Running"), "foreign": ("elsewhere pid:[1] 1 1", "Running"),
    }  # fmt: skip
    for name, (owner, phase) in owners.items():
        labels = {"app.kubernetes.io/managed-by": "nettap.containers", "nettap.containers/run": name}
        made = kube.add_pod(name, "dead" if name == "going" else "worker", labels=labels, phase=phase)
        made["metadata"]["annotations"] = {"nettap.containers/owner": owner}
    # On a node that is gone: told to end once, and it still has not.
    kube.pods["default", "gone"]["metadata"]["deletionTimestamp"] = kube_api.now()
    kube.dead_nodes = {"dead"}
    kube.add_pod("somebody's", "worker", phase="Failed")
    kube.add_pod("web-1", "worker")
    not_pulled(kube)
    # None of them is waited for.
    done = helper(kube, pod_targets_pod=["web-1"]).wait()
    assert "Helper pods of earlier runs are left" not in " ".join(done.output.split())
    assert "cannot be pulled" in sentence(done)
    assert {name for _namespace, name in kube.pods} == {"alive", "foreign", "gone", "going", "somebody's", "web-1"}
    assert {request.rpartition("/")[2] for request in kube.requests if request.startswith("DELETE") and "nettap-" not in request} == {"ended", "dead", "going"}


def test_check_mode_makes_nothing(kube, helper):
    kube.add_pod("web-1", "worker")
    done = helper(kube, "--check", pod_targets_pod=["web-1"]).wait()
    assert done.rc == 0 and done.result("Make a helper pod")["changed"], done.output
    assert not kube.helpers() and not guards(kube) and not any("POST" in request for request in kube.requests)


@pytest.mark.slow
def test_protects_pods_from_a_helper_pod(node, cli, pod, temporary, tmp_path, run_module):
    """On the node itself: engine and watchdog outlive the helper pod. A pod that comes later is not protected, and the status says so."""
    first = pod("web-1")
    node.kubelet.real_run = True
    node.add_pod("web-1", "worker", labels={"app": "web", "tier": "front"})
    node.objects["deployments"]["default", "web"] = deployment("web", "default")
    shared = {
        "pod_targets_deployment": "web", "pod_targets_kubeconfig": str(node.kubeconfig), "inline_protect_docker_host": f"unix://{unix_socket()}",
        "inline_protect_rules": ['drop http any any -> any any (msg:"evil page"; http.uri; content:"evil"; sid:1; rev:1;)'], **paths(tmp_path),
    }  # fmt: skip
    by_helper = {"pod_targets_access": "helper", "pod_node_access_image": IMAGE, "pod_node_access_python": sys.executable}
    env = {"HOME": str(tmp_path / "home"), "TMPDIR": temporary, "ANSIBLE_PIPELINING": "1", **NO_SUDO}

    def play(playbook, **variables):
        hosts = {"worker": {**LOCAL, "ansible_become": False}}
        done = cli.start_playbook(playbook, hosts=hosts, extra_vars={**shared, **variables}, env=env).wait()
        assert done.rc == 0, done.output
        return done

    def answers(path):
        return steering_tools.get(address(first), path, timeout=1) == 200

    try:
        play("protect_pod.yml", **by_helper)
        assert not node.helpers() and wait_for(lambda: not guards(node))
        assert wait_for(lambda: answers("/")) and not answers("/?evil")
        second = pod("web-2")
        node.add_pod("web-2", "worker", labels={"app": "web", "tier": "back"})
        told = play("playbooks/protect_pod_status.yml").result("Show the containers' state")["msg"]
        assert told[0].startswith(f"{first.name} eth0: steered, ") and told[2:] == [f"{second.name} eth0: NOT protected"], told
        play("unprotect_pod.yml")
        assert wait_for(lambda: answers("/?evil")) and run_module("container_steering_info")["steering"] == []
    finally:
        run_module("container_steering", {"container": ["*"], "state": "absent", "allow_missing": True})
        run_module("container_dataplane", {"state": "absent"})
