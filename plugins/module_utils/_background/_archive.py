# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that outlive the task: an archive of just the code they need, from wherever that was loaded."""

from __future__ import annotations

import ast
import importlib.util
import io
import marshal
import struct
import types
import typing as t
import zipfile

ROOT = "ansible_collections.nettap.containers.plugins.module_utils"


def build(program: types.ModuleType, compiled: bool = False) -> bytes:
    """A zip application that calls main() of a module below ROOT, with all modules of ROOT that it imports.

    The caller has imported the module, because Ansible sends a task's module only what it imports. The same code makes
    the same bytes. A compiled one starts in a fraction of the time, but runs with the very Python that has made it only.
    """
    sources: dict[str, str] = {}
    for depth in range(1, len(ROOT.split("."))):
        sources[".".join(ROOT.split(".")[:depth]) + ".__init__"] = ""
    todo = [program.__name__]
    while todo:
        name = todo.pop()
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:  # a name that is no module
            continue
        loader: t.Any = spec.loader  # of a zip or of a file, which both give the source
        path = f"{name}.__init__" if spec.submodule_search_locations is not None else name
        if path not in sources:
            sources[path] = loader.get_source(name) or ""
            todo += [name.rpartition(".")[0], *_imports(sources[path])] if name != ROOT else []
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name in sorted(sources):
            path = name.replace(".", "/") + (".pyc" if compiled else ".py")
            # Without ZipInfo, the time of day would be in it.
            archive.writestr(zipfile.ZipInfo(path), _compile(path, sources[name]) if compiled else sources[name])
        archive.writestr(zipfile.ZipInfo("__main__.py"), f"from {program.__name__} import main\nmain()\n")
    return memory.getvalue()


def _compile(path: str, source: str) -> bytes:
    """A .pyc file that is never compared with its source (PEP 552: flags 1 and the hash of the source)."""
    code = compile(source, path, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(source.encode()) + marshal.dumps(code)


def _imports(source: str) -> list[str]:
    """What a source imports from ROOT: modules, and names that may be modules."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(ROOT):
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in found if _is_module(name)]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module, and no package
        return False
