# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kubernetes_pods_info: it finds pods through the Kubernetes API, and the nodes and inventory hosts on which they run."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.utils.display import Display

from ansible_collections.nettap.containers.plugins.module_utils._arguments._kubernetes_pods_info import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, TargetError
from ansible_collections.nettap.containers.plugins.module_utils._system._names import lines, names
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _action, _changes, _pod_state, _pods
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked


class ActionModule(_action.KubernetesAction):
    """An action that only reads."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action. Raise AnsibleActionFail."""
        result = super().run(tmp, task_vars)
        self.task_vars = task_vars or {}
        args = checked(self, SPEC)
        try:
            if args["known_pods"] is not None:
                return {**result, "changed": False, **self._changes(args)}
            choices = self._choose(args)
            found, warnings = _pods.nodes(choices)
            if args["match_inventory"]:
                _pods.place(found, self._inventory(args["node_variable"]), args["node_variable"])
        except NettapError as error:
            raise AnsibleActionFail(str(error)) from error
        for warning in warnings:
            Display().warning(warning)
        return {**result, "changed": False, "nodes": [dataclasses.asdict(node) for node in found], "pods": _changes.described(_wanted(choices))}

    def _changes(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return what became of the known pods. That none is left is no error here."""
        now = _wanted(self._choose(args))
        return {"nodes": [], "pods": _changes.described(now), "changes": _changes.changes(args["known_pods"], now, names(args["held_pods"]))}

    def _choose(self, args: dict[str, t.Any]) -> list[_pods.Choice]:
        """Return what each name, deployment, or the label selectors have found. Raise TargetError for what can be no name."""
        containers = names(args["container"])
        if args["pod"]:
            patterns = [_pods.full_name(name, args["namespace"], "pod", 3) for name in names(args["pod"])]
            spaces = dict.fromkeys(map(_space, patterns))
            pods: list[_pod_state.Object] = [pod for space in spaces for pod in self._in_namespace(space, patterns)]
            return [
                _pods.by_name(pods, pattern, containers) if _pods.matching(pods, pattern) else _pods.missing("pod", pattern, self._nearby("Pod", pattern))
                for pattern in patterns
            ]
        if args["deployment"]:
            return [self._of_deployment(_pods.full_name(name, args["namespace"], "deployment", 2), containers) for name in names(args["deployment"])]
        if not args["label_selectors"]:
            raise TargetError(
                "It was not said which pods are meant: give pod, label_selectors or deployment (of the role pod_targets: pod_targets_pod, "
                "pod_targets_label_selectors or pod_targets_deployment)."
            )
        found, selection = self._selected(lines(args["label_selectors"]), args["namespace"])
        return [_pods.by_selection(found, selection, containers)]

    def _in_namespace(self, namespace: str, patterns: list[str]) -> list[dict[str, t.Any]]:
        """Return the pods of a namespace ("" for all). If only one is wanted, ask for that one only: a right to that pod is then enough."""
        wanted = {pattern.split("/")[1] for pattern in patterns if _space(pattern) == namespace}
        only = "".join(wanted) if len(wanted) == 1 and not _pods.is_glob("".join(wanted)) else ""
        doing = f"look up pod {namespace}/{only}" if only and namespace else f"list the pods {_where(namespace)}"
        return self.pods(doing, namespace, fields=[f"metadata.name={only}"] if only else ())

    def _of_deployment(self, pattern: str, containers: list[str]) -> _pods.Choice:
        """Return the pods of a deployment, or of all that match the glob."""
        deployments = self._deployments(pattern)
        if not deployments:
            return _pods.missing("deployment", pattern, self._nearby("Deployment", pattern))
        found = []
        for one in deployments:
            pods, selection = self._selected(_pods.selectors(one["spec"]["selector"]), one["metadata"]["namespace"])
            found.append((pods, f"{selection} (the pods of deployment {one['metadata']['name']})"))
        selection = found[0][1] if len(found) == 1 else f"the deployments {pattern}"
        return _pods.by_selection([pod for pods, _selection in found for pod in pods], selection, containers)

    def _deployments(self, pattern: str) -> list[_pod_state.Object]:
        """Return the deployment of this name, or all that match the glob."""
        if _pods.is_glob(pattern):
            return _pods.matching(self._resources("Deployment", _space(pattern)), pattern)
        namespace, name = pattern.split("/")
        asked = {"api_version": "apps/v1", "kind": "Deployment", "name": name, "namespace": namespace}
        return list(self.ask("k8s_info", f"look up deployment {pattern}", "the verb get on deployments", **asked)["resources"])

    def _selected(self, selectors: list[str], namespace: str) -> tuple[list[_pod_state.Object], str]:
        """Return the pods that match all selectors in a namespace (or those that match the glob), and words for both."""
        space = _space(namespace)
        where = _where(space) if space or namespace == "*" else f"in the namespaces {namespace}"
        pods = self.pods(f"list the pods {where}", space, selectors)
        return _pods.matching(pods, f"{namespace}/*"), f"{', '.join(selectors)} {where}"

    def _resources(self, kind: str, namespace: str) -> list[dict[str, t.Any]]:
        """Return all pods or deployments of a namespace ("" for all)."""
        plural, version = f"{kind.lower()}s", {"Pod": "v1", "Deployment": "apps/v1"}[kind]
        asked = {"api_version": version, "kind": kind, "namespace": namespace or None}
        return list(self.ask("k8s_info", f"list the {plural} {_where(namespace)}", f"the verb list on {plural}", **asked)["resources"])

    def _nearby(self, kind: str, pattern: str) -> list[dict[str, t.Any]]:
        """Return what there is instead of what a name or glob should have meant: in its namespace, else in all, as far as the account may look."""
        looking_back = self._task.args.get("known_pods") is not None  # then it is no error that is to be explained
        for namespace in () if looking_back else dict.fromkeys((_space(pattern), "")):
            with contextlib.suppress(AnsibleError):
                there = self._resources(kind, namespace)
                if there:
                    return there
        return []

    def _inventory(self, variable: str) -> dict[str, dict[str, t.Any]]:
        """Return, for every host, the variables that can name its node."""
        return {name: {key: self._value(name, key) for key in (variable, "ansible_host")} for name in self.task_vars["groups"]["all"]}

    def _value(self, host: str, variable: str) -> t.Any:
        """Return a variable of a host; None when it cannot be read, which does no harm unless the host is a wanted node."""
        with contextlib.suppress(AnsibleError):
            return self.task_vars["hostvars"][host].get(variable)
        return None


def _space(pattern: str) -> str:
    """Return the namespace of a name as the API takes it; "", which is all of them, for a glob."""
    namespace = pattern.split("/")[0]
    return "" if _pods.is_glob(namespace) else namespace


def _where(namespace: str) -> str:
    return f"in namespace {namespace}" if namespace else "in all namespaces"


def _wanted(choices: list[_pods.Choice]) -> list[_pod_state.Object]:
    """Return the chosen pods, each once."""
    return list({_pod_state.pod_name(pod): pod for choice in choices for pod, _containers in choice.pods}.values())
