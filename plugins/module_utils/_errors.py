# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one family of exceptions. Each message is a sentence that says what failed, on what object, and what to do."""

from __future__ import annotations

import contextlib
import typing as t


class NettapError(Exception):
    """An error that a user, a host or the network can cause. Modules report it without a traceback."""


class DependencyError(NettapError):
    """A program, library or kernel feature that the host lacks."""


class EngineError(NettapError):
    """A container runtime that does not answer, or answers with an error."""


class TargetError(NettapError):
    """Target options that match nothing, too much, or an unusable target."""


class NamespaceError(NettapError):
    """A namespace that cannot be opened or is not the requested one."""


class MissingError(NamespaceError):
    """A process or namespace that does not exist (any more)."""


class IdentityError(NamespaceError):
    """A process that is not the requested container's."""


class StorageError(NettapError):
    """A storage path that is unsafe, full or not writable."""


class CaptureError(NettapError):
    """A capture that cannot be started, stopped or described."""


class PcapError(NettapError):
    """A capture file that cannot be read."""


class DataplaneError(NettapError):
    """A dataplane (its namespace, its service links, its engine) that cannot be made, reached or configured."""


class SteeringError(NettapError):
    """Steering that is refused, cannot be applied or cannot be undone."""


@contextlib.contextmanager
def refused_as(kind: type[NettapError], what: str, remedy: str) -> t.Iterator[None]:
    """Turn an OSError of the block into an error of the family, whose sentence says what failed, on what object, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}; {remedy}.") from error
