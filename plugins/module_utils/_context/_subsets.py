# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the network of a container looks like beyond its interfaces: the subsets of container_network_info."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._context import _counters, _firewall, _routing, _sockets
from ansible_collections.nettap.containers.plugins.module_utils._system._netns import Namespace
from ansible_collections.nettap.containers.plugins.module_utils._targets import _links

INTERFACES, ALL = "interfaces", "all"
# All but the interfaces, which take a look at the host's links too.
SUBSETS = ("routes", "rules", "neighbours", "sockets", "counters", "qdiscs", "firewall")


def gather(namespaces: t.Sequence[Namespace], wanted: t.Collection[str]) -> list[dict[str, t.Any]]:
    """Return the wanted subsets of each namespace, by their names. Raise NettapError."""
    subsets = set(SUBSETS) if ALL in wanted else set(wanted)
    found: list[dict[str, t.Any]] = [{} for _namespace in namespaces]
    if subsets - {"sockets", "firewall", INTERFACES}:
        for one, namespace in zip(found, namespaces):
            one.update(_over_netlink(namespace.fd, subsets))
    if "sockets" in subsets:
        for one, sockets in zip(found, _sockets.read(namespaces)):
            one["sockets"] = sockets
    if "firewall" in subsets:
        for one, namespace in zip(found, namespaces):
            one["firewall"] = _firewall.listings(namespace.fd)
    return found


def _over_netlink(fd: int, subsets: t.Collection[str]) -> dict[str, t.Any]:
    with _links.connect(fd) as netlink:
        names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in netlink.get_links()}
        readers: dict[str, t.Callable[[], t.Any]] = {
            "routes": lambda: _routing.routes(netlink, names),
            "rules": lambda: _routing.rules(netlink),
            "neighbours": lambda: _routing.neighbours(netlink, names),
            "counters": lambda: {"links": _counters.links(netlink), "protocols": _counters.protocols(fd)},
            "qdiscs": lambda: _routing.qdiscs(netlink, names),
        }
        return {subset: read() for subset, read in readers.items() if subset in subsets}
