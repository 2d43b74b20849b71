# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that stop and come back: the session captures a restarted container again, in its new namespace."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Session
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NamespaceError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _process, _program

RETURN_INTERVAL = 0.1  # seconds between looks for a restarted container: cgroups send no event when they appear
SETTLE_INTERVAL = 0.05  # seconds for which a process must be seen to count as the restarted container's
RETURN_GRACE = 60.0  # seconds to wait for a container without a record that shows whether its runtime still knows it
INTERFACE_GRACE = 10.0  # seconds for a restarted container's interface to appear
TAPS_SECONDS = 30.0  # seconds for the child process that reads the host's links
MOST_RETURNS = 100  # a container that crashes in a loop must not fill the disk with segments


class Restarts:
    """The containers of a session, watched for their end and their return.

    gone is called when a container has ended, returned when it runs again, with the places to listen at. active returns
    whether the session captures: before it has begun, and once it ends, no return is waited for.
    """

    def __init__(self, loop: Loop, session: Session, gone: t.Callable[[Watched], None], returned: t.Callable[[Watched, list[_plan.Tap]], None],
                 active: t.Callable[[], bool]) -> None:
        self._loop = loop
        self._session = session
        self._tell_gone = gone
        self._tell_returned = returned
        self._active = active

    def watch(self, container: Watched) -> None:
        """Wait for the end of a container's first process."""
        pidfd = container.pidfd
        if pidfd is not None:
            self._loop.watch(pidfd, lambda: self._gone(container, pidfd))

    def _gone(self, container: Watched, pidfd: int) -> None:
        self._loop.forget(pidfd)
        os.close(pidfd)
        container.pidfd = None
        self._tell_gone(container)
        if self._session.request.on_restart == "follow" and container.returns_to_view() and container.returns < MOST_RETURNS and self._active():
            container.gone_at = time.monotonic()
            self._look_for(container, container.gone_at)

    def _look_for(self, container: Watched, since: float) -> None:
        """Look whether a container is back, until it is or is gone for good. since is when it stopped, in monotonic seconds.

        A container is back when its cgroup holds a process in a network namespace of its own, and the same one at the next look.
        At first its old processes are still ending, and the processes with which a runtime enters it (runc's) come and go.
        """
        if not self._active():
            return
        now = time.monotonic()
        gone_for_good = not os.path.isdir(container.record) if container.record else now - since > RETURN_GRACE
        namespace = self._found(container)
        seen, container.seen = container.seen, namespace.pid if namespace else None
        if namespace is None and gone_for_good:
            container.gone_at = None
        elif namespace is None:
            self._loop.after(RETURN_INTERVAL, lambda: self._look_for(container, since))
        elif namespace.pid != seen:
            namespace.close()
            self._loop.after(SETTLE_INTERVAL, lambda: self._look_for(container, since))
        else:
            os.close(container.fd)
            container.fd, container.pidfd = namespace.fd, namespace.pidfd
            container.returns += 1
            self._resume(container, namespace, now + INTERFACE_GRACE)

    @staticmethod
    def _found(container: Watched) -> _netns.Namespace | None:
        for pid in container.processes():
            with contextlib.suppress(NamespaceError):
                namespace = _netns.open_process(pid, container.identity)
                if namespace.host == container.host:  # else it is a process of the runtime that is still on its way in
                    return namespace
                namespace.close()
        return None

    def _resume(self, container: Watched, namespace: _netns.Namespace, deadline: float) -> None:
        """Have the new namespace captured as the old one was. Its interfaces may appear later: wait for them until the deadline."""
        if not self._active():
            return
        if container.pidfd is not None and _process.has_ended(container.pidfd):  # the container has stopped again
            os.close(container.pidfd)
            container.pidfd = None
            self._look_for(container, time.monotonic())
            return
        try:
            places = self._taps(container, namespace)
        except NettapError:
            if time.monotonic() < deadline:
                self._loop.after(RETURN_INTERVAL, lambda: self._resume(container, namespace, deadline))
                return
            # Take the places of before, so that tcpdump reports in each segment what is wrong with it.
            old = [segment for segment in self._session.segments if segment.id == container.id or container.name in segment.containers]
            places = list(dict.fromkeys(_plan.Tap(segment.interface, segment.vantage, segment.device) for segment in old))
        container.gone_at = None
        self.watch(container)
        self._tell_returned(container, places)

    def _taps(self, container: Watched, namespace: _netns.Namespace) -> list[_plan.Tap]:
        request = self._session.request
        if request.vantage == "container":
            return _plan.taps(container.name, namespace, request)
        # A child process reads the host's peers, with pyroute2: it would double the memory of this process for good.
        done = _program.run(
            [sys.executable, "-I", sys.path[0], "taps"], CaptureError, TAPS_SECONDS, "the interfaces are looked for again",
            json.dumps([container.name, namespace.fd, dataclasses.asdict(request)]), [namespace.fd, int(os.path.basename(sys.path[0]))],
        )
        if done.returncode:
            raise CaptureError(done.stderr.strip())
        return [_plan.Tap(*place) for place in json.loads(done.stdout)]


def print_taps() -> None:
    """Be the child process that reads the host's links: read the question from standard input, write the places to standard output as JSON."""
    name, fd, request = json.load(sys.stdin)
    try:
        places = _plan.taps(name, _netns.Namespace(fd, name), Request.of(request))
    except NettapError as error:
        raise SystemExit(str(error)) from error
    json.dump(list(map(dataclasses.astuple, places)), sys.stdout)
