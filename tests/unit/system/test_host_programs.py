# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's programs: where they are looked for, and what older ones lack."""

from __future__ import annotations

import os
import pathlib
import types
import typing as t

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._capture import _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError
from ansible_collections.nettap.containers.plugins.module_utils._system import _nsenter


def program(path: pathlib.Path, script: str = "") -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The one fixed folder, and the one in PATH beside that of sh."""
    fixed, path = tmp_path / "fixed", tmp_path / "path"
    monkeypatch.setattr(_tcpdump, "_SEARCH", str(fixed))
    monkeypatch.setattr(_nsenter, "_SEARCH", str(fixed))
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    return fixed, path


def test_tcpdump(folders: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """NixOS has it in PATH alone; a fixed place comes first."""
    fixed, path = folders
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(DependencyError, match=r"^tcpdump is not installed on the host: install the package tcpdump"):
        _tcpdump.program()
    in_path = program(path / "tcpdump")
    assert _tcpdump.program() == in_path
    assert _tcpdump.program() != program(fixed / "tcpdump") == _tcpdump.program()


def run(kinds: list[str], argv: list[str], chdir: str | None = None) -> t.Any:
    """nsenter for this process's own namespaces."""

    def other(kind: str) -> int:
        return os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)

    net = other("net")
    try:
        return _nsenter.run(t.cast("t.Any", types.SimpleNamespace(fd=net, other=other, pid=os.getpid())), kinds, argv, chdir)
    finally:
        os.close(net)


# They leave out entering, which takes root, and do the rest as nsenter does.
ENTER = 'while [ "$1" != -- ]; do case $1 in --wdns=*) cd "${1#*=}";; esac; shift; done; shift; exec "$@"'
OLD = f'[ "$1" != --help ] || exec echo " -w, --wd[=<dir>]   set the working directory"; {ENTER}'
NEW = f'[ "$1" != --help ] || exec echo " -W, --wdns <dir>   set the working directory in namespace"; {ENTER}'


def test_nsenter(folders: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As tcpdump."""
    fixed, path = folders
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(DependencyError, match=r"^nsenter is not installed on the host"):
        run(["net"], ["/bin/true"])
    program(path / "nsenter", "echo path")
    assert run(["net"], ["/bin/true"]).stdout == "path\n"
    program(fixed / "nsenter", "echo fixed")
    assert run(["net"], ["/bin/true"]).stdout == "fixed\n"


@pytest.mark.parametrize("script", [OLD, NEW])
def test_folder_inside(folders: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path, script: str) -> None:
    """nsenter before util-linux 2.38 cannot change to it, a shell in the container can."""
    program(folders[0] / "nsenter", script)
    inside = tmp_path / "-a folder"
    inside.mkdir()
    done = run(["net", "mnt"], ["sh", "-c", 'pwd; echo "$0" "$1"', "a b", "$c"], str(inside))
    assert done.stdout.splitlines() == [str(inside), "a b $c"]
    # On the host it takes neither.
    assert run(["net"], ["pwd"], str(inside)).stdout == f"{inside}\n"
