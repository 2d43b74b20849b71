# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an error of a connection plugin says to a person."""

from __future__ import annotations

import ast
import re

_BYTES = re.compile(r"""\bb'(?:[^'\\]|\\.)*'|\bb"(?:[^"\\]|\\.)*\"""")
# Of kubectl's and docker's connections; of Ansible itself, about a folder that it could not make.
_MOVING = re.compile(r"failed to (?:transfer|fetch) file \S+ to \S+:?")
_NO_FOLDER = re.compile(r"Failed to create temporary directory\..*?(?:stderr output: (?P<said>.*)|$)", re.DOTALL)


def plain(error: object) -> str:
    """Return the error of a connection as words of one line, without its full stop: without temporary paths, and bytes as the text that they are."""
    text = _BYTES.sub(lambda match: ast.literal_eval(match[0]).decode(errors="replace"), str(error))
    text = _NO_FOLDER.sub(lambda match: match["said"] or "no command runs there", text)
    return " ".join(_MOVING.sub("", text).split()).strip(" .:") or "it said nothing"
