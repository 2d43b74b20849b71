# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter of a network namespace, as the host's own tools print it."""

from __future__ import annotations

import shutil
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NamespaceError
from ansible_collections.nettap.containers.plugins.module_utils._system import _netns, _program

Listing = dict[str, t.Any]
_SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


def listings(fd: int) -> list[Listing]:
    """Return what each tool prints in the namespace of fd: {tool, lines, error}. error is why there are no lines, None where there are.

    nft tells of all tables that nf_tables holds, those of iptables-nft too. Tables of the older x_tables are told by iptables-save.
    Raise NamespaceError.
    """
    found = [_listing(fd, ["nft", "list", "ruleset"])]
    for family, tools in (("ip", ("iptables-legacy-save", "iptables-save")), ("ip6", ("ip6tables-legacy-save", "ip6tables-save"))):
        if _legacy_tables(fd, family):
            found.append(_listing(fd, [next(filter(_path, tools), tools[-1])]))
    return found


def _listing(fd: int, argv: list[str]) -> Listing:
    program = _path(argv[0])
    if program is None:
        return {"tool": argv[0], "lines": [], "error": f"{argv[0]} is not installed on the host"}
    with _netns.entered(fd):
        done = _program.run([program, *argv[1:]], NamespaceError, 30, "look at the host's packet filter")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return {"tool": argv[0], "lines": lines, "error": " ".join(done.stderr.split()) or f"code {done.returncode}" if done.returncode else None}


def _legacy_tables(fd: int, family: str) -> bool:
    """Return whether x_tables has tables in the namespace (/proc/net/ip_tables_names)."""
    try:
        with _netns.entered(fd), open(f"/proc/thread-self/net/{family}_tables_names", encoding="ascii") as stream:
            return bool(stream.read().strip())
    except OSError:  # the kernel has not loaded x_tables
        return False


def _path(program: str) -> str | None:
    return shutil.which(program, path=_SBIN) or shutil.which(program)
