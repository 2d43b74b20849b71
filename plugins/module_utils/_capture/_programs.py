# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of a network plugin at the host's end of a container's link, which can take packets past a capture there."""

from __future__ import annotations

import contextlib
import socket
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._bpf import _calls
from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns

_KINDS = {"tcx": (_calls.TCX_INGRESS, _calls.TCX_EGRESS), "netkit": (_calls.NETKIT_PEER,)}


def notes(name: str, taps: t.Sequence[_plan.Tap]) -> list[str]:
    """Return a sentence about each of a container's taps at the host's end where there are such programs. What cannot be asked has no sentence."""
    found = []
    for tap in taps:
        if tap.vantage == "host":
            kinds = _kinds(tap.device)
            if kinds:
                found.append(f"{tap.interface} of {name}: at {tap.device}, the host's end, are {' and '.join(kinds)} programs of a network plugin. "
                             "Packets that these redirect (as Cilium's do) do not pass there and are left out: vantage: container sees all.")
    return found


def _kinds(device: str) -> list[str]:
    """Return the kinds of programs at a link of the host's, and at the container's end of it, that are before any filter of tc."""
    with contextlib.suppress(NettapError, OSError), _netns.host() as host, _netns.entered(host):
        index = socket.if_nametoindex(device)
        # None: the second end of a netkit pair does not tell, and only a network plugin makes a pair that way.
        return [kind for kind, places in _KINDS.items() if any(_calls.attached(index, place) != [] for place in places)]
    return []
