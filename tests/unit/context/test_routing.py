# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of the kernel that the test machine cannot be brought to send, in the form in which pyroute2 gives them."""

from __future__ import annotations

import socket
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._context import _routing


class Message(dict[str, t.Any]):
    """A decoded message: its header's fields, and its attributes."""

    def __init__(self, attributes: dict[str, t.Any], **fields: t.Any) -> None:
        super().__init__(fields)
        self._attributes = attributes

    def get_attr(self, name: str) -> t.Any:
        """See pyroute2."""
        return self._attributes.get(name)


class Kernel:
    """Stands for the netlink socket."""

    def __init__(self, *messages: Message) -> None:
        self._messages = messages

    def get_routes(self) -> tuple[Message, ...]:
        """See pyroute2."""
        return self._messages

    def get_qdiscs(self) -> tuple[Message, ...]:
        """See pyroute2."""
        return self._messages


def route(attributes: dict[str, t.Any], **fields: t.Any) -> Message:
    """A route of IPv4 in the table main."""
    return Message(attributes, **{"family": socket.AF_INET, "dst_len": 0, "table": 254, "type": 1, "flags": 0, **fields})


@pytest.mark.parametrize("message", [
    route({"RTA_TABLE": 255}), route({}, table=255), route({}, flags=0x200), route({}, family=128),
], ids=["the table local", "the same by its header", "a cached route", "a multicast route of RTNL_FAMILY_IPMR"])  # fmt: skip
def test_routes_that_nobody_has_set_are_left_out(message: Message) -> None:
    assert _routing.routes(Kernel(message), {}) == []


def test_gateway_of_another_family() -> None:
    found = _routing.routes(Kernel(route({"RTA_VIA": {"family": socket.AF_INET6, "addr": "fe80::1"}, "RTA_OIF": 7})), {7: "eth0"})
    assert (found[0]["gateway"], found[0]["interface"]) == ("fe80::1", "eth0")


def test_what_has_no_name_is_told_by_number() -> None:
    found = _routing.routes(Kernel(route({"RTA_OIF": 9}, type=99, table=1000)), {})
    assert (found[0]["interface"], found[0]["type"], found[0]["table"]) == (9, 99, 1000)


@pytest.mark.parametrize(("number", "text"), [
    (0, "0:"), (0x70000, "7:"), (0x10010, "1:10"), (0xFFFF0000, "ffff:"), (0xFFFFFFFF, "root"), (0xFFFFFFF1, "ingress"),
])  # fmt: skip
def test_handles_are_as_tc_writes_them(number: int, text: str) -> None:
    qdisc = Message({"TCA_KIND": "pfifo"}, index=1, handle=number, parent=number)
    assert _routing.qdiscs(Kernel(qdisc), {})[0]["handle"] == text
