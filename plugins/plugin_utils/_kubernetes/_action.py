# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the action plugins that ask the Kubernetes API, through the modules of kubernetes.core."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes import KUBERNETES
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _api_errors, _exit_guard


class _TimedOut(Exception):
    """The lack of an answer from the API in time, whether or not it accepted our connection."""


class KubernetesAction(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    """An action that asks the API, in a worker process of the controller."""

    _requires_connection = True
    _supports_async = False
    _supports_check_mode = True
    task_vars: dict[str, t.Any]

    def ask(self, module: str, doing: str, right: str, **args: t.Any) -> dict[str, t.Any]:
        """Run a module of kubernetes.core. Return its result.

        Raise AnsibleActionFail with one sentence, which names what the module was `doing` and which `right` that needs.
        """
        args = {**self.access(), **args}
        try:
            with self.in_time(doing, len(args.get("definition", []))):
                result: dict[str, t.Any] = self._execute_module(module_name=f"kubernetes.core.{module}", module_args=args, task_vars=self.task_vars)
        except AnsibleError as error:
            if "kubernetes.core" in str(error) and "not found" in str(error):
                raise AnsibleActionFail(
                    "The collection kubernetes.core is missing on the controller: install it with 'ansible-galaxy collection install kubernetes.core'."
                ) from error
            raise
        if not result.get("failed"):
            return result
        if "required Python library" in str(result.get("msg")):
            raise AnsibleActionFail("The Python library kubernetes is missing on the controller, for the Python that runs this task: pip install kubernetes.")
        raise AnsibleActionFail(_api_errors.explain(result, doing, right))

    def access(self) -> dict[str, str]:
        """Return the options kubeconfig and context, where they are given."""
        given = {name: self._task.args[name] for name in ("kubeconfig", "context") if self._task.args.get(name)}
        if "kubeconfig" in given:
            # As kubectl does, start from the user's current folder: kubernetes.core looks into those of roles and playbooks.
            given["kubeconfig"] = os.path.abspath(os.path.expanduser(given["kubeconfig"]))
        return given

    @contextlib.contextmanager
    def in_time(self, doing: str, objects: int = 1) -> t.Iterator[None]:
        """Limit the questions to the API in the block to api_timeout (seconds) for each of the objects. Raise AnsibleActionFail at the limit."""
        seconds = int(self._task.args.get("api_timeout") or KUBERNETES["api_timeout"]["default"]) * max(1, objects)
        try:
            with _at_most(seconds):
                yield
        except _TimedOut:
            raise AnsibleActionFail(
                f"The Kubernetes API did not answer within {seconds} s when asked to {doing}: check the network to it, kubeconfig and context."
            ) from None

    def pods(self, doing: str, namespace: str | None = None, labels: t.Sequence[str] = (), fields: t.Sequence[str] = ()) -> list[dict[str, t.Any]]:
        """Return the pods of a namespace, or of all namespaces, that match the labels and fields. Raise AnsibleActionFail."""
        asked = {"kind": "Pod", "namespace": namespace or None, "label_selectors": list(labels), "field_selectors": list(fields)}
        return list(self.ask("k8s_info", doing, "the verb list on pods", **asked)["resources"])


@contextlib.contextmanager
def _at_most(seconds: float) -> t.Iterator[None]:
    """Raise _TimedOut when the block takes longer, because the Kubernetes client has no limit of its own.

    When the block fails, end the processes that it has started.
    """

    def late(*_arguments: object) -> None:
        raise _TimedOut

    # Processes that run already, such as the guard of the helper pods, do not belong to the block.
    others, began = _exit_guard.children(os.getpid()), time.monotonic()
    # A process has only one alarm, and the task's own `timeout` may have set it. Of the two, the one due first is kept, with its handler.
    due, _interval = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.getsignal(signal.SIGALRM)
    if not 0 < due <= seconds:
        signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, min(due or seconds, seconds))
    try:
        yield
    except BaseException:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _end_children(os.getpid(), others)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, max(0, due - (time.monotonic() - began)))


def _end_children(pid: int, but: t.Container[int] = ()) -> None:
    for child in _exit_guard.children(pid):
        if child not in but:
            _end_children(child)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
