# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes and goes at paths, told by the real kernel: in folders, and of cgroups."""

from __future__ import annotations

import collections.abc as c
import contextlib
import os
import pathlib
import select

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._system import _cgroup, _inotify


@pytest.fixture(name="paths")
def make_paths() -> c.Iterator[_inotify.Paths]:
    """Give a watch for paths."""
    with contextlib.closing(_inotify.Paths()) as paths:
        yield paths


def told(paths: _inotify.Paths) -> bool:
    """Whether something was told: the kernel tells before the call returns that has changed something."""
    return bool(select.select([paths.fd], [], [], 0)[0])


def test_folders_that_come_and_go(tmp_path: pathlib.Path, paths: _inotify.Paths) -> None:
    """Step by step, each told: the folder that is wanted is two below what exists."""
    wanted = tmp_path / "a" / "b"
    file = wanted / "pid"
    steps: list[c.Callable[[], object]] = [
        wanted.parent.mkdir, wanted.mkdir, lambda: file.write_text("1"), lambda: file.write_text("2"), file.unlink, wanted.rmdir, wanted.parent.rmdir,
        lambda: wanted.mkdir(parents=True), lambda: (tmp_path / "new").write_text("3"), lambda: (tmp_path / "new").rename(file),
    ]
    for number, step in enumerate(steps):
        paths.watch([str(wanted), str(file)])
        assert not told(paths), f"before step {number}"
        step()
        assert told(paths) == (number != 8), f"step {number}"


def test_what_is_not_watched_any_more(tmp_path: pathlib.Path, paths: _inotify.Paths) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    paths.watch([str(tmp_path / "one" / "file")])
    paths.watch([str(tmp_path / "two" / "file")])
    (tmp_path / "one" / "file").touch()
    assert not told(paths)
    (tmp_path / "two" / "file").touch()
    assert told(paths)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a cgroup")
def test_cgroup_that_comes_and_goes(paths: _inotify.Paths) -> None:
    """Of the hierarchy that a runtime would use here: it is made, a process enters and leaves it, and it is removed."""
    place = _cgroup.place("", f"nettap-test-{os.getpid()}")
    assert place
    signs = [place, f"{place}/cgroup.procs", f"{place}/cgroup.events"]
    child = os.fork()
    if child == 0:
        select.select([], [], [])

    def end() -> None:
        os.kill(child, 9)
        os.waitpid(child, 0)

    steps: list[c.Callable[[], object]] = [
        lambda: os.mkdir(place), lambda: pathlib.Path(f"{place}/cgroup.procs").write_text(str(child)), end,
        lambda: os.rmdir(place), lambda: os.mkdir(place), lambda: os.rmdir(place),
    ]
    try:
        for number, step in enumerate(steps):
            paths.watch(signs)
            step()
            # Only cgroup v2 tells when the last process has left. Nobody waits for that.
            assert told(paths) or number == 2, f"step {number}"
    finally:
        with contextlib.suppress(OSError):
            os.kill(child, 9)
        with contextlib.suppress(OSError):
            os.rmdir(place)
