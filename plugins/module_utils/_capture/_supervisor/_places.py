# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The places where a session listens: interfaces appear late, go, and come back, and netlink tells of each."""

from __future__ import annotations

import contextlib
import socket
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._capture import _plan
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Watched
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor._loop import Loop
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError
from ansible_collections.nettap.containers.plugins.module_utils._netlink import _socket

_RETRY = 1.0  # seconds until a namespace is looked at again of which the kernel would not tell
Key = tuple[str, str]  # interface and vantage


class Places:
    """The places of each container that runs. start is called with the places that are there and where nothing listens yet."""

    def __init__(self, loop: Loop, request: Request, host_fd: int, start: t.Callable[[Watched, list[_plan.Tap]], None]) -> None:
        self._loop = loop
        self._request = request
        self._host_fd = host_fd
        self._start = start
        self._lasting = request.vantage == "container" and request.interface == ("any",)  # then nothing ever comes or goes
        self._taken: dict[str, set[Key]] = {}  # by the container's ID: where something listens, or has ended for good
        self._missing: dict[str, list[str]] = {}  # by the container's ID: what is waited for
        self._events: dict[str, socket.socket] = {}

    def begin(self, container: Watched, taken: t.Iterable[Key]) -> None:
        """Take over a container that runs, of which these places are being captured: they have been checked."""
        self._taken[container.id] = set(taken)
        if not self._taken[container.id] or self._request.vantage != "container" and "any" in self._request.interface:
            self.look(container)  # any on the host means the peer of every interface that comes

    def left(self, container: Watched, key: Key) -> None:
        """Wait for an interface that is gone to come back."""
        if container.id in self._taken:
            self._taken[container.id].discard(key)
            self.look(container)

    def serve(self, container: Watched) -> bool:
        """Return whether the places of a container are looked after."""
        return container.id in self._taken

    def hand_over(self, container: Watched, heir: Watched) -> None:
        """Look after the places of a container that has ended for another one that runs in its namespace."""
        if container.id in self._taken:
            self._taken[heir.id] = self._taken[container.id]
            self.forget(container)
            self.look(heir)

    def forget(self, container: Watched) -> None:
        """Give up a container that has ended."""
        self._taken.pop(container.id, None)
        self._missing.pop(container.id, None)
        with contextlib.suppress(KeyError):
            one = self._events.pop(container.id)
            self._loop.forget(one.fileno())
            one.close()

    def missing(self) -> list[str]:
        """Return what is waited for, in words."""
        return [words for found in self._missing.values() for words in found]

    def there(self, container: Watched, key: Key) -> bool:
        """Return whether a place is there now. Raise NettapError."""
        taps, _missing = _plan.present(container.name, container.fd, self._host_fd, self._request)
        return key in [(tap.interface, tap.vantage) for tap in taps]

    def look(self, container: Watched) -> None:
        """Have captured what is there now, and be told of all that comes."""
        taken = self._taken.get(container.id)
        if taken is None:
            return
        try:
            if not self._lasting:
                self._listen(container)  # before the look: what comes after it is told
            taps, self._missing[container.id] = _plan.present(container.name, container.fd, self._host_fd, self._request)
        except NettapError as error:
            self._missing[container.id] = [f"{container.name}: {error}"]
            self._loop.after(_RETRY, lambda: self.look(container))
            return
        new = [tap for tap in taps if (tap.interface, tap.vantage) not in taken]
        taken.update((tap.interface, tap.vantage) for tap in new)
        self._start(container, new)

    def _listen(self, container: Watched) -> None:
        if container.id not in self._events:
            one = self._events[container.id] = _socket.link_events(container.fd)
            self._loop.watch(one.fileno(), lambda: self._heed(container, one))

    def _heed(self, container: Watched, one: socket.socket) -> None:
        if self._events.get(container.id) is one:
            with contextlib.suppress(OSError):  # none is left, or some were lost (ENOBUFS): all links are looked at in any case
                while one.recv(1 << 16):
                    pass
            self.look(container)
