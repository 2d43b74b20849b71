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
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system._names import lines, names
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _action, _pods
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked


class ActionModule(_action.KubernetesAction):
    """An action that only reads."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action. Raise AnsibleActionFail."""
        result = super().run(tmp, task_vars)
        self.task_vars = task_vars or {}
        args = checked(self, SPEC)
        try:
            found, warnings = self._find(args)
            if args["match_inventory"]:
                _pods.place(found, self._inventory(args["node_variable"]), args["node_variable"])
        except NettapError as error:
            raise AnsibleActionFail(str(error)) from error
        for warning in warnings:
            Display().warning(warning)
        return {**result, "changed": False, "nodes": [dataclasses.asdict(node) for node in found]}

    def _find(self, args: dict[str, t.Any]) -> tuple[list[_pods.Node], list[str]]:
        namespace = "" if args["namespace"] == "*" else args["namespace"]
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        if args["pod"]:
            wanted = [name if "/" in name else f"{namespace or 'default'}/{name}" for name in names(args["pod"])]
            pods = [pod for space in dict.fromkeys(name.split("/")[0] for name in wanted) for pod in self._named(space, wanted)]
            return _pods.nodes(pods, _pods.Wanted(names=wanted))
        labels = lines(args["label_selectors"]) or self._selectors(args["deployment"], namespace)
        selection = f"{', '.join(labels)} {where}" + (f" (the pods of deployment {args['deployment']})" if args["deployment"] else "")
        pods = self.pods(f"list the pods {where}", namespace, labels)
        return _pods.nodes(pods, _pods.Wanted(containers=names(args["container"]), selection=selection))

    def _named(self, namespace: str, names: list[str]) -> list[dict[str, t.Any]]:
        """Return the pods of a namespace. If only one is wanted, ask for that one only: a right to that pod is then enough."""
        wanted = {name.split("/")[1] for name in names if name.split("/")[0] == namespace}
        [only] = wanted if len(wanted) == 1 else [""]
        doing = f"look up pod {namespace}/{only}" if only else f"list the pods in namespace {namespace}"
        return self.pods(doing, namespace, fields=[f"metadata.name={only}"] if only else ())

    def _selectors(self, deployment: str, namespace: str) -> list[str]:
        if not namespace:
            raise AnsibleActionFail(f"Deployment {deployment} needs its namespace: give one instead of all.")
        doing, right = f"look up deployment {namespace}/{deployment}", "the verb get on deployments"
        found = self.ask("k8s_info", doing, right, api_version="apps/v1", kind="Deployment", name=deployment, namespace=namespace)["resources"]
        if not found:
            raise AnsibleActionFail(f"There is no deployment {deployment} in namespace {namespace}: check its name and the namespace.")
        return _pods.selectors(found[0]["spec"]["selector"])

    def _inventory(self, variable: str) -> dict[str, dict[str, t.Any]]:
        """Return, for every host, the variables that can name its node."""
        return {name: {key: self._value(name, key) for key in (variable, "ansible_host")} for name in self.task_vars["groups"]["all"]}

    def _value(self, host: str, variable: str) -> t.Any:
        """Return a variable of a host; None when it cannot be read, which does no harm unless the host is a wanted node."""
        with contextlib.suppress(AnsibleError):
            return self.task_vars["hostvars"][host].get(variable)
        return None
