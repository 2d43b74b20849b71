# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pod of a container, read from the labels and annotations that kubelet and the runtimes give it."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

# The first of each is kubelet's label (Docker, CRI-O, containerd's metadata). The others are annotations of the OCI bundle:
# containerd's (pkg/cri/annotations) and CRI-O's (internal/annotations, which Podman uses for its own pods).
_NAMESPACE = ("io.kubernetes.pod.namespace", "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri-o.Namespace")
_NAME = ("io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.KubeName")
CONTAINER = "io.kubernetes.container.name"
_CONTAINER = (CONTAINER, "io.kubernetes.cri.container-name")
_KIND = ("io.kubernetes.docker.type", "io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType", "io.cri-containerd.kind")


def of(*found: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Return the fields pod, pod_container and sandbox of a Container, from its labels and annotations."""

    def first(keys: t.Sequence[str]) -> str | None:
        return next((each[key] for key in keys for each in found if each.get(key)), None)

    namespace, name = first(_NAMESPACE), first(_NAME)
    sandbox = first(_KIND) in ("sandbox", "podsandbox")
    return {"pod": f"{namespace}/{name}" if namespace and name else None, "pod_container": None if sandbox else first(_CONTAINER), "sandbox": sandbox}


def name(found: t.Mapping[str, t.Any]) -> str | None:
    """Return the name of a pod's container, as in the option pod: its runtime has no name for it that a person would use. None outside of pods."""
    return "/".join(filter(None, (found["pod"], found["pod_container"]))) if found["pod"] else None


def completed(containers: t.Sequence[Container]) -> list[Container]:
    """Return the containers, those of a pod with the pod's labels added: the CRI keeps these labels with the sandbox."""
    # A pod that was made again has the name of the pod before, of which an ended sandbox may still exist.
    pods = {one.pod: one.labels for one in sorted(containers, key=lambda one: one.running) if one.sandbox and one.pod}
    return [dataclasses.replace(one, labels={**pods[one.pod], **one.labels}) if one.pod in pods and not one.sandbox else one for one in containers]
