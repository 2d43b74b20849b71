# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target options, which select containers, pods, processes or namespaces. plugins/doc_fragments/_target.py documents them."""

from __future__ import annotations

import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes import RUNTIMES

TARGET: dict[str, dict[str, t.Any]] = {
    "container": {"type": "list", "elements": "str", "aliases": ["containers"]},
    "labels": {"type": "dict"},
    "pod": {"type": "list", "elements": "str", "aliases": ["pods"]},
    "pid": {"type": "int"},
    "netns": {"type": "str"},
    "runtime": {"type": "str", "default": "auto", "choices": ["auto", *RUNTIMES]},
    "docker_host": {"type": "str"},
    "allow_missing": {"type": "bool", "default": False},
}
EXCLUSIVE = [("container", "pod", "pid", "netns"), ("labels", "pid", "netns")]
KINDS = ("container", "labels", "pod", "pid", "netns")
