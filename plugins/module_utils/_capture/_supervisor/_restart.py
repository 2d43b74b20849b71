# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that stop and start: the session waits for the start of a container, and opens its new namespace."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._pods import Pods
from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _inotify, _netns, _process
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp

SOON, SELDOM = 0.05, 1.0  # seconds between looks at a container whose processes are on their way in or out, at first and at last
MOST_RETURNS = 100  # a container that crashes in a loop must not fill the disk with segments
BOUND_INTERVAL = 0.5  # seconds between looks whether a namespace is still bound: the mounts of another mount namespace send no event
# The processes with which runc makes the network namespace of a container. They end when its first process, runc:[2:INIT], is there.
_ON_THE_WAY = ("runc:[0:PARENT]", "runc:[1:CHILD]")


class Restarts:
    """The containers of a session, watched for their end and their start.

    gone is called when a container has ended, returned when it runs, with its new namespace open. active returns whether starts are waited for.
    """

    def __init__(self, loop: Loop, follow: bool, gone: t.Callable[[Watched], None], returned: t.Callable[[Watched], None],
                 active: t.Callable[[], bool]) -> None:
        self._loop = loop
        self._follow = follow
        self._tell_gone = gone
        self._tell_returned = returned
        self._active = active
        self._away: list[Watched] = []
        self._paths: _inotify.Paths | None = None
        self._pods = Pods(loop, self._found_again, active)
        self._timers: set[str] = set()  # IDs of the containers that are looked at again without an event

    def watch(self, container: Watched) -> None:
        """Wait for the end of a container's first process, or for the start of a container that does not run."""
        if container.pidfd is not None:
            self._loop.watch(container.pidfd, lambda: self._gone(container))
        elif container.fd < 0:
            self._expect(container)
        elif container.bound:
            self._watch_bound(container)

    def _watch_bound(self, container: Watched) -> None:
        """Wait until the namespace of a pod without a process is not bound any more."""
        if container.lost():
            self._gone(container)
        else:
            self._loop.after(BOUND_INTERVAL, lambda: self._watch_bound(container))

    def _gone(self, container: Watched) -> None:
        if container.pidfd is not None:
            self._loop.forget(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = None
        comes = container.pod or not container.final and container.signs()
        if self._follow and comes and container.returns < MOST_RETURNS and self._active():
            container.away, container.gone_since = True, timestamp(time.time())
        self._tell_gone(container)
        if container.away:
            self._expect(container)

    def _expect(self, container: Watched) -> None:
        container.away, container.seen = True, None
        if container.pod:  # what the kubelet makes has its name, and another ID
            self._pods.look_for(container)
            return
        self._away.append(container)
        self._look(container)

    def _found_again(self, container: Watched, _namespace: _netns.Namespace) -> None:
        container.away = False
        self.watch(container)
        self._tell_returned(container)

    def _arm(self) -> None:
        """Watch the signs of all containers that are away."""
        if self._paths is None:
            if not self._away:
                return
            self._paths = _inotify.Paths()
            self._loop.watch(self._paths.fd, self._heed)
        self._paths.watch(path for container in self._away for path in container.signs())

    def _heed(self) -> None:
        for container in list(self._away):
            self._look(container)
        if not self._away:
            self._watch_signs()

    def _watch_signs(self) -> bool:
        """Return whether the kernel tells of the signs. It may have no more watches to give."""
        try:
            self._arm()
        except NettapError:
            return False
        return True

    def _look(self, container: Watched, pause: float = SOON) -> None:
        """Look whether a container runs now or is gone for good. Else the kernel tells when its signs change."""
        if not self._active() or not container.away:
            return
        told = self._watch_signs()  # before the look: what comes after it is told
        namespace = self._found(container)
        if namespace is not None and self._is_old(container, namespace):
            namespace.close()
        elif namespace is not None:
            self._open(container, namespace)
            return
        elif container.forgotten():
            container.away = False
            self._away.remove(container)
            self._tell_gone(container)
            return
        # A process that enters or leaves a namespace sends no event.
        if (not told or container.processes()) and container.id not in self._timers:
            self._timers.add(container.id)
            self._loop.after(pause, lambda: self._look_again(container, min(2 * pause, SELDOM)))

    def _look_again(self, container: Watched, pause: float) -> None:
        self._timers.discard(container.id)
        self._look(container, pause)

    @staticmethod
    def _is_old(container: Watched, namespace: _netns.Namespace) -> bool:
        """Return whether a process may be one of before that is still ending. It is in the namespace that we hold, as the next start of a
        container that shares another's: then the process counts when the next look finds it again."""
        seen, container.seen = container.seen, namespace.pid
        return container.fd >= 0 and namespace.inode == os.fstat(container.fd).st_ino and namespace.pid != seen

    @staticmethod
    def _found(container: Watched) -> _netns.Namespace | None:
        for pid in container.processes():
            with contextlib.suppress(NamespaceError):
                namespace = _netns.open_process(pid, container.identity)
                # Else it is a process of the runtime that is still on its way in.
                if namespace.host == container.host and _process.name(pid) not in _ON_THE_WAY:
                    return namespace
                namespace.close()
        return None

    def _open(self, container: Watched, namespace: _netns.Namespace) -> None:
        if container.fd >= 0:
            os.close(container.fd)
        container.fd, container.pidfd = namespace.fd, namespace.pidfd
        if container.cgroup is None and container.identity is not None:
            container.cgroup = _cgroup.directory(namespace.cgroups, container.identity.id)
        container.returns += 1
        container.away = False
        self._away.remove(container)
        self.watch(container)
        self._tell_returned(container)
