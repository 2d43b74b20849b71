# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that go away and are made anew under their names, and containers that the kubelet makes anew in their pods."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _program

INTERVAL = 0.1  # seconds between looks at the runtime's folder
SETTLED = 1.0  # seconds after a change there for one more question: the runtime may have been at work still
UNSEEN = 5.0  # seconds between questions where the runtime's folder cannot be seen, or is empty
_SECONDS = 30.0  # for the child process that asks the runtime

Stamps = dict[str, int]


class Pods:
    """The pods (and their containers) that are gone. found is called with a container that is back, and its open namespace.

    A child process asks the runtime: its code, and Docker's SDK, would stay in the memory of this process. It is started only when
    something has changed in the folder in which the runtime has one entry for each container. active is as for Restarts.
    """

    def __init__(self, loop: Loop, found: t.Callable[[Watched, _netns.Namespace], None], active: t.Callable[[], bool]) -> None:
        self._loop = loop
        self._tell_found = found
        self._active = active

    def look_for(self, container: Watched, seen: Stamps | None = None, again: float = math.inf) -> None:
        """Look whether a container is back under its name, until it is. again is when to ask although nothing has changed since seen."""
        if not self._active():
            return
        stamps, now = _stamps(container), time.monotonic()
        if stamps != seen or now >= again:
            again = now + UNSEEN if not stamps else now + SETTLED if stamps != seen else math.inf
            with contextlib.suppress(NettapError):  # the runtime does not answer, or the container has gone again
                namespace = self._ask(container)
                if namespace:
                    self._tell_found(container, namespace)
                    return
        self._loop.after(INTERVAL, lambda: self.look_for(container, stamps, again))

    @staticmethod
    def _ask(container: Watched) -> _netns.Namespace | None:
        """Make the container that which has its name now, and return its open namespace; None when there is none. Raise NettapError."""
        done = _program.run([sys.executable, "-I", sys.path[0], "successor"], CaptureError, _SECONDS, "the pod is looked for again",
                            json.dumps([container.runtime, container.docker_host, container.pod]), [int(os.path.basename(sys.path[0]))])  # fmt: skip
        if done.returncode:
            raise CaptureError(done.stderr.strip())
        answer = json.loads(done.stdout)
        if answer is None or container.whole_pod and not answer["sandbox"]:  # what is left of a pod whose sandbox has ended is no pod
            return None
        new = Watched.of(answer["container"])
        namespace = _netns.open_bound(new.bound) if new.bound else _netns.open_process(answer["pid"], new.identity)
        if namespace.inode != answer["inode"] or namespace.host != container.host:  # nobody has allowed a capture of the host's network
            namespace.close()
            return None
        os.close(container.fd)
        kept = {"fd": namespace.fd, "pidfd": namespace.pidfd, "away": container.away, "gone_since": container.gone_since,
                "returns": container.returns + 1, "left_out": container.left_out}  # fmt: skip
        for field in dataclasses.fields(Watched):
            setattr(container, field.name, kept.get(field.name, getattr(new, field.name)))
        return namespace


def _stamps(container: Watched) -> Stamps:
    """Return the times of change of each folder that the container's runtime has for a container."""
    own = container.record or container.identity and container.identity.pid_file and os.path.dirname(container.identity.pid_file)
    found: Stamps = {}
    if own:
        with contextlib.suppress(OSError), os.scandir(os.path.dirname(own)) as entries:
            for path in (path for entry in entries for path in (entry.path, os.path.join(entry.path, "userdata"))):  # userdata: CRI-O's
                with contextlib.suppress(OSError):
                    found[path] = os.stat(path).st_mtime_ns
    return found
