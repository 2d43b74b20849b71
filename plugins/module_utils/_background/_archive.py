# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives for programs that outlive the task: only the code that they need, read from where it was loaded."""

from __future__ import annotations

import importlib.util
import io
import marshal
import re
import struct
import sys
import types
import typing as t
import zipfile

ROOT = "ansible_collections.nettap.containers.plugins.module_utils"
# All imports from ROOT are written in one way, so no source has to be parsed: that took 0.05 to 0.17 s of each start. Indented imports
# are for type checkers only; a unit test checks this.
_IMPORT = re.compile(rf"^from ({re.escape(ROOT)}[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)


def build(program: types.ModuleType, *later: types.ModuleType, compiled: bool = False) -> bytes:
    """Return a zip application that calls main() of a module below ROOT, with all modules of ROOT that it imports.

    later are modules that the program imports only when it needs them.

    The caller has imported the module, because Ansible sends to the host only what a task's module imports. The same code makes
    the same bytes. A compiled archive starts in a fraction of the time, but runs only with the same Python that compiled it.
    """
    sources: dict[str, str] = {}
    for depth in range(len(ROOT.split("."))):
        sources[".".join(ROOT.split(".")[:depth + 1]) + ".__init__"] = ""
    todo = [one.__name__ for one in (program, *later)]
    while todo:
        name = todo.pop()
        spec: t.Any = sys.modules[name].__spec__  # its loader reads from a zip or a file; both give the source
        path = f"{name}.__init__" if spec.submodule_search_locations is not None else name
        if path not in sources:
            sources[path] = spec.loader.get_source(name) or ""
            todo += [name.rpartition(".")[0], *_imports(sources[path])]
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name in sorted(sources):
            path = name.replace(".", "/") + (".pyc" if compiled else ".py")
            # Without ZipInfo, the archive would hold the time of day.
            archive.writestr(zipfile.ZipInfo(path), _compile(path, sources[name]) if compiled else sources[name])
        archive.writestr(zipfile.ZipInfo("__main__.py"), f"from {program.__name__} import main\nmain()\n")
    return memory.getvalue()


def _compile(path: str, source: str) -> bytes:
    """Return a .pyc file that Python never compares with its source (PEP 552: flags 1 and the hash of the source)."""
    code = compile(source, path, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(source.encode()) + marshal.dumps(code)


def _imports(source: str) -> list[str]:
    """Return the modules that a source imports from ROOT. They are loaded, because the module of the source is."""
    found = []
    for module, names in _IMPORT.findall(source):
        found += [module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))]
    return [name for name in found if name in sys.modules]
