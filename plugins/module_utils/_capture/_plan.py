# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a session: one segment for every container, interface and vantage, checked against the kernel."""

from __future__ import annotations

import dataclasses
import difflib
import re
import socket
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._state import Segment
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink, _socket
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _process
from ansible_collections.nettap.containers.plugins.module_utils._targets import _links

if t.TYPE_CHECKING:
    from ansible_collections.nettap.containers.plugins.module_utils._targets._target import Target

_INSTEAD = "use vantage: container (of the role capture: capture_vantage)"


@dataclasses.dataclass(frozen=True)
class Tap:
    """One place to listen: interface is the container's, device the link that tcpdump opens (its host peer for vantage host),
    link_type what tcpdump has to be given as such, None as a rule."""

    interface: str
    vantage: str
    device: str
    link_type: str | None = None


def taps(name: str, namespace: _netns.Namespace, request: Request, note: t.Callable[[str], None] = lambda _text: None) -> list[Tap]:
    """Return the places to listen at for one container. note takes a sentence about an interface that is left out.

    Raise CaptureError when an interface or its host peer is missing.
    """
    found = []
    if request.vantage in ("container", "both"):
        indices = link_names(namespace.fd)
        for interface in request.interface:
            if interface != "any" and interface not in indices.values():
                raise CaptureError(_missing(name, interface, indices.values()))
            found.append(Tap(interface, "container", interface))
    if request.vantage in ("host", "both"):
        found += _host_taps(name, _links.interfaces([namespace])[0], request, note)
    return [
        dataclasses.replace(tap, link_type=_tcpdump.link_type(_hardware(namespace.fd, tap))) if _tcpdump.looks_like_any(tap.device) else tap
        for tap in found
    ]


def _host_taps(name: str, links: list[_links.Link], request: Request, note: t.Callable[[str], None]) -> list[Tap]:
    kinds = {link["name"]: link["kind"] for link in links}
    elsewhere = {link["name"]: _elsewhere(link) for link in links if link["peer_netns"]}
    peers = {link["name"]: link["host_peer"]["name"] for link in links if link["host_peer"]}
    if "any" in request.interface and not peers:
        raise CaptureError(f"No interface of {name} has a peer on the host (only veth and netkit have one): {_INSTEAD}."
                           + "".join(f" {interface}: {words}." for interface, words in elsewhere.items()))
    wanted: list[str] = []
    for interface in request.interface:
        wanted += peers if interface == "any" else [interface]
        for other, words in elsewhere.items() if interface == "any" else ():
            note(f"{other} of {name} is left out at the vantage host: {words}.")
    for interface in wanted:
        if interface not in peers:
            if interface not in kinds:
                raise CaptureError(_missing(name, interface, kinds))
            why = elsewhere.get(interface, "only veth and netkit have one")
            raise CaptureError(f"Interface {interface} of {name} ({kinds[interface]}) has no peer on the host ({why}): {_INSTEAD}.")
    return [Tap(interface, "host", peers[interface]) for interface in dict.fromkeys(wanted)]


def _elsewhere(link: _links.Link) -> str:
    where = link["peer_netns"]
    if not where.startswith("/"):
        return f"its other end is in a network namespace that no process and no path of this host leads to ({where})"
    return f"its other end is in the network namespace {where}, as of an overlay network or a rootless engine; netns: {where} captures there"


