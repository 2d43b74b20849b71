# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start and end of a dataplane's watchdog, and its reported state."""

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

# Python must start, on a host that may be busy: in an emulated machine 20 were too few.
_READY_SECONDS = 60.0


def start(name: str, control: str | None) -> None:
    """Make sure that the watchdog runs with this code, and return once it watches. Raise NettapError. The caller holds the journal's lock.

    A watchdog ends only while it holds that lock itself. So one that is alive now will read the caller's records.
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
    """Restart a watchdog that runs with another release's code with this one, because it may be unable to read the records of this release.

    The caller holds the journal's lock. Raise NettapError.
    """
    argv = _service.Service(f"watchdog-{name}").argv_running()
    if argv is not None:
        start(name, argv[4] or None)


def stop(name: str) -> bool:
    """End the watchdog. Return True if it ran."""
    return _service.Service(f"watchdog-{name}").stop()


def read(name: str) -> dict[str, t.Any]:
    """Return the watchdog's last report: pid, started, healthy, reason, since (seconds since the epoch); {} where there is none."""
    try:
        with open(os.path.join(_journal.Journal(name).path, _watchdog.STATE), encoding="utf-8") as stream:
            state: dict[str, t.Any] = json.load(stream)
            return state
    except (FileNotFoundError, ValueError):
        return {}


def watching(name: str) -> bool:
    """Return whether the watchdog runs."""
    return _alive(read(name))


def _alive(state: dict[str, t.Any]) -> bool:
    return bool(state) and state["started"] is not None and _process.Process(state["pid"], state["started"]).alive()
