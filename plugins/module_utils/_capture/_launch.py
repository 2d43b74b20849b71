# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start of the supervisor: a fresh interpreter with an archive of only the code that it needs, detached from the task."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._arrivals import _program as _arrivals
from ansible_collections.nettap.containers.plugins.module_utils._background import _archive
from ansible_collections.nettap.containers.plugins.module_utils._capture._assignment import Assignment
from ansible_collections.nettap.containers.plugins.module_utils._capture._supervisor import _program, _successor
from ansible_collections.nettap.containers.plugins.module_utils._errors import CaptureError

_MORE = 1000  # descriptors for containers that may come


def launch(name: str, assignment: Assignment) -> None:
    """Run a supervisor. Return once it captures or, for a start_at in the future, is ready to. Raise CaptureError when it cannot.

    The supervisor has a session (setsid(2)) of its own and none of the task's standard streams, so that ssh does not wait for
    it. Where systemd runs, it has a scope of its own, so that neither logind (KillUserProcesses) nor sudo (use_pty) ends it
    with the login. Its code is in a file without a name, because the module's temporary folder is removed when the task ends.
    """
    descriptors = [fd for container in assignment.containers for fd in (container.fd, container.pidfd) if fd is not None and fd >= 0]
    _allow_descriptors(len(descriptors) + (_MORE if assignment.arrivals is not None else 0))
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(tempfile.TemporaryFile())
        archive.write(_archive.build(_program, _successor, compiled=True))  # the same Python runs it, and starts 0.045 s sooner
        archive.flush()
        heard, said = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, heard)
        if assignment.arrivals is not None:
            watch = stack.enter_context(tempfile.TemporaryFile())
            watch.write(_archive.build(_arrivals))
            watch.flush()
            descriptors.append(watch.fileno())
            assignment = dataclasses.replace(assignment, watch=watch.fileno())
        orders = stack.enter_context(tempfile.TemporaryFile())
        orders.write(json.dumps(dataclasses.replace(assignment, ready=said).stored()).encode())
        orders.seek(0)
        words = stack.enter_context(tempfile.TemporaryFile())
        try:
            # The supervisor outlives us, and module_utils have no AnsibleModule whose run_command they could call.
            process = subprocess.Popen(  # pylint: disable=consider-using-with,ansible-bad-function
                [*_scope(name), sys.executable, "-I", f"/proc/self/fd/{archive.fileno()}", "nettap-capture", assignment.directory],
                stdin=orders, stdout=subprocess.DEVNULL, stderr=words, pass_fds=[archive.fileno(), said, *descriptors],
                start_new_session=True, cwd="/", env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
            )
        except OSError as error:
            raise CaptureError(f"The supervisor of session {name} cannot be started: {error.strerror}; look at the host's memory and processes.") from error
        finally:
            os.close(said)
        # The answer, or the end of the supervisor: the kernel may take long to find the memory of the buffers.
        answer = os.read(heard, 65536)
        process.returncode = 0  # we do not wait for it: Python must not warn that it still runs
        if not answer:
            raise CaptureError(f"The supervisor of session {name} ended before it could say why{_last(words)}; "
                               f"see {assignment.directory}/supervisor.log, if it is there.")
    failure = json.loads(answer)
    if failure is not None:
        raise CaptureError(failure)


def _last(words: t.IO[bytes]) -> str:
    """Return the last line that systemd-run, or Python, has written to its standard error, in parentheses; "" if there is none."""
    words.seek(0)
    lines = words.read().decode(errors="replace").strip().splitlines()
    return f" ({lines[-1].strip().rstrip('.')})" if lines else ""


def _scope(name: str) -> list[str]:
    """Return the command that starts the supervisor in a scope of its own; [] where systemd is not the init."""
    systemd_run = shutil.which("systemd-run")
    if systemd_run is None or not os.path.isdir("/run/systemd/system"):
        return []
    return [systemd_run, "--scope", "--quiet", "--collect", f"--description=nettap capture {name}", "--"]


def _allow_descriptors(number: int) -> None:
    """Raise the soft limit of open files: the usual 1024 is too low for more than a few hundred containers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * number + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(hard, wanted), hard))
