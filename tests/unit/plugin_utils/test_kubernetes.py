"""What is made of Kubernetes objects and of the API's errors; and to which run a helper pod belongs."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import types

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.nettap.containers.plugins.module_utils._errors import TargetError
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _action, _api_errors, _changes, _exit_guard, _helper_pod, _pod_state, _pods
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes._pods import Node
from waiting import wait_for


def pod(name="web-1", node="n1", phase="Running", containers=("app", "sidecar"), **status):
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"nodeName": node, "containers": [{"name": container} for container in containers]},
        "status": {"phase": phase, "hostIP": f"10.0.0.{node[1:]}", **status},
    }


def nodes(pods, *patterns, containers=(), selection=""):
    """What is found by names, or by a selection that these pods match."""
    if selection:
        return _pods.nodes([_pods.by_selection(pods, selection, containers)])
    found = [_pods.by_name(pods, one, containers) if _pods.matching(pods, one) else _pods.missing("pod", one, pods) for one in patterns]
    return _pods.nodes(found)


def test_pods_by_node():
    found, warnings = nodes([pod(), pod("web-2", "n2"), pod("web-3")], selection="app=web")
    assert found == [Node("n1", "10.0.0.1", ["shop/web-1", "shop/web-3"]), Node("n2", "10.0.0.2", ["shop/web-2"])] and not warnings


@pytest.mark.parametrize(("patterns", "targets"), [
    (["shop/web-1/sidecar", "shop/db-1"], ["shop/web-1/sidecar", "shop/db-1"]),
    (["shop/web-*"], ["shop/web-1", "shop/web-2"]),
    (["s*p/[wd]*-1/*"], ["shop/web-1/app", "shop/web-1/sidecar", "shop/web-1/proxy", "shop/web-1/debugger", "shop/db-1/db"]),
    (["*/web-?/app", "shop/web-1"], ["shop/web-1/app", "shop/web-2/app", "shop/web-1"]),
    # A native sidecar, and what `kubectl debug` adds; a container that only prepares the pod, while it does.
    (["shop/web-1/proxy", "shop/web-1/debugger", "shop/web-1/prepare"], ["shop/web-1/proxy", "shop/web-1/debugger", "shop/web-1/prepare"]),
])  # fmt: skip
def test_names_and_globs(patterns, targets):
    web = pod(initContainerStatuses=[{"name": "prepare", "state": {"terminated": {}}}, {"name": "proxy", "state": {"running": {}}}])
    web["spec"].update(initContainers=[{"name": "prepare"}, {"name": "proxy", "restartPolicy": "Always"}], ephemeralContainers=[{"name": "debugger"}])
    assert nodes([web, pod("web-2"), pod("db-1", containers=("db",))], *patterns)[0][0].pods == targets


def test_containers_of_a_selection():
    pods = [pod(), pod("db-1", containers=("db",))]
    assert nodes(pods, containers=["app"], selection="x")[0][0].pods == ["shop/web-1/app"]
    assert nodes(pods, containers=["a*", "db"], selection="x")[0][0].pods == ["shop/web-1/app", "shop/db-1/db"]
    assert nodes(pods, "shop/*-1", containers=["d?"])[0][0].pods == ["shop/db-1/db"]


def test_some_pods_may_not_run():
    gone = pod("web-3")
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    for wanted in ((), ("shop/*",)):
        found, warnings = nodes([pod(), pod("web-2", phase="Pending"), gone], *wanted, selection="" if wanted else "app=web")
        assert [node.pods for node in found] == [["shop/web-1"]]
        assert warnings == ["Pod shop/web-2 is Pending: it is passed over.", "Pod shop/web-3 is being deleted: it is passed over."]


def test_pod_that_has_begun_to_run():
    """Not all of its containers have started, but those that have use its network."""
    waiting = {"name": "sidecar", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    assert _pod_state.runs(pod(phase="Pending", containerStatuses=[{"name": "app", "state": {"running": {}}}, waiting]))
    assert _pod_state.runs(pod(phase="Pending", initContainerStatuses=[{"name": "prepare", "state": {"running": {}}}]))
    assert not _pod_state.runs(pod(phase="Pending", containerStatuses=[waiting]))
    assert not _pod_state.runs(pod(phase="Succeeded", containerStatuses=[{"name": "app", "state": {"terminated": {}}}]))


@pytest.mark.parametrize(("pods", "wanted", "message"), [
    ([], {"selection": "app=web in namespace shop"}, "No pod matches app=web in namespace shop: check the selection and the namespace."),
    ([pod()], {"containers": ["a", "b"], "selection": "app=web"},
     "No pod matches app=web and has a container a or b: check the selection and the namespace."),
    ([pod()], ["shop/wbe-1"], "There is no pod shop/wbe-1 (the nearest of 1: shop/web-1): check its name and namespace."),
    ([pod(), pod("db-1")], ["shp/web-*"], "No pod matches shp/web-* (the nearest of 2: shop/web-1, shop/db-1): check its name and namespace."),
    ([], ["shop/web-1"], "There is no pod shop/web-1: check its name and namespace."),
    ([pod()], ["shop/web-1/db"], "Pod shop/web-1 has no container db (it has app, sidecar): name one of these."),
    ([pod(phase="Pending"), pod("web-2", phase="Pending")], {"selection": "app=web"},
     "None of the pods that match app=web runs: Pod shop/web-1 is Pending; wait until it runs, then run the play again."),
    ([pod(phase="Pending")], ["shop/*"],
     "None of the pods that match shop/* runs: Pod shop/web-1 is Pending; wait until it runs, then run the play again."),
])  # fmt: skip
def test_pods_that_cannot_be_had(pods, wanted, message):
    with pytest.raises(TargetError) as error:
        nodes(pods, **wanted) if isinstance(wanted, dict) else nodes(pods, *wanted)
    assert str(error.value) == message


def waiting(reason, message=""):
    """Return the status of a pod whose only container waits."""
    return {"phase": "Pending", "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": reason, "message": message}}}]}


def unscheduled(reason):
    return {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": "0/3 nodes."}]}


@pytest.mark.parametrize(("status", "why", "remedy"), [
    ({"phase": "Succeeded"}, "Succeeded", "does not run again; name a pod that runs"),
    ({"phase": "Failed", "reason": "Evicted", "message": "out of disk."}, "Failed (Evicted: out of disk)", "name the pod that runs in its place"),
    ({"phase": "Unknown"}, "Unknown", "kubelet runs"),
    (waiting("ErrImagePull", "denied"), "Pending (ErrImagePull: denied)", "imagePullSecrets"),
    (waiting("ImagePullBackOff"), "Pending (ImagePullBackOff)", "imagePullSecrets"),
    (waiting("ErrImageNeverPull", "not present."), "Pending (ErrImageNeverPull: not present)", "load the image on its node, or let the node pull it"),
    (waiting("InvalidImageName"), "Pending (InvalidImageName)", "correct the image's name"),
    (waiting("CreateContainerConfigError"), "Pending (CreateContainerConfigError)", "ConfigMap or Secret"),
    (waiting("CrashLoopBackOff"), "Pending (CrashLoopBackOff)", "kubectl logs --previous"),
    ({"phase": "Pending", "initContainerStatuses": waiting("ErrImagePull")["containerStatuses"]}, "Pending (ErrImagePull)", "imagePullSecrets"),
    (waiting("ContainerCreating"), "Pending", "wait until it runs"),
    (unscheduled("Unschedulable"), "Pending (Unschedulable: 0/3 nodes)", "make room on a node"),
    (unscheduled("SchedulingGated"), "Pending (SchedulingGated: 0/3 nodes)", "scheduling gates"),
])  # fmt: skip
def test_what_can_be_done_about_a_pod(status, why, remedy):
    with pytest.raises(TargetError) as error:
        nodes([pod(**status)], "shop/web-1")
    said = str(error.value)
    assert said.startswith(f"Pod shop/web-1 is {why}: ") and remedy in said and said.endswith(".") and ".." not in said


@pytest.mark.parametrize(("given", "full"), [("web", "shop/web"), ("a/web", "a/web"), ("a/web/app", "a/web/app"), ("web-*", "shop/web-*")])
def test_name_with_and_without_namespace(given, full):
    assert _pods.full_name(given, "shop", "pod", 3) == full


@pytest.mark.parametrize(("given", "parts"), [("a/b/c/d", 3), ("a/b/c", 2), ("/web", 3), ("a//b", 3), ("", 3)])
def test_what_is_no_name(given, parts):
    with pytest.raises(TargetError, match=r"names no pod: give NAME,? .*each part may be a glob"):
        _pods.full_name(given, "shop", "pod", parts)


def with_uid(uid, *args, **status):
    made = pod(*args, **status)
    made["metadata"]["uid"] = uid
    return made


def test_what_became_of_pods():
    then = [with_uid("1"), with_uid("2", "db-0"), with_uid("3", "db-1", "n2"), with_uid("4", "job-1"), with_uid("5", "late", phase="Pending")]
    before = _changes.described(then)
    assert [one["name"] for one in before] == ["shop/web-1", "shop/db-0", "shop/db-1", "shop/job-1"]
    now = [
        with_uid("7", "web-2", "n3"), with_uid("8", "db-0", "n2"), with_uid("9", "db-1", "n2"), with_uid("4", "job-1", phase="Succeeded"),
        with_uid("5", "late"), with_uid("6", "later", phase="Pending"),
    ]  # fmt: skip
    said = ["pod shop/web-1 went away from node n1", "pod shop/db-0 went away from node n1 and runs anew on node n2",
            "pod shop/db-1 went away from node n2 and runs anew on node n2", "pod shop/web-2 came on node n3", "pod shop/late came on node n1"]  # fmt: skip
    assert _changes.changes(before, now, []) == said
    assert _changes.changes(before, now, ["shop/db-1"]) == [one for one in said if "db-1" not in one]
    assert _changes.changes(before, [], ["shop/web-1", "shop/db-0", "shop/db-1"]) == ["pod shop/job-1 went away from node n1"]
    pending = [with_uid("8", "db-0", phase="Pending")]
    assert "pod shop/db-0 went away from node n1 and the one in its place does not run" in _changes.changes(before, pending, [])


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
    explained = _api_errors.explain({"msg": said}, "look", "the verb list")
    assert sentence in explained and "\n" not in explained


def certificates(folder):
    """Make, in a folder: ca.pem (with keyUsage), bare.pem (without), both certificates of one key; NAME.pem and NAME-bare.pem, which they have issued."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.csr")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=api", "-keyout", "key.pem", "-out", "api.csr")
    for name, usage in (("ca", "\nkeyUsage=critical,keyCertSign"), ("bare", "")):
        (folder / "ca.ext").write_text(f"basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash{usage}")
        openssl("x509", "-req", "-in", "ca.csr", "-signkey", "ca.key", "-days", "2", "-extfile", "ca.ext", "-out", f"{name}.pem")
    for name, subject, signer, days in (("good", "IP:127.0.0.1", "ca", "2"), ("old", "IP:127.0.0.1", "ca", "0"), ("other", "DNS:api.example.org", "ca", "2"),
                                        ("elsewhere", "IP:192.0.2.1", "ca", "2"), ("issued-bare", "IP:127.0.0.1", "bare", "2")):  # fmt: skip
        (folder / "api.ext").write_text(f"subjectAltName={subject}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash")
        openssl("x509", "-req", "-in", "api.csr", "-CA", f"{signer}.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days, "-extfile", "api.ext",
                "-out", f"{name}.pem")  # fmt: skip
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=foreign", "-keyout", "f.key",
            "-out", "foreign.pem")  # fmt: skip


