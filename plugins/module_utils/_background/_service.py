# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services: programs that run until they are stopped, and are restarted when they end by themselves.

Where systemd runs, a service is a unit in /run/systemd/system, and its output is in systemd's journal. Elsewhere a keeper
restarts it, and its output is in a file. Neither survives a reboot, nor do the namespaces and links that services serve.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import typing as t

from ansible_collections.nettap.containers.plugins.module_utils._background import _archive, _keeper
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, StorageError, refused_as
from ansible_collections.nettap.containers.plugins.module_utils._system import _files, _process, _program

_FOLDER = "/run/nettap/services"
_UNITS = "/run/systemd/system"
_STOP_SECONDS = _keeper.STOP_SECONDS + 5.0
_NOT_LOADED = 5  # exit code of systemctl(1) for a unit that is not loaded (the LSB's "program is not installed")
_LOOK = "look whether systemd answers (systemctl status)"
# The characters that have a meaning inside quotes, see systemd.service(5).
_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$", "\n": "\\n"})


class Service:
    """One service. argv is None where the service is only looked for or stopped. Unless always is set, an end with code 0 is final."""

    def __init__(self, name: str, argv: t.Sequence[str] | None = None, description: str = "", always: bool = False) -> None:
        self.name = name
        self.always = always
        self.argv = list(argv) if argv is not None else None
        self.description = description or name
        self._unit = f"nettap-{re.sub('[^A-Za-z0-9_.-]', '_', name)}.service"
        self._state = os.path.join(_FOLDER, f"{name}.json")

    def running(self) -> bool:
        """Return whether the service runs, or is about to be restarted. Raise NettapError."""
        if _systemd():
            there = os.path.exists(os.path.join(_UNITS, self._unit))
            return there and _systemctl("is-active", self._unit).stdout.strip() in ("active", "activating", "reloading")
        keeper = self._keeper()
        return keeper is not None and keeper.alive()

    def argv_running(self) -> list[str] | None:
        """Return the arguments of the service that runs; None where it does not. Raise NettapError."""
        if not self.running():
            return None
        if _systemd():
            found = None
            refusals = refused_as(StorageError, f"The unit {self._unit} cannot be read", "look at /run/systemd/system")
            with refusals, contextlib.suppress(FileNotFoundError), open(os.path.join(_UNITS, self._unit), encoding="utf-8") as stream:
                found = re.search(r"^# argv (.*)$", stream.read(), re.MULTILINE)
            return list(json.loads(found[1])) if found else None
        return list(self._load().get("argv", []))

    def start(self) -> bool:
        """Start the service, or restart it where it runs with other arguments. Return True if anything was done. Raise NettapError."""
        if self.argv is None:
            raise ValueError("There is nothing to start.")
        if self.argv_running() == self.argv:
            return False
        self.stop()
        if _systemd():
            self._start_unit(self.argv)
        else:
            self._start_keeper(self.argv)
        return True

    def stop(self) -> bool:
        """End the service: SIGTERM, then SIGKILL if it has not ended. Return True if it ran. Raise NettapError, and keep its record."""
        ran = self.running()
        if _systemd():
            path = os.path.join(_UNITS, self._unit)
            if os.path.exists(path):
                _demand("stop", self._unit)
                _files.remove(path)
                _demand("daemon-reload")
                _systemctl("reset-failed", self._unit)  # its failure is no error: the unit may not have failed
            return ran
        keeper = self._keeper()
        if keeper is not None and keeper.send(signal.SIGTERM) and not keeper.wait(_STOP_SECONDS):
            keeper.send(signal.SIGKILL)
            keeper.wait(None)
        for suffix in ("json", "pyz", "log"):
            _files.remove(os.path.join(_FOLDER, f"{self.name}.{suffix}"))
        with contextlib.suppress(OSError):  # the folder holds other services, or does not exist
            os.rmdir(_FOLDER)
        return ran

    def log(self) -> str:
        """Return where the output of the service is, for messages."""
        return f"journalctl -u {self._unit}" if _systemd() else os.path.join(_FOLDER, f"{self.name}.log")

    def tail(self, lines: int = 5) -> list[str]:
        """Return the last lines of the service's output."""
        if _systemd():
            try:
                done = _program.run(["journalctl", "-u", self._unit, "-n", str(lines), "-o", "cat", "--no-pager"], NettapError, 30)
            except NettapError as error:  # the caller puts these lines into another error, which must not get lost
                return [str(error)]
            return done.stdout.strip().splitlines()
        try:
            with open(os.path.join(_FOLDER, f"{self.name}.log"), encoding="utf-8", errors="replace") as stream:
                return stream.read()[-8192:].strip().splitlines()[-lines:]
        except FileNotFoundError:
            return []

    def _start_unit(self, argv: list[str]) -> None:
        path = os.path.join(_UNITS, self._unit)
        program = " ".join(f'"{argument.translate(_QUOTED)}"' for argument in [shutil.which(argv[0]) or argv[0], *argv[1:]])
        text = (f"# argv {json.dumps(argv)}\n[Unit]\nDescription={self.description}\nStartLimitIntervalSec=0\n\n"
                f"[Service]\nExecStart={program}\nRestart={'always' if self.always else 'on-failure'}\n"
                f"RestartSec={_keeper.PAUSE}\nTimeoutStopSec={_keeper.STOP_SECONDS:.0f}\n")
        with refused_as(StorageError, f"The unit {path} cannot be written", "look at the free room and the mount of /run"):
            os.makedirs(_UNITS, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644), "w", encoding="utf-8") as stream:
                stream.write(text)
        _demand("daemon-reload")
        done = _systemctl("start", self._unit)
        if done.returncode:
            raise NettapError(f"The service {self._unit} did not start ({done.stderr.strip()}); see {self.log()}.")

    def _start_keeper(self, argv: list[str]) -> None:
        """Start the keeper, and record it before it may run anything: whenever we are killed, the running service can be found. Raise NettapError."""
        with refused_as(StorageError, f"The folder {_FOLDER} cannot be made", "look at the free room and the mount of /run"):
            os.makedirs(_FOLDER, mode=0o700, exist_ok=True)
        archive = os.path.join(_FOLDER, f"{self.name}.pyz")
        log = os.path.join(_FOLDER, f"{self.name}.log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        _files.replace(archive, _archive.build(_keeper))
        waits, holds = os.pipe2(os.O_CLOEXEC)
        refusals = refused_as(NettapError, f"The keeper of {self.name} cannot be started", "look at the free room of /run, the memory and the processes")
        with open(waits, "rb") as start, open(holds, "wb"), refusals, open(os.open(log, flags, 0o600), "wb") as output:
            # The keeper outlives us, and module_utils have no AnsibleModule whose run_command they could call.
            process = subprocess.Popen(  # pylint: disable=consider-using-with,ansible-bad-function
                [sys.executable, "-I", archive, self._state, "always" if self.always else "on-failure", *argv],
                stdin=start, stdout=output, stderr=output, start_new_session=True, cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
            )
            started = _process.start_time(process.pid)
            process.returncode = 0  # we do not wait for it: Python must not warn that it still runs
            _files.replace_json(self._state, {"pid": process.pid, "started": started, "argv": argv})

    def _load(self) -> dict[str, t.Any]:
        try:
            with open(self._state, encoding="utf-8") as stream:
                state: dict[str, t.Any] = json.load(stream)
                return state
        except (FileNotFoundError, ValueError):
            return {}

    def _keeper(self) -> _process.Process | None:
        state = self._load()
        return _process.Process(state["pid"], state["started"]) if state.get("started") else None


def _systemd() -> bool:
    """Return whether systemd is this host's init (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system") and shutil.which("systemctl") is not None


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _program.run(["systemctl", *arguments], NettapError, remedy=_LOOK)


def _demand(*arguments: str) -> None:
    """Run systemctl. Raise NettapError with its message where it fails. A unit that is not loaded is no failure."""
    done = _systemctl(*arguments)
    if done.returncode not in (0, _NOT_LOADED):
        raise NettapError(f"systemctl {' '.join(arguments)} failed ({' '.join(done.stderr.split()).rstrip('.') or f'code {done.returncode}'}): {_LOOK}.")


def wait(condition: t.Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds, for so many seconds at most. Return whether it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
