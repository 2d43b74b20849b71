# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the host that are run to their end."""

from __future__ import annotations

import subprocess
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError


def run(argv: t.Sequence[str], failure: type[NettapError], seconds: float = 120, remedy: str = "look at it on the host", given: str = "",
        pass_fds: t.Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
    """Run a program with given on its standard input and with the descriptors pass_fds open. Return its code and output.

    Raise failure, with the remedy, when the program cannot be started, or has not ended within so many seconds and was killed.
    """
    try:
        # module_utils have no AnsibleModule whose run_command they could call.
        return subprocess.run(  # pylint: disable=ansible-bad-function
            argv, input=given, capture_output=True, text=True, errors="replace", check=False, timeout=seconds, pass_fds=pass_fds
        )
    except subprocess.TimeoutExpired as error:
        raise failure(f"{' '.join(argv)} did not end within {seconds:g} s and was killed: {remedy}.") from error
    except (OSError, ValueError) as error:  # ValueError: an argument holds a null byte
        raise failure(f"{argv[0]} cannot be run on the host ({getattr(error, 'strerror', None) or error}): {remedy}.") from error
