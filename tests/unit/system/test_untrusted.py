# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files below a folder that somebody else has filled: every link is taken as if the folder were the root."""

from __future__ import annotations

import os
import pathlib

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._system import _untrusted

LINKS = {
    "plain": ("etc/hosts", b"inside"),
    "absolute": ("/etc/hosts", b"inside"),
    "through a folder that is a link": ("usr/hosts", b"inside"),
    "up and beyond": ("../../../../../../etc/hosts", b"inside"),
    "with dots and slashes": ("//etc/.//./hosts", b"inside"),
    "a link to a link": ("second", b"inside"),
    "nothing there": ("etc/none", None),
    "a file as a folder": ("etc/hosts/x", None),
    "what is outside": ("{outside}", None),
    "out of the folder by its own links": ("up/up/up/secret", None),
}


@pytest.mark.parametrize(("target", "content"), LINKS.values(), ids=LINKS)
def test_no_link_leads_out(tmp_path: pathlib.Path, target: str, content: bytes | None) -> None:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hosts").write_text("inside")
    for name, leads in {"usr": "/etc", "second": "usr/hosts", "up": ".."}.items():
        (root / name).symlink_to(leads)
    (root / "asked").symlink_to(target.format(outside=tmp_path / "secret"))
    fd = os.open(root, os.O_PATH)
    before = sorted(os.listdir("/proc/self/fd"))
    try:
        assert _untrusted.content_inside(fd, "/asked") == content
        assert sorted(os.listdir("/proc/self/fd")) == before, "nothing is left open"
    finally:
        os.close(fd)


def test_what_is_no_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    fd = os.open(tmp_path, os.O_PATH)
    before = sorted(os.listdir("/proc/self/fd"))
    try:
        for name in ("loop", "pipe", "folder", "/"):
            with pytest.raises(OSError):
                _untrusted.content_inside(fd, name)
        assert sorted(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(fd)
