# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of processes: a PID alone may be reused; a PID with its start time, held by a pidfd, is not."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import select
import signal

from ansible_collections.nettap.containers.plugins.module_utils._errors import DependencyError, NettapError

_PIDFD_THREAD = os.O_EXCL  # linux/pidfd.h


def start_time(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot (field 22 of proc(5) stat); None when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            # The command name is in parentheses, and may itself hold spaces and parentheses.
            fields = stream.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def numbers(pid: int) -> list[int]:
    """Return the PIDs of a process in its PID namespaces, ours first and its own last (NSpid of proc(5) status); [] when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as stream:
        return next((list(map(int, line.split()[1:])) for line in stream if line.startswith("NSpid:")), [pid])
    return []


def parent(pid: int) -> int:
    """Return the PID of a process's parent (field 4 of proc(5) stat); 0 when it has none or is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        return int(stream.read().rpartition(")")[2].split()[1])
    return 0


def name(pid: int) -> str:
    """Return the name of a process, of at most 15 characters (proc(5) comm); "" when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
        return stream.read().rstrip("\n")
    return ""


def pidfd_open(pid: int) -> int:
    """Return a pidfd, which is readable once the process has ended, see pidfd_open(2).

    Raise ProcessLookupError when the process is gone, PermissionError, DependencyError, NettapError.
    """
    try:
        return os.pidfd_open(pid)
    except AttributeError as error:
        raise DependencyError("Python 3.9 or newer is needed on the host, for pidfd_open.") from error
    except OSError as error:
        if isinstance(error, (ProcessLookupError, PermissionError)):
            raise
        if error.errno in (errno.EINVAL, errno.ENOENT):  # the number is negative or a thread's; the error depends on the kernel
            raise ProcessLookupError(errno.ESRCH, f"{pid} is no process's PID") from error
        if error.errno == errno.ENOSYS:
            raise DependencyError(f"The kernel cannot open a pidfd ({error.strerror}); Linux 5.3 or newer is needed.") from error
        raise NettapError(f"Process {pid} cannot be watched ({error.strerror}): raise the limit of open files (ulimit -n).") from error


def thread_pidfds(pid: int) -> list[int]:
    """Return pidfds of all threads of a process but the first; [] before Linux 6.9. Each is readable once its thread has ended. The caller closes them."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # the process is gone
        for entry in os.listdir(f"/proc/{pid}/task"):
            if int(entry) != pid:
                with contextlib.suppress(OSError):  # the thread is gone, or the kernel is older
                    found.append(os.pidfd_open(int(entry), _PIDFD_THREAD))
    return found


def killed(pid: int) -> bool:
    """Return whether a signal has ended the process, although parts of it may still exist (field 52 of proc(5) stat: exit_code)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[49] != "0"
    except (FileNotFoundError, ProcessLookupError):
        return True


def asleep(pid: int) -> bool:
    """Return whether a process waits for an event, and not for a processor or the disk; False when it is gone."""
    return _state(pid) == "S"


def halted(pid: int) -> bool:
    """Return whether a signal or a debugger holds a process; False when it is gone."""
    return _state(pid) in ("T", "t")


def _state(pid: int) -> str:
    """Return the state of a process (field 3 of proc(5) stat); "" when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def has_ended(pidfd: int, timeout: float | None = 0.0) -> bool:
    """Wait up to timeout seconds (None: as long as it takes) for the process behind pidfd to end. Return whether it has ended."""
    poller = select.poll()  # select() cannot take descriptors above 1023
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else timeout * 1000))


@dataclasses.dataclass(frozen=True)
class Process:
    """A process recorded by PID and start time. It is signalled only while the PID still belongs to it."""

    pid: int
    started: int

    @classmethod
    def own(cls) -> Process:
        """Return the calling process."""
        return cls(os.getpid(), start_time(os.getpid()) or 0)

    def alive(self) -> bool:
        """Return whether this very process still runs."""
        return start_time(self.pid) == self.started

    def open(self) -> int | None:
        """Return a pidfd of this very process, which the caller closes; None when it has ended. Raise NettapError."""
        try:
            pidfd = pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        except PermissionError as error:
            raise self._foreign() from error
        if self.alive():
            return pidfd
        os.close(pidfd)
        return None

    def send(self, number: int) -> bool:
        """Send a signal. Return False when the process has ended. Raise NettapError."""
        pidfd = self.open()
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, number)
            return True
        except ProcessLookupError:
            return False
        except PermissionError as error:
            raise self._foreign() from error
        finally:
            os.close(pidfd)

    def wait(self, timeout: float | None) -> bool:
        """Wait up to timeout seconds (None: as long as it takes) for the process to end. Return whether it has ended. Raise NettapError."""
        pidfd = self.open()
        if pidfd is None:
            return True
        try:
            return has_ended(pidfd, timeout)
        finally:
            os.close(pidfd)

    def _foreign(self) -> NettapError:
        return NettapError(f"Process {self.pid} cannot be watched or signalled by this user: root is needed (become: true).")
