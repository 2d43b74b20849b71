# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Documentation of the options of container_capture about when a session begins, and which containers come and go meanwhile."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation fragments."""

    DOCUMENTATION = r"""
options:
  start_at:
    description:
      - The instant at which to start, the same on every host, as ISO 8601 time (UTC unless it has a zone) or seconds since the epoch.
      - If the instant is in the future, the task returns when everything is checked and the supervisor waits for the instant. If it has
        passed, the session starts at once.
      - Each host reads the instant from its own clock. The task warns if this clock differs from the controller's by more than 50 milliseconds
        (RV(nettap.containers.container_capture_info#module:captures[].clock)), for then it is not the same instant.
      - A container that stops before the instant is looked for until the instant, and after it until the session ends (unless O(on_restart=stop)).
        If it does not come back, its segments are V(failed).
    type: str
  on_restart:
    description:
      - What to do when a container stops, or one of its interfaces disappears. V(follow) waits for it, and captures from it again, in new segments,
        when it is back. V(stop) ends capturing from it.
      - With V(follow), a container that its runtime is about to start again (Docker calls it restarting) is a target too.
      - What the session waits for is in RV(nettap.containers.container_capture_info#module:captures[].waiting). It ends when nothing is left that can
        come, because the runtime knows none of the containers any more.
      - A pod is captured on while its containers restart. With V(follow), a pod that goes away is waited for until the session ends, and so is a
        container of a pod. It is captured again when this host runs one of that name, as that of a StatefulSet. If a pod is not back when
        the session ends, the session has V(failed) and says which pod went away.
    type: str
    choices: [follow, stop]
    default: follow
  new_containers:
    description:
      - What to do with containers that match O(container), O(labels) or O(pod) and are made or started while the session runs. V(follow) takes
        them in, each from its start. The session may then start with no container at all.
      - The runtimes tell of new containers. Docker is listened to on its UNIX socket, or over TCP without TLS.
      - Containers that share the host's network are not taken in, nor are those of a user's rootless Docker, unless O(docker_host) names it.
    type: str
    choices: [ignore, follow]
    default: ignore
    version_added: 0.2.0
"""
