# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers of docs/architecture.md: a folder imports only from itself and from layers below its own, and libraries only where its list says so."""

from __future__ import annotations

import ast
import re
import sys
import typing as t

import pytest
from ansible_cli import ROOT

PLUGINS = ROOT / "plugins"
PACKAGE = "ansible_collections.nettap.containers.plugins."
# The longest that a reader keeps in mind.
MOST_LINES = 350


def lists() -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """Return the number of each room's layer (0 is the highest), and who may use a library: files and rooms, by their path below plugins."""
    [chapter] = re.findall(r"^## Layers\n(.*?)^## ", (ROOT / "docs/architecture.md").read_text(), re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```text\n(.*?)^```", chapter, re.DOTALL | re.MULTILINE)
    layers, libraries = ([re.split(r"  +", line) for line in block.splitlines()] for block in blocks)
    return (
        {room: number for number, (rooms, *_about) in enumerate(layers) for room in rooms.split()},
        {library: tuple(places.split()) for names, places in libraries for library in names.split()},
    )


LAYERS, LIBRARIES = lists()


def room(path: str) -> str:
    """Return the room that a file or a module, told by its path below plugins, is in: the longest name that fits."""
    return max((name for name in LAYERS if path == name or path.startswith((f"{name}/", f"{name}."))), key=len, default="")


def imports(source: str) -> t.Iterator[str]:
    """Yield the full name of each thing that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(path: str, source: str) -> list[str]:
    """Return what a file imports and must not."""
    own = room(path)
    names = (name.removeprefix(PACKAGE).replace(".", "/") for name in imports(source) if name.startswith(PACKAGE))
    return [name for name in names if room(name) != own and LAYERS.get(room(name), -1) <= LAYERS[own]]


def libraries(source: str) -> set[str]:
    """Return the libraries that a source imports, without Python's own and this collection; and what it uses that the list names in full."""
    names = {*imports(source), *(ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute))}
    tops = {name.partition(".")[0] for name in imports(source)} - {*sys.stdlib_module_names, PACKAGE.partition(".")[0]}
    return tops | names & LIBRARIES.keys()


def out_of_place(path: str, source: str) -> list[str]:
    """Return the libraries that a file uses and must not."""
    return [name for name in libraries(source) if not any(path == place or path.startswith(f"{place}/") for place in LIBRARIES.get(name, ()))]


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
    package, dummy, last = name.rpartition(".")
    assert breaches(path, f"from {PACKAGE}{package} import {last}\n") == [name.replace(".", "/")]


@pytest.mark.parametrize("path", FILES)
def test_libraries_are_used_where_the_list_says(path: str) -> None:
    assert not out_of_place(path, (PLUGINS / path).read_text())


@pytest.mark.parametrize("path, source, name", [
    ("module_utils/_steering/_control.py", "import pyroute2.iproute", "pyroute2"),
    ("module_utils/_capture/_plan.py", "def names():\n    from docker.errors import NotFound", "docker"),
    ("module_utils/_targets/_links.py", "import yaml", "yaml"),  # in no list
    ("module_utils/_steering/_watchdog/_watchdog.py", "import socket\none = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "socket.AF_NETLINK"),
    ("module_utils/_system/_process.py", "from socket import AF_NETLINK", "socket.AF_NETLINK"),
])
def test_a_library_out_of_place_is_found(path: str, source: str, name: str) -> None:
    assert out_of_place(path, source) == [name]
    for place in LIBRARIES.get(name, ()):
        assert not out_of_place(place if place.endswith(".py") else f"{place}/_any.py", source)


def test_files_have_a_length_that_can_be_read() -> None:
    assert not [path for path in FILES if len((PLUGINS / path).read_text().splitlines()) > MOST_LINES]


def test_unit_tests_lie_as_what_they_test() -> None:
    """A folder of tests/unit has the name of a room or of a folder in one; project is about the project itself."""
    folders = {path.parent.relative_to(ROOT / "tests/unit") for path in (ROOT / "tests/unit").rglob("test_*.py")}
    rooms = {folder: [PLUGINS / folder, PLUGINS.joinpath("module_utils", *(f"_{part}" for part in folder.parts))] for folder in folders}
    assert [str(folder) for folder, places in rooms.items() if not any(place.is_dir() for place in places)] == ["project"]
