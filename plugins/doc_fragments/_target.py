# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The options that select the targets, the same in every module that looks into containers."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of plugins/module_utils/_arguments/_target.py."""

    DOCUMENTATION = r"""
options:
  container:
    description:
      - Running containers, each by its name, its ID, the unique start of its ID, or a glob over names (V(web-*)).
      - V(*) means every running container. Globs do not match the sandboxes of pods, which share the network of the pod's containers.
      - The name of a Kubernetes container under containerd or CRI-O is NAMESPACE/POD/CONTAINER, as in O(pod).
      - In one text, as from a survey, commas, semicolons, blanks and line breaks separate the names.
      - If O(labels) is given too, both must match.
      - If a glob or O(labels) match a container that its runtime cannot describe or that cannot be entered, the module skips it with a warning, unless
        it is the only one.
    type: list
    elements: str
    aliases: [containers]
  labels:
    description:
      - Labels that a container must have, all of them, with these values.
      - The containers of a pod have the pod's labels too.
    type: dict
  pod:
    description:
      - Pods of Kubernetes that run on the host, each as NAMESPACE/NAME or NAMESPACE/NAME/CONTAINER; each part may be a glob (V(default/web-*)).
      - One text is split as that of O(container).
      - The module finds them through the labels and annotations that the runtime keeps, without the Kubernetes API.
      - V(NAMESPACE/NAME) is one target for the whole pod, its sandbox. All containers of the pod share the sandbox's network namespace, and the sandbox
        stays while they restart.
      - Use O(allow_missing) in a play over all nodes, of which only one runs the pod.
      - Mutually exclusive with O(container), O(pid) and O(netns).
    type: list
    elements: str
    aliases: [pods]
    version_added: 0.2.0
  pid:
    description:
      - For a target that no runtime knows, the PID of a process in its network namespace.
      - Mutually exclusive with O(container), O(labels), O(pod) and O(netns).
    type: int
  netns:
    description:
      - For a target that no runtime knows, its network namespace, by name (see C(ip netns list)) or path.
      - Mutually exclusive with O(container), O(labels), O(pod) and O(pid).
    type: str
  runtime:
    description:
      - The container runtime to ask. V(auto) asks every one that is found on the host.
      - With V(auto), a runtime that does not answer is an error only if a target is not found, or if no runtime answers. It is a warning where a glob
        or O(labels) may have matched its containers.
      - V(docker) is asked over its socket. For the others the module reads the state on disk, so it needs neither their client nor their service.
      - V(podman) means root's Podman and that of every user who has processes. A user's Podman is read as that user, and asked last, so that
        the module does not take a user's container for another one of that name.
      - V(containerd) includes the containerd of k3s, RKE2, k0s and MicroK8s, and any other that runs a container, wherever it keeps its state.
      - V(docker) includes the rootless Docker of every user whose socket is C(/run/user/UID/docker.sock), unless O(docker_host) is given. It is asked as
        that user.
      - V(lxc) means the containers in C(/var/lib/lxc), and those of other folders and users while they run. V(incus) means those of Incus and LXD, which
        call a container of a project other than C(default) PROJECT/NAME.
      - V(nspawn) means the containers that C(systemd-machined) has registered, and those of any other C(systemd-nspawn) of root's, by the name or folder
        that it was given.
      - V(podman), V(containerd), V(crio), V(lxc), V(incus) and V(nspawn) were added in nettap.containers 0.2.0.
    type: str
    choices: [auto, containerd, crio, docker, incus, lxc, nspawn, podman]
    default: auto
  docker_host:
    description:
      - Address of the Docker daemon. The daemon must run on the host that the task runs on. It may run in a container there (Docker in Docker, kind).
      - If it is not set, the environment variable E(DOCKER_HOST) of the task is used, or if that is not set either, V(unix:///var/run/docker.sock).
    type: str
  allow_missing:
    description:
      - Whether target options that match nothing give an empty result instead of an error, so that one play can run on every node of a cluster.
    type: bool
    default: false
requirements:
  - Linux 5.3 or newer and Python 3.9 or newer on the host
  - root on the host (C(become=true))
  - the Docker SDK for Python (docker 5.0.3 or newer) on the host, to look up Docker containers
  - Python's C(sqlite3) on the host, to look up containers of Podman 4.8 or newer
"""
