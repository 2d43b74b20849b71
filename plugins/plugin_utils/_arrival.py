# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that arrive on the controller: private, verified, and put into place whole."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError


def bring(fetch_file: t.Callable[[str, str], None], source: str, dest: str, complaint: t.Callable[[str], str | None]) -> None:
    """Fetch one file into a folder beside dest, verify it, and rename it: whatever fails, dest is the old file or the whole new one.

    fetch_file is a connection's. complaint returns what is wrong with the file at a path, None if nothing is.
    Raise AnsibleActionFail, AnsibleConnectionFailure.
    """
    # "from None" below: Ansible appends the cause of an error to its message, and ours already name the cause.
    try:
        before = os.umask(0o077)  # captures hold secrets; makedirs applies a mode to the last folder only
        try:
            os.makedirs(os.path.dirname(dest), exist_ok=True)
        finally:
            os.umask(before)
        # The folder is new and private (0700): some connections write to the source's name beside the given path, readable by all users.
        folder = tempfile.mkdtemp(prefix=f".{os.path.basename(dest)}.", suffix=".part", dir=os.path.dirname(dest))
    except OSError as error:
        raise AnsibleActionFail(f"The destination {dest} on the controller cannot be written: {error.strerror}.") from None
    part = os.path.join(folder, os.path.basename(source))
    try:
        try:
            fetch_file(source, part)
        except AnsibleConnectionFailure:
            raise
        except (OSError, AnsibleError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__  # some connections wrap the error of the disk
            if isinstance(cause, OSError):
                raise AnsibleActionFail(f"The capture could not be written to {dest} on the controller: {cause.strerror}.") from None
            raise AnsibleActionFail(f"The transfer of {dest} broke ({error}): the old file, if any, was left as it is; run the task again.") from None
        # docker copies a symbolic link or a FIFO as such, and its maker cannot be trusted.
        wrong = complaint(part) if os.path.isfile(part) and not os.path.islink(part) else "it is no file"
        if wrong:
            raise AnsibleActionFail(f"{dest} did not arrive intact ({wrong}): run the task again.")
        os.chmod(part, 0o600)
        os.replace(part, dest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_name(host: str) -> str:
    """Return a host's inventory name as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", host).lstrip(".") or "_"


def sha256(path: str) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
