# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clsact qdisc and the BPF filters of a link."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _rtnetlink as rt
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _tc as tc
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import attribute, attributes_of, text
from ansible_collections.nettap.containers.plugins.module_utils._netlink._socket import Netlink, NetlinkError

OWN = "nettap:"  # prefix of the names of the collection's filters

_PARENTS = {"ingress": tc.INGRESS_PARENT, "egress": tc.EGRESS_PARENT}


@dataclasses.dataclass(frozen=True)
class Filter:
    """A filter of a link, as the kernel shows it. Only a BPF filter has a name and a program (its ID)."""

    ifindex: int
    direction: str
    pref: int
    handle: int
    kind: str
    name: str = ""
    program: int | None = None

    @property
    def own(self) -> bool:
        """Return whether the filter is the collection's own."""
        return self.kind == "bpf" and self.name.startswith(OWN)


@contextlib.contextmanager
def _at_once() -> t.Iterator[None]:
    """Run the block with real-time priority, because the kernel drops all packets that the link sends until the block's request is done.

    This holds for any change of a qdisc, also of clsact, and of the txqlen (dev_deactivate to dev_activate in net/sched/sch_generic.c), but
    not for changes of filters.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):  # not allowed here: then the request takes longer
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, *before)


class Filters(Netlink):
    """A netlink socket in one namespace, for the qdiscs and filters there. Methods raise SteeringError if the kernel refuses a request."""

    def has_link(self, ifindex: int) -> bool:
        """Return whether a link with that index exists; no link has 0. Raise NetlinkError."""
        return bool(ifindex) and self.link(ifindex) is not None

    def queue_length(self, ifindex: int) -> int | None:
        """Return the link's txqlen in packets, None when the link is gone. Raise NetlinkError."""
        link = self.link(ifindex)
        return None if link is None else link.txqlen

    def set_queue_length(self, ifindex: int, packets: int) -> None:
        """Set the link's txqlen in packets. A link that is gone is no error. Raise SteeringError."""
        try:
            with _at_once():
                self.set_link(ifindex, attribute(rt.IFLA_TXQLEN, packets))
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise SteeringError(f"The txqlen of link {ifindex} cannot be set: {error.strerror}.") from error

    def qdisc(self, ifindex: int) -> str | None:
        """Return which of the qdiscs clsact and ingress the link has, None if it has neither. Raise SteeringError."""
        for body in self._of_link(rt.RTM_GETQDISC, ifindex, 0):
            if tc.TCMSG.unpack_from(body)[3] == tc.TC_H_CLSACT:
                return text(attributes_of(body, tc.TCMSG.size)[tc.TCA_KIND])
        return None

    def list(self, ifindex: int) -> t.List[Filter]:  # noqa: UP006  # here `list` is this method
        """Return all filters of the link's clsact (or ingress), by direction and pref. Raise SteeringError."""
        found = {}
        for direction, parent in _PARENTS.items():
            for body in self._of_link(rt.RTM_GETTFILTER, ifindex, parent):
                _family, _ifindex, handle, seen, info = tc.TCMSG.unpack_from(body)
                attributes = attributes_of(body, tc.TCMSG.size)
                # The kernel also shows the head of each pref, without a handle. The qdisc ingress shows the same for both parents.
                if not handle or seen not in (parent, tc.INGRESS_HANDLE):
                    continue
                kind = text(attributes[tc.TCA_KIND])
                options = attributes_of(attributes.get(tc.TCA_OPTIONS, b"")) if kind == "bpf" else {}
                one = Filter(ifindex, direction, info >> 16, handle, kind, text(options.get(tc.TCA_BPF_NAME, b"")), rt.number(options.get(tc.TCA_BPF_ID)))
                found[(direction, one.pref, handle)] = one
        return sorted(found.values(), key=lambda one: (one.direction, one.pref))

    def add_clsact(self, ifindex: int) -> None:
        """Add a clsact to the link. Raise DependencyError if the kernel has none, SteeringError for other refusals."""
        body = tc.tcmsg(ifindex, tc.TC_H_CLSACT, tc.INGRESS_HANDLE) + attribute(tc.TCA_KIND, "clsact")
        try:
            with _at_once():
                self.request(rt.RTM_NEWQDISC, body, rt.NLM_F_CREATE | rt.NLM_F_EXCL)
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                raise DependencyError("The kernel has no clsact (module sch_ingress): install the modules of its distribution.") from error
            raise SteeringError(f"The clsact qdisc cannot be added to link {ifindex}: {error.strerror}.") from error

    def remove_clsact(self, ifindex: int) -> None:
        """Remove the link's clsact with all its filters. The caller makes sure that they are its own. Raise SteeringError."""
        with _at_once():
            self._remove([(rt.RTM_DELQDISC, tc.tcmsg(ifindex, tc.TC_H_CLSACT, tc.INGRESS_HANDLE))])

    def add(self, ifindex: int, direction: str, pref: int, program_fd: int, name: str) -> None:
        """Add a BPF filter in direct-action mode, for all protocols. Raise DependencyError if the kernel has no cls_bpf, or SteeringError."""
        options = attribute(tc.TCA_BPF_FD, program_fd) + attribute(tc.TCA_BPF_NAME, name) + attribute(tc.TCA_BPF_FLAGS, tc.TCA_BPF_FLAG_ACT_DIRECT)
        body = (tc.tcmsg(ifindex, _PARENTS[direction], 1, pref, tc.ETH_P_ALL)
                + attribute(tc.TCA_KIND, "bpf") + attribute(tc.TCA_OPTIONS | rt.NLA_F_NESTED, options))
        try:
            self.request(rt.RTM_NEWTFILTER, body, rt.NLM_F_CREATE | rt.NLM_F_EXCL)
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                raise DependencyError("The kernel has no cls_bpf: use topology: takeover, which needs none.") from error
            raise SteeringError(f"The filter {name} cannot be added to link {ifindex}: {error.strerror}.") from error

    def delete(self, filters: t.Sequence[Filter]) -> None:
        """Delete filters. Those that are gone already are no error. Raise SteeringError."""
        self._remove([
            (rt.RTM_DELTFILTER, tc.tcmsg(one.ifindex, _PARENTS[one.direction], one.handle, one.pref, tc.ETH_P_ALL)
             + attribute(tc.TCA_KIND, one.kind))
            for one in filters
        ])

    def _remove(self, requests: t.Sequence[tuple[int, bytes]]) -> None:
        for kind, body in requests:
            try:
                self.request(kind, body)
            except NetlinkError as error:
                # The filter, the last filter of its pref, the qdisc or the link is gone.
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
                    raise SteeringError(f"The kernel does not remove a filter: {error.strerror}.") from error

    def _of_link(self, kind: int, ifindex: int, parent: int) -> t.Iterator[bytes]:
        try:
            answers = self.dump(kind, tc.tcmsg(ifindex, parent))
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return
            raise SteeringError(f"The filters of link {ifindex} cannot be read: {error.strerror}.") from error
        yield from (body for body in answers if tc.TCMSG.unpack_from(body)[1] == ifindex)  # the kernel dumps the qdiscs of all links
