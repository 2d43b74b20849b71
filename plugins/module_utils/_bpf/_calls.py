# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of bpf(2): load programs, make, read and change maps. All numbers are from linux/bpf.h."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, SteeringError

# __NR_bpf (asm/unistd.h of each architecture)
_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351, "armv7l": 386, "i686": 357}
# A 32-bit process uses its own numbers, although uname(2) names the kernel's machine (32-bit Raspberry Pi OS).
_NARROW = {"x86_64": "i686", "aarch64": "armv7l"}
_LIBC = ctypes.CDLL(None, use_errno=True)

# enum bpf_cmd
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY, _PROG_LOAD = range(6)
_ELEMENT = {_MAP_LOOKUP: "a look at an element", _MAP_UPDATE: "a change of an element", _MAP_DELETE: "the removal of an element", _MAP_NEXT_KEY: "the keys"}
_PROG_GET_FD_BY_ID, _MAP_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _PROG_QUERY = 13, 14, 15, 16

_MAP_TYPE_HASH = 1
_PROG_TYPE_SCHED_CLS = 3
# enum bpf_attach_type, Linux 6.6 and 6.7. Both of netkit are queried at the pair's first end.
TCX_INGRESS, TCX_EGRESS, NETKIT_PEER = 46, 47, 55


def load(code: bytes, name: str) -> int:
    """Load a program for tc, and return its descriptor, which the caller closes. Raise DependencyError or SteeringError."""
    licence, instructions = ctypes.create_string_buffer(b"GPL-3.0-or-later"), ctypes.create_string_buffer(code, len(code))
    for log_size in (0, 1 << 16):  # the verifier's log costs time: request it only after an error
        log = ctypes.create_string_buffer(log_size or 1)
        attributes = struct.pack(
            "=IIQQIIQII16s", _PROG_TYPE_SCHED_CLS, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence),
            1 if log_size else 0, log_size, ctypes.addressof(log) if log_size else 0, 0, 0, name.encode()[:15],
        )
        try:
            return _charged(_PROG_LOAD, attributes, f"the BPF program {name}")
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EINVAL) or log_size:
                said = log.value.decode(errors="replace").strip().splitlines()
                raise SteeringError(f"The kernel does not take the BPF program {name} ({error.strerror}): {said[-2:] or 'it says no more'}.") from error
    raise SteeringError(f"The kernel does not take the BPF program {name}.")


def create_map(key_size: int, value_size: int, entries: int, name: str) -> int:
    """Make a hash map, which takes memory as entries come (BPF_F_NO_PREALLOC), and return its descriptor. Raise DependencyError or SteeringError."""
    attributes = struct.pack("=IIIIIII16s", _MAP_TYPE_HASH, key_size, value_size, entries, 1, 0, 0, name.encode()[:15])
    try:
        return _charged(_MAP_CREATE, attributes, f"the BPF map {name}")
    except OSError as error:
        raise SteeringError(f"The kernel does not make the BPF map {name} ({error.strerror}): look for its reason in the kernel's log (dmesg).") from error


def update(map_fd: int, key: bytes, value: bytes) -> None:
    """Set an element, whether it exists or not. Raise SteeringError."""
    _element(_MAP_UPDATE, map_fd, key, value)


def lookup(map_fd: int, key: bytes, value_size: int) -> bytes | None:
    """Return an element, None if it does not exist. Raise SteeringError."""
    value = ctypes.create_string_buffer(value_size)
    return value.raw if _element(_MAP_LOOKUP, map_fd, key, value) else None


def delete(map_fd: int, key: bytes) -> None:
    """Remove an element, whether it exists or not. Raise SteeringError."""
    _element(_MAP_DELETE, map_fd, key, None)


def keys(map_fd: int, key_size: int) -> list[bytes]:
    """Return all keys of a map. No other process may change the map meanwhile. Raise SteeringError."""
    found: list[bytes] = []
    following = ctypes.create_string_buffer(key_size)
    while _element(_MAP_NEXT_KEY, map_fd, found[-1] if found else None, following):
        found.append(following.raw)
    return found


