# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman, root's and every user's, read from its database and the OCI bundles. No service has to run, and no library is needed."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import string
import typing as t
import urllib.parse

from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, EngineError
from ansible_collections.nettap.containers.plugins.module_utils._system import _untrusted
from ansible_collections.nettap.containers.plugins.module_utils._system._identity import Identity
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import _bolt, _bundle, _pod
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._container import Container

STORAGE = "/var/lib/containers/storage"
USER_STORAGE = ".local/share/containers/storage"  # in the user's home
CONFIGURATIONS = ("/usr/share/containers/storage.conf", "/etc/containers/storage.conf")
USER_CONFIGURATION = ".config/containers/storage.conf"
# Databases in the storage: that of Podman before 4.8, which newer releases keep using where it exists, and that of newer releases.
BOLT, SQLITE = "libpod/bolt_state.db", "db.sql"
STATES = ("unknown", "configured", "created", "running", "stopped", "paused", "exited", "removing", "stopping")  # libpod/define/containerstate.go
ALIVE = ("running", "paused", "stopping")
_SETTING = re.compile(rb"^\s*(graphroot|rootless_storage_path)\s*=\s*\"([^\"]*)\"", re.MULTILINE)  # containers-storage.conf(5)
_BUSY_SECONDS = 5


class Podman:
    """Every Podman of the host: root's, and those of the users who have processes, because a running container has one.

    A user can write all the files of their own Podman. So they are read as that user.
    """

    name = "podman"
    address = f"{STORAGE} and {USER_STORAGE} of users"

    def __init__(self) -> None:
        self._users: dict[str, int] = {}  # UID of the user by the container's ID

    def present(self) -> bool:
        """See Runtime."""
        return any(True for _uid in _owners())

    def containers(self) -> list[Container]:
        """See Runtime."""
        found = []
        for uid in _owners():
            # A user's database that is damaged, or made to look so, must not keep the task from all other containers.
            with contextlib.suppress(*([EngineError] if uid else [])):
                for facts in _told(uid):
                    found.append(self._describe(uid, facts))
                    self._users.setdefault(found[-1].id, uid)
        return found

    def inspect(self, container: Container) -> Container | None:
        """See Runtime."""
        uid = self._users[container.id]
        with contextlib.suppress(*([EngineError] if uid else [])):
            return next((self._describe(uid, facts) for facts in _told(uid, container.id)), None)
        return None

    def signs(self) -> list[str]:
        """See Runtime. Podman writes its database when it has made or started a container."""
        found = [path for uid in _owners() for path in _databases(_storage(uid, own=False))]
        return [STORAGE, *found, *(f"{path}-wal" for path in found if path.endswith(SQLITE))]

    def _describe(self, uid: int, facts: dict[str, t.Any]) -> Container:
        name = facts["id"]
        identity = Identity(name, records=tuple(facts["records"]), owner=uid or None, isolated=facts["isolated"], pid_file=facts["pid_file"])
        told = STATES[facts["state"]]
        if told in ALIVE:  # the state when Podman last looked, which may be before a crash or the start of the host
            alive = _bundle.state(facts["pid"], identity) == "running"
            told = "exited" if not alive else "paused" if told == "paused" else "running"
        pod = _pod.of(facts["labels"])
        return Container(
            runtime=self.name,
            id=name,
            name=facts["name"],
            image=facts["image"],
            **{**pod, "sandbox": pod["sandbox"] or facts["infra"]},
            labels=facts["labels"],
            state=told,
            pid=facts["pid"],
            record=facts["record"],
            identity=identity,
        )


def _owners() -> t.Iterator[int]:
    """Yield the UIDs of the users who may have a Podman: root, and users who have processes and a folder or configuration for it."""
    if any(_databases(_storage(0))):
        yield 0
    for uid in sorted(_users() - {0}):
        with contextlib.suppress(KeyError):  # the user exists in a container only, not on the host
            home = pwd.getpwuid(uid).pw_dir
            if os.path.lexists(os.path.join(home, USER_CONFIGURATION)) or os.path.isdir(_storage(uid, own=False)):
                yield uid


