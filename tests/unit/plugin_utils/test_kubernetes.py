"""What is made of Kubernetes objects and of the API's errors; and to which run a helper pod belongs."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.nettap.containers.plugins.module_utils._errors import TargetError
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _action, _exit_guard, _helper_pod, _pods
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes._pods import Node, Wanted
from waiting import wait_for


def pod(name="web-1", node="n1", phase="Running", containers=("app", "sidecar"), **status):
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"nodeName": node, "containers": [{"name": container} for container in containers]},
        "status": {"phase": phase, "hostIP": f"10.0.0.{node[1:]}", **status},
    }


def test_pods_by_node():
    found, warnings = _pods.nodes([pod(), pod("web-2", "n2"), pod("web-3")], Wanted(selection="app=web"))
    assert found == [Node("n1", "10.0.0.1", ["shop/web-1", "shop/web-3"]), Node("n2", "10.0.0.2", ["shop/web-2"])] and not warnings


def test_containers_of_selected_and_of_named_pods():
    pods = [pod(), pod("db-1", containers=("db",))]
    assert _pods.nodes(pods, Wanted(containers=["app"], selection="x"))[0][0].pods == ["shop/web-1/app"]
    assert _pods.nodes(pods, Wanted(names=["shop/web-1/sidecar", "shop/db-1"]))[0][0].pods == ["shop/web-1/sidecar", "shop/db-1"]


def test_some_selected_pods_may_not_run():
    gone = pod("web-3")
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found, warnings = _pods.nodes([pod(), pod("web-2", phase="Pending"), gone], Wanted(selection="app=web"))
    assert [node.pods for node in found] == [["shop/web-1"]]
    assert warnings == ["Pod shop/web-2 is Pending: it is passed over.", "Pod shop/web-3 is being deleted: it is passed over."]


@pytest.mark.parametrize(("pods", "wanted", "message"), [
    ([], Wanted(selection="app=web in namespace shop"), "No pod matches app=web in namespace shop: check the selection and the namespace."),
    ([pod()], Wanted(containers=["a", "b"], selection="app=web"), "No pod matches app=web and has a container a or b: check the selection and the namespace."),
    ([pod()], Wanted(names=["shop/wbe-1"]), "There is no pod shop/wbe-1 (the nearest: shop/web-1): check its name and namespace."),
    ([], Wanted(names=["shop/web-1"]), "There is no pod shop/web-1: check its name and namespace."),
    ([pod()], Wanted(names=["shop/web-1/db"]), "Pod shop/web-1 has no container db (it has app, sidecar): name one of these."),
    ([pod(phase="Failed", reason="Evicted", message="out of disk.")], Wanted(names=["shop/web-1"]),
     "Pod shop/web-1 is Failed (Evicted: out of disk): wait until it runs, then run the play again."),
    ([pod(phase="Pending"), pod("web-2", phase="Pending")], Wanted(selection="app=web"),
     "None of the pods that match app=web runs: Pod shop/web-1 is Pending; wait until one does, then run the play again."),
])  # fmt: skip
def test_pods_that_cannot_be_had(pods, wanted, message):
    with pytest.raises(TargetError) as error:
        _pods.nodes(pods, wanted)
    assert str(error.value) == message


def test_selector_of_a_deployment():
    expressions = [
        {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "NotIn", "values": ["z"]},
        {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"},
    ]  # fmt: skip
    assert _pods.selectors({"matchLabels": {"app": "web"}, "matchExpressions": expressions}) == ["app=web", "a in (x,y)", "b notin (z)", "c", "!d"]


@pytest.mark.parametrize(("hosts", "host"), [
    ({"a": {"kubernetes_node": "n1"}, "n1": {}}, "a"),
    ({"n1": {"ansible_host": "192.0.2.7"}, "b": {"ansible_host": "10.0.0.1"}}, "n1"),
    ({"b": {"ansible_host": "10.0.0.1"}}, "b"),
    ({"10.0.0.1": {}}, "10.0.0.1"),
])  # fmt: skip
def test_host_of_a_node(hosts, host):
    node = Node("n1", "10.0.0.1", ["shop/web-1"])
    _pods.place([node], hosts, "kubernetes_node")
    assert node.host == host


def test_node_that_is_no_host_or_several():
    node = Node("n1", "10.0.0.1", ["shop/web-1"])
    with pytest.raises(TargetError, match=r"Node n1 \(10.0.0.1\), where shop/web-1 runs, is not in the inventory: add a host"):
        _pods.place([node], {"a": {}}, "kubernetes_node")
    with pytest.raises(TargetError, match="Node n1 may be any of the inventory's a, b: set the variable k8s_name to n1 on the right one"):
        _pods.place([node], {"a": {"ansible_host": "10.0.0.1"}, "b": {"ansible_host": "10.0.0.1"}}, "k8s_name")


def test_node_without_an_address_is_not_every_host_without_one():
    with pytest.raises(TargetError, match="address unknown"):
        _pods.place([Node("n1", "", ["shop/web-1"])], {"": {}, "a": {"ansible_host": ""}}, "kubernetes_node")


STATUS = r'{"kind":"Status","status":"Failure","message":"pods is forbidden: User \"me\" cannot list","reason":"Forbidden","code":403}'


@pytest.mark.parametrize(("said", "sentence"), [
    # As bytes are shown, in which the escapes of JSON are escaped.
    ("Exception '403\nReason: Forbidden\nHTTP response body: " + repr(STATUS.encode()),
     'forbids this account to look (pods is forbidden: User "me" cannot list): grant it the verb list, see docs/kubernetes.md.'),
    ("Failed to create object: " + STATUS, 'forbids this account to look (pods is forbidden: User "me" cannot list): grant it'),
    ("HTTPSConnectionPool(host='10.0.0.1', port=6443): Max retries exceeded with url: /version", "API at 10.0.0.1:6443 cannot be reached"),
    ("401\nReason: Unauthorized", "does not accept these credentials"),
    ("Could not create API client: Invalid kube-config file. No configuration found.", "No usable kubeconfig was found"),
    ("something\nelse.", "Kubernetes could not be asked to look: something else."),
])  # fmt: skip
def test_errors_in_one_sentence(said, sentence):
    explained = _pods.explain({"msg": said}, "look", "the verb list")
    assert sentence in explained and "\n" not in explained


class Asking(_action.KubernetesAction):
    """A task that asks for two objects by a module that takes `lasting` seconds, in a process as they all are."""

    def __init__(self, lasting, api_timeout):
        self._task, self.task_vars = types.SimpleNamespace(args={"api_timeout": api_timeout}), {}
        self._lasting = lasting

    def run(self, tmp=None, task_vars=None):
        return self.ask("k8s", "create pods", "a right", definition=[{}, {}])

    def _execute_module(self, **_arguments):
        self.module = subprocess.Popen(["sleep", str(self._lasting)])
        return {"rc": self.module.wait()}


class TaskTimeout(BaseException):
    """What Ansible raises in a task that takes longer than its keyword `timeout`."""


@pytest.fixture
def task_timeout():
    """Give start(seconds): the alarm of a task's `timeout`; the one that pytest has set is set again."""

    def ring(*_arguments):
        raise TaskTimeout

    due, _interval = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, due)


