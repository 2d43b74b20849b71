# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the watchdog of a dataplane, and reads what it says."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._background import _archive, _service
from ansible_collections.nettap.containers.plugins.module_utils._errors import SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._steering import _journal
from ansible_collections.nettap.containers.plugins.module_utils._steering._watchdog import _watchdog
from ansible_collections.nettap.containers.plugins.module_utils._system import _files, _process

# It is Python that starts, on a host that may be busy: in an emulated machine 20 were too few.
_READY_SECONDS = 60.0


def start(name: str, control: str | None) -> None:
    """Sees that the watchdog runs, with this code; returns once it watches. The journal is locked by the caller.

    A watchdog ends only while it holds that lock itself: so one that is alive now will see what the caller has written.
    """
    folder = _journal.Journal(name).path
    code = _archive.build(_watchdog)
    path = os.path.join(folder, "watchdog.pyz")
    argv = [sys.executable, "-I", path, name, control or "", hashlib.sha256(code).hexdigest()[:12]]
    service = _service.Service(f"watchdog-{name}", argv, f"nettap watchdog of the dataplane {name}")
    if service.argv_running() == service.argv and _alive(read(name)):
        return
    service.stop()
    _files.replace(path, code)
    service.start()
    if not _service.wait(lambda: _alive(read(name)), _READY_SECONDS):
        said = service.tail()
        service.stop()
        raise SteeringError(f"The watchdog of the dataplane {name} did not start within {_READY_SECONDS:.0f} s: {' / '.join(said) or 'it says nothing'}.")


def renew(name: str) -> None:
    """Has a watchdog that runs with another release's code run with this one: it may not read the records that this release writes.

    The journal is locked by the caller.
    """
    argv = _service.Service(f"watchdog-{name}").argv_running()
    if argv is not None:
        start(name, argv[4] or None)


def stop(name: str) -> bool:
    """Ends the watchdog; True if it ran."""
    return _service.Service(f"watchdog-{name}").stop()


def read(name: str) -> dict[str, t.Any]:
    """What the watchdog said last: pid, started, healthy, reason, since (seconds since the epoch); {} where it has said nothing."""
    try:
        with open(os.path.join(_journal.Journal(name).path, _watchdog.STATE), encoding="utf-8") as stream:
            state: dict[str, t.Any] = json.load(stream)
            return state
    except (FileNotFoundError, ValueError):
        return {}


def watching(name: str) -> bool:
    """Whether the watchdog runs."""
    return _alive(read(name))


def _alive(state: dict[str, t.Any]) -> bool:
    return bool(state) and state["started"] is not None and _process.Process(state["pid"], state["started"]).alive()