def _users() -> set[int]:
    """Return the UIDs of the users who have processes. Not of all users: to look into every home could wake an automounter for each."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found.add(os.stat(f"/proc/{pid}").st_uid)
    return found


def _storage(uid: int, own: bool = True) -> str:
    """Return the folder of a user's storage. With own, honour the user's own configuration; then call this as that user."""
    found = _settings(CONFIGURATIONS)
    if uid == 0:
        return found.get("graphroot") or STORAGE
    user = pwd.getpwuid(uid)
    if own:
        mine = _settings([os.path.join(user.pw_dir, USER_CONFIGURATION)])
        found["rootless_storage_path"] = mine.get("graphroot") or mine.get("rootless_storage_path") or found.get("rootless_storage_path", "")
    words = {"HOME": user.pw_dir, "UID": str(uid), "USER": user.pw_name}
    return string.Template(found.get("rootless_storage_path", "")).safe_substitute(words) or os.path.join(user.pw_dir, USER_STORAGE)


def _settings(paths: t.Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found.update((key.decode(), os.fsdecode(value)) for key, value in _SETTING.findall(_untrusted.content(path)))
    return found


def _databases(storage: str) -> list[str]:
    return [path for path in (os.path.join(storage, name) for name in (BOLT, SQLITE)) if os.path.isfile(path)]


def _told(uid: int, only: str | None = None) -> list[dict[str, t.Any]]:
    """Return the facts in a user's databases about each container, or about the one with that ID. Raise EngineError."""

    def read() -> list[dict[str, t.Any]]:
        return [_facts(*entry) for path in _databases(_storage(uid)) for entry in _entries(path, only)]

    if uid == 0:
        return read()
    try:
        return t.cast("list[dict[str, t.Any]]", _untrusted.asked_as(uid, read))
    except OSError as error:
        raise EngineError(f"The containers of Podman of the user with UID {uid} cannot be told ({error}).") from error


def _facts(config: dict[str, t.Any], state: dict[str, t.Any], run: str) -> dict[str, t.Any]:
    """Return the facts for a Container, from a container's configuration and state. run is the folder of the user's run-time state."""
    name, static, number, pid = str(config.get("id")), str(config.get("staticDir")), state.get("state"), state.get("pid")
    return {
        "id": name,
        "name": str(config.get("name")),
        "image": str(config.get("rootfsImageName") or "") or None,
        "labels": _bundle.labels(config.get("labels")),
        "infra": bool(config.get("pause")),
        "state": number if isinstance(number, int) and 0 <= number < len(STATES) else 0,
        "pid": pid if isinstance(pid, int) and 0 < pid <= _untrusted.LARGEST_PID else 0,
        "pid_file": str(config.get("pid_file") or os.path.join(str(state.get("runDir") or static), "pidfile")),
        "records": [f"{run}/runc/{name}/state.json", f"{run}/crun/{name}/status"],
        "isolated": _bundle.Bundle(str(state.get("configPath") or "")).isolated,
        "record": os.path.dirname(static) if os.path.isdir(static) else None,
    }


def _entries(path: str, only: str | None) -> list[tuple[dict[str, t.Any], dict[str, t.Any], str]]:
    """Return the configuration and the state of the containers in a database, each with the folder of the user's run-time state. Raise EngineError."""
    try:
        rows, temporary = (_sqlite if path.endswith(SQLITE) else _bbolt)(path)
        found = [(json.loads(config), json.loads(state), temporary.rpartition("/libpod")[0]) for name, config, state in rows if only in (None, name)]
    except (OSError, ValueError) as error:
        raise EngineError(f"Podman's database {path} cannot be read ({error}): run the task again, as root.") from error
    return [entry for entry in found if isinstance(entry[0], dict) and isinstance(entry[1], dict)]


def _bbolt(path: str) -> tuple[list[tuple[str, bytes, bytes]], str]:
    def choose(root: _bolt.Bucket) -> _bolt.Tree:
        return {name.encode(): bucket.tree() if bucket else {} for name, bucket in ((name, root.bucket(name)) for name in ("ctr", "runtime-config"))}

    found = _bolt.read(path, choose)
    rows = [(name.decode(), one[b"config"], one[b"state"]) for name, one in found[b"ctr"].items() if b"config" in one and b"state" in one]
    return rows, found[b"runtime-config"].get(b"tmp-dir", b"").decode()


def _sqlite(path: str) -> tuple[list[tuple[str, bytes, bytes]], str]:
    try:
        import sqlite3  # imported only here: not every Python has it, and only Podman 4.8 and newer needs it
    except ImportError as error:
        raise DependencyError("Podman keeps its containers in SQLite here, and this host's Python has no module sqlite3: install it "
                              "(SUSE: python3), or set ansible_python_interpreter to one that has it.") from error
    try:
        with contextlib.closing(sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as database:
            rows = database.execute("SELECT c.ID, c.JSON, s.JSON FROM ContainerConfig c JOIN ContainerState s ON s.ID = c.ID").fetchall()
            temporary = database.execute("SELECT TmpDir FROM DBConfig").fetchone()
    except sqlite3.Error as error:
        raise ValueError(str(error)) from error
    return rows, str(temporary[0]) if temporary else ""
