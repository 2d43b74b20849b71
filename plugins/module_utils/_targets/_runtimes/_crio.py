# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRI-O, read from containers/storage: each container's OCI bundle, whose annotations hold the facts from the CRI, and its PID file."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _bundle, _pod
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

# Files: CONTAINERS/ID/userdata/{config.json,pidfile}. The storage driver is overlay wherever CRI-O is supported. By default (drop_infra_ctr) a pod's
# sandbox has no process and no pidfile: pinns has bound its namespace to a path, which its config.json names (CRI-O's server/sandbox_run_linux.go).
CONTAINERS = "/run/containers/storage/overlay-containers"
MANAGER, NAME = "io.container.manager", "cri-o"  # Podman keeps its containers in the same storage, as libpod
SANDBOX = "io.kubernetes.cri-o.SandboxID"
RESOLVER = "io.kubernetes.cri-o.ResolvPath"
OF_POD = ("io.kubernetes.cri-o.Namespace", "io.kubernetes.cri-o.KubeName")  # only the sandbox has these


class Crio:
    """CRI-O."""

    name = "crio"
    address = CONTAINERS

    def present(self) -> bool:
        """See Runtime."""
        return os.path.isdir(CONTAINERS)

    def containers(self) -> list[Container]:
        """See Runtime."""
        found = (self._read(name) for name in _bundle.folders(CONTAINERS, f"CRI-O's storage {CONTAINERS}"))
        return _pod.completed([container for container in found if container])

    def inspect(self, container: Container) -> Container | None:
        """See Runtime."""
        now = self._read(container.id)
        return now and dataclasses.replace(now, labels=container.labels)

    def signs(self) -> list[str]:
        """See Runtime. conmon writes the PID file when the container's namespaces are there."""
        folders = [os.path.join(CONTAINERS, name, "userdata") for name in _bundle.folders(CONTAINERS, f"CRI-O's storage {CONTAINERS}")]
        return [CONTAINERS, *(folder for folder in folders if not os.path.exists(os.path.join(folder, "pidfile")))]

    def _read(self, name: str) -> Container | None:
        bundle, pid_file = _of(name), os.path.join(CONTAINERS, name, "userdata", "pidfile")
        annotations, pid = bundle.annotations, _untrusted.pid(pid_file)
        if annotations.get(MANAGER) != NAME:
            return None
        labels = _bundle.labels(_decoded(annotations.get("io.kubernetes.cri-o.Labels")))
        identity = Identity(name, isolated=bundle.isolated, pid_file=pid_file)
        sandbox = _of(annotations.get(SANDBOX, name)).annotations
        # The last two are for containers that another than the kubelet (crictl) has made, which have none of its labels.
        pod = _pod.of(labels, annotations, {key: sandbox[key] for key in OF_POD if key in sandbox}, _named(annotations))
        bound = bundle.bound if pod["sandbox"] and not pid else None
        return Container(
            runtime=self.name,
            id=name,
            name=_pod.name(pod) or annotations.get("io.kubernetes.cri-o.Name") or name[:12],
            image=annotations.get("io.kubernetes.cri-o.ImageName") or annotations.get("io.kubernetes.cri-o.Image"),
            **pod,
            labels=labels,
            state=_bundle.state(pid, identity, bound),
            pid=pid,
            record=os.path.join(CONTAINERS, name),
            identity=identity,
            bound=bound,
            resolver=annotations.get(RESOLVER) or None if bound else None,
            handler=sandbox.get("io.kubernetes.cri-o.RuntimeHandler") or None,
        )


def _of(name: str) -> _bundle.Bundle:
    return _bundle.Bundle(os.path.join(CONTAINERS, os.path.basename(name), "userdata", "config.json"))


def _named(annotations: t.Mapping[str, str]) -> dict[str, str]:
    """Return the container's name in its pod as the label that the kubelet would have given it, from the CRI's metadata (ContainerMetadata)."""
    metadata = _decoded(annotations.get("io.kubernetes.cri-o.Metadata"))
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return {_pod.CONTAINER: name} if isinstance(name, str) else {}


def _decoded(text: str | None) -> t.Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {}
