# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kubernetes_helper_pod: it makes helper pods on nodes of a cluster, and makes sure that none is left."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
import typing as t
import uuid

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.display import Display

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes_helper_pod import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._system._names import names
from ansible_collections.nettap.containers.plugins.plugin_utils._interruption import run_pid
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _action, _api_errors, _exit_guard, _helper_pod, _pod_state
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked

_STEP = 1.0  # seconds between looks at a pod that starts or ends
_GONE_SECONDS = 60  # seconds for a deleted pod to disappear: the kubelet has to confirm the deletion


class ActionModule(_action.KubernetesAction):
    """An action whose pods are made once and used in one run of Ansible: `present` always makes new ones."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action. Raise AnsibleActionFail."""
        result = super().run(tmp, task_vars)
        self.task_vars = task_vars or {}
        args = checked(self, SPEC)
        return {**result, **(self._present(args) if args["state"] == "present" else self._absent(args))}

    def _present(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        if not args["node"]:
            raise AnsibleActionFail("No node was named on which to make a helper pod: give node (of the role pod_node_access: pod_node_access_targets).")
        if not args["image"]:
            raise AnsibleActionFail(
                "Helper pods need an image, and none was given: give image (of the role pod_node_access: pod_node_access_image); "
                "docs/kubernetes.md says what it needs."
            )
        if shutil.which("kubectl") is None:
            raise AnsibleActionFail("There is no kubectl on the controller, over which tasks would run in the helper pods: install it.")
        run = uuid.uuid4().hex[:8]
        wanted = {f"nettap-helper-{run}-{number}": node for number, node in enumerate(dict.fromkeys(names(args["node"])), start=1)}
        if self._task.check_mode:
            return {"changed": True, "pods": [], "orphans": [], "run": run, "guard": None}
        orphans = self._orphans(args)
        try:
            # The task does not wait for their end: on a node that is gone, pods stay.
            self._tell_to_end(args, orphans)
        except AnsibleError as error:
            Display().warning(f"Helper pods of earlier runs are left: {error}")
            orphans = []
        # The guard starts before the first pod, so that no pod is without a guard.
        owner, guard = _helper_pod.owner(run_pid()), self._guard(args, run)
        try:
            self._create(args, [_helper_pod.manifest(name, args["namespace"], node, run, owner, args) for name, node in wanted.items()])
            self._until_running(args, run, wanted)
            self._try_out(args, wanted)
        except BaseException as error:
            left = self._clean_up(args, run, guard)
            if left and isinstance(error, AnsibleError):
                raise AnsibleActionFail(f"{str(error).rstrip('.')}. What was made could not be deleted either: {left}") from error
            raise
        pods = [{"name": name, "node": node, "namespace": args["namespace"], "container": _helper_pod.CONTAINER} for name, node in wanted.items()]
        return {"changed": True, "pods": pods, "orphans": orphans, "run": run, "guard": guard}

    def _absent(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Delete one pod, all pods of a run, or all that no run needs any more. End the guard of a run with its last pod. Raise AnsibleActionFail."""
        if not args["name"] and not args["run"]:
            orphans = self._orphans(args)
            self._tell_to_end(args, orphans)
            self._until_gone(args, orphans, None)
            return {"changed": bool(orphans), "deleted": orphans}
        ours = [name for name in _names(self._helpers(args, args["run"])) if args["name"] in (None, name)]
        self._tell_to_end(args, ours)
        # What was told to end is its node's to end. The guard could do no more, and is needed for the others of the run only.
        if ours and args["guard"] and not self._task.check_mode and not self._staying(args, ours):
            _exit_guard.disarm(args["guard"])
        self._until_gone(args, ours, args["run"])
        return {"changed": bool(ours), "deleted": ours}

    def _staying(self, args: dict[str, t.Any], but: list[str]) -> list[str]:
        """Return the other helper pods of the run that were not told to end yet."""
        pods = self._helpers(args, args["run"])
        return [name for name in _names([pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]) if name not in but]

    def _guard(self, args: dict[str, t.Any], run: str) -> int | None:
        again = {"state": "absent", "run": run, "namespace": args["namespace"], "api_timeout": args["api_timeout"], **self.access()}
        # This task has asked the API with the Python that has the library kubernetes.
        python = (self._used_interpreter or sys.executable).lstrip("#!")
        variables = {"ansible_become": False, "ansible_python_interpreter": python}
        command = [
            sys.executable, "-m", "ansible", "adhoc", "localhost", "--inventory", "localhost,", "--connection", "local",
            "--extra-vars", json.dumps(variables),
            "--module-name", "nettap.containers.kubernetes_helper_pod", "--args", json.dumps(again),
        ]
        message = f"This run of Ansible ended before its helper pods in namespace {args['namespace']} (run {run}) were deleted: deleting them."
        # Without this path, the guard would not find the collections beside the playbook.
        paths = os.pathsep.join(AnsibleCollectionConfig.collection_paths)
        return _exit_guard.arm(run_pid(), message, command, {"ANSIBLE_COLLECTIONS_PATH": paths})

    def _create(self, args: dict[str, t.Any], pods: list[dict[str, t.Any]]) -> None:
        doing = f"create helper pods in namespace {args['namespace']}"
        self.ask("k8s", doing, "the verbs get and create on pods, in a namespace that admits privileged pods", state="present", definition=pods)

    def _until_running(self, args: dict[str, t.Any], run: str, wanted: dict[str, str]) -> None:
        deadline = time.monotonic() + args["start_timeout"]
        while True:
            pods = {pod["metadata"]["name"]: pod for pod in self._helpers(args, run)}
            for name, node in wanted.items():
                if name not in pods:
                    raise AnsibleActionFail(f"The helper pod on node {node} was deleted by somebody else while it started: run the play again.")
                why = _pod_state.failure(pods[name])
                if why.startswith("ErrImageNeverPull"):
                    raise AnsibleActionFail(
                        f"Image {args['image']} is not on node {node} ({why}): load it there, or let the node pull it (image_pull_policy, "
                        "of the role pod_node_access: pod_node_access_image_pull_policy)."
                    )
                if why and _pod_state.pull_failed(pods[name]):
                    raise AnsibleActionFail(f"Image {args['image']} cannot be pulled on node {node} ({why}): give one that the node can pull.")
                if why:
                    raise AnsibleActionFail(f"The helper pod on node {node} does not run ({why}): see what the node's kubelet and the image need.")
            waiting = [name for name, pod in pods.items() if pod["status"].get("phase") != "Running"]
            if not waiting:
                return
            if time.monotonic() > deadline:
                pod, node = pods[waiting[0]], wanted[waiting[0]]
                why = _pod_state.why_not_running(pod)
                idle = f"no kubelet took it up, so see that there is a node {node} and its kubelet runs"
                remedy = "see that the node is ready" if _pod_state.noticed(pod) else idle
                raise AnsibleActionFail(
                    f"The helper pod on node {node} did not run within {args['start_timeout']} s: {why}; {remedy}, or wait longer (start_timeout, "
                    "of the role pod_node_access: pod_node_access_start_timeout)."
                )
            time.sleep(_STEP)

    def _try_out(self, args: dict[str, t.Any], wanted: dict[str, str]) -> None:
        """Run Python in each pod as a task does. Raise AnsibleActionFail when it does not run.

        A task that cannot run it makes its host unreachable, and then no `always` section deletes the pod.
        """
        loader = self._shared_loader_obj.connection_loader
        command = f"{shlex.quote(args['python'])} --version"
        for name, node in wanted.items():
            connection = loader.get("kubernetes.core.kubectl", self._play_context, new_stdin=None)
            options = {"pod": name, "namespace": args["namespace"], "container": _helper_pod.CONTAINER, **self.access()}
            connection.set_options(var_options={f"ansible_kubectl_{option}": value for option, value in options.items()})
            place = f"on node {node}, from its helper pod" if args["enter_node"] else f"in the helper pod on node {node}"
            doing = f"run {args['python']} {place}"
            with self.in_time(doing):
                code, _output, errors = connection.exec_command(_helper_pod.on_node(command) if args["enter_node"] else command)
            said = " ".join(to_text(errors).split())[:300].rstrip(".")
            if code and "orbidden" in said:
                raise AnsibleActionFail(_api_errors.explain({"msg": said}, doing, "the verbs create and get on pods/exec"))
            if code:
                needed = f"image {args['image']} has nsenter and the node has Python" if args["enter_node"] else f"image {args['image']} has it"
                raise AnsibleActionFail(
                    f"{args['python']} does not run {place} ({said}): see that {needed} there, and that the API reaches the node's kubelet."
                )

    def _orphans(self, args: dict[str, t.Any]) -> list[str]:
        """Return the names of the helper pods that no run needs any more, and that are not being deleted yet."""
        return _names([pod for pod in self._helpers(args, None) if _helper_pod.orphaned(pod) and not pod["metadata"].get("deletionTimestamp")])

    def _helpers(self, args: dict[str, t.Any], run: str | None) -> list[dict[str, t.Any]]:
        labels = [f"{_helper_pod.LABEL_MANAGED}={_helper_pod.MANAGER}", *([f"{_helper_pod.LABEL_RUN}={run}"] if run else [])]
        return self.pods(f"list the helper pods in namespace {args['namespace']}", args["namespace"], labels)

    def _until_gone(self, args: dict[str, t.Any], names: list[str], run: str | None) -> None:
        """Wait until pods that were told to end are gone. Raise AnsibleActionFail."""
        deadline = time.monotonic() + _GONE_SECONDS
        while names and not self._task.check_mode:
            slow = [name for name in _names(self._helpers(args, run)) if name in names]
            if not slow:
                return
            if time.monotonic() > deadline:
                raise AnsibleActionFail(f"The helper pods {', '.join(slow)} were told to end {_GONE_SECONDS} s ago and are still there: see their nodes.")
            time.sleep(_STEP)

    def _tell_to_end(self, args: dict[str, t.Any], names: list[str], at_once: bool = False) -> None:
        """Ask for the deletion of pods; `at_once` does not let a kubelet end them first. Raise AnsibleActionFail."""
        if names and not self._task.check_mode:
            which = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": args["namespace"]}} for name in names]
            doing, options = f"delete helper pods in namespace {args['namespace']}", {"delete_options": {"gracePeriodSeconds": 0}} if at_once else {}
            self.ask("k8s", doing, "the verbs get and delete on pods", state="absent", definition=which, **options)

    def _clean_up(self, args: dict[str, t.Any], run: str, guard: int | None) -> str:
        """Delete the pods that a failed start has made. Return the error if that fails, else "". If the API does not delete them, the guard tries again."""
        try:
            made = self._helpers(args, run)
            # Where no kubelet has begun with a pod, none may ever confirm its end; and there is nothing to end.
            self._tell_to_end(args, _names([pod for pod in made if not _pod_state.noticed(pod)]), at_once=True)
            self._tell_to_end(args, _names([pod for pod in made if _pod_state.noticed(pod)]))
            if guard is not None:
                _exit_guard.disarm(guard)
            self._until_gone(args, _names(made), run)
        except AnsibleError as error:
            return str(error)
        return ""


def _names(pods: list[dict[str, t.Any]]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]
