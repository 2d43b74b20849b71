# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The options that select the packets to capture, and the part of each to keep."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of plugins/module_utils/_arguments/_packets.py."""

    DOCUMENTATION = r"""
options:
  filter:
    description:
      - A filter expression, see C(pcap-filter(7)).
    type: str
    default: ""
  snaplen:
    description:
      - Bytes to keep of each packet; V(0) means all of them.
    type: int
    default: 0
  packet_count:
    description:
      - Number of packets after which capturing on an interface ends; V(0) means without limit.
    type: int
    default: 0
  promiscuous:
    description:
      - Whether to capture also packets that are not for the interface.
    type: bool
    default: false
"""