@pytest.fixture(name="issued", scope="module")
def make_issued(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    certificates(folder)
    return folder


def refusal(folder, certificate, authority, plain=False):
    """Return how a TLS connection to a server with this certificate fails, in the words of the Kubernetes client."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / f"{certificate}.pem", folder / "key.pem")
    client = ssl.create_default_context(cafile=str(folder / f"{authority}.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 sets it by itself
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _address = listening.accept()
            with connection, contextlib.suppress(OSError):
                if plain:
                    connection.recv(1)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                else:
                    server.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=answer)
        thread.start()
        port = listening.getsockname()[1]
        try:
            with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises(OSError) as error:
                client.wrap_socket(raw, server_hostname="127.0.0.1")
        finally:
            thread.join()
    cause = f"Caused by SSLError({error.value!r})"
    return f"HTTPSConnectionPool(host='127.0.0.1', port={port}): Max retries exceeded with url: /version ({cause})"


@pytest.mark.parametrize(("certificate", "authority", "wrong", "words", "remedy"), [
    ("good", "foreign", "was not issued by the CA of the kubeconfig", "unable to get local issuer certificate", "certificate-authority of this very cluster"),
    ("issued-bare", "bare", "Python 3.13 and newer refuse the cluster's CA", "CA cert does not include key usage extension", "made anew"),
    ("old", "ca", "is not valid at this time", "certificate has expired", "renew it"),
    ("other", "ca", "is for other names or addresses", "IP address mismatch, certificate is not valid for '127.0.0.1'", "tls-server-name"),
    ("elsewhere", "ca", "is for other names or addresses", "IP address mismatch, certificate is not valid for '127.0.0.1'", "tls-server-name"),
])  # fmt: skip
def test_certificates_that_cannot_be_trusted(issued, certificate, authority, wrong, words, remedy):
    said = _api_errors.explain({"msg": refusal(issued, certificate, authority)}, "look", "the verb list")
    assert re.fullmatch(rf"The Kubernetes API at 127.0.0.1:\d+ cannot be trusted, so it cannot be asked to look: .*{wrong} .*", said), said
    assert f"({words})" in said and remedy in said and said.count("(") == said.count(")"), said


def test_what_does_not_speak_tls(issued):
    said = _api_errors.explain({"msg": refusal(issued, "good", "ca", plain=True)}, "look", "the verb list")
    assert "what answers there does not speak TLS" in said, said


@pytest.mark.parametrize(("said", "sentence"), [
    # kubectl's words, of Go's crypto/x509.
    ("Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority", "not issued by the CA"),
    ("Unable to connect to the server: x509: certificate is valid for 10.0.0.1, not 127.0.0.1",
     "other names or addresses (certificate is valid for 10.0.0.1, not"),
    ("Unable to connect to the server: x509: certificate has expired or is not yet valid: current time", "not valid at this time"),
    ("error: [SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2559)",
     "refuses the client certificate of the kubeconfig (tlsv1 alert unknown ca); log in"),
])  # fmt: skip
def test_certificates_in_other_words(said, sentence):
    assert sentence in _api_errors.explain({"msg": said}, "look", "the verb list")


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