def map_of_program(program_id: int) -> int | None:
    """Return a descriptor of the one map that a loaded program uses, None if it uses none or is gone. Raise SteeringError."""
    program = None
    try:
        program = bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", program_id, 0, 0))
        # struct bpf_prog_info: nr_map_ids is at 52, the pointer map_ids at 56.
        ids = (ctypes.c_uint32 * 1)()
        info = ctypes.create_string_buffer(256)
        struct.pack_into("=IQ", info, 52, 1, ctypes.addressof(ids))
        bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", program, len(info), ctypes.addressof(info)))
        if not struct.unpack_from("=I", info, 52)[0]:
            return None
        return bpf(_MAP_GET_FD_BY_ID, struct.pack("=III", ids[0], 0, 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(f"a look at BPF program {program_id}", error) from error
    finally:
        if program is not None:
            os.close(program)


def attached(ifindex: int, kind: int) -> list[int] | None:
    """Return the IDs of the programs attached to a link by tcx (TCX_INGRESS, TCX_EGRESS), or to the other end of a netkit pair (NETKIT_PEER).

    Return [] where the kernel has no such attachment, or the link is not of that kind. Return None for a netkit's second end, which
    does not report them. Raise SteeringError.
    """
    ids = (ctypes.c_uint32 * 64)()
    # query: target_ifindex, attach_type, query_flags, attach_flags, prog_ids, prog_cnt, padding, prog_attach_flags, link_ids, …
    attributes = ctypes.create_string_buffer(struct.pack("=IIIIQIIQQQQ", ifindex, kind, 0, 0, ctypes.addressof(ids), len(ids), 0, 0, 0, 0, 0))
    try:
        bpf(_PROG_QUERY, attributes)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.E2BIG, errno.ENXIO):
            return []
        if error.errno == errno.EACCES:
            return None
        raise _refused(f"a look at the BPF programs of link {ifindex}", error) from error
    return list(ids[: struct.unpack_from("=I", attributes, 24)[0]])


def _element(command: int, map_fd: int, key: bytes | None, value: t.Any) -> bool:
    """Run a command on one element of a map. Return False if the element does not exist (ENOENT). Raise SteeringError."""
    held = ctypes.create_string_buffer(key, len(key)) if key is not None else None
    buffer = ctypes.create_string_buffer(value, len(value)) if isinstance(value, bytes) else value
    try:
        bpf(command, struct.pack("=IIQQQ", map_fd, 0, ctypes.addressof(held) if held else 0, ctypes.addressof(buffer) if buffer else 0, 0))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _refused(f"{_ELEMENT[command]} of the BPF map of the steering", error) from error
    return True


def _refused(what: str, error: OSError) -> SteeringError:
    """Return the error for a refused request that takes no memory of this process."""
    if error.errno == errno.EPERM:
        return _forbidden(what)
    return SteeringError(f"The kernel refuses {what} ({error.strerror}): look for its reason in the kernel's log (dmesg), then run the task again.")


def _charged(command: int, attributes: bytes, what: str) -> int:
    """Make a map or load a program, for which the kernel takes memory. Raise OSError, DependencyError or SteeringError.

    Until Linux 5.10 the kernel counts a map's and a program's pages as locked memory of the user (bpf_charge_memlock in kernel/bpf/syscall.c),
    also for root, and a map in its full size at once. Above RLIMIT_MEMLOCK, which is 64 KiB or 8 MiB, it returns EPERM, as for a missing privilege.
    So the limit is lifted only after EPERM, and only during the call: no process that is started later inherits that.
    """
    try:
        return bpf(command, attributes)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = resource.RLIM_INFINITY
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
    except (ValueError, OSError):  # without CAP_SYS_RESOURCE the hard limit stays, and Python raises ValueError
        limit = before[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
    try:
        return bpf(command, attributes)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise _forbidden(what, limit) from error
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


def _forbidden(what: str, limit: int = resource.RLIM_INFINITY) -> SteeringError:
    """Return the error for EPERM. limit is the most memory that this process could lock, in bytes."""
    low = "" if limit == resource.RLIM_INFINITY else (
        f" Kernels before 5.11 also say so where RLIMIT_MEMLOCK is too low (here {limit} bytes) and cannot be raised: give CAP_SYS_RESOURCE, or raise it "
        "for the session that Ansible runs in (ulimit -l, LimitMEMLOCK=).")
    return SteeringError(f"The kernel forbids {what} (Operation not permitted): run as root of the host itself, with CAP_SYS_ADMIN and CAP_NET_ADMIN, where no "
                         f"seccomp profile forbids bpf(2), or use topology: takeover, which needs no BPF.{low}")


def _number(machine: str, pointer: int) -> int:
    """Return the number of bpf(2) for a process whose pointers have so many bytes. Raise DependencyError."""
    number = _SYSCALL.get(_NARROW.get(machine, machine) if pointer == 4 else machine)
    if number is None:
        raise DependencyError(f"bpf(2) is not known for {machine}: use topology: takeover, which needs no BPF.")
    return number


def bpf(command: int, attributes: t.Any) -> int:
    """Call bpf(2), and return its result. Raise OSError, or DependencyError where there is no such call."""
    number = _number(platform.machine(), struct.calcsize("P"))
    buffer = ctypes.create_string_buffer(attributes, len(attributes)) if isinstance(attributes, bytes) else attributes
    result: int = _LIBC.syscall(number, command, ctypes.byref(buffer), len(buffer))
    if result < 0:
        code = ctypes.get_errno()
        if code == errno.ENOSYS:
            raise DependencyError("The kernel has no bpf(2): use topology: takeover, which needs no BPF.")
        raise OSError(code, os.strerror(code))
    return result
