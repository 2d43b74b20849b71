# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of a detached program holds all that it imports, and nothing else, in the same bytes each time."""

from __future__ import annotations

import ast
import importlib
import io
import json
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._background import _archive

CHECKOUT = pathlib.Path(__file__).parents[3]
PROGRAMS = ["_background._keeper", "_capture._follow", "_capture._supervisor", "_capture._supervisor._successor", "_steering._watchdog._watchdog"]
# What the program of an archive has loaded from it, told by itself once it is imported.
LOADED = (
    "import importlib, json, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]);"
    "print(json.dumps(sorted(name for name in sys.modules if name.startswith('ansible_collections'))))"
)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_program_finds_all_that_it_imports(program: str, compiled: bool, tmp_path: pathlib.Path) -> None:
    name = f"{_archive.ROOT}.{program}"
    archive = tmp_path / "archive.zip"
    archive.write_bytes(_archive.build(importlib.import_module(name), compiled=compiled))
    loaded = subprocess.run([sys.executable, "-I", "-c", LOADED, archive, name], stdout=subprocess.PIPE, check=True).stdout
    with zipfile.ZipFile(archive) as held:
        paths = {path.rpartition(".")[0].removesuffix("/__init__").replace("/", ".") for path in held.namelist()}
    assert paths - {"__main__"} == set(json.loads(loaded))


def test_what_else_is_loaded_does_not_matter() -> None:
    """A watchdog that runs with the same code is left alone, whichever module asks."""
    code = "\n".join([
        "import importlib, sys",
        f"archive = importlib.import_module('{_archive.ROOT}._background._archive')",
        f"programs = [importlib.import_module('{_archive.ROOT}.' + name) for name in sys.argv[1:]]",
        f"sys.stdout.buffer.write(archive.build(sys.modules['{_archive.ROOT}.{PROGRAMS[-1]}']))",
    ])
    built = [
        subprocess.run([sys.executable, "-c", code, *names], env={"PYTHONPATH": str(CHECKOUT / "collections")}, stdout=subprocess.PIPE, check=True).stdout
        for names in (PROGRAMS[-1:], PROGRAMS[::-1])
    ]
    assert built[0] == built[1]
    assert "_watchdog/_watchdog.py" in " ".join(zipfile.ZipFile(io.BytesIO(built[0])).namelist())


def test_every_import_is_written_so_that_the_archive_finds_it() -> None:
    for path in (CHECKOUT / "plugins/module_utils").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        found = {(module, name) for module, names in _archive._IMPORT.findall(source) for name in re.findall(r"\w+", names)}
        body = [node for node in ast.parse(source).body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "t.TYPE_CHECKING")]
        for node in (inner for outer in body for inner in ast.walk(outer)):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("ansible_collections") for alias in node.names), path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                assert {(node.module, alias.name) for alias in node.names if str(node.module).startswith("ansible_collections")} <= found, path
