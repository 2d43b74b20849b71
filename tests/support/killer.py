# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that is killed with SIGKILL before, or right after, the n-th change it makes."""

from __future__ import annotations

import collections.abc as c
import os
import signal
import typing as t


class Killer:
    """Counts the changes that a process makes, and kills it before or after the n-th."""

    def __init__(self, step: int, after: bool) -> None:
        self.step, self.after, self.count = step, after, 0

    def wrap(self, change: c.Callable[..., t.Any]) -> c.Callable[..., t.Any]:
        """Return the change, counted."""

        def wrapped(*args: t.Any, **options: t.Any) -> t.Any:
            self.count += 1
            if self.count == self.step and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return change(*args, **options)
            finally:
                if self.count == self.step:
                    os.kill(os.getpid(), signal.SIGKILL)

        return wrapped


def in_a_process(work: c.Callable[[], t.Any], changes: c.Iterable[tuple[t.Any, str]], step: int = 0, after: bool = False) -> bool:
    """Run work in a fork, killed at a step if any; return whether it came to its end. Its failure is this one's.

    changes names what counts as a step: functions, by the module or class that they are looked up in.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            killer = Killer(step, after)
            for owner, name in changes if step else ():
                setattr(owner, name, killer.wrap(getattr(owner, name)))
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed"
    return os.WIFEXITED(status)
