# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading bbolt databases (containerd's meta.db, Podman's bolt_state.db) while their runtime uses them.

The format is that of go.etcd.io/bbolt (page.go, db.go, bucket.go). The pages form a B+ tree, and the newer of two meta pages
names its root. All numbers are in the byte order of the machine.
"""

from __future__ import annotations

import mmap
import os
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import EngineError

Tree = dict[bytes, t.Any]  # a value is bytes, or a Tree for a bucket in the bucket

_PAGE = struct.Struct("=QHHI")  # id, flags, count, overflow
_BRANCH_PAGE, _LEAF_PAGE = 0x01, 0x02
_BRANCH = struct.Struct("=IIQ")  # pos, ksize, page
_LEAF = struct.Struct("=IIII")  # flags, pos, ksize, vsize
_BUCKET_LEAF = 0x01
_BUCKET = struct.Struct("=QQ")  # root page, sequence
_META = struct.Struct("=IIIIQQQQQQ")  # magic, version, page size, flags, root page, sequence, freelist, last page, transaction, checksum
_MAGIC, _VERSION = 0xED0CDAED, 2
_LEAST_PAGE = 512  # bytes; a power of two, as the kernel's pages are
_ATTEMPTS = 20


def read(path: str, choose: t.Callable[[Bucket], Tree]) -> Tree:
    """Return the tree that choose takes out of the database. choose gets the root bucket, perhaps more than once. Raise EngineError.

    The runtime holds the file's lock for as long as it runs, so take no lock. The pages that a transaction wrote are overwritten
    by the second transaction after it at the earliest: a result is consistent if no transaction has ended meanwhile. Else read again.
    """
    problem = "it is being written all the time"
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:  # O_NONBLOCK: does not wait on a pipe
            for _attempt in range(_ATTEMPTS):
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    try:
                        meta = _newest(data)
                        if meta[2] < _LEAST_PAGE or meta[2] & (meta[2] - 1):
                            raise ValueError(f"pages of {meta[2]} bytes")
                        found = choose(Bucket(data, meta[2], meta[4]))
                    except (struct.error, ValueError, IndexError, RecursionError) as error:
                        problem = f"it is damaged ({error})"
                        continue
                    if _newest(data)[8] == meta[8]:
                        return found
    except PermissionError as error:
        raise EngineError(f"The database {path} refuses access: root is needed on the host (become: true).") from error
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
    raise EngineError(f"The database {path} cannot be read ({problem}): run the task again.")


def _newest(data: mmap.mmap) -> tuple[int, ...]:
    """Return the valid meta page of the newest transaction. The second meta page is at the start of the second page. Raise ValueError."""
    first = _META.unpack_from(data, _PAGE.size)
    size = first[2] if first[0] == _MAGIC else os.sysconf("SC_PAGESIZE")
    found = [meta for meta in (first, _META.unpack_from(data, size + _PAGE.size)) if meta[:2] == (_MAGIC, _VERSION) and meta[9] == _checksum(meta)]
    if not found:
        raise ValueError("no valid meta page")
    return max(found, key=lambda meta: meta[8])


def _checksum(meta: tuple[int, ...]) -> int:
    """Return the FNV-1a hash, 64 bits, of the meta page up to its checksum."""
    value = 0xCBF29CE484222325
    for byte in _META.pack(*meta)[:-8]:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


class Bucket:
    """A bucket: the keys and values below one root page, or in one small page of its own."""

    def __init__(self, data: mmap.mmap, page_size: int, root: int, inline: bytes = b"") -> None:
        self._data = data
        self._size = page_size
        self._root = root
        self._inline = inline

    def items(self) -> t.Iterator[tuple[bytes, bytes | Bucket]]:
        """Yield every key with its value or, for a bucket in this one, that bucket. Raise ValueError when the bucket is damaged."""
        pages: list[tuple[t.Any, int]] = [(self._inline, 0) if self._inline else (self._data, self._root * self._size)]
        visited = 0
        while pages:
            source, start = pages.pop()
            _number, flags, count, _overflow = _PAGE.unpack_from(source, start)
            visited += 1
            if not flags & (_BRANCH_PAGE | _LEAF_PAGE):
                raise ValueError("a page that is none of the tree")
            for index in range(count):
                element = start + _PAGE.size + index * _LEAF.size  # both kinds have the same size
                if flags & _BRANCH_PAGE:
                    if visited + len(pages) > len(self._data) // self._size:
                        raise ValueError("more pages than there are")
                    pages.append((self._data, _BRANCH.unpack_from(source, element)[2] * self._size))
                    continue
                kind, position, key_size, value_size = _LEAF.unpack_from(source, element)
                at = element + position
                key, value = source[at:at + key_size], source[at + key_size:at + key_size + value_size]
                if kind & _BUCKET_LEAF:
                    root = _BUCKET.unpack_from(value)[0]
                    yield key, Bucket(self._data, self._size, root, b"" if root else value[_BUCKET.size:])
                else:
                    yield key, value

    def bucket(self, *names: str) -> Bucket | None:
        """Return the bucket under these names, each inside the one before; None when there is none."""
        found: Bucket | None = self
        for name in names:
            found = next((value for key, value in found.items() if key == name.encode() and isinstance(value, Bucket)), None) if found else None
        return found

    def tree(self) -> Tree:
        """Return the whole content of the bucket."""
        return {key: value.tree() if isinstance(value, Bucket) else value for key, value in self.items()}
