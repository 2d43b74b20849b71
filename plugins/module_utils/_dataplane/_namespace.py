# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dataplane's own network namespace, and the service links over which traffic reaches its engine.

                 steering's end          engine's end (in the dataplane's namespace)
    mode tag     vbr            <veth>   vth
    mode bridge  vbr0, vbr1     <veth>   vth0, vth1

Steering in place redirects on the host, so steering's ends are there. The takeover has all ends in the dataplane's namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import hashlib
import os
import socket
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DataplaneError, MissingError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink as rt
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import attribute
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError
from ansible_collections.nettap.containers.plugins.module_utils._neuvector._protocol import MTU as TAG_MTU
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _program

# Bytes. Frames up to this size pass (jumbo frames of the usual 9000 bytes and more). Engines size their buffers by it.
MTU = 9216
# Bytes. For longer packets NeuVector's dp would need jumbo frames, for which it reserves 128 MiB.
_DEFAULT_MTU = {"tag": TAG_MTU, "bridge": MTU}
_ENDS = {"tag": (("vbr", "vth"),), "bridge": (("vbr0", "vth0"), ("vbr1", "vth1"))}

# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17


@dataclasses.dataclass(frozen=True)
class ServiceLink:
    """A veth. name and ifindex are of steering's end, engine and engine_ifindex of the end in the dataplane's namespace."""

    name: str
    ifindex: int
    engine: str
    engine_ifindex: int


@dataclasses.dataclass(frozen=True)
class Dataplane:
    """An existing dataplane. fd is its open namespace. The first of the links leads to containers, the last to the network."""

    name: str
    fd: int
    inode: int
    topology: str
    mode: str
    mtu: int
    links: tuple[ServiceLink, ...]

    @property
    def path(self) -> str:
        """Return the path at which the namespace is bound."""
        return os.path.join(_netns.NAMED, self.name)

    def describe(self) -> dict[str, t.Any]:
        """Return the dataplane's fields as modules return them."""
        return {
            "name": self.name,
            "netns": {"path": self.path, "inode": self.inode},
            "topology": self.topology,
            "mode": self.mode,
            "mtu": self.mtu,
            "links": [{"name": link.name, "ifindex": link.ifindex, "engine_name": link.engine, "engine_ifindex": link.engine_ifindex} for link in self.links],
        }


def planned(name: str, topology: str, mode: str, mtu: int | None = None) -> dict[str, t.Any]:
    """Return a dataplane that is to be made, in the form that describe() returns. The kernel's numbers, which are not known yet, are None."""
    return {
        "name": name, "netns": {"path": os.path.join(_netns.NAMED, checked(name)), "inode": None}, "topology": topology, "mode": mode,
        "mtu": mtu or _DEFAULT_MTU[mode],
        "links": [{"name": end, "ifindex": None, "engine_name": engine, "engine_ifindex": None} for end, engine in _ENDS[mode]],
    }


def open_namespace(name: str) -> _netns.Namespace | None:
    """Return the open namespace of a dataplane, None where there is none. Raise NamespaceError, or DataplaneError for a name that cannot be one.

    An empty file is none: ip(8) leaves one when it is killed while it adds or deletes a namespace.
    """
    path = os.path.join(_netns.NAMED, checked(name))
    if not os.path.ismount(path):
        return None
    try:
        return _netns.open_path(path)
    except MissingError:
        return None


@contextlib.contextmanager
def opened(name: str) -> t.Iterator[Dataplane | None]:
    """Yield the dataplane of that name, None where there is none. Raise DataplaneError for an incomplete one."""
    namespace = open_namespace(name)
    if namespace is None:
        yield None
        return
    try:
        yield _read(name, namespace)
    finally:
        namespace.close()


def create(name: str, topology: str, mode: str, mtu: int | None = None) -> bool:
    """Make the missing ones of the namespace and the service links. Return True if any was missing.

    Raise DataplaneError if the dataplane of that name has another topology or mode, or if a link's name is taken.
    """
    with opened(name) as dataplane:
        if dataplane is not None:
            if (dataplane.topology, dataplane.mode) != (topology, mode):
                raise DataplaneError(f"The dataplane {name} is made for topology {dataplane.topology}, mode {dataplane.mode}: a dataplane serves one of each; "
                                     f"give another dataplane_netns for {topology}, {mode}.")
            return False
    path = os.path.join(_netns.NAMED, checked(name))
    namespace = open_namespace(name)
    if namespace is None:
        if os.path.exists(path):
            _run("ip", "netns", "delete", name)
        _run("ip", "netns", "add", name)
        namespace = _netns.open_path(path)
    try:
        _make_links(name, namespace.fd, topology, mode, mtu or _DEFAULT_MTU[mode])
    finally:
        namespace.close()
    return True


def remove(name: str) -> bool:
    """Remove namespace and service links. Return True if there were any. Nothing may be steered through the dataplane any more. Raise DataplaneError."""
    path = os.path.join(_netns.NAMED, checked(name))
    if not os.path.exists(path):
        return False
    # The links disappear with either end, but the namespace stays while a process is in it.
    namespace = open_namespace(name)
    if namespace is not None:
        with contextlib.closing(namespace), _netns.host() as host, Netlink(host) as outside, Netlink(namespace.fd) as inside:
            for ours, theirs in (names for mode in _ENDS for names in _names(name, mode)):
                for netlink, link in ((outside, outside.links().get(ours)), (inside, inside.links().get(theirs))):
                    # Only a link whose other end is in the namespace is a service link of it.
                    if link is not None and (netlink is inside or link.netnsid is not None and link.netnsid == outside.nsid(namespace.fd)):
                        netlink.delete_link(link.index)
    _run("ip", "netns", "delete", name)
    return True


def checked(name: str) -> str:
    """Return the name if it can be a dataplane's, else raise DataplaneError."""
    if not name or "/" in name or name in (".", "..") or len(name) > 64:
        raise DataplaneError(f"{name!r} cannot name a dataplane: it becomes a named network namespace (no slash, at most 64 characters).")
    return name


def _names(name: str, mode: str) -> list[tuple[str, str]]:
    """Return the names of both ends of each service link. Steering's ends can be on the host, where each dataplane needs its own names."""
    if name == "nettap":
        return list(_ENDS[mode])
    # A link's name has at most 15 characters (IFNAMSIZ); the longest prefix is vbr0-.
    suffix = name if len(name) <= 10 else hashlib.sha256(name.encode()).hexdigest()[:10]
    return [(f"{ours}-{suffix}", theirs) for ours, theirs in _ENDS[mode]]


def _make_links(name: str, fd: int, topology: str, mode: str, mtu: int) -> None:
    with _netns.host() as host, Netlink(fd) as inside, Netlink(host) as outside:
        _disable_ipv6(fd, "default")
        steering = outside if topology == "inplace" else inside
        for ours, theirs in _names(name, mode):
            left = inside.link(theirs)
            if left is not None:  # left by a call that was killed
                inside.delete_link(left.index)
            if steering.link(ours) is not None:
                raise DataplaneError(f"A link {ours} is there already, and is not the dataplane {name}'s: remove it, or give another dataplane_netns.")
            # The link stays down until all is set: before that, it would send packets of its own.
            pair = rt.veth(rt.end(ours, mtu), rt.end(theirs, mtu, attribute(rt.IFLA_NET_NS_FD, fd)))
            try:
                steering.request(rt.RTM_NEWLINK, pair, rt.NLM_F_CREATE | rt.NLM_F_EXCL)
            except NetlinkError as error:
                raise DataplaneError(f"The kernel does not make the veth {ours} (MTU {mtu}) for the dataplane {name}: {error.strerror}.") from error
            where = host if topology == "inplace" else fd
            _disable_ipv6(where, ours)
            # Redirecting to this end's egress makes the kernel finish checksums and cut segments: engines see real packets.
            # No GRO on the way back: an engine sends packet by packet, so there is nothing to join, and it would cost a fifth of the rate.
            _tx_off(where, ours)
            _tx_off(fd, theirs)
            for netlink, link in ((inside, theirs), (steering, ours)):
                netlink.set_link(netlink.links()[link].index, flags=rt.IFF_UP, change=rt.IFF_UP)


def _read(name: str, namespace: _netns.Namespace) -> Dataplane | None:
    """Return the dataplane as it exists, None where the namespace has no service link (yet). Raise DataplaneError."""
    with _netns.host() as host, Netlink(namespace.fd) as inside, Netlink(host) as outside:
        theirs = inside.links()
        mode = next((mode for mode, ends in _ENDS.items() if all(end in theirs for _ours, end in ends)), None)
        if mode is None:
            return None
        links = []
        topology = "takeover"
        for _ours, end in _ENDS[mode]:
            link = theirs[end]
            if link.netnsid is not None:
                topology = "inplace"
            where = inside if link.netnsid is None else outside if link.netnsid == inside.nsid(host) else None
            ours = where.link(link.link) if where is not None and link.link else None
            if ours is None:
                raise DataplaneError(f"The other end of {end} in the dataplane {name} is not on the host: "
                                     f"make it anew (container_dataplane: state absent, then present).")
            links.append(ServiceLink(ours.name, ours.index, end, link.index))
        return Dataplane(name, namespace.fd, namespace.inode, topology, mode, theirs[_ENDS[mode][0][1]].mtu, tuple(links))


def _disable_ipv6(fd: int, link: str) -> None:
    """Disable IPv6 on a link. Raise DataplaneError.

    A service link carries only others' packets: it must have no address, no duplicate address detection and no router solicitation.
    """
    path = f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6"
    refusals = refused_as(DataplaneError, f"{path} cannot be set to 1", "make /proc/sys writable, on the host itself")
    with _netns.entered(fd), refusals, contextlib.suppress(FileNotFoundError), open(path, "w", encoding="ascii") as stream:  # no IPv6 in the kernel
        stream.write("1")


def _tx_off(fd: int, link: str) -> None:
    """Do the same as ethtool -K LINK tx off. Without the transmit checksum (tx) the kernel also turns segmentation offload off. Raise DataplaneError."""
    wanted = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_STXCSUM, 0), 8)
    refusals = refused_as(DataplaneError, f"The offloads of the link {link} cannot be set", "run as root of the host itself")
    with _netns.entered(fd), refusals, socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        # struct ifreq: the link's name and a pointer to struct ethtool_value.
        fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sP16x", link.encode(), ctypes.addressof(wanted)))


def _run(*argv: str) -> None:
    """Run ip(8), which binds a namespace to its name so that every tool finds it. Raise DataplaneError."""
    done = _program.run(argv, DataplaneError, remedy="install the package iproute2, and look at the host's load")
    if done.returncode:
        raise DataplaneError(f"{' '.join(argv)} failed: {done.stderr.strip()}")
