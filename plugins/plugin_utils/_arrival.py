# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that arrive on the controller: private, verified, and put into place whole."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import tempfile
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError

from ansible_collections.nettap.containers.plugins.plugin_utils._connection_words import plain

_LONGEST_NAME = 255  # bytes of a file's name: NAME_MAX of linux/limits.h
_ORIGIN = "user.nettap.origin"  # the extended attribute (xattr(7)) that tells which capture a file holds


def bring(fetch_file: t.Callable[[str, str], None], source: str, dest: str, complaint: t.Callable[[str], str | None], origin: str) -> None:
    """Fetch one file into a folder beside dest, verify it, and rename it: whatever fails, dest is the old file or the whole new one.

    fetch_file is a connection's. complaint returns what is wrong with the file at a path, None if nothing is. origin names the
    capture; origin_of() reads it from the file again. Raise AnsibleActionFail, AnsibleConnectionFailure.
    """
    # "from None" below: Ansible appends the cause of an error to its message, and ours already name the cause.
    try:
        _make(os.path.dirname(dest))
        # In a folder of its own (0700): some connections write to the source's name beside what they are given, for all to read.
        folder = tempfile.mkdtemp(prefix=f".{os.path.basename(dest)}.", suffix=".part", dir=os.path.dirname(dest))
    except OSError as error:
        raise _unwritable(dest, error) from None
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
            raise AnsibleActionFail(f"The transfer of {dest} broke ({plain(error)}): the old file, if any, was left as it is; run the task again.") from None
        # docker copies a symbolic link or a FIFO as such, and its maker cannot be trusted.
        wrong = complaint(part) if os.path.isfile(part) and not os.path.islink(part) else "it is no file"
        if wrong:
            raise AnsibleActionFail(f"{dest} did not arrive intact ({wrong}): run the task again.")
        os.chmod(part, 0o600)
        with contextlib.suppress(OSError, AttributeError):  # not every file system has them, nor Python on every system
            os.setxattr(part, _ORIGIN, origin.encode(errors="surrogatepass"))
        os.replace(part, dest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def origin_of(path: str) -> str | None:
    """Return the origin of a file that was brought; None where nothing tells it."""
    try:
        return os.getxattr(path, _ORIGIN).decode(errors="surrogatepass")
    except (OSError, AttributeError):
        return None


@contextlib.contextmanager
def new_file(folder: str, stem: str, ending: str) -> t.Iterator[str]:
    """Take a name in a folder that no other file has, STEM.ENDING or STEM-2.ENDING and so on, and give it up if the block fails."""
    for number in itertools.count(1):
        path = os.path.join(folder, f"{stem}-{number}{ending}" if number > 1 else f"{stem}{ending}")
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(path, error) from None
    try:
        yield path
    except BaseException:
        if not os.path.getsize(path):
            os.unlink(path)
        raise


def folder_of(host: str, dest: str, make: bool) -> str:
    """Return the path of a host's own folder below dest, and make it (0700) where make is true.

    Where a file system takes two names for one (it ignores case), the folder of the host that comes second has a name with a checksum.
    """
    name = file_name(host)
    path = os.path.join(dest, name)
    try:
        if make:
            with contextlib.suppress(OSError):  # the file that then cannot be written tells it, with its own name
                _make(path)
        if os.path.lexists(path) and name not in os.listdir(dest):
            path = os.path.join(dest, _shortened(host, name))
            if make:
                _make(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


def file_name(host: str) -> str:
    """Return a host's inventory name as the name of a folder, no two hosts' the same.

    ASCII letters, digits, dots, underscores and hyphens stay; other bytes of its UTF-8 become %XX, as in a URL (RFC 3986, 2.1), and so
    does a dot in front. A name that is too long ends in a checksum.
    """
    name = re.sub(rb"^\.|[^A-Za-z0-9_.-]", lambda match: b"%%%02X" % ord(match[0]), host.encode(errors="surrogatepass")).decode() or "%"
    return name if len(name) <= _LONGEST_NAME else _shortened(host, name)


def _shortened(host: str, name: str) -> str:
    """Return the start of a host's name with a checksum of all of it; only such names have a tilde."""
    return f"{name[:100]}~{hashlib.sha256(host.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _make(folder: str) -> None:
    before = os.umask(0o077)  # captures hold secrets; makedirs applies a mode to the last folder only
    try:
        os.makedirs(folder, exist_ok=True)
    finally:
        os.umask(before)


def _unwritable(dest: str, error: OSError) -> AnsibleActionFail:
    return AnsibleActionFail(f"The destination {dest} on the controller cannot be written: {error.strerror}.")


def sha256(path: str) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
