# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell in a container: what it is told, and that it starts, stops and removes what it should."""

from __future__ import annotations

import pathlib
import subprocess
import time

import pytest
from ansible_collections.nettap.containers.plugins.plugin_utils import _inside
from waiting import wait_for


def shell(text: str, *arguments: str) -> list[str]:
    return ["/bin/sh", "-c", text, "nettap", *arguments]


@pytest.mark.parametrize("word", ["", "a b", "$(id)", "`id`", "; id", "'", '"', "\\", "*", "-n", "a\nb", "ö"])
def test_words_reach_the_shell_in_a_container_as_they_are(word: str) -> None:
    command = _inside.script("/bin/sh", 'printf "<%s>" "$@"', word, "last")
    assert subprocess.run(["/bin/sh", "-c", command], stdout=subprocess.PIPE, text=True, check=True).stdout == f"<{word}><last>"


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        ({"passwd": []}, True),  # /proc does not tell
        ({"passwd": [], "capabilities": ["000001ffffffffff"]}, True),
        ({"passwd": [], "capabilities": ["0000000000002000"]}, False),  # NET_RAW alone
        ({"passwd": [], "capabilities": ["0000000000002080"]}, False),  # SETUID, not SETGID
        ({"passwd": [], "capabilities": ["00000000000020c0"]}, True),
        ({"capabilities": ["000001ffffffffff"]}, False),  # users have no names
    ],
)
def test_change_of_the_user(known: dict[str, list[str]], changes: bool) -> None:
    assert _inside.changes_user(known) is changes


def test_probe_tells_the_capabilities(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(shell(_inside.PROBE, "x", "/bin/sh", str(tmp_path)), stdout=subprocess.PIPE, text=True, check=False).stdout
    effective = next(line.split()[1] for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    assert f"nettap: capabilities {effective}\n" in done and done.endswith(f"nettap: place {tmp_path}\n")


def test_shell_in_the_container(tmp_path: pathlib.Path) -> None:
    """Stopped twice, ended once; gone only when it is."""
    folder = str(tmp_path / "folder")

    def said(text: str) -> str:
        return subprocess.run(shell(text, folder), stdout=subprocess.PIPE, text=True, check=False).stdout

    assert said(_inside.LEAVE) == "nettap: gone\n"
    keeper = subprocess.Popen(shell(_inside.KEEP, folder, "", "15", "sleep", "1000"))
    try:
        assert wait_for(lambda: "ready" in said(_inside.BEAT))
        (tmp_path / "folder" / "go").touch()
        assert wait_for(lambda: "running" in said(_inside.BEAT))
        innocent = subprocess.Popen(["sleep", "1000"])
        try:
            said(_inside.STOP)
            assert not (tmp_path / "folder" / "pid").exists()
            said(_inside.STOP)
            assert wait_for(lambda: "ended 143" in said(_inside.BEAT))
            (tmp_path / "folder" / "pid").write_text(f"{innocent.pid}\n")  # the number is another process's by now
            said(_inside.STOP)
            time.sleep(0.1)
            assert innocent.poll() is None
        finally:
            innocent.kill()
            innocent.wait()
        assert said(_inside.LEAVE) == ""
        assert wait_for(lambda: "gone" in said(_inside.LEAVE))
        assert keeper.wait(10) == 0 and list(tmp_path.iterdir()) == []
    finally:
        keeper.kill()
        keeper.wait()
