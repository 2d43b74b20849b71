# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service link of dp as the kernel shows it: its place, its MTU, and whether dp listens there."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink
from ansible_collections.nettap.containers.plugins.module_utils._neuvector import _protocol as protocol
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns


def find(namespace: _netns.Namespace, name: str | None) -> tuple[int, int]:
    """Return index and MTU of a link in dp's network namespace, (0, 0) for no name. Raise NettapError."""
    if not name:
        return 0, 0
    with Netlink(namespace.fd) as netlink:
        links = netlink.links()
    if name not in links:
        raise DataplaneError(f"dp's network namespace has no link {name} (it has {', '.join(sorted(links))}): make it first, or name another (service_port).")
    return links[name].index, links[name].mtu


def jumbo(name: str | None, mtu: int, asked: bool | None) -> bool:
    """Return whether dp takes jumbo frames on a link of that MTU. Raise DataplaneError where dp would lose frames without a word."""
    most = protocol.MTU if asked is False else protocol.JUMBO_MTU
    if mtu > most:
        loses, remedy = ("without jumbo frames loses", "leave jumbo_frames out, or ") if asked is False else ("loses", "")
        raise DataplaneError(f"{name} has an MTU of {mtu}, and dp {loses} all packets of more than {most} bytes: "
                             f"{remedy}make the dataplane anew with a smaller mtu.")
    return bool(asked) or mtu > protocol.MTU


def listening(namespace: _netns.Namespace, ifindex: int) -> int:
    """Return the number of packet sockets that dp has on that link (proc(5), /proc/PID/net/packet). Raise DataplaneError."""
    folder = f"/proc/{namespace.pid}"
    own = set()
    try:
        for fd in os.listdir(f"{folder}/fd"):
            with contextlib.suppress(FileNotFoundError):
                own.add(os.readlink(f"{folder}/fd/{fd}"))
        with open(f"{folder}/net/packet", encoding="ascii") as stream:
            rows = [line.split() for line in stream][1:]
    except OSError as error:
        raise DataplaneError(f"What dp (process {namespace.pid}) listens on cannot be read ({error.strerror}): "
                             "it has ended, or root is needed (become: true).") from error
    return sum(int(row[4]) == ifindex and f"socket:[{row[8]}]" in own for row in rows)
