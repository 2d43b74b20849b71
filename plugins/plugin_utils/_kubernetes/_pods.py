# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts from Kubernetes objects: why a pod cannot be captured, on which host it runs, and what an API error means."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import TargetError

Object = t.Mapping[str, t.Any]  # an object of the API, as its JSON holds it

# Reasons of a waiting container for which the kubelet keeps trying, but which only a person can remedy.
_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable")
_START_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")
# Messages of urllib3 and the kernel for an API that does not answer.
_UNREACHABLE = re.compile(
    r"Max retries exceeded|NewConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|Connection refused|Connection aborted|No route to host",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The wanted pods: named ones (NAMESPACE/NAME or NAMESPACE/NAME/CONTAINER), or all that a selection has found.

    containers narrows a selection to the containers of these names. selection describes it in errors.
    """

    names: t.Sequence[str] = ()
    containers: t.Sequence[str] = ()
    selection: str = ""


@dataclasses.dataclass
class Node:
    """A node of the cluster: its address, the pods on it as the target option `pod` takes them, and its inventory host."""

    name: str
    address: str
    pods: list[str]
    host: str | None = None


def pod_name(pod: Object) -> str:
    """Return NAMESPACE/NAME of a pod."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def selectors(selector: Object) -> list[str]:
    """Return a LabelSelector of the API (matchLabels, matchExpressions) as the expressions that a query takes."""
    wanted = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, operator, values = expression["key"], expression["operator"], ",".join(expression.get("values") or [])
        wanted.append({"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}[operator])
    return wanted


def nodes(pods: t.Sequence[Object], wanted: Wanted) -> tuple[list[Node], list[str]]:
    """Return the nodes on which the wanted pods run, and a warning for each pod that was passed over.

    A named pod must run. Of the pods that a selection finds, at least one must run. Raise TargetError.
    """
    chosen = _named(pods, wanted) if wanted.names else [(pod, container) for pod in pods for container in _containers(pod, wanted)]
    if not chosen:
        container = f" and has a container {' or '.join(wanted.containers)}" if wanted.containers and pods else ""
        raise TargetError(f"No pod matches {wanted.selection}{container}: check the selection and the namespace.")
    found: dict[str, Node] = {}
    warnings: list[str] = []
    for pod, container in chosen:
        problem = why_not_running(pod)
        if problem and wanted.names:
            raise TargetError(f"{problem}: wait until it runs, then run the play again.")
        if problem:
            warnings.append(f"{problem}: it is passed over.")
            continue
        name = pod["spec"]["nodeName"]
        node = found.setdefault(name, Node(name, pod["status"].get("hostIP") or "", []))
        target = f"{pod_name(pod)}/{container}" if container else pod_name(pod)
        if target not in node.pods:
            node.pods.append(target)
    if not found:
        why = warnings[0].rpartition(":")[0]
        raise TargetError(f"None of the pods that match {wanted.selection} runs: {why}; wait until one does, then run the play again.")
    return list(found.values()), list(dict.fromkeys(warnings))


def _named(pods: t.Sequence[Object], wanted: Wanted) -> list[tuple[Object, str]]:
    by_name = {pod_name(pod): pod for pod in pods}
    chosen = []
    for name in wanted.names:
        namespace, pod_part, container = [*name.split("/"), ""][:3]
        pod = by_name.get(f"{namespace}/{pod_part}")
        if pod is None:
            near = difflib.get_close_matches(f"{namespace}/{pod_part}", by_name, n=3, cutoff=0.5)
            nearest = f" (the nearest: {', '.join(near)})" if near else ""
            raise TargetError(f"There is no pod {namespace}/{pod_part}{nearest}: check its name and namespace.")
        known = [item["name"] for item in pod["spec"]["containers"]]
        if container and container not in known:
            raise TargetError(f"Pod {namespace}/{pod_part} has no container {container} (it has {', '.join(known)}): name one of these.")
        chosen.append((pod, container))
    return chosen


def _containers(pod: Object, wanted: Wanted) -> list[str]:
    if not wanted.containers:
        return [""]
    return [item["name"] for item in pod["spec"]["containers"] if item["name"] in wanted.containers]


def why_not_running(pod: Object) -> str:
    """Return half a sentence that says what keeps a pod from running; "" when it runs."""
    phase, name = (pod.get("status") or {}).get("phase", "Unknown"), pod_name(pod)
    if pod["metadata"].get("deletionTimestamp"):
        return f"Pod {name} is being deleted"
    if phase == "Running":
        return ""
    why = failure(pod) or next(
        (
            f"{condition.get('reason', condition['type'])}: {condition.get('message', '')}".strip(" :.")
            for condition in pod["status"].get("conditions") or []
            if condition["status"] == "False" and condition.get("reason") != "ContainersNotReady"
        ),
        "",
    )
    return f"Pod {name} is {phase}" + (f" ({why})" if why else "")


def failure(pod: Object) -> str:
    """Return what the kubelet says about a pod that will not run by itself any more; "" for a pod that runs or may still run."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _PULL_REASONS + _START_REASONS:
            return _reason(waiting)
    return _reason(status) if status.get("phase") in ("Failed", "Succeeded") else ""


def pull_failed(pod: Object) -> bool:
    """Return whether the failure() of a pod is about its image."""
    return failure(pod).startswith(_PULL_REASONS)


def _reason(state: Object) -> str:
    reason = state.get("reason") or state.get("phase") or ""
    return f"{reason}: {state['message'].rstrip('.')}" if state.get("message") else reason


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


def explain(result: t.Mapping[str, t.Any], doing: str, right: str) -> str:
    """Return one sentence that explains the failed result of a kubernetes.core module.

    `doing` is what the module was to do, `right` the right that this needs.
    """
    text = " ".join(str(result.get(key) or "") for key in ("msg", "exception", "module_stderr"))
    said = _status_message(text)
    if "Reason: Forbidden" in text or "is forbidden:" in text or "(403)" in text:
        return f"The Kubernetes API forbids this account to {doing}" + (f" ({said})" if said else "") + f": grant it {right}, see docs/kubernetes.md."
    if "Unauthorized" in text or "(401)" in text:
        return f"The Kubernetes API does not accept these credentials, so it cannot be asked to {doing}: log in anew, or check kubeconfig and K8S_AUTH_*."
    if _UNREACHABLE.search(text):
        at = re.search(r"host='?([^',)]+)'?, port=(\d+)", text)
        return (
            f"The Kubernetes API{f' at {at[1]}:{at[2]}' if at else ''} cannot be reached, so it cannot be asked to {doing}: "
            "check that it runs, the network to it, and kubeconfig and context."
        )
    if "kube-config" in text or "ConfigException" in text or "Could not create API client" in text:
        return f"No usable kubeconfig was found, so Kubernetes cannot be asked to {doing}: give kubeconfig and context, or set K8S_AUTH_KUBECONFIG."
    return f"Kubernetes could not be asked to {doing}: {said or ' '.join(str(result.get('msg')).split())[:300].rstrip('.')}."


def _status_message(text: str) -> str:
    """Return the message of the API's Status object inside an error text; "" when there is none."""
    for start in (match.start() for match in re.finditer(r'\{\\?"', text)):
        # The client prints the object as Python prints bytes or text.
        for candidate in (text[start:], text[start:].replace('\\"', '"').replace("\\\\", "\\")):
            try:
                status, _end = json.JSONDecoder().raw_decode(candidate)
            except ValueError:
                continue
            if isinstance(status, dict) and status.get("kind") == "Status":
                return str(status.get("message") or "").rstrip(".")
    return ""
