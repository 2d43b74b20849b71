# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: its records are read again as they were, also where another release wrote them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import pytest
from ansible_cli import ROOT
from ansible_collections.nettap.containers.plugins.module_utils._errors import SteeringError
from ansible_collections.nettap.containers.plugins.module_utils._steering._journal import VERSION, Journal, SteeringRecord, TakenOver

TAKEN = TakenOver("vex1", "vin1", "vnw1", "veth", 6, 5, True, {"mtu": 1500})
RECORD = SteeringRecord(
    "docker", "1" * 64, "web", 200, 129427, "/proc/200/ns/net", 4026533246, "eth0", 5, "02:42:0a:d5:00:02", 1500, "takeover", "bridge", "steer", "open",
    "steered", 1.5, 2.5, None, "veth1", 6, False, True, ["10.0.0.2/24"], TAKEN,
)  # fmt: skip


@pytest.fixture(name="journal")
def make_journal(tmp_path: pathlib.Path) -> Journal:
    journal = Journal("nettap", str(tmp_path))
    with journal.locked():
        return journal


def write(journal: Journal, content: t.Any) -> pathlib.Path:
    path = pathlib.Path(journal.path, f"{RECORD.key}.json")
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("takeover", [None, TAKEN])
def test_round_trip(journal: Journal, takeover: TakenOver | None) -> None:
    record = dataclasses.replace(RECORD, takeover=takeover)
    journal.save(record)
    assert journal.records() == [record]
    assert json.loads(pathlib.Path(journal.path, f"{RECORD.key}.json").read_text())["version"] == VERSION
    journal.remove(record)
    assert journal.records() == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/releases/*/steering-*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_earlier_releases_wrote(journal: Journal, path: pathlib.Path) -> None:
    recorded = json.loads(path.read_text())
    write(journal, recorded)
    (record,) = journal.records()
    assert {**dataclasses.asdict(record), **recorded} == dataclasses.asdict(record)


def test_what_a_later_release_adds_is_left_out(journal: Journal) -> None:
    stored = RECORD.stored()
    write(journal, {**stored, "later": 1, "takeover": {**stored["takeover"], "later": 2}})
    assert journal.records() == [RECORD]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({**RECORD.stored(), "version": VERSION + 1}, f"a newer release of nettap.containers wrote it, in version {VERSION + 1}"),
        ({"runtime": "docker"}, "it lacks id, name, pid"),
        ([], "it holds list instead of an object"),
        ({**RECORD.stored(), "takeover": {}}, "it lacks vex, vin"),
    ],
)
def test_what_cannot_be_read(journal: Journal, content: t.Any, words: str) -> None:
    path = write(journal, content)
    with pytest.raises(SteeringError) as caught:
        journal.records()
    assert str(caught.value).startswith(f"{path} cannot be read ({words}")
