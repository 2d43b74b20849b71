# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that come: the containers that match target options and are made or started from now on, told by their runtimes.

Docker tells of them over its socket. Of the others, inotify tells when their state on disk changes. Nobody is asked at intervals.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import socket
import sys
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, TargetError
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _inotify, _netns
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import RUNTIMES
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container, Runtime
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._docker import Docker

_AGAIN = 5.0  # seconds until a runtime is asked again that has not answered
COMING = ("created", "restarting")  # states of containers that are about to run


class _Source:
    """One runtime. fd is readable when it may have told of a container."""

    def __init__(self, engine: Runtime) -> None:
        self.engine = engine
        self._paths = _inotify.Paths()

    @property
    def fd(self) -> int:
        """The descriptor to wait on; it changes."""
        return self._paths.fd

    def all(self) -> list[Container]:
        """Return all containers, and have told all that come later. Raise EngineError, DependencyError, NettapError."""
        self._paths.watch(self.engine.signs())  # before the look: what comes after it is told
        return self.engine.containers()

    def told(self) -> list[Container]:
        """Return the containers that may have come, when fd is readable. Raise as all()."""
        return self.all()


class _DockerSource(_Source):
    """Docker: a stream of events while it runs, and inotify on its socket while it does not."""

    engine: Docker

    def __init__(self, engine: Docker) -> None:
        super().__init__(engine)
        self._stream: socket.socket | None = None
        self._unread = b""

    @property
    def fd(self) -> int:
        """See _Source."""
        return self._stream.fileno() if self._stream is not None else self._paths.fd

    def all(self) -> list[Container]:
        """See _Source."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._unread = b""
        self._paths.watch(self.engine.signs())
        self._stream = self.engine.socket().events(time.time())
        return self.engine.containers()

    def told(self) -> list[Container]:
        """See _Source."""
        data = b""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                data = self._stream.recv(1 << 16)
        if not data:  # it has ended, or is back
            return self.all()
        *lines, self._unread = (self._unread + data).split(b"\n")
        found = (self.engine.found(json.loads(line)["Actor"]["ID"]) for line in lines if line.strip())
        return [container for container in found if container is not None]


def _engines(options: t.Mapping[str, t.Any]) -> list[Runtime]:
    """Return the runtimes to watch. Raise DependencyError for one that cannot be watched."""
    wanted, address = options["runtime"], options.get("docker_host")
    found = [RUNTIMES[name](address) for name in RUNTIMES if wanted in ("auto", name)]
    plain = [Docker(address, plain=True) if isinstance(engine, Docker) else engine for engine in found if engine.present() or wanted != "auto"]
    for engine in plain:
        if isinstance(engine, Docker):
            engine.socket()
    return plain


def check(options: t.Mapping[str, t.Any]) -> None:
    """Raise DependencyError if a runtime that the options mean cannot be watched."""
    _engines(options)


class Watch:
    """The watch for containers that match options (those of _arguments._target.TARGET) and whose IDs are not among the known ones."""

    def __init__(self, options: t.Mapping[str, t.Any], known: t.Iterable[str]) -> None:
        self._options = {**options, "allow_missing": True}
        self._known = set(known)
        self._sources = [_DockerSource(engine) if isinstance(engine, Docker) else _Source(engine) for engine in _engines(options)]

    def run(self, tell: t.Callable[[dict[str, t.Any]], None]) -> t.NoReturn:
        """Call tell with each container that comes, for ever. Its keys: runtime, id, name, image, identity, cgroup, record, final."""
        failed = [source for source in self._sources if not self._look(source, source.all, tell)]
        while True:
            sources = {source.fd: source for source in self._sources}
            poller = select.poll()
            for fd in sources:
                poller.register(fd, select.POLLIN)
            ready = [sources[fd] for fd, _event in poller.poll(_AGAIN * 1000 if failed else None)]
            again = failed if not ready else []
            failed = [source for source in failed if source not in ready and source not in again]
            failed += [source for source in ready if not self._look(source, source.told, tell)]
            failed += [source for source in again if not self._look(source, source.all, tell)]

    def _look(self, source: _Source, look: t.Callable[[], list[Container]], tell: t.Callable[[dict[str, t.Any]], None]) -> bool:
        """Tell of what is new. Return whether the runtime has answered: one that runs badly, or not now, is asked again."""
        try:
            self._sift(source, look(), tell)
        except NettapError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            return False
        return True

    def _sift(self, source: _Source, candidates: t.Sequence[Container], tell: t.Callable[[dict[str, t.Any]], None]) -> None:
        try:
            chosen = _target.select(candidates, self._options, COMING)
        except TargetError:  # the start of several IDs
            return
        for container in candidates:
            if (container.runtime, container.id) in chosen and container.id not in self._known:
                now = source.engine.inspect(container)
                if now is not None and (now.running or now.state in COMING):
                    self._known.add(now.id)
                    told = described(now)
                    if told["cgroup"] or told["identity"] and told["identity"]["pid_file"]:  # else its start cannot be seen, or it has the host's network
                        tell(told)


def described(container: Container) -> dict[str, t.Any]:
    """Return what is told of a container: how to recognise it, and where its start can be seen."""
    identity, cgroup = container.identity, container.cgroup
    if container.running and identity is not None and not _netns.leads_to(f"/proc/{container.pid}/ns/net", os.stat(_netns.host_path()).st_ino):
        cgroup = _cgroup.directory(_cgroup.paths(container.pid), identity.id)
    return {"runtime": container.runtime, "id": container.id, "name": container.name, "image": container.image,
            "identity": identity and dataclasses.asdict(identity), "cgroup": cgroup, "record": container.record, "final": container.final}


def environment() -> dict[str, str]:
    """Return the variables that name the runtimes of this task."""
    return {name: os.environ[name] for name in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH") if name in os.environ}
