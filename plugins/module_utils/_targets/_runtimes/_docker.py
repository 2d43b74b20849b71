# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker, asked through its SDK, over the socket of its daemon: root's, and that of each user who runs one of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, EngineError
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _process, _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _pod, _rootless
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._docker_socket import DockerSocket

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
TIMEOUT = 20  # seconds for one answer: a hung Docker must not hang the play


class Docker:
    """One Docker. address is its socket. DOCKER_HOST is honoured, with its TLS variables for tcp://.

    A user can make their own (rootless) Docker answer anything. So it is asked as that user, and their containers are told by a user.
    """

    name = "docker"

    def __init__(self, docker_host: str | None = None, plain: bool = False, found: str | None = None) -> None:
        """With plain, ask without the SDK. found is the address of a user's Docker that nobody has named."""
        self.explicit = None if found else docker_host or os.environ.get("DOCKER_HOST")
        self.address = found or self.explicit or DEFAULT_SOCKET
        self._plain = plain
        self._connected: t.Any = None
        self._user = _rootless.owner(self.address)  # 0 for root's

    def present(self) -> bool:
        """See Runtime. Treat a Docker whose address was given as present, so that its absence is an error and not an empty result."""
        if self.explicit:
            return True
        path = self.address[len("unix://"):]
        # podman-docker puts a link to Podman's socket there. The runtime podman returns Podman's containers.
        return os.path.exists(path) and os.path.basename(os.path.realpath(path)) != "podman.sock"

    def containers(self) -> list[Container]:
        """See Runtime."""
        # A user's Docker that is damaged, or made to look so, must not keep the task from all other containers.
        with contextlib.suppress(*([EngineError] if self._user and not self.explicit else [])):
            return list(map(self._listed, self._ask(lambda client: client.containers(all=True))))
        return []

    def found(self, identifier: str) -> Container | None:
        """Return the container with that ID as containers() returns it; None when it is gone. Raise EngineError, DependencyError."""
        items = self._ask(lambda client: client.containers(all=True, filters={"id": [identifier]}))
        return next((self._listed(item) for item in items if item["Id"] == identifier), None)

    def _listed(self, item: dict[str, t.Any]) -> Container:
        return Container(
            runtime=self.name,
            id=item["Id"],
            # A container that others link to (--link) has further names, with a slash inside.
            name=next((name[1:] for name in item["Names"] or [] if "/" not in name[1:]), item["Id"][:12]),
            image=item["Image"],
            **_pod.of(item["Labels"] or {}),
            labels=item["Labels"] or {},
            state=item["State"],
            identity=self._identity(item["Id"]) if self._user else None,
            docker_host=self.address,
        )

    def signs(self) -> list[str]:
        """See Runtime. While Docker runs, it tells over socket()."""
        return [self.address[len("unix://"):]] if self.address.startswith("unix://") else []

    def socket(self) -> DockerSocket:
        """Return the socket of this Docker. Raise DependencyError where it can be reached with the SDK only."""
        if not self.address.startswith(("unix://", "tcp://")) or self.address.startswith("tcp://") and os.environ.get("DOCKER_TLS_VERIFY"):
            raise DependencyError(f"Docker at {self.address} can be watched over its UNIX socket only: give that as docker_host.")
        return DockerSocket(self.address)

    def inspect(self, container: Container) -> Container | None:
        """See Runtime."""
        answer = self._ask(lambda client: client.inspect_container(container.id), missing=None)
        if answer is None:
            return None
        # Docker keeps these files in the container's own folder, from its creation to its removal; it names them once the container was started.
        folder = os.path.dirname(answer.get("HostnamePath") or answer.get("ResolvConfPath") or "")
        cgroup, mode = None, answer["HostConfig"]["NetworkMode"]
        identity = dataclasses.replace(self._identity(answer["Id"]), isolated=mode != "host" and not mode.startswith("container:"))
        if answer["State"]["Status"] not in ("running", "paused") and not self._user:  # a user's are in a cgroup of that user's
            told = self._ask(lambda client: client.info())
            folder = folder or os.path.join(told.get("DockerRootDir") or "", "containers", answer["Id"])
            cgroup = None if mode == "host" else _place(answer, told.get("CgroupDriver") == "systemd")
        return dataclasses.replace(
            container,
            id=answer["Id"],
            state=answer["State"]["Status"],
            pid=_pid_here(answer["State"]["Pid"], identity),
            record=folder if folder and os.path.isdir(folder) else None,
            identity=identity,
            handler=answer["HostConfig"].get("Runtime") or None,
            cgroup=cgroup,
        )

    def _identity(self, name: str) -> Identity:
        return _rootless.identity(name, self.address, self._user) if self._user else Identity(name)

    def _ask(self, question: t.Callable[[t.Any], t.Any], missing: t.Any = ..., own: bool = False) -> t.Any:
        """Ask Docker one question. Raise EngineError for every failure, DependencyError when the SDK is missing or does not work.

        own is whether this process is the user's whose Docker it is. Where missing is given, return it when Docker does not know the object of the question.
        """
        if self._plain:
            return question(self.socket())
        try:
            import docker  # takes 0.1 to 0.3 s, so it is imported only where Docker is asked
            import docker.errors
            import docker.utils
            import requests
        except ImportError as error:
            raise DependencyError(f"The Docker SDK for Python (python3-docker, or pip install docker) is missing on the host: {error}.") from error
        if self._user and not own:
            try:
                return _untrusted.asked_as(self._user, lambda: self._ask(question, missing, own=True))
            except OSError as error:
                raise EngineError(f"Docker at {self.address}, of the user with UID {self._user}, does not answer: start it, or look at its log.") from error
        try:
            if self._connected is None:
                # from_env reads the TLS variables that belong to a tcp:// DOCKER_HOST.
                options: dict[str, t.Any] = {"base_url": self.address, "version": "auto", "timeout": TIMEOUT}
                if self.address == os.environ.get("DOCKER_HOST"):
                    options = {**docker.utils.kwargs_from_env(), **options}
                self._connected = docker.APIClient(**options)
            return question(self._connected)
        except docker.errors.NotFound as error:
            if missing is not ...:
                return missing
            raise EngineError(f"Docker at {self.address} does not know what was asked: {error.explanation}.") from error
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            # An SDK before 6.1 meets urllib3 2, or an SDK before 7.1 meets requests 2.32, which something else has installed (usually pip).
            if "Not supported URL scheme http+docker" in str(error) or "unexpected keyword argument 'chunked'" in str(error):
                import urllib3

                raise DependencyError(
                    f"The Docker SDK for Python {docker.__version__} on the host does not work with the requests {requests.__version__} and urllib3 "
                    f"{urllib3.__version__} that are there: take all three from the distribution, up to date, or SDK 7.1 or newer with pip."
                ) from error
            raise EngineError(f"Docker at {self.address} {self._reason(error)}") from error

    def _reason(self, error: BaseException) -> str:
        """Return the end of an error sentence that explains the innermost cause of a failed request."""
        chain: list[BaseException] = []
        todo: list[t.Any] = [error]
        while todo:
            item = todo.pop()
            if isinstance(item, BaseException) and item not in chain:
                chain.append(item)
                todo += [*item.args, item.__cause__, item.__context__]
        if any(isinstance(item, PermissionError) for item in chain):
            return "refuses access: root is needed on the host (become: true)."
        if any(isinstance(item, FileNotFoundError) for item in chain):
            return "is not there: is the engine installed and started, and docker_host right?"
        if any(isinstance(item, ConnectionError) for item in chain):
            return "does not answer: its socket is there but nobody serves it; start the engine."
        if any(isinstance(item, TimeoutError) or "timed out" in str(item) for item in chain):
            return f"did not answer within {TIMEOUT} s: the engine hangs; look at its log."
        return f"answered with an error: {' '.join(str(error).split()).rstrip('.')}."


def _place(answer: dict[str, t.Any], systemd: bool) -> str | None:
    """Return the path that the cgroup of a container has when it is started; a daemon does not tell of its option cgroup-parent."""
    parent = answer["HostConfig"].get("CgroupParent")
    if systemd:
        return _cgroup.place(_cgroup.slice_path(parent or "system.slice"), f"docker-{answer['Id']}.scope")
    return _cgroup.place(parent or "docker", answer["Id"])


def _pid_here(pid: int, identity: Identity) -> int:
    """Return the PID on this host of the process that Docker calls by that PID.

    A Docker in a container (Docker in Docker, kind) counts processes in its own PID namespace. The right one has the container's ID in its cgroup.
    """
    started = _process.start_time(pid) if pid else None
    if not pid or started is not None and not identity.doubt(pid, started, _cgroup.paths(pid), False):
        return pid
    return next((one for one in _cgroup.members(identity.id) if pid in _process.numbers(one)), pid)
