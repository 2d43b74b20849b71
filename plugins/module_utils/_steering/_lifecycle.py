# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life cycle of dataplanes and their engines."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._background import _private, _service
from ansible_collections.nettap.containers.plugins.module_utils._dataplane import _engine, _namespace
from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError, NettapError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _record
from ansible_collections.nettap.containers.plugins.module_utils._steering import _journal
from ansible_collections.nettap.containers.plugins.module_utils._steering._bench import Bench
from ansible_collections.nettap.containers.plugins.module_utils._steering._watchdog import _watch
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns


@dataclasses.dataclass
class DataplaneOutcome:
    """The result of a task on a dataplane.

    reason is one sentence that says why something was changed, None where nothing was. before and after are as container_dataplane returns them.
    """

    reason: str | None
    before: dict[str, t.Any]
    after: dict[str, t.Any]


def describe(name: str) -> dict[str, t.Any]:
    """Return the dataplane's present state, {} where there is no dataplane. Raise DataplaneError."""
    service = _service.Service(f"engine-{name}")
    with _namespace.opened(name) as dataplane:
        if dataplane is None:
            return {}
        pids = sorted(one.pid for one in _engine.processes(dataplane))
        return {**dataplane.describe(), "engine": _apart(service.argv_running())[0], "engine_pids": pids, "log": service.log()}


def present(
    name: str, topology: str, mode: str, *, mtu: int | None = None, engine: t.Sequence[str] | None = None, private: bool = False, restart: bool = False,
    timeout: float = 0, control: str | None = None, check: bool = False,
) -> DataplaneOutcome:
    """Make the missing parts, run the engine if one is given, and wait until it forwards. On an error, remove the parts made here and raise NettapError.

    With private, the engine has a /tmp and a /dev/shm of its own. The traffic of steered containers passes by an engine that has to be stopped.
    """
    with _held(name, check, _journal.PATIENCE + timeout):
        before = describe(name)
        reason = None if before else f"There was no dataplane {name}."
        running = _apart(_service.Service(f"engine-{name}").argv_running() if before else None)
        starts = engine is not None and (restart or running != (list(engine), private))
        if before and starts:
            reason = _why_start(name, running[0], running == (list(engine or ()), private))
        if check:
            if before and (before["topology"], before["mode"]) != (topology, mode):
                _namespace.create(name, topology, mode, mtu)  # raises the refusal
            none: dict[str, t.Any] = {"engine": None, "engine_pids": [], "log": _service.Service(f"engine-{name}").log()}
            after = before or {**_namespace.planned(name, topology, mode, mtu), **none}
            if engine is not None and starts:
                after = {**after, "engine": list(engine), "engine_pids": []}
            return DataplaneOutcome(reason, before, after)
        made = _namespace.create(name, topology, mode, mtu)
        if engine is not None and starts:
            _start(name, engine, private, timeout, control, made)
        return DataplaneOutcome(reason, before, describe(name))


def _start(name: str, engine: t.Sequence[str], private: bool, timeout: float, control: str | None, made: bool) -> None:
    """Start the engine and wait until it forwards.

    If it does not within timeout seconds, stop the engine, remove the dataplane if this task made it, and raise DataplaneError with the
    engine's last output.
    """
    service = _service.Service(f"engine-{name}", _argv(name, engine, private), f"nettap engine of the dataplane {name}", always=True)
    if service.running():
        with Bench(name) as bench:
            bench.stand_aside()
    service.stop()
    try:
        if private:
            _private.make(name)
        service.start()
        if timeout:
            _wait(name, timeout, control)
    except NettapError as error:
        said = service.tail()
        service.stop()  # else the service would start it again and again
        if made:
            _namespace.remove(name)
            _private.remove(name)
            _journal.Journal(name).discard()
        raise DataplaneError(f"{error} The engine said: {' / '.join(said) or 'nothing'}.") from error


def absent(name: str, check: bool) -> DataplaneOutcome:
    """Stop engine and watchdog, and remove links and namespace. Raise DataplaneError while the dataplane is in use."""
    with _held(name, check, _journal.PATIENCE):
        before = describe(name)
        service = _service.Service(f"engine-{name}")
        records = _journal.Journal(name).records()
        # In check mode, an earlier task that undoes the steering has not done so.
        if records and not check:
            raise DataplaneError(f"The dataplane {name} still steers {', '.join(record.where() for record in records)}: take them out first "
                                 "(container_steering, state: absent).")
        there = bool(before) or os.path.exists(os.path.join(_netns.NAMED, name))
        if check:
            return DataplaneOutcome(_why_remove(name, there, service.running()), before, {})
        stopped = service.stop()
        _watch.stop(name)
        namespace = _namespace.open_namespace(name)
        if namespace is not None:
            left = _netns.processes(namespace.inode)
            namespace.close()
            if left:
                raise DataplaneError(f"Processes still run in the dataplane {name} (PID {', '.join(map(str, left))}): end them first.")
        removed = _namespace.remove(name)
        _private.remove(name)
        _record.sweep()
        _journal.Journal(name).discard()
        return DataplaneOutcome(_why_remove(name, removed, stopped), before, {})


def _held(name: str, check: bool, patience: float) -> t.ContextManager[None]:
    """Hold the dataplane's lock, as steering does, but not in check mode, which makes no folder."""
    return contextlib.nullcontext() if check else _journal.Journal(_namespace.checked(name)).locked(patience)


def _why_start(name: str, running: list[str] | None, same: bool) -> str:
    if running is None:
        return f"The engine of the dataplane {name} was not running."
    return f"A restart was asked for of the engine of the dataplane {name}." if same else f"The dataplane {name} had another engine."


def _why_remove(name: str, there: bool, ran: bool) -> str | None:
    if there:
        return f"The dataplane {name} was there."
    return f"The engine of the dataplane {name} was running." if ran else None


def _wait(name: str, timeout: float, control: str | None) -> None:
    with _netns.host() as host, _namespace.opened(name) as dataplane:
        if dataplane is not None and control is not None:
            _engine.wait_for_control(control, timeout, dataplane.inode)
        elif dataplane is not None:
            _engine.check(dataplane, dataplane.fd if dataplane.topology == "takeover" else host, timeout, None)


# ip(8) also gives the engine a /sys of that namespace.
_IN_NAMESPACE = ("ip", "netns", "exec")


def _argv(name: str, engine: t.Sequence[str], private: bool) -> list[str]:
    """Return the command line that runs an engine in the dataplane's namespace."""
    return [*_IN_NAMESPACE, name, *(_private.started(name, engine) if private else engine)]


def _apart(argv: t.Sequence[str] | None) -> tuple[list[str] | None, bool]:
    """Return the engine's own command line in one that _argv() has returned, and whether it has folders of its own."""
    if argv is None:
        return None, False
    inside = list(argv[len(_IN_NAMESPACE) + 1:])
    engine = _private.program(inside)
    return engine, engine != inside
