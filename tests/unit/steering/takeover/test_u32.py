# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters are, byte for byte, what tc(8) 6.1 sends for NeuVector's commands, also where the test machine's kernel lacks act_pedit.

The bytes were recorded with `strace -e trace=sendmsg tc filter add dev v0 ingress …` (v0 has index 3, the target 2).
"""

from __future__ import annotations

import socket
import struct
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _tc
from ansible_collections.nettap.containers.plugins.module_utils._netlink._rtnetlink import attribute
from ansible_collections.nettap.containers.plugins.module_utils._netlink._tc import ETH_P_ALL, ETH_P_IP, ETH_P_IPV6
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover import _u32
from ansible_collections.nettap.containers.plugins.module_utils._steering._takeover._u32 import DESTINATION, SOURCE, Filter, match_mac, write_mac

MAC, TAG = "02:42:ac:11:00:02", "4e:65:75:56:00:01"
IFINDEX, TARGET = 3, 2
MIRRED = "34000200 0b000100 6d697272 65640000 24000280 20000200 00000000 00000000 04000000 00000000 00000000 01000000 02000000"
# u32 match u8 0 1 at -14 match u16 0x0242 0xffff at -14 match u32 0xac110002 0xffffffff at -12
#     action pedit munge offset -14 u16 set 0x4e65 munge offset -12 u32 set 0x75560001 pipe action mirred egress redirect dev v1
INTO = f"""00000000 03000000 00000000 f2ffffff 08001127 08000100 75333200 d0000200 98000700
60000100 0a000100 70656469 74000000 50000280 4c000200 00000000 00000000 03000000 00000000 00000000 02000000
ffff0000 00004e65 f0ffffff 00000000 00000000 00000000  00000000 75560001 f4ffffff 00000000 00000000 00000000
{MIRRED} 34000500 01000200 00000000 00000000 00000000  0000ffff 00000242 f0ffffff 00000000  ffffffff ac110002 f4ffffff 00000000"""
# u32 match u8 0 1 at -14 match u32 0x0242ac11 0xffffffff at -8 match u16 0x0002 0xffff at -4
#     action pedit munge offset -8 u32 set 0x4e657556 munge offset -4 u16 set 0x0001 pipe action mirred egress redirect dev v1
OUT = f"""00000000 03000000 00000000 f2ffffff 08001127 08000100 75333200 e0000200 98000700
60000100 0a000100 70656469 74000000 50000280 4c000200 00000000 00000000 03000000 00000000 00000000 02000000
00000000 4e657556 f8ffffff 00000000 00000000 00000000  0000ffff 00010000 fcffffff 00000000 00000000 00000000
{MIRRED} 44000500 01000300 00000000 00000000 00000000  00000100 00000000 f0ffffff 00000000
ffffffff 0242ac11 f8ffffff 00000000  ffff0000 00020000 fcffffff 00000000"""
# u32 match u8 0 0 action mirred egress redirect dev v1
ALL = f"""00000000 03000000 00000000 f2ffffff 00031227 08000100 75333200 60000200 38000700
{MIRRED.replace('34000200', '34000100', 1)} 24000500 01000100 00000000 00000000 00000000  00000000 00000000 00000000 00000000"""
# protocol ipv6 u32 match u8 0 1 at -14 action drop
DROP = """00000000 03000000 00000000 f2ffffff 86dd1227 08000100 75333200 58000200 30000700
2c000100 09000100 67616374 00000000 1c000280 18000200 00000000 00000000 02000000 00000000 00000000
24000500 01000100 00000000 00000000 00000000  00000100 00000000 f0ffffff 00000000"""

FILTERS = {
    "into": (INTO, Filter(10001, ETH_P_IP, match_mac(DESTINATION, MAC, unicast=True), TARGET, write_mac(DESTINATION, TAG))),
    "out": (OUT, Filter(10001, ETH_P_IP, match_mac(SOURCE, MAC, unicast=True), TARGET, write_mac(SOURCE, TAG))),
    "all": (ALL, Filter(10002, ETH_P_ALL, (), TARGET)),
    "drop": (DROP, Filter(10002, ETH_P_IPV6, ((-16, 0, 0x100),))),
}


@pytest.mark.parametrize("recorded, wanted", FILTERS.values(), ids=FILTERS)
def test_encodes_what_tc_sends(recorded: str, wanted: Filter) -> None:
    assert _u32.encode(wanted, IFINDEX).hex() == "".join(recorded.split())


@pytest.mark.parametrize("recorded, wanted", FILTERS.values(), ids=FILTERS)
def test_decodes_what_it_encodes(recorded: str, wanted: Filter) -> None:
    found = _u32.decode(bytes.fromhex(recorded))
    assert found is not None and wanted.same(found)
    assert (found["pref"], found["protocol"]) == (wanted.pref, {ETH_P_IP: "ip", ETH_P_IPV6: "ipv6", ETH_P_ALL: "all"}[wanted.protocol])
    assert _u32.redirected(found) == wanted.redirect


def test_words() -> None:
    """The rules of the words: aligned to four, the group bit joined to the destination's."""
    assert match_mac(DESTINATION, MAC, unicast=True) == match_mac(DESTINATION, MAC) == ((-16, 0x0242, 0xFFFF), (-12, 0xAC110002, 0xFFFFFFFF))
    assert match_mac(SOURCE, MAC) == ((-8, 0x0242AC11, 0xFFFFFFFF), (-4, 0x00020000, 0xFFFF0000))
    assert match_mac(SOURCE, MAC, unicast=True) == ((-16, 0, 0x100), *match_mac(SOURCE, MAC))
    assert write_mac(DESTINATION, TAG) == ((-16, 0x4E65, 0xFFFF0000), (-12, 0x75560001, 0))
    assert write_mac(SOURCE, TAG) == ((-8, 0x4E657556, 0), (-4, 0x00010000, 0x0000FFFF))


