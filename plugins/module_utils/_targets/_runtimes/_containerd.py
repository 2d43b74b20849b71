# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd, plain and under Kubernetes, read from its state on disk: OCI bundles from its tasks, labels and images from its metadata."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system import _host_files, _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _bolt, _bundle, _pod
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

CONFIGURATION = "/etc/containerd/config.toml"
STATE, ROOT = "/run/containerd", "/var/lib/containerd"  # unless the configuration has others
# State folder, and root folders of those who share it: k3s's and RKE2's, k0s's, MicroK8s's.
PLACES = {
    "/run/k0s/containerd": ["/var/lib/k0s/containerd"],
    "/run/k3s/containerd": ["/var/lib/rancher/k3s/agent/containerd", "/var/lib/rancher/rke2/agent/containerd"],
    "/var/snap/microk8s/common/run/containerd": ["/var/snap/microk8s/common/var/lib/containerd"],
}
TASKS = "io.containerd.runtime.v2.task"  # STATE/TASKS/NAMESPACE/ID: the bundle, with init.pid
METADATA = "io.containerd.metadata.v1.bolt/meta.db"  # in the root folder; its buckets: containerd's metadata/buckets.go
FOREIGN = ("moby", "plugins.moby")  # Docker's containers, which the runtime docker returns
_SETTING = re.compile(r"^(root|state)\s*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)  # containerd-config.toml(5)

# The working folder of a container's shim is its bundle, in which the link work leads to the same place below the root folder: containerd's
# core/runtime/v2/bundle.go and binary.go.
_SHIM = b"containerd-shim"
_BUNDLE = re.compile(rf"(/.*)/{re.escape(TASKS)}/([^/]+)/[^/]+")

Key = tuple[str, str]  # namespace of containerd, ID


@dataclasses.dataclass(frozen=True)
class Stored:
    """The metadata of a container: its image, its labels, and its OCI runtime, as io.containerd.runc.v2."""

    image: str | None = None
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    handler: str | None = None


class Containerd:
    """Every containerd of the host."""

    name = "containerd"
    address = STATE

    def __init__(self) -> None:
        self._places = _places()
        self._bundles: dict[str, tuple[str, str]] = {}  # ID as we give it, to the folder of the bundle and containerd's own ID

    def present(self) -> bool:
        """See Runtime."""
        return any(os.path.isdir(os.path.join(state, TASKS)) for state in self._places)

    def containers(self) -> list[Container]:
        """See Runtime. A container without a task is in the metadata only."""
        known: dict[tuple[str, str, str], Stored] = {}  # by state folder, namespace and ID
        for state, roots in self._places.items():
            tasks = os.path.join(state, TASKS)
            running = [
                (namespace, name) for namespace in _bundle.folders(tasks, f"containerd at {state}") if namespace not in FOREIGN
                for name in _bundle.folders(os.path.join(tasks, namespace), f"containerd at {state}")
            ]
            stored: dict[Key, Stored] = {}
            for root in roots if os.path.isdir(tasks) else []:
                stored.update(_stored(os.path.join(root, METADATA)))
            known.update(((state, *key), stored.get(key, Stored())) for key in [*running, *stored])
        # An ID is unique only within one namespace of one containerd.
        names = collections.Counter(name for _state, _namespace, name in known)
        pairs = collections.Counter((namespace, name) for _state, namespace, name in known)
        found = []
        for (state, namespace, name), facts in known.items():
            unique = name if names[name] == 1 else f"{namespace}/{name}" if pairs[namespace, name] == 1 else f"{state}/{namespace}/{name}"
            self._bundles[unique] = (os.path.join(state, TASKS, namespace, name), name)
            found.append(self._read(unique, facts))
        return _pod.completed(found)

    def inspect(self, container: Container) -> Container | None:
        """See Runtime."""
        now = self._read(container.id, Stored(container.image, container.labels, container.handler))
        return dataclasses.replace(container, state=now.state, pid=now.pid, identity=now.identity, bound=now.bound)

    def signs(self) -> list[str]:
        """See Runtime. containerd's shim writes the PID file when the container's namespaces are there."""
        tasks = [os.path.join(state, TASKS) for state in self._places]
        spaces = [os.path.join(folder, namespace) for folder in tasks for namespace in _bundle.folders(folder, folder) if namespace not in FOREIGN]
        bundles = [os.path.join(folder, name) for folder in spaces for name in _bundle.folders(folder, folder)]
        return [*tasks, *spaces, *(folder for folder in bundles if not os.path.exists(os.path.join(folder, "init.pid")))]

    def _read(self, unique: str, stored: Stored) -> Container:
        folder, name = self._bundles[unique]
        bundle, pid_file = _bundle.Bundle(os.path.join(folder, "config.json")), os.path.join(folder, "init.pid")
        annotations, pid, labels = bundle.annotations, _untrusted.pid(pid_file), stored.labels
        identity = Identity(name, isolated=bundle.isolated, pid_file=pid_file)
        pod = _pod.of(labels, annotations)
        # Kata's pods have a virtual machine, and no process of the sandbox; the CRI plugin binds the namespace of every pod to a path.
        bound = bundle.bound if pod["sandbox"] and not pid else None
        return Container(
            runtime=self.name,
            id=unique,
            name=_pod.name(pod) or labels.get("nerdctl/name") or unique,
            image=stored.image or annotations.get("io.kubernetes.cri.image-name"),
            **pod,
            labels=labels,
            state=_bundle.state(pid, identity, bound),
            pid=pid,
            identity=identity,
            bound=bound,
            handler=stored.handler or _shim(folder),
        )


def _shim(folder: str) -> str | None:
    """Return the program of the shim that runs a task, which containerd 1.6 and newer write into the bundle; None where there is none."""
    with contextlib.suppress(OSError):
        return os.path.basename(_untrusted.content(os.path.join(folder, "shim-binary-path")).decode(errors="replace").strip()) or None
    return None


def _places() -> dict[str, list[str]]:
    """Return the state folders, each with the root folders that belong to it, as we reach them."""
    own = {"state": STATE, "root": ROOT}
    with contextlib.suppress(OSError):
        own.update(_SETTING.findall(_untrusted.content(_host_files.path(CONFIGURATION)).decode(errors="replace").split("\n[")[0]))
    places = {own["state"]: [own["root"]], **PLACES}
    for state, root in _of_shims():
        roots = places.setdefault(state, [])
        if root not in roots:
            places[state] = [*roots, root]
    return {_host_files.path(state): list(map(_host_files.path, roots)) for state, roots in places.items()}


def _of_shims() -> set[tuple[str, str]]:
    """State and root folder of every containerd that runs a container, wherever it keeps them.

    Only a process of root's in the host's mount namespace is believed: any other can have any name and any working folder.
    """
    found = set()
    here = os.readlink(f"/proc/{1 if _host_files.apart() else 'self'}/ns/mnt")
    for process in (f"/proc/{pid}" for pid in os.listdir("/proc") if pid.isdigit()):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
            if os.stat(process).st_uid or not _name(process).startswith(_SHIM) or os.readlink(f"{process}/ns/mnt") != here:
                continue
            bundle = _BUNDLE.fullmatch(os.readlink(f"{process}/cwd"))
            if bundle and bundle[2] not in FOREIGN:
                work = _BUNDLE.fullmatch(os.readlink(os.path.join(_host_files.path(bundle[0]), "work")))
                found.add((bundle[1], work[1] if work else ROOT))
    return found


def _name(process: str) -> bytes:
    """Return the name of a process, at most 15 bytes. There may be thousands: an io object for each would double the time."""
    fd = os.open(f"{process}/comm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 16)
    finally:
        os.close(fd)


def _stored(path: str) -> dict[Key, Stored]:
    """Return the facts about each container in containerd's metadata. Raise EngineError."""
    if not os.path.exists(path):
        return {}

    def choose(root: _bolt.Bucket) -> _bolt.Tree:
        version = root.bucket("v1")
        namespaces = [(name, one) for name, one in version.items() if isinstance(one, _bolt.Bucket)] if version else []
        containers = [(name, one.bucket("containers")) for name, one in namespaces if name.decode() not in FOREIGN]
        return {name: one.tree() for name, one in containers if one}

    return {
        (namespace.decode(), name.decode()): Stored(
            values.get(b"image", b"").decode() or None,
            {key.decode(): value.decode(errors="replace") for key, value in values.get(b"labels", {}).items()},
            values.get(b"runtime", {}).get(b"name", b"").decode(errors="replace") or None,
        )
        for namespace, containers in _bolt.read(path, choose).items() for name, values in containers.items()
    }
