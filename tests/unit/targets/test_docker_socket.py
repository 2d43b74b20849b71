# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker without its SDK: what is said when it does not answer, or answers badly. Answers of a real Docker are in the integration tests."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import threading

import pytest
from ansible_collections.nettap.containers.plugins.module_utils._errors import EngineError
from ansible_collections.nettap.containers.plugins.module_utils._targets._runtimes._docker_socket import DockerSocket


def asked(folder: pathlib.Path, answer: bytes) -> object:
    """What a question for a container returns when that is answered."""
    path = str(folder / "s")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            with server.accept()[0] as one:
                one.recv(65536)
                one.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return DockerSocket(f"unix://{path}").inspect_container("web")
        finally:
            thread.join()


@pytest.mark.parametrize(("answer", "words"), [
    (b"", "does not answer: it ended the connection"),
    (b"HTTP/1.0 500 Oh\r\n\r\n{\"message\": \"no room\"}", "refused /containers/web/json with code 500 \\(no room\\)"),
    (b"HTTP/1.0 200 OK\r\n\r\n<html>", "with something else than JSON"),
])
def test_bad_answers(tmp_path: pathlib.Path, answer: bytes, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        asked(tmp_path, answer)


def test_good_answers(tmp_path: pathlib.Path) -> None:
    assert asked(tmp_path, b"HTTP/1.0 200 OK\r\n\r\n{\"Id\": \"a\"}") == {"Id": "a"}
    (tmp_path / "s").unlink()
    assert asked(tmp_path, b"HTTP/1.0 404 Not Found\r\n\r\n{\"message\": \"none\"}") is None
    with pytest.raises(EngineError, match=r"does not answer: Connection refused"):
        DockerSocket(f"unix://{tmp_path}/s").info()
