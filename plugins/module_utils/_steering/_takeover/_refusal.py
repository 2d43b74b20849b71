# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The refusals of interfaces that cannot be taken over, each with a remedy, in one sentence."""

from __future__ import annotations

import errno
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink as rt
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _tc as tc
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import Link
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover import _u32
from ansible_collections.nettap.containers.plugins.module_utils._targets._links import PAIRS

SHARED_MAC = ("ipvlan", "ipvtap")
MASTERS = ("bridge", "bond", "team", "vrf", "hsr", "batadv", "openvswitch", "macsec")
INPLACE = "use topology inplace"


def interface(netlink: Netlink, name: str, mtu: int) -> str | None:
    """Return why this interface of netlink's namespace cannot be taken over, None when it can. mtu is the service links', in bytes. Raise NetlinkError."""
    links = netlink.links()
    link = links.get(name)
    if link is None:
        return f"there is no interface {name} (there are {', '.join(sorted(links))})"
    return _kind(link, mtu) or _stack(link, links) or _traffic_control(netlink, link) or _nexthops(netlink, link)


def kernel(mode: str, ipv6: str, drop: t.Collection[str] = ()) -> str | None:
    """Return the missing kernel features, and the option that needs none of them; None when nothing is missing. This takes some 5 ms, because it is tried."""
    lacking = _u32.missing(tag=mode == "tag", drop=ipv6 == "drop" or bool(drop))
    instead = {"act_gact": f"ipv6 steer or bypass{' and an empty drop' if drop else ''}, or topology inplace"}
    if mode == "tag":
        instead["act_pedit"] = "mode bridge, or topology inplace"
    if not lacking:
        return None
    return f"the kernel lacks {' and '.join(lacking)}: use {instead.get(lacking[0], 'topology inplace') if len(lacking) == 1 else 'topology inplace'}"


def _kind(link: Link, mtu: int) -> str | None:
    if link.flags & rt.IFF_LOOPBACK:
        return f"{link.name} is the loopback, whose traffic never leaves the container: name another interface"
    if link.kind in SHARED_MAC:
        return f"{link.name} is {link.kind}, which shares its parent's MAC: steer on the parent's host instead"
    if link.kind in MASTERS:
        return f"{link.name} is a {link.kind}, which cannot leave its namespace: name the interfaces below it or {INPLACE}"
    if link.type != rt.ARPHRD_ETHER or len(link.mac) != 17 or int(link.mac[:2], 16) & 1 or not link.mac.strip("0:"):
        return f"{link.name} has no Ethernet address to steer by: name an Ethernet interface"
    if link.xdp:
        return f"{link.name} has an XDP program, which would run before the dataplane: remove it or {INPLACE}"
    if link.mtu > mtu:
        return f"the MTU of {link.name} ({link.mtu}) is above that of the service links ({mtu}): make the dataplane anew with a larger one"
    return None


def _stack(link: Link, links: dict[str, Link]) -> str | None:
    if link.master:
        master = next((other.name for other in links.values() if other.index == link.master), str(link.master))
        return f"{link.name} is a port of {master}: it cannot leave it, {INPLACE}"
    above = sorted(k.name for k in links.values() if k.link == link.index and k.netnsid is None and k.kind not in PAIRS and k is not link)
    if above:
        return f"{', '.join(above)} lies on top of {link.name} and would be lost: {INPLACE}"
    return None


def _traffic_control(netlink: Netlink, link: Link) -> str | None:
    for message in netlink.dump(rt.RTM_GETQDISC, tc.tcmsg(link.index, 0)):
        _family, index, handle, _parent, _info = tc.TCMSG.unpack_from(message)
        if index == link.index and handle:  # the kernel's default qdisc has no handle
            kind = rt.text(rt.attributes_of(message, tc.TCMSG.size)[tc.TCA_KIND])
            return f"{link.name} has a {kind} qdisc of somebody's, which moving it would drop: {INPLACE}"
    return None


def _nexthops(netlink: Netlink, link: Link) -> str | None:
    try:
        found = netlink.dump(rt.RTM_GETNEXTHOP, bytes(rt.NHMSG.size))
    except NetlinkError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # before Linux 5.3
            return None
        raise
    if any(rt.number(rt.attributes_of(message, rt.NHMSG.size).get(rt.NHA_OIF)) == link.index for message in found):
        return f"{link.name} has nexthop objects (ip nexthop), which moving it would drop: {INPLACE}"
    return None
