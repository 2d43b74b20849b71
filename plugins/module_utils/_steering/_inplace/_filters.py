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

OWN = "nettap:"  # how the names of our filters begin

_PARENTS = {"ingress": tc.INGRESS_PARENT, "egress": tc.EGRESS_PARENT}


@dataclasses.dataclass(frozen=True)
class Filter:
    """A filter of a link, as the kernel shows it; name and program (its ID) only where it is a BPF one."""

    ifindex: int
    direction: str
    pref: int
    handle: int
    kind: str
    name: str = ""
    program: int | None = None

    @property
    def own(self) -> bool:
        """Whether it is ours."""
        return self.kind == "bpf" and self.name.startswith(OWN)


@contextlib.contextmanager
def _at_once() -> t.Iterator[None]:
    """Where the kernel drops all that a link sends while it works for us, we do not wait for our turn among other processes.

    Any change of a qdisc, clsact too, and of the txqlen is such: dev_deactivate to dev_activate in net/sched/sch_generic.c. Filters are not.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):  # not allowed here: then it takes longer
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, *before)


class Filters(Netlink):
    """A netlink socket in one namespace, for the qdiscs and filters there. Raises SteeringError for what the kernel refuses."""

    def has_link(self, ifindex: int) -> bool:
        """Whether a link of that number is there; 0 is none's. Raises NetlinkError."""
        return bool(ifindex) and self.link(ifindex) is not None

    def queue_length(self, ifindex: int) -> int | None:
        """The link's txqlen, in packets; None when it is gone."""
        link = self.link(ifindex)
        return None if link is None else link.txqlen

    def set_queue_length(self, ifindex: int, packets: int) -> None:
        """Sets the link's txqlen; one that is gone is no error."""
        try:
            with _at_once():
                self.set_link(ifindex, attribute(rt.IFLA_TXQLEN, packets))
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise SteeringError(f"The txqlen of link {ifindex} cannot be set: {error.strerror}.") from error

    def qdisc(self, ifindex: int) -> str | None:
        """Which of clsact and ingress the link has, if any."""
        for body in self._of_link(rt.RTM_GETQDISC, ifindex, 0):
            if tc.TCMSG.unpack_from(body)[3] == tc.TC_H_CLSACT:
                return text(attributes_of(body, tc.TCMSG.size)[tc.TCA_KIND])
        return None

    def list(self, ifindex: int) -> t.List[Filter]:  # noqa: UP006  # here `list` is this method
        """All filters of the link's clsact (or ingress), by direction and pref."""
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
        """Gives the link a clsact."""
        body = tc.tcmsg(ifindex, tc.TC_H_CLSACT, tc.INGRESS_HANDLE) + attribute(tc.TCA_KIND, "clsact")
        try:
            with _at_once():
                self.request(rt.RTM_NEWQDISC, body, rt.NLM_F_CREATE | rt.NLM_F_EXCL)
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                raise DependencyError("The kernel has no clsact (module sch_ingress): install the modules of its distribution.") from error
            raise SteeringError(f"The clsact qdisc cannot be added to link {ifindex}: {error.strerror}.") from error

    def remove_clsact(self, ifindex: int) -> None:
        """Takes the clsact, with all its filters: see first that they are ours."""
        with _at_once():
            self._remove([(rt.RTM_DELQDISC, tc.tcmsg(ifindex, tc.TC_H_CLSACT, tc.INGRESS_HANDLE))])

    def add(self, ifindex: int, direction: str, pref: int, program_fd: int, name: str) -> None:
        """Adds a BPF filter in direct-action mode, for all protocols."""
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
        """Deletes filters; those that are gone already are no error."""
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
                # Gone, the last of its pref gone, the qdisc gone, the link gone.
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
                    raise SteeringError(f"The kernel does not remove a filter: {error.strerror}.") from error

    def _of_link(self, kind: int, ifindex: int, parent: int) -> t.Iterator[bytes]:
        try:
            answers = self.dump(kind, tc.tcmsg(ifindex, parent))
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return
            raise SteeringError(f"The filters of link {ifindex} cannot be read: {error.strerror}.") from error
        yield from (body for body in answers if tc.TCMSG.unpack_from(body)[1] == ifindex)  # qdiscs are dumped of all links
