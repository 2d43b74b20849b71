# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker, asked over its socket without its SDK: for a process that stays, where the SDK would take 30 MiB for as long.

The methods are those of the SDK's APIClient that _docker.py uses, and return the same.
"""

from __future__ import annotations

import json
import socket
import typing as t
import urllib.parse

from ansible_collections.nettap.containers.plugins.module_utils._errors import EngineError, refused_as

_SECONDS = 20  # for one answer, as _docker.TIMEOUT


class DockerSocket:
    """A Docker at a unix:// or tcp:// address (without TLS)."""

    def __init__(self, address: str) -> None:
        self._address = address

    def containers(self, all: bool, filters: t.Mapping[str, t.Any] | None = None) -> list[t.Any]:  # pylint: disable=redefined-builtin
        """Return the list of containers. Raise EngineError."""
        return t.cast("list[t.Any]", self._answer("/containers/json", all=int(all), filters=json.dumps(filters or {})))

    def inspect_container(self, identifier: str) -> dict[str, t.Any] | None:
        """Return what Docker knows of a container; None when it is gone. Raise EngineError."""
        return t.cast("dict[str, t.Any] | None", self._answer(f"/containers/{urllib.parse.quote(identifier)}/json"))

    def info(self) -> dict[str, t.Any]:
        """Return what Docker tells of itself. Raise EngineError."""
        return t.cast("dict[str, t.Any]", self._answer("/info"))

    def events(self, since: float) -> socket.socket:
        """Return a socket on which Docker tells of the containers that are made and started from then on, a line of JSON for each. Raise EngineError."""
        filters = {"type": ["container"], "event": ["create", "start"]}
        one, _code, _rest = self._ask("/events", since=f"{since:.9f}", filters=json.dumps(filters))
        one.settimeout(None)
        return one

    def _answer(self, path: str, **query: t.Any) -> t.Any:
        one, code, data = self._ask(path, **query)
        with one, refused_as(EngineError, f"Docker at {self._address} did not answer", "look at its log"):
            while True:
                piece = one.recv(1 << 16)
                if not piece:
                    break
                data += piece
        if code == 404:
            return None
        try:
            found = json.loads(data)
        except ValueError as error:
            raise EngineError(f"Docker at {self._address} answered {path} with something else than JSON (code {code}): look at its log.") from error
        if code != 200:
            raise EngineError(f"Docker at {self._address} refused {path} with code {code} ({found.get('message')}): look at its log.")
        return found

    def _ask(self, path: str, **query: t.Any) -> tuple[socket.socket, int, bytes]:
        """Send a question. Return the connection, the code of the answer, and the data after its header that came with it."""
        with refused_as(EngineError, f"Docker at {self._address} does not answer", "look whether it runs"):
            one = self._connected()
            try:
                # To HTTP/1.0, Docker answers in one piece, and ends the connection.
                one.sendall(f"GET {path}?{urllib.parse.urlencode(query)} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
                data = b""
                while b"\r\n\r\n" not in data:
                    piece = one.recv(1 if path == "/events" else 1 << 16)  # what follows the header stays in the socket
                    if not piece:
                        raise ConnectionResetError(0, "it ended the connection")
                    data += piece
                head, _separator, rest = data.partition(b"\r\n\r\n")
                return one, int(head.split(None, 2)[1]), rest
            except BaseException:
                one.close()
                raise

    def _connected(self) -> socket.socket:
        kind, _separator, place = self._address.partition("://")
        if kind == "unix":
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            one.settimeout(_SECONDS)
            try:
                one.connect(place)
            except BaseException:
                one.close()
                raise
            return one
        host, _separator, port = place.partition("/")[0].rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), _SECONDS)
