# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of docs/architecture.md: a folder imports only from itself and from layers below its own."""

from __future__ import annotations

import ast
import re
import typing as t

import pytest
from ansible_cli import ROOT

PLUGINS = ROOT / "plugins"
PACKAGE = "ansible_collections.nettap.containers.plugins."
# The longest that a reader keeps in mind.
MOST_LINES = 350
# Files that are longer, until they are split: none may be added.
LONG = {"module_utils/_steering/_takeover/_topology.py", "module_utils/_suricata/_eve.py", "modules/container_capture.py"}


def layers() -> dict[str, int]:
    """Return the layer of each room by its path below plugins; the highest layer has the number 0."""
    [block] = re.findall(r"^## Layers\n.*?^```text\n(.*?)^```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL | re.MULTILINE)
    return {room: number for number, line in enumerate(block.splitlines()) for room in line.split("  ")[0].split()}


LAYERS = layers()


def room(path: str) -> str:
    """Return the room that a file or a module, told by its path below plugins, is in: the longest name that fits."""
    return max((name for name in LAYERS if path == name or path.startswith((f"{name}/", f"{name}."))), key=len, default="")


def imports(source: str) -> t.Iterator[str]:
    """Yield what a source imports from this collection's plugins, as paths below plugins."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix(PACKAGE).replace(".", "/") for name in names if name.startswith(PACKAGE))


def breaches(path: str, source: str) -> list[str]:
    """Return what a file imports and must not."""
    own = room(path)
    return [name for name in imports(source) if room(name) != own and LAYERS.get(room(name), -1) <= LAYERS[own]]


FILES = sorted(str(path.relative_to(PLUGINS)) for path in PLUGINS.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_imports_go_down(path: str) -> None:
    assert room(path), f"{path} is in none of the rooms that docs/architecture.md lists"
    assert not breaches(path, (PLUGINS / path).read_text())


@pytest.mark.parametrize(
    "path, name",
    [
        ("module_utils/_system/_netns.py", "module_utils._targets._target"),  # up
        ("module_utils/_capture/_plan.py", "module_utils._dataplane._engine"),  # sideways
        ("module_utils/_targets/_target.py", "plugin_utils._arrival"),  # a host's code has no controller
        ("modules/container_capture.py", "action.container_capture_fetch"),
    ],
)
def test_an_import_turned_round_is_found(path: str, name: str) -> None:
    package, _, last = name.rpartition(".")
    assert breaches(path, f"from {PACKAGE}{package} import {last}\n") == [name.replace(".", "/")]


def test_files_have_a_length_that_can_be_read() -> None:
    long = {path for path in FILES if len((PLUGINS / path).read_text().splitlines()) > MOST_LINES}
    assert long == LONG