def test_late_module_is_ended_and_nothing_else_is():
    task = Asking(60, api_timeout=1)
    with subprocess.Popen(["sleep", "60"]) as guard:
        # 1 s for each object.
        with pytest.raises(AnsibleActionFail, match="The Kubernetes API did not answer within 2 s when asked to create pods: check the network"):
            task.run()
        assert task.module.wait(10) == -signal.SIGTERM
        assert guard.poll() is None
        guard.kill()


@pytest.mark.parametrize(("lasting", "then"), [(60, 0), (0.2, 60)])
def test_timeout_of_the_task_holds(task_timeout, lasting, then):
    """While a module runs, which then ends too, and after it."""
    task, began = Asking(lasting, api_timeout=20), time.monotonic()
    task_timeout(3)
    with pytest.raises(TaskTimeout):
        task.run()
        time.sleep(then)
    assert 2.9 < time.monotonic() - began < 30
    assert task.module.wait(10) == (0 if then else -signal.SIGTERM)


def test_helper_pod_belongs_to_its_run():
    made = _helper_pod.manifest("h", "ns", "n1", "r", _helper_pod.owner(os.getpid()), {"image": "i", "image_pull_policy": "Always", "deadline": 60})
    # A node would get each folder that is mounted and that it lacks.
    assert [one["hostPath"]["path"] for one in made["spec"]["volumes"] if "hostPath" in one] == ["/run"]
    made["status"] = {"phase": "Running"}
    assert not _helper_pod.orphaned(made)
    assert _helper_pod.orphaned({**made, "status": {"phase": "Failed"}})
    with subprocess.Popen(["sleep", "60"]) as process:
        made["metadata"]["annotations"]["nettap.containers/owner"] = _helper_pod.owner(process.pid)
        assert not _helper_pod.orphaned(made)
        process.kill()
    assert _helper_pod.orphaned(made)
    made["metadata"]["annotations"] = {}
    assert not _helper_pod.orphaned(made)


PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", '''
import pathlib, signal, sys, time
def told(*_):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).write_text("child\\\\n")
    sys.exit()
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
time.sleep(60)
''', sys.argv[1]])
time.sleep(60)
"""


def test_guard_waits_for_the_children_of_a_killed_process(tmp_path):
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", PARENT, log], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout and parent.stdout.readline() == b"ready\n"
        guard = _exit_guard.arm(parent.pid, "over", [sys.executable, "-c", f"open({str(log)!r}, 'a').write('guard\\n')"], {})
        assert guard
        time.sleep(4)  # two looks at the children
        parent.kill()
    os.waitpid(guard, 0)
    assert log.read_text() == "child\nguard\n"


def test_guard_is_disarmed_and_nothing_else_is(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as process:
        guard = _exit_guard.arm(process.pid, "over", ["touch", str(tmp_path / "made")], {})
        assert guard
        assert wait_for(lambda: b"_exit_guard" in pathlib.Path(f"/proc/{guard}/cmdline").read_bytes())
        _exit_guard.disarm(process.pid)
        _exit_guard.disarm(guard)
        assert os.waitstatus_to_exitcode(os.waitpid(guard, 0)[1]) == -signal.SIGTERM
        assert process.poll() is None
        process.kill()
    assert not (tmp_path / "made").exists()
