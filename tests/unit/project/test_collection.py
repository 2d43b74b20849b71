"""The collection's metadata agree with its files."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_action_plugins_have_a_module_for_their_documentation():
    actions = {path.stem for path in (ROOT / "plugins/action").glob("[!_]*.py")}
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("[!_]*.py")}
    assert actions <= modules


def test_promises_of_security_have_tests():
    promised = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    known = set(re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py")), re.MULTILINE))
    assert promised and not promised - known
