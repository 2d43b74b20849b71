# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the pods that a person wants to the nodes of the cluster on which they run, and to the hosts of the inventory that these are."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import TargetError
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _pod_state
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes._pod_state import Object, pod_name

_GLOB = "*?["


@dataclasses.dataclass(frozen=True)
class Choice:
    """What one name, glob or selection has found: pods, each with the names of the wanted containers (none: the pod as a whole).

    selection describes it in errors. If the person has named the pod, it must run; otherwise those that do not run are passed over.
    problem is the error to raise where what was named does not exist.
    """

    selection: str
    pods: t.Sequence[tuple[Object, t.Sequence[str]]] = ()
    named: bool = False
    problem: str = ""


@dataclasses.dataclass
class Node:
    """A node of the cluster: its address, the pods on it as the target option `pod` takes them, and its inventory host."""

    name: str
    address: str
    pods: list[str]
    host: str | None = None


def is_glob(text: str) -> bool:
    """Return whether a text is a glob, and no name."""
    return any(character in text for character in _GLOB)


def full_name(given: str, namespace: str, kind: str, parts: int) -> str:
    """Return NAMESPACE/NAME of a name that may lack the namespace, and has at most so many parts. Raise TargetError."""
    if not 1 <= len(given.split("/")) <= parts or not all(given.split("/")):
        forms = ("NAME", "NAMESPACE/NAME", "NAMESPACE/NAME/CONTAINER")[:parts]
        raise TargetError(f"{given!r} names no {kind}: give {', '.join(forms[:-1])} or {forms[-1]}; each part may be a glob.")
    return given if "/" in given else f"{namespace}/{given}"


def matching(objects: t.Iterable[Object], pattern: str) -> list[Object]:
    """Return the objects whose namespace and name match NAMESPACE/NAME, of which each part may be a glob. What follows the name does not matter."""
    namespace, name = pattern.split("/")[:2]
    return [
        one for one in objects
        if fnmatch.fnmatchcase(one["metadata"]["namespace"], namespace) and fnmatch.fnmatchcase(one["metadata"]["name"], name)
    ]  # fmt: skip


def missing(kind: str, pattern: str, there: t.Iterable[Object]) -> Choice:
    """Return the choice of a name or glob that nothing has. Its problem has the nearest of the names that there are."""
    wanted, known = "/".join(pattern.split("/")[:2]), sorted({pod_name(one) for one in there})
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) or known[:3]
    nearest = f" (the nearest of {len(known)}: {', '.join(near)})" if near else ""
    what = f"No {kind} matches {wanted}" if is_glob(wanted) else f"There is no {kind} {wanted}"
    return Choice(pattern, problem=f"{what}{nearest}: check its name and namespace.")


def by_name(pods: t.Sequence[Object], pattern: str, containers: t.Sequence[str]) -> Choice:
    """Return the pods that match NAMESPACE/NAME or NAMESPACE/NAME/CONTAINER. Only containers of these names are wanted, if any are given."""
    own = pattern.split("/")[2:]
    found, named = matching(pods, pattern), not is_glob("/".join(pattern.split("/")[:2]))
    pods_with = _with_containers(found, own or containers)
    problem = ""
    if named and found and not pods_with:
        has = ", ".join(_pod_state.container_names(found[0]))
        problem = f"Pod {pod_name(found[0])} has no container {' or '.join(own or containers)} (it has {has}): name one of these."
    return Choice(pattern, pods_with, named, problem)


def by_selection(pods: t.Sequence[Object], selection: str, containers: t.Sequence[str]) -> Choice:
    """Return the pods that a query has found. Only containers of these names are wanted, if any are given."""
    having = f"{selection} and has a container {' or '.join(containers)}" if containers and pods else selection
    return Choice(having, _with_containers(pods, containers))


def _with_containers(pods: t.Sequence[Object], containers: t.Sequence[str]) -> list[tuple[Object, t.Sequence[str]]]:
    """Return the pods that have one of the containers (names or globs), each with those that it has; all pods where none are given."""
    if not containers:
        return [(pod, ()) for pod in pods]
    found = [(pod, [name for name in _pod_state.container_names(pod) if any(_means(pattern, name, pod) for pattern in containers)]) for pod in pods]
    return [(pod, names) for pod, names in found if names]


def _means(pattern: str, name: str, pod: Object) -> bool:
    """Return whether a name or glob means a container of a pod. A glob does not mean one that has ended, such as those that only prepare the pod."""
    return pattern == name or is_glob(pattern) and fnmatch.fnmatchcase(name, pattern) and name not in _pod_state.ended_containers(pod)


def selectors(selector: Object) -> list[str]:
    """Return a LabelSelector of the API (matchLabels, matchExpressions) as the expressions that a query takes."""
    wanted = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, operator, values = expression["key"], expression["operator"], ",".join(expression.get("values") or [])
        wanted.append({"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}[operator])
    return wanted


def nodes(choices: t.Sequence[Choice]) -> tuple[list[Node], list[str]]:
    """Return the nodes on which the chosen pods run, and a warning for each pod that was passed over.

    A named pod must run, and at least one of the pods of each choice. Raise TargetError.
    """
    found: dict[str, Node] = {}
    warnings: list[str] = []
    for choice in choices:
        if choice.problem:
            raise TargetError(choice.problem)
        if not choice.pods:
            raise TargetError(f"No pod matches {choice.selection}: check the selection and the namespace.")
        idle = [pod for pod, _containers in choice.pods if not _pod_state.runs(pod)]
        if idle and choice.named:
            raise TargetError(f"{_pod_state.why_not_running(idle[0])}: {_pod_state.remedy(idle[0])}.")
        if len(idle) == len(choice.pods):
            raise TargetError(f"None of the pods that match {choice.selection} runs: {_pod_state.why_not_running(idle[0])}; {_pod_state.remedy(idle[0])}.")
        warnings += [f"{_pod_state.why_not_running(pod)}: it is passed over." for pod in idle]
        for pod, containers in choice.pods:
            if _pod_state.runs(pod):
                name = pod["spec"]["nodeName"]
                node = found.setdefault(name, Node(name, pod["status"].get("hostIP") or "", []))
                node.pods += [f"{pod_name(pod)}/{container}" for container in containers] or [pod_name(pod)]
    for node in found.values():
        node.pods = list(dict.fromkeys(node.pods))
    return list(found.values()), list(dict.fromkeys(warnings))


def place(found: t.Sequence[Node], hosts: t.Mapping[str, t.Mapping[str, t.Any]], variable: str) -> None:
    """Set the inventory host of each node: the host whose `variable` names the node, else the host of its name, else the host with its address.

    hosts maps each host of the inventory to its variables. Raise TargetError.
    """
    for node in found:
        ways: list[t.Callable[[str, t.Mapping[str, t.Any]], bool]] = [
            lambda _name, values: values.get(variable) == node.name,
            lambda name, _values: name == node.name,
            lambda name, values: bool(node.address) and node.address in (name, values.get("ansible_host")),
        ]
        for matches in ways:
            candidates = [name for name, values in hosts.items() if matches(name, values)]
            if len(candidates) > 1:
                raise TargetError(
                    f"Node {node.name} may be any of the inventory's {', '.join(candidates)}: set the variable {variable} to {node.name} on the right one."
                )
            if candidates:
                node.host = candidates[0]
                break
        else:
            raise TargetError(
                f"Node {node.name} ({node.address or 'address unknown'}), where {', '.join(node.pods)} runs, is not in the inventory: add a host of "
                f"that name or address, or set the variable {variable} to {node.name} on the host that it is."
            )
