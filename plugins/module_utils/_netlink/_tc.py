# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and structures of traffic control: qdiscs at ingress and egress, their filters (bpf, u32), and the filters' actions."""

from __future__ import annotations

import socket
import struct

# linux/if_ether.h
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
# linux/rtnetlink.h
TCMSG = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
TCA_KIND, TCA_OPTIONS = 1, 2
# linux/pkt_sched.h. clsact has the number of ingress, so a link has one of the two. Their filters have a parent for each direction.
TC_H_CLSACT = TC_H_INGRESS = 0xFFFFFFF1
INGRESS_HANDLE = 0xFFFF0000  # of the qdisc
INGRESS_PARENT, EGRESS_PARENT = 0xFFFFFFF2, 0xFFFFFFF3  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), and TC_H_MIN_EGRESS
# linux/pkt_cls.h: results of programs and actions; UNSPEC continues with the next filter, SHOT drops
TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_PIPE, TC_ACT_STOLEN = -1, 0, 2, 3, 4
# linux/pkt_cls.h: cls_bpf
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_ID = 6, 7, 8, 11
TCA_BPF_FLAG_ACT_DIRECT = 1
# linux/pkt_cls.h: cls_u32
TCA_U32_SEL, TCA_U32_ACT = 5, 7
TC_U32_TERMINAL = 1
SEL = struct.Struct("=BBBxHHhhI")  # flags, offshift, nkeys, offmask, off, offoff, hoff, hmask
# linux/pkt_cls.h, linux/gen_stats.h: actions
TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_ACT_STATS = 1, 2, 4
TCA_STATS_BASIC, TCA_STATS_PKT64 = 1, 8
GEN = struct.Struct("=IIiii")  # tc_gen: index, capab, action, refcnt, bindcnt
# linux/tc_act/{tc_mirred,tc_pedit,tc_gact}.h
TCA_PARMS, TCA_PEDIT_PARMS_EX = 2, 4  # the former is the same for mirred, pedit and gact
TCA_EGRESS_REDIR, TCA_EGRESS_MIRROR = 1, 2


def tcmsg(ifindex: int, parent: int, handle: int = 0, pref: int = 0, protocol: int = 0) -> bytes:
    """Return the header of a message about a qdisc or filter of a link. Only filters have pref and protocol (ETH_P_…)."""
    return TCMSG.pack(socket.AF_UNSPEC, ifindex, handle, parent, pref << 16 | socket.htons(protocol))
