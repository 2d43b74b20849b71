# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The target options, the same in every module that looks into containers."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of plugins/module_utils/_arguments/_target.py."""

    DOCUMENTATION = r"""
options:
  container:
    description:
      - Running containers, each by its name, its ID, the unique start of its ID, or a glob over names (V(web-*)).
      - V(*) is every running container. Globs leave out the sandboxes of pods, which share the network of the pod's containers.
      - A container of Kubernetes under containerd or CRI-O is called NAMESPACE/POD/CONTAINER, as in O(pod).
      - In one text, as from a survey, commas, semicolons, blanks and line breaks separate them.
      - Together with O(labels), both must match.
      - Of what a glob or O(labels) match, a container that its runtime cannot tell about or that cannot be entered is left out with a warning, unless
        nothing else is left.
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
      - They are found through the labels and annotations that the runtime keeps, without the Kubernetes API.
      - V(NAMESPACE/NAME) is one target for the whole pod, its sandbox, whose network namespace all containers of the pod share and
        which stays while they restart.
      - Use O(allow_missing) in a play over all nodes, of which only one runs the pod.
      - Mutually exclusive with O(container), O(pid) and O(netns).
    type: list
    elements: str
    aliases: [pods]
    version_added: 0.2.0
  pid:
    description:
      - For what no engine knows, a process in whose network namespace to look.
      - Mutually exclusive with O(container), O(labels), O(pod) and O(netns).
    type: int
  netns:
    description:
      - For what no engine knows, a network namespace, by its name (see C(ip netns list)) or path.
      - Mutually exclusive with O(container), O(labels), O(pod) and O(pid).
    type: str
  runtime:
    description:
      - The container runtime to ask. V(auto) asks every one that is found on the host.
      - With V(auto), one that does not answer is an error only if a target is not found, or if none answers. It is a warning where a glob or O(labels)
        may have matched its containers.
      - V(docker) is asked over its socket. Of the others the state on disk is read, so that neither a client nor a service of theirs is needed.
      - V(podman) is root's and that of every user who has processes. What a user's tells is read as that user, and asked last, so that
        nobody's container is taken for another of that name.
      - V(containerd) is also that of k3s, RKE2, k0s and MicroK8s, and every other that runs a container, wherever it keeps its state.
      - V(podman), V(containerd) and V(crio) were added in nettap.containers 0.2.0.
    type: str
    choices: [auto, containerd, crio, docker, podman]
    default: auto
  docker_host:
    description:
      - Address of the Docker engine. The engine must run on the host that the task runs on.
      - If it is not set, the environment variable E(DOCKER_HOST) of the task is honoured, then V(unix:///var/run/docker.sock) is used.
    type: str
  allow_missing:
    description:
      - Makes a target that matches nothing an empty result instead of an error, so that one play can run on every node of a cluster.
    type: bool
    default: false
requirements:
  - Linux 5.3 or newer and Python 3.9 or newer on the host
  - root on the host (C(become=true))
  - the Docker SDK for Python (docker 5.0.3 or newer) on the host, to look up Docker containers
  - Python's C(sqlite3) on the host, to look up containers of Podman 4.8 or newer
"""
