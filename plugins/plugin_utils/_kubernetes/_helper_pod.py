# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helper pods: their manifest, and the run of Ansible to which they belong."""

from __future__ import annotations

import os
import shlex
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._system._names import names
from ansible_collections.nettap.containers.plugins.plugin_utils._kubernetes._pod_state import Object

LABEL_MANAGED = "app.kubernetes.io/managed-by"
MANAGER = "nettap.containers"
LABEL_RUN = "nettap.containers/run"
ANNOTATION_OWNER = "nettap.containers/owner"
CONTAINER = "helper"


def manifest(name: str, namespace: str, node: str, run: str, owner: str, options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the manifest of a pod. options: image, deadline (seconds), image_pull_policy, image_pull_secrets (names), service_account.

    The pod is privileged and in the host's network and PID namespaces. So it sees as much of containers as root on the node: their
    processes, cgroups, namespaces and veth peers. /run has the sockets and the state of the runtimes. What they keep elsewhere, and the
    namespaces that they bind to paths later, are reached by /proc/1/root (_system/_host_files.py). systemd is hidden from the pod: a
    supervisor that moved into a scope of the node would outlive the pod.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "nettap-helper", LABEL_MANAGED: MANAGER, LABEL_RUN: run},
            "annotations": {ANNOTATION_OWNER: owner},
        },
        "spec": {
            # nodeName bypasses the scheduler: the pod must run on this node, even if it is cordoned or tainted.
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "hostPID": True,
            "hostNetwork": True,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": options["deadline"],
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **({"serviceAccountName": options["service_account"]} if options.get("service_account") else {}),
            **({"imagePullSecrets": [{"name": secret} for secret in names(options["image_pull_secrets"])]} if options.get("image_pull_secrets") else {}),
            "containers": [
                {
                    "name": CONTAINER,
                    "image": options["image"],
                    "imagePullPolicy": options["image_pull_policy"],
                    "command": ["sleep", str(options["deadline"])],
                    "securityContext": {"privileged": True, "runAsUser": 0},
                    "volumeMounts": [
                        {"name": "run", "mountPath": "/run"},
                        {"name": "no-systemd", "mountPath": "/run/systemd"},
                        {"name": "captures", "mountPath": "/var/lib/nettap"},
                    ],
                }
            ],
            "volumes": [
                {"name": "run", "hostPath": {"path": "/run", "type": "Directory"}},
                {"name": "no-systemd", "emptyDir": {}},
                {"name": "captures", "emptyDir": {}},
            ],
        },
    }


def on_node(command: str) -> str:
    """Return the shell command that runs a shell command on the node itself, from within its helper pod.

    It enters the namespaces of the node's first process, and leaves the pod's cgroups for the node's own (of version 2, or of each
    controller): when the pod ends, the kubelet ends what is in its cgroups, and what was started on the node must go on.
    """
    leave = "all=/sys/fs/cgroup/cgroup.procs; [ -e $all ] || all='/sys/fs/cgroup/*/cgroup.procs'; for one in $all; do echo $$ >$one; done 2>/dev/null; "
    return f"nsenter --target 1 --mount --uts --ipc --net -- /bin/sh -c {shlex.quote(leave + command)}"


def owner(pid: int) -> str:
    """Return a text that distinguishes the process `pid` from every other, also on other machines: boot, PID namespace, PID and start time."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        boot = stream.read().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')} {pid} {_start_time(pid)}"


def orphaned(pod: Object) -> bool:
    """Return whether no run needs a helper pod any more: the pod has ended, or the run that made it has, as far as this machine can see.

    A run on another machine cannot be seen: its pods end at their deadline.
    """
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return True
    made_by: list[str] = (pod["metadata"].get("annotations") or {}).get(ANNOTATION_OWNER, "").split()
    if len(made_by) != 4 or not made_by[2].isdigit():
        return False
    here = owner(os.getpid()).split()
    return here[:2] == made_by[:2] and _start_time(int(made_by[2])) != made_by[3]


def _start_time(pid: int) -> str:
    """Return the clock ticks from boot to the start of a process, see proc(5); "" when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""
