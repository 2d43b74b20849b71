# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs of Ansible that wait for the end of a session: they would lose by its being stopped or removed. Each has a file in its folder."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError
from ansible_collections.nettap.containers.plugins.module_utils._system import _stored
from ansible_collections.nettap.containers.plugins.module_utils._system._runner import Runner, boot


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A run that waits, and for which owner (None: for whoever's session it is).

    Where this host does not see the run's process, it holds until a time (seconds since boot) by which the run has promised to ask
    again.
    """

    runner: Runner
    owner: str | None = None
    boot: str = ""
    until: float = 0

    def goes_on(self) -> bool:
        """Return whether the run still waits."""
        if self.boot != boot():
            return False
        alive = self.runner.alive()
        return time.clock_gettime(time.CLOCK_BOOTTIME) < self.until if alive is None else alive


def look(directory: str, owner: str | None, waiter: t.Mapping[str, t.Any], running: bool) -> bool:
    """Record what the action plugin of a run that waits tells of itself. Return whether other runs wait for the session.

    waiter has runner and promise (seconds); a promise of 0 means that the run waits no longer. An owner is awaited until it stops the
    session itself; anybody else as long as the session runs.
    """
    runner = Runner(**_stored.known(Runner, waiter["runner"]))
    if waiter["promise"] and (running or owner is not None):
        note(directory, runner, owner, float(waiter["promise"]))
    else:
        withdraw(directory, runner)
    return any(one.runner != runner for one in others(directory, owner))


def note(directory: str, runner: Runner, owner: str | None, promise: float) -> None:
    """Record that a run waits, and asks again within promise seconds. A full disk, or a session that is gone, is no error."""
    waiting = Waiting(runner, owner, boot(), time.clock_gettime(time.CLOCK_BOOTTIME) + promise)
    path = _path(directory, runner)
    with contextlib.suppress(OSError):
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as stream:
            json.dump(dataclasses.asdict(waiting), stream)
        os.replace(path + ".new", path)


def withdraw(directory: str, runner: Runner) -> None:
    """Record that a run waits no longer."""
    with contextlib.suppress(OSError):
        os.unlink(_path(directory, runner))


def withdraw_owner(directory: str, owner: str) -> None:
    """Record that the owner waits no longer."""
    for path, waiting in _known(directory):
        if waiting is not None and waiting.owner == owner:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def others(directory: str, owner: str | None) -> list[Waiting]:
    """Return the runs that still wait, but for those of an owner. Forget those that are gone."""
    found = []
    for path, waiting in _known(directory):
        if waiting is None or not waiting.goes_on():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        elif owner is None or waiting.owner != owner:
            found.append(waiting)
    return found


def refuse(directory: str, owner: str | None, done: str) -> None:
    """Raise CaptureError if another run than the owner's waits for the session, which is to be stopped or removed (done)."""
    for waiting in others(directory, owner):
        raise CaptureError(f"Session {os.path.basename(directory)} cannot be {done}, for another run of Ansible waits for it (process {waiting.runner.pid} "
                           f"on {waiting.runner.machine}): let it end, or set force: true.")


def _path(directory: str, runner: Runner) -> str:
    return os.path.join(directory, f"waiting-{runner.boot}-{runner.namespace}-{runner.pid}-{runner.started}.json")


def _known(directory: str) -> list[tuple[str, Waiting | None]]:
    """Return the records of a session with their paths; None for one that cannot be read."""
    found: list[tuple[str, Waiting | None]] = []
    for path in glob.glob(os.path.join(glob.escape(directory), "waiting-*.json")):
        try:
            with open(path, encoding="utf-8") as stream:
                values = _stored.known(Waiting, json.load(stream))
            found.append((path, Waiting(**{**values, "runner": Runner(**_stored.known(Runner, values["runner"]))})))
        except (OSError, ValueError, TypeError):
            found.append((path, None))
    return found
