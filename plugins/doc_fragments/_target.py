# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The target options, the same in every module that looks into containers."""

from __future__ import annotations


class ModuleDocFragment:
    """Kept in step with plugins/module_utils/_target.py."""

    DOCUMENTATION = r"""
options:
  container:
    description:
      - Running containers, each by its name, its ID, the unique start of its ID, or a glob over names (V(web-*)).
      - V(*) is every running container.
      - Together with O(labels), both must match.
    type: list
    elements: str
    aliases: [containers]
  labels:
    description:
      - Labels that a container must have, all of them, with these values.
    type: dict
  pod:
    description:
      - Pods of Kubernetes that run on the host, each as NAMESPACE/NAME or NAMESPACE/NAME/CONTAINER.
    type: list
    elements: str
    aliases: [pods]
    version_added: 0.2.0
  pid:
    description:
      - For what no engine knows, a process in whose network namespace to look.
      - Mutually exclusive with O(container), O(labels) and O(netns).
    type: int
  netns:
    description:
      - For what no engine knows, a network namespace, by its name (see C(ip netns list)) or path.
      - Mutually exclusive with O(container), O(labels) and O(pid).
    type: str
  runtime:
    description:
      - The container runtime to ask. V(auto) asks every one that is found on the host.
    type: str
    choices: [auto, docker]
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
"""
