# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Which packets are captured, and how much of each."""

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
      - Bytes to keep of each packet; V(0) is all of them.
    type: int
    default: 0
  packet_count:
    description:
      - Ends capturing on an interface after so many packets; V(0) is without limit.
    type: int
    default: 0
  promiscuous:
    description:
      - Whether to capture packets too that are not for the interface.
    type: bool
    default: false
"""
