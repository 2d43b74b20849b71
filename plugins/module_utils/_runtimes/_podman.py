# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman, root's and every user's, by its database and the OCI bundles: no service need run and no library is needed."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import sqlite3
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils import _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._errors import EngineError
from ansible_collections.nettap.containers.plugins.module_utils._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._runtimes import _bolt, _bundle, _pod
from ansible_collections.nettap.containers.plugins.module_utils._runtimes._container import Container

STORAGE = "/var/lib/containers/storage"
USER_STORAGE = ".local/share/containers/storage"  # in the user's home
CONFIGURATIONS = ("/usr/share/containers/storage.conf", "/etc/containers/storage.conf")
USER_CONFIGURATION = ".config/containers/storage.conf"
# In the storage: that of Podman before 4.8, which newer ones go on with where it is, and theirs.
BOLT, SQLITE = "libpod/bolt_state.db", "db.sql"
STATES = ("unknown", "configured", "created", "running", "stopped", "paused", "exited", "removing", "stopping")  # libpod/define/containerstate.go
ALIVE = ("running", "paused", "stopping")
_SETTING = re.compile(rb"^\s*(graphroot|rootless_storage_path)\s*=\s*\"([^\"]*)\"", re.MULTILINE)  # containers-storage.conf(5)
_BUSY_SECONDS = 5


class Podman:
    """Every Podman of the host: that of root and those of the users who have processes, since a running container is one."""

    name = "podman"
    address = f"{STORAGE} and {USER_STORAGE} of users"

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, str]] = {}  # container's ID to its user and its database

    def present(self) -> bool:
        """See Runtime."""
        return next(_databases(), None) is not None

    def containers(self) -> list[Container]:
        """See Runtime."""
        found = []
        for uid, path in _databases():
            # A user's damaged database, or one that is made to look so, must not keep anybody from all other containers.
            with contextlib.suppress(*([EngineError] if uid else [])):
                for config, state, folder in _entries(path):
                    container = self._describe(uid, config, state, folder)
                    self._places.setdefault(container.id, (uid, path))
                    found.append(container)
        return found

    def inspect(self, container: Container) -> Container | None:
        """See Runtime."""
        uid, path = self._places[container.id]
        return next((self._describe(uid, *entry) for entry in _entries(path, container.id)), None)

    def _describe(self, uid: int, config: dict[str, t.Any], state: dict[str, t.Any], run: str) -> Container:
        name = str(config.get("id"))
        pid_file = os.path.join(str(state.get("runDir") or config.get("staticDir")), "pidfile")
        bundle = _bundle.Bundle(str(state.get("configPath") or ""))
        labels = _bundle.labels(config.get("labels"))
        identity = Identity(
            name,
            records=(f"{run}/runc/{name}/state.json", f"{run}/crun/{name}/status"),
            owner=uid or None,
            isolated=bundle.isolated,
            pid_file=pid_file,
        )
        number, pid = state.get("state"), state.get("pid")
        pid = pid if isinstance(pid, int) and pid > 0 else 0
        told = STATES[number] if isinstance(number, int) and 0 <= number < len(STATES) else "unknown"
        if told in ALIVE:  # so it was when Podman last looked, which may be before a crash or the start of the host
            alive = _bundle.state(pid, identity) == "running"
            told = "exited" if not alive else "paused" if told == "paused" else "running"
        pod = _pod.of(labels)
        return Container(
            runtime=self.name,
            id=name,
            name=str(config.get("name")),
            image=str(config.get("rootfsImageName") or "") or None,
            **{**pod, "sandbox": pod["sandbox"] or bool(config.get("isInfra", config.get("pause")))},
            labels=labels,
            state=told,
            pid=pid,
            record=os.path.dirname(str(config.get("staticDir"))) if os.path.isdir(str(config.get("staticDir"))) else None,
            identity=identity,
        )


def _databases() -> t.Iterator[tuple[int, str]]:
    """UID and path of every Podman's database."""
    for uid, storage in _storages():
        yield from ((uid, path) for path in (os.path.join(storage, name) for name in (BOLT, SQLITE)) if os.path.isfile(path))


def _storages() -> t.Iterator[tuple[int, str]]:
    system = _settings(CONFIGURATIONS)
    yield 0, system.get("graphroot") or STORAGE
    for uid in sorted(_users() - {0}):
        with contextlib.suppress(KeyError):  # a user of a container, not of the host
            user = pwd.getpwuid(uid)
            own = _settings([os.path.join(user.pw_dir, USER_CONFIGURATION)])
            common = system.get("rootless_storage_path", "").replace("$HOME", user.pw_dir).replace("$UID", str(uid)).replace("$USER", user.pw_name)
            yield uid, own.get("graphroot") or common or os.path.join(user.pw_dir, USER_STORAGE)


def _settings(paths: t.Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found.update((key.decode(), value.decode()) for key, value in _SETTING.findall(_untrusted.content(path)))
    return found


def _users() -> set[int]:
    """Who has processes. Not everybody who exists: to look into every home could wake an automounter for each."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found.add(os.stat(f"/proc/{pid}").st_uid)
    return found


def _entries(path: str, only: str | None = None) -> list[tuple[dict[str, t.Any], dict[str, t.Any], str]]:
    """Configuration and state of the containers in a database, and the folder of the user's run-time state. Raises EngineError."""
    try:
        rows, temporary = (_sqlite if path.endswith(SQLITE) else _bbolt)(path)
        found = [(json.loads(config), json.loads(state), temporary.rpartition("/libpod")[0]) for name, config, state in rows if only in (None, name)]
    except (OSError, ValueError, sqlite3.Error) as error:
        raise EngineError(f"Podman's database {path} cannot be read ({error}): run the task again, as root.") from error
    return [entry for entry in found if isinstance(entry[0], dict) and isinstance(entry[1], dict)]


def _bbolt(path: str) -> tuple[list[tuple[str, bytes, bytes]], str]:
    def choose(root: _bolt.Bucket) -> _bolt.Tree:
        return {name.encode(): bucket.tree() if bucket else {} for name, bucket in ((name, root.bucket(name)) for name in ("ctr", "runtime-config"))}

    found = _bolt.read(path, choose)
    rows = [(name.decode(), one[b"config"], one[b"state"]) for name, one in found[b"ctr"].items() if b"config" in one and b"state" in one]
    return rows, found[b"runtime-config"].get(b"tmp-dir", b"").decode()


def _sqlite(path: str) -> tuple[list[tuple[str, bytes, bytes]], str]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as database:
        rows = database.execute("SELECT c.ID, c.JSON, s.JSON FROM ContainerConfig c JOIN ContainerState s ON s.ID = c.ID").fetchall()
        temporary = database.execute("SELECT TmpDir FROM DBConfig").fetchone()
    return rows, str(temporary[0]) if temporary else ""
