# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a pod, as its object in the API holds it: whether it runs, what keeps it from running, and what a person can do about that."""

from __future__ import annotations

import typing as t

Object = t.Mapping[str, t.Any]  # an object of the API, as its JSON holds it

# Reasons of a waiting container for which the kubelet keeps trying, but which only a person can remedy.
_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable")
_START_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")
_WAIT = "wait until it runs, then run the play again"
# By the reason of a container, of a condition, or of the pod itself.
_REMEDIES = {
    "ErrImageNeverPull": "load the image on its node, or let the node pull it (imagePullPolicy)",
    "InvalidImageName": "correct the image's name in its spec",
    "ImageInspectError": "see what the node's runtime says of the image, or load it there anew",
    **dict.fromkeys(
        ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"),
        "see that the image's name is right, and that its node reaches the registry and may pull there (imagePullSecrets)",
    ),
    "CreateContainerConfigError": "make the ConfigMap or Secret that its spec names",
    **dict.fromkeys(("CreateContainerError", "RunContainerError"), "see what its command and its mounts need ('kubectl describe pod')"),
    "CrashLoopBackOff": "see why its container ends ('kubectl logs --previous')",
    "Unschedulable": "make room on a node that fits, or change what it asks for (requests, node selector, tolerations, volumes); then run the play again",
    "SchedulingGated": "remove its scheduling gates, or wait for whoever does",
}


def pod_name(pod: Object) -> str:
    """Return NAMESPACE/NAME of a pod."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def container_names(pod: Object) -> list[str]:
    """Return the names of all containers of a pod: those that start it (sidecars among them), its own, and those added to debug it."""
    return [one["name"] for kind in ("containers", "initContainers", "ephemeralContainers") for one in pod["spec"].get(kind) or []]


def ended_containers(pod: Object) -> set[str]:
    """Return the names of the containers that have ended for now, such as those that only prepare a pod."""
    return {one["name"] for one in _statuses(pod) if "terminated" in (one.get("state") or {})}


def runs(pod: Object) -> bool:
    """Return whether a pod runs. A pod is Pending until all its containers have started, and yet those that have started use its network."""
    status = pod.get("status") or {}
    started = any("running" in (container.get("state") or {}) for container in _statuses(pod))
    return not pod["metadata"].get("deletionTimestamp") and (status.get("phase") == "Running" or status.get("phase") == "Pending" and started)


def why_not_running(pod: Object) -> str:
    """Return half a sentence that says what keeps a pod from running; "" when it runs."""
    name = pod_name(pod)
    if runs(pod):
        return ""
    if pod["metadata"].get("deletionTimestamp"):
        return f"Pod {name} is being deleted"
    condition = _condition(pod)
    why = failure(pod) or (f"{condition.get('reason', condition['type'])}: {condition.get('message', '')}".strip(" :.") if condition else "")
    return f"Pod {name} is {_phase(pod)}" + (f" ({why})" if why else "")


def remedy(pod: Object) -> str:
    """Return half a sentence that says what a person can do about a pod that does not run."""
    if pod["metadata"].get("deletionTimestamp"):
        return "wait until another one runs in its place, then run the play again"
    if _phase(pod) == "Succeeded":
        return "it has done its work and does not run again; name a pod that runs, or start the play before the work begins"
    if _phase(pod) == "Failed":
        return "it does not run again; see why it failed ('kubectl describe pod'), and name the pod that runs in its place"
    if _phase(pod) == "Unknown":
        return "its node does not report; see that the node's kubelet runs"
    reason = (_waiting(pod) or _condition(pod) or {}).get("reason")
    return _REMEDIES.get(str(reason), _WAIT)


def failure(pod: Object) -> str:
    """Return what the kubelet says about a pod that will not run by itself any more; "" for a pod that runs or may still run."""
    waiting = _waiting(pod)
    if waiting:
        return _reason(waiting)
    return _reason(pod["status"]) if _phase(pod) in ("Failed", "Succeeded") else ""


def pull_failed(pod: Object) -> bool:
    """Return whether the failure() of a pod is about its image."""
    return failure(pod).startswith(_PULL_REASONS)


def noticed(pod: Object) -> bool:
    """Return whether a kubelet has begun to deal with a pod. (PodStatus.startTime: when the kubelet acknowledged it.)"""
    return bool((pod.get("status") or {}).get("startTime"))


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", "Unknown"))


def _statuses(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [one for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses") for one in status.get(kind) or []]


def _waiting(pod: Object) -> Object | None:
    """Return the state of the first container that waits for a person."""
    states = ((container.get("state") or {}).get("waiting") or {} for container in _statuses(pod))
    return next((state for state in states if state.get("reason") in _PULL_REASONS + _START_REASONS), None)


def _condition(pod: Object) -> Object | None:
    """Return the first condition that is not met and is not only the sum of others."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    summaries = ("ContainersNotReady", "ContainersNotInitialized")
    return next((one for one in conditions if one["status"] == "False" and one.get("reason") not in summaries), None)


def _reason(state: Object) -> str:
    reason = str(state.get("reason") or "")
    return f"{reason}: {state['message'].rstrip('.')}".removeprefix(": ") if state.get("message") else reason