@pytest.mark.parametrize("parameters_type", [_tc.TCA_PARMS, _tc.TCA_PEDIT_PARMS_EX])
def test_decodes_pedit_of_linux_tc_pedit_h(parameters_type: int) -> None:
    """struct tc_pedit_sel {tc_gen; nkeys; flags; keys[] {mask, val, off, at, offmask, shift}}, mask and val in network order."""
    keys = struct.pack(">II", 0x0000FFFF, 0xAABB0000) + struct.pack("=iIII", -4, 0, 0, 0)
    selector = struct.pack("=IIiii", 1, 0, 3, 1, 1) + struct.pack("=BBxx", 1, 0) + keys
    assert _u32._decode_action("pedit", {parameters_type: selector}) == {"kind": "pedit", "keys": [(-4, 0xAABB0000, 0x0000FFFF)]}


def answer(*actions: bytes) -> bytes:
    numbered = b"".join(attribute(number, action) for number, action in enumerate(actions, 1))
    selector = _tc.SEL.pack(1, 0, 1, 0, 0, 0, 0, 0) + bytes(16)
    options = attribute(_tc.TCA_U32_SEL, selector) + attribute(_tc.TCA_U32_ACT, numbered)
    header = _tc.TCMSG.pack(0, IFINDEX, 0x80000800, 0xFFFFFFF2, 10001 << 16 | socket.htons(ETH_P_IP))
    return header + attribute(_tc.TCA_KIND, "u32") + attribute(_tc.TCA_OPTIONS, options)


def counted(kind: str, *statistics: bytes) -> bytes:
    return attribute(_tc.TCA_ACT_KIND, kind) + attribute(_tc.TCA_ACT_STATS, b"".join(statistics))


@pytest.mark.parametrize("packets, attributes", [
    (7, [attribute(_tc.TCA_STATS_BASIC, struct.pack("=QI", 700, 7))]),
    (5 << 32, [attribute(_tc.TCA_STATS_BASIC, struct.pack("=QI", 700, 0)), attribute(_tc.TCA_STATS_PKT64, struct.pack("=Q", 5 << 32))]),
])
def test_counts_by_the_last_action(packets: int, attributes: list[bytes]) -> None:
    first = counted("gact", attribute(_tc.TCA_STATS_BASIC, struct.pack("=QI", 1, 1)))
    found = _u32.decode(answer(first, counted("gact", *attributes)))
    assert found is not None and (found["packets"], found["bytes"], found["handle"]) == (packets, 700, 0x80000800)


def test_ignores_other_kinds_and_hash_tables() -> None:
    header = _tc.TCMSG.pack(0, IFINDEX, 0, 0xFFFFFFF2, 0)
    for attributes in (attribute(_tc.TCA_KIND, "bpf"), attribute(_tc.TCA_KIND, "u32"), b""):
        assert _u32.decode(header + attributes) is None


def test_not_the_same() -> None:
    found: dict[str, t.Any] = t.cast("dict[str, t.Any]", _u32.decode(bytes.fromhex(INTO)))
    wanted = FILTERS["into"][1]
    for other in (wanted._replace(redirect=9), wanted._replace(rewrite=()), wanted._replace(matches=match_mac(DESTINATION, TAG))):
        assert not other.same(found)
