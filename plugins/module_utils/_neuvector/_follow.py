# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dp is kept current: its workloads open and close sockets while it runs."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink._sockets import Sockets
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _dp, _sockets
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._record import DataplaneRecord, Store
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._session import Session

Look = t.Callable[[bool], t.Optional[Sockets]]


def follow(looks: t.Mapping[str, Look], path: str, timeout: float, anew: bool, patience: float, within: int | None = None) -> None:
    """Tell dp on which ports its workloads serve now. looks return the sockets of workloads, by their MAC: with connections or without.

    With anew, also give dp rules for the connections that it will meet in mid-stream. Otherwise only withdraw those of connections that have
    ended: newer ones begin before its eyes. Do nothing where dp has no sure configuration. patience is for another task that configures a dp, in
    seconds. within is the inode number of the network namespace in which dp must be, None for any. Raise DataplaneError.
    """
    with Session(path, timeout, within) as session:
        store = Store(session.namespace.pid, session.namespace.started)
        if _outdated(store.load(), looks, anew):
            with store.locked(patience):
                record = store.load()
                sockets = _outdated(record, looks, anew)
                if sockets:
                    _dp.Change(session, record, record.config, timeout, {**_sockets.load(record.sockets), **sockets}).reach(store, False)


def _outdated(record: DataplaneRecord, looks: t.Mapping[str, Look], anew: bool) -> dict[str, Sockets]:
    """Return the sockets of those workloads for which dp was told other ports or rules than these give."""
    told, outdated = _sockets.load(record.sockets), {}
    for mac in [one["mac"] for one in record.config["workloads"] if one["mac"] in looks] if record.sure else []:
        before = told.get(mac)
        # To read connections is expensive, and most workloads have none that matters.
        now = looks[mac](anew or bool(before and before.connections))
        if now is not None:
            now = now if anew or before is None else _sockets.ended(before, now)
            if (_sockets.ports(record.config, mac, before), _sockets.rules(record.config, mac, before)) != (
                    _sockets.ports(record.config, mac, now), _sockets.rules(record.config, mac, now)):
                outdated[mac] = now
    return outdated
