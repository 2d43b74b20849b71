# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NeuVector's dp is told the sockets of the steered containers, from their own network namespaces."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink import _sockets
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _follow
from ansible_collections.nettap.containers.plugins.module_utils._steering import _bench
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import SteeringRecord


def follow(records: t.Iterable[SteeringRecord], control: str, timeout: float, anew: bool, patience: float, within: int | None) -> None:
    """Tell the dp at control on which ports the records' containers serve now. For anew, patience and within see _follow.follow. Raise NettapError."""
    found = {record.mac: functools.partial(_read, record) for record in records if record.mode == "tag"}
    if found:
        _follow.follow(found, control, timeout, anew, patience, within)


def _read(record: SteeringRecord, connections: bool) -> _sockets.Sockets | None:
    """Return the sockets of a record's container, None when it is gone. Raise NettapError."""
    namespace = _bench.container(record)
    if namespace is None:
        return None
    try:
        return _sockets.read(namespace.fd, connections)
    finally:
        namespace.close()
