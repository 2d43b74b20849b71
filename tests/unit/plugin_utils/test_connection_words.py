"""Errors of connections, as a person reads them."""

from __future__ import annotations

import pytest
from ansible_collections.nettap.containers.plugins.plugin_utils._connection_words import plain

FOLDER = "/root/.ansible/tmp/ansible-tmp-1764533732.1-42-7"
REFUSED = "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?"


@pytest.mark.parametrize(("said", "words"), [
    # kubectl's connection prints what kubectl has printed as Python prints bytes.
    (f"failed to transfer file /root/.ansible/tmp/ansible-local-1/tmpx to {FOLDER}/AnsiballZ_x.py:\nb''\n{f'{REFUSED}{chr(10)}'.encode()!r}", REFUSED),
    (f"failed to fetch file /tmp/x to /home/me/captures/y:\n{b''!r}\n{b'error: pod is gone' + bytes([10])!r}", "error: pod is gone"),
    (f"failed to fetch file /tmp/x to /home/me/y:\n{b''!r}\n{b''!r}", "it said nothing"),
    ("failed: b\"it's \\xff\"", "failed: it's \ufffd"),
    (f"Failed to create temporary directory. In some cases, you may have been able to authenticate and did not have permissions. Failed command was: "
     f"( umask 77 && mkdir -p {FOLDER} ), exited with result 1", "no command runs there"),
    (f"Failed to create temporary directory. Failed command was: ( mkdir {FOLDER} ), exited with result 1, stderr output: {REFUSED}\n", REFUSED),
    ("Failed to connect to the host via ssh: ssh: connect to host node1 port 22: No route to host",
     "Failed to connect to the host via ssh: ssh: connect to host node1 port 22: No route to host"),
])  # fmt: skip
def test_plain_words(said, words):
    found = plain(Exception(said))
    assert found == words.strip(" .") and "b'" not in found and "/tmp/" not in found