def _missing(name: str, interface: str, known: t.Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(interface, names, n=3, cutoff=0.4) or names
    return f"{name} has no interface {interface!r} (it has: {', '.join(near)}); any captures on all."


def present(name: str, fd: int, host_fd: int, request: Request) -> tuple[list[Tap], list[str]]:
    """Return the places of a request that are there in the namespace of fd, and in words those that are not. Raise NettapError."""
    with _socket.Netlink(fd) as inside:
        links = {link.name: link for link in inside.links().values() if link.flags & _rtnetlink.IFF_UP}  # tcpdump ends at one that is down
        nsid = inside.nsid(host_fd) if request.vantage != "container" else None
    found, missing = [], []
    has = f" (it has {', '.join(sorted(links)) or 'none that is up'})"
    if request.vantage in ("container", "both"):
        for interface in request.interface:
            if interface == "any":
                found.append(Tap(interface, "container", interface))
            elif interface in links:
                found.append(_tap(interface, "container", links[interface]))
            else:
                missing.append(f"{name} waits for its interface {interface}{has}")
    if request.vantage in ("host", "both"):
        peers = _peers(links, nsid, host_fd)
        for interface in request.interface:
            there = list(peers) if interface == "any" else [interface] if interface in peers else []
            found += [_tap(each, "host", peers[each]) for each in there]
            if not there:
                what = "an interface" if interface == "any" else f"its interface {interface}"
                missing.append(f"{name} waits for {what} with a peer on the host{has}")
    return list(dict.fromkeys(found)), missing


def _tap(interface: str, vantage: str, link: _rtnetlink.Link) -> Tap:
    return Tap(interface, vantage, link.name, _tcpdump.link_type(link.type) if _tcpdump.looks_like_any(link.name) else None)


def _peers(links: t.Mapping[str, _rtnetlink.Link], nsid: int | None, host_fd: int) -> dict[str, _rtnetlink.Link]:
    """Return the host's ends, by the name of the container's end. nsid is the number by which the container's namespace knows the host's."""
    if nsid is None:
        return {}
    with _socket.Netlink(host_fd) as host:
        ends = {link.index: link for link in host.links().values() if link.flags & _rtnetlink.IFF_UP}
    pairs = ((link, ends.get(link.link or 0)) for link in links.values() if link.netnsid == nsid and link.kind in _links.PAIRS)
    return {link.name: end for link, end in pairs if end is not None and (end.kind, end.link) == (link.kind, link.index)}


def link_names(fd: int) -> dict[int, str]:
    """Return the names of the links in a namespace, by index: a LINUX_SLL2 packet holds only the index of its interface. Raise CaptureError."""
    with _netns.entered(fd), refused_as(CaptureError, "The links of a network namespace cannot be listed", "run the task again"):
        return dict(socket.if_nameindex())


def by_namespace(targets: t.Sequence[Target]) -> list[list[Target]]:
    """Return the targets of each network namespace, so that no packet is captured once for each container. The first has made the namespace, if any has."""
    found: dict[int, list[Target]] = {}
    for target in sorted(targets, key=lambda target: not target.container.sandbox and not (target.container.identity and target.container.identity.isolated)):
        found.setdefault(target.namespace.inode, []).append(target)
    return sorted(found.values(), key=lambda targets: targets[0].container.name)


def check(targets: t.Sequence[Target], request: Request, tcpdump: str, allow_host_network: bool,
          note: t.Callable[[str], None] = lambda _text: None) -> list[list[Tap]]:
    """Return the taps of each namespace, as by_namespace() orders them. note takes a sentence about an interface that is left out.

    Raise everything that can be known to be wrong before a capture starts.
    """
    shared = [target.container.name for target in targets if target.host_network]
    if shared and not allow_host_network:
        raise CaptureError(f"{', '.join(shared)} shares the host's network: a capture would hold the host's whole traffic; "
                           "set allow_host_network: true (of the role capture: capture_allow_host_network) if that is what you want.")
    found = []
    types: dict[tuple[bool, int | None], str] = {}
    for target in [sharing[0] for sharing in by_namespace(targets)]:
        try:
            places = taps(target.container.name, target.namespace, request, note)
            for tap in places if request.filter else []:
                hardware = None if tap.device == "any" else _hardware(target.namespace.fd, tap)
                types.setdefault((tap.device == "any", hardware), tap.device)
        except CaptureError:
            if request.on_restart != "follow" or target.namespace.pidfd is None or not _process.has_ended(target.namespace.pidfd):
                raise
            places = []  # it has just ended, and its interfaces with it: its next start is waited for
        found.append(places)
    if not types:  # nothing runs yet
        types = {(interface == "any" and request.vantage == "container", 1): interface for interface in request.interface}
    for (_any, hardware), device in types.items() if request.filter else ():
        _tcpdump.check_filter(tcpdump, request.filter, device, hardware)
    return found


def _hardware(fd: int, tap: Tap) -> int:
    """Return the ARPHRD_ number of a tap's link. Raise CaptureError."""
    if tap.vantage == "host":
        return 1  # a veth
    refusals = refused_as(CaptureError, f"The interface {tap.device} cannot be opened", "run the task again, as root of the host itself")
    with _netns.entered(fd), refusals, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packet:
        packet.bind((tap.device, 0))
        return int(packet.getsockname()[3])


def segment(number: int, container: Watched, tap: Tap, argv_of: t.Callable[[str, str], list[str]], directory: str,
            sharing: t.Sequence[str] = ()) -> Segment:
    """Return the segment of a tap that is about to start.

    argv_of(device, path) returns the command line of its tcpdump. sharing are the names of all containers in the namespace, this one included.
    """
    # The AppArmor profile of tcpdump lets it write *.pcap only.
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{'+'.join(sharing) or container.name}-{tap.interface}")[:100]
    file = f"{number:03d}-{readable}-{tap.vantage}.pcap"
    return Segment(container=container.name, id=container.id, image=container.image, interface=tap.interface, vantage=tap.vantage, device=tap.device,
                   file=file, argv=argv_of(tap.device, f"{directory}/{file}"), containers=list(sharing))
