# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of pods since they were looked up: which went away, which came anew elsewhere, and which others came."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes import _pod_state
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes._pod_state import Object, pod_name


def described(pods: t.Iterable[Object]) -> list[dict[str, str]]:
    """Return what changes() has to know later of each pod that runs: its name (NAMESPACE/NAME), uid and node."""
    return [{"name": pod_name(pod), "uid": str(pod["metadata"].get("uid") or ""), "node": pod["spec"]["nodeName"]} for pod in pods if _pod_state.runs(pod)]


def changes(before: t.Iterable[t.Mapping[str, str]], now: t.Iterable[Object], held: t.Container[str]) -> list[str]:
    """Return a sentence, without its full stop, for each pod that is not what it was before, or that runs and was not there before.

    before is what described() returned, now the pods that are wanted in the same way. What became of those that are `held` does not
    matter: their node has observed them, or the pod that came in their place there, to the end.
    """
    there = {pod_name(pod): pod for pod in now}
    known = {one["name"]: one for one in before}
    said = []
    for name, one in known.items():
        pod = there.get(name)
        if name in held or pod is not None and pod["metadata"].get("uid") == one["uid"]:
            continue
        if pod is None:
            said.append(f"pod {name} went away from node {one['node']}")
        elif _pod_state.runs(pod):
            node = pod["spec"]["nodeName"]
            said.append(f"pod {name} went away from node {one['node']} and runs anew on node {node}")
        else:
            said.append(f"pod {name} went away from node {one['node']} and the one in its place does not run")
    return said + [
        f"pod {name} came on node {pod['spec']['nodeName']}" for name, pod in there.items() if name not in known and _pod_state.runs(pod)
    ]  # fmt: skip
