"""GitHub's workflows and git's hooks call what there is, and test the versions that the documentation names."""

from __future__ import annotations

import importlib.metadata
import pathlib
import re
import runpy
import shlex
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())
NAMES = [path.name for path in WORKFLOWS]


def jobs(path: pathlib.Path) -> list[dict[str, t.Any]]:
    return list(yaml.safe_load(path.read_text())["jobs"].values())


def matrix() -> set[tuple[str, str]]:
    """Every (ansible-core, Python) of the tests."""
    (rows,) = (job["strategy"]["matrix"]["include"] for job in jobs(ROOT / ".github/workflows/tests.yml") if "strategy" in job)
    return {(row["core"], row["python"]) for row in rows}


def minor(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def targets(line: str) -> list[str]:
    """The targets of a command line that calls make; none of another."""
    words = shlex.split(line)
    return [word for word in words[words.index("make") + 1 :] if "=" not in word and not word.startswith("-")] if "make" in words else []


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_workflows_call_make_targets_that_exist(path):
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for job in jobs(path) for step in job["steps"] for line in step.get("run", "").splitlines()]
    assert lines
    for line in lines:
        assert targets(line) and set(targets(line)) <= known, line


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_workflows_have_few_rights_and_known_actions(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"} and "concurrency" in workflow
    for job in jobs(path):
        assert "permissions" not in job and job["timeout-minutes"]
        for uses in (step["uses"] for step in job["steps"] if "uses" in step):
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", uses), uses


def test_matrix_begins_with_the_oldest_ansible_core_that_is_supported():
    oldest = min((core for core, _python in matrix()), key=minor)
    assert yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"] == f">={oldest}.0"
    assert f"ansible-core {oldest} or newer" in (ROOT / "README.md").read_text()


def test_matrix_has_every_ansible_core_that_is_pinned():
    pinned = re.findall(r"^ansible-core==(\d+\.\d+)\.", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    assert len(pinned) == 2 and set(pinned) <= {core for core, _python in matrix()}


def test_matrix_has_the_pythons_that_ansible_core_supports():
    """By what the ansible-core says of itself that is installed here."""
    core = importlib.metadata.metadata("ansible-core")
    supported = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", "\n".join(core.get_all("Classifier") or []), re.MULTILINE)
    assert {python for version, python in matrix() if minor(version) == minor(core["Version"])} == set(supported)


def test_hooks_call_linters_that_exist():
    known = set(re.findall(r"^check ([a-z-]+) ", (ROOT / "scripts/lint.sh").read_text(), re.MULTILINE))
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local" and len(known) > 5
    for hook in local["hooks"]:
        assert hook["entry"] == f"make --silent lint ONLY={hook['id']}" and hook["id"] in known


@pytest.fixture(name="tree")
def fixture_tree(tmp_path):
    (tmp_path / "changelogs/fragments").mkdir(parents=True)
    (tmp_path / "galaxy.yml").write_text("version: 1.2.3")
    (tmp_path / "changelogs/changelog.yaml").write_text("releases: {1.2.3: {}}")
    return tmp_path


@pytest.mark.parametrize(("file", "text", "tag", "reason"), [
    ("galaxy.yml", "version: 1.2.3", "v1.2.3", None),
    ("galaxy.yml", "version: 1.2.3", "1.2.3", "The tag is 1.2.3 and galaxy.yml's version is 1.2.3: tag v1.2.3, or"),
    ("galaxy.yml", "version: 1.2.3", "", "The tag is not given and"),
    ("galaxy.yml", "version: 1.2.4", "v1.2.3", "The tag is v1.2.3 and galaxy.yml's version is 1.2.4"),
    ("changelogs/changelog.yaml", "releases: {1.2.2: {}}", "v1.2.3", "The changelog does not have 1.2.3"),
    ("changelogs/fragments/new.yml", "minor_changes: [new]", "v1.2.3", "The changelog does not have the fragments new.yml"),
])  # fmt: skip
def test_release_is_refused(tree, file, text, tag, reason):
    (tree / file).write_text(text)
    found = runpy.run_path(str(ROOT / "scripts/release.py"))["reason_against"](tag, tree)
    assert found is None if reason is None else found.startswith(reason), found
