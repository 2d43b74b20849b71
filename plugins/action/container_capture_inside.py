# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of container_capture_inside: it captures from inside a container, over any connection, with a tcpdump that it brings and removes."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import functools
import os
import secrets
import threading
import time
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.become import BecomeBase
from ansible.utils.display import Display

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_inside import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._capture import _tcpdump
from ansible_collections.nettap.containers.plugins.module_utils._capture._request import Request
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, PcapError
from ansible_collections.nettap.containers.plugins.module_utils._pcap._reader import scan
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp
from ansible_collections.nettap.containers.plugins.plugin_utils import _inside
from ansible_collections.nettap.containers.plugins.plugin_utils._arrival import bring, folder_of, new_file, sha256
from ansible_collections.nettap.containers.plugins.plugin_utils._interruption import Interruption
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked
from ansible_collections.nettap.containers.plugins.plugin_utils._portable import LOADER, PROGRAM, Bundle, bundle

_BEAT = 1.0  # seconds between two beats
_READY = 30.0  # seconds after which is said what is waited for, and for tcpdump to end
# Seconds for which packets may stay in the kernel before tcpdump sees them. Packets that it has not seen when it is ended are lost.
_DRAIN = 2.0
# How often a transfer is tried, and a script is run that has not printed its whole answer. Over community.docker.docker_api, data that
# arrives together with the headers of Docker's answer is lost (as with the Docker SDK for Python), more often on a busy controller.
_TRIES = 5


class _GoneError(Exception):
    """The loss of the folder in the container."""


class ActionModule(ActionBase):
    """An action whose processes and files in the container all belong to one shell there.

    This shell is called the keeper here. It ends and removes all of them, also when we are killed.
    """

    _requires_connection = True
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action. Raise AnsibleActionFail."""
        result = super().run(tmp, task_vars)
        args = checked(self, SPEC)
        self._host = (task_vars or {}).get("inventory_hostname", "localhost")
        self._shell_path = self._play_context.executable or "/bin/sh"
        try:
            request = Request.of({**args, "interface": [args["interface"]], "file_size": 0})
            if request.endless():
                raise AnsibleActionFail("The capture would never end: give duration or packet_count.")
            program = bundle(os.path.abspath(os.path.expanduser(args["tcpdump"])) if args["tcpdump"] else _tcpdump.program())
            if self._task.check_mode:
                return {**result, "changed": True, "files": [], "capture": _told(args, None, None, _tcpdump.Counts())}
            with Interruption() as interruption:
                return {**result, "changed": True, **self._capture(args, request, program, interruption)}
        except NettapError as error:
            raise AnsibleActionFail(str(error)) from None

    def _capture(self, args: dict[str, t.Any], request: Request, program: Bundle, interruption: Interruption) -> dict[str, t.Any]:
        folder, changes = self._probe(args["upload_to"], program)
        link_type = "EN10MB" if _tcpdump.looks_like_any(args["interface"]) else None  # a container's link is Ethernet as a rule
        argv = _tcpdump.command(PROGRAM, request, args["interface"], f"{folder}/{_inside.PACKETS}", args["buffer_size"], link_type)[1:]
        if not changes:  # a tcpdump that does not drop privileges stays who it is
            at = argv.index("-Z")
            del argv[at:at + 2]
        keep = [folder, self._owner(), str(_inside.LEASE), *program.command(folder), *argv]
        keeper = _Background(functools.partial(self._apart()._run, _inside.KEEP, *keep))
        self._reached = time.monotonic()
        try:
            self._until(folder, keeper, lambda state, _report: state != "gone", "no folder was made in it", must_be_there=False)
            for name, path in program.files.items():
                self._beating(folder, functools.partial(self._apart()._connection.put_file, path, f"{folder}/{name}"))
            self._run(_inside.GO, folder, *({PROGRAM, LOADER} & set(program.files)))
            _state, report = self._until(folder, keeper, lambda state, report: report.ready or state.startswith("ended"), "tcpdump did not open its socket")
            if not report.ready:
                raise AnsibleActionFail(f"tcpdump does not capture in {self._host}: {report.complaint or 'it said nothing'}. {_advice(report.complaint)}")
            started = time.time()
            reason, report = self._wait(folder, request, interruption)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started))
            base = folder_of(self._host, os.path.abspath(os.path.expanduser(args["dest"])), make=True)
            fetch_file = self._apart()._connection.fetch_file
            with new_file(base, f"inside-{stamp}", ".pcap") as dest:
                self._beating(folder, lambda: bring(fetch_file, f"{folder}/{_inside.PACKETS}", dest, lambda path: _complaint(path, report),
                                                    f"{self._host} inside {timestamp(started)}"))
        except _GoneError:
            raise AnsibleActionFail(f"The capture in {self._host} was given up: {self._host} could not be reached for {_inside.LEASE} s, or what was brought "
                                    "along has been removed there; its packets are lost.") from None
        finally:
            self._leave(folder, keeper)
        if interruption.happened:
            interruption.announce(f"[{self._host}] interrupted: the capture was stopped and fetched to {dest}")
            raise AnsibleActionFail(f"Interrupted: the capture was stopped and fetched to {dest}.")
        capture = _told(args, reason, timestamp(started), report.counts)
        return {
            "files": [{"dest": dest, "size": os.path.getsize(dest), "sha256": sha256(dest), "packets": capture["packets_captured"], "host": self._host}],
            "capture": capture,
        }

    def _owner(self) -> str:
        """Return the UID of the user who must own the folder: the login user, as whom files are transferred. Return "" if this user makes it."""
        if self._connection.become is None:
            return ""
        return "".join(self._told(_inside.script(self._shell_path, _inside.USER), "user", sudoable=False)["user"])

    def _probe(self, places: list[str], program: Bundle) -> tuple[str, bool]:
        """Check whether the capture can work in the container at all. Raise AnsibleActionFail, DependencyError if not.

        Return the path of a folder that can be made, and whether tcpdump can change its user there.
        """
        name = f".nettap-{secrets.token_hex(8)}"
        known = self._told(_inside.script(self._shell_path, _inside.PROBE, name, self._shell_path, *places), "machine", "place")
        if "missing" in known:
            raise AnsibleActionFail(f"{self._host} lacks {', '.join(known['missing'])}: capture from its host with nettap.containers.container_capture.")
        program.check("".join(known["machine"]), self._host)
        if not known["place"]:
            raise AnsibleActionFail(f"{self._host} has no folder in which files can be made and run (tried {', '.join(places)}): name one with upload_to.")
        return f"{known['place'][0].rstrip('/')}/{name}", _inside.changes_user(known)

    def _told(self, command: str, *keys: str, **options: bool) -> dict[str, list[str]]:
        """Run a script. Return its answer by the first words of its lines. keys are the first words of its first and its last line.

        Raise AnsibleActionFail.
        """
        for _try in range(_TRIES):
            done = self._low_level_execute_command(command, **options)
            known: dict[str, list[str]] = {}
            for line in done["stdout"].splitlines():
                if line.startswith(_inside.MARK):
                    key, *value = line[len(_inside.MARK):].split(None, 1)
                    known.setdefault(key, []).extend(value)
            if known.keys() >= set(keys):
                return known
            if done["rc"] != 0:
                break
        words = " ".join((done["stderr"] or done["stdout"]).split()) or f"code {done['rc']}"
        raise AnsibleActionFail(f"Nothing can be run in {self._host} ({words}): connections run all by a shell, {self._shell_path}. If it has one "
                                "elsewhere, set ansible_shell_executable; if it has none, capture from its host with nettap.containers.container_capture.")

    def _wait(self, folder: str, request: Request, interruption: Interruption) -> tuple[str, _tcpdump.Report]:
        """Wait for the end of tcpdump, and end it after its duration or at an interruption. Return why it has ended, and its messages.

        Raise AnsibleActionFail, _GoneError.
        """
        deadline = time.monotonic() + request.duration if request.duration else None
        reason = "packet_count"
        while True:
            state, report = self._beat(folder)
            if state.startswith("ended"):
                if reason == "packet_count" and state != "ended 0":
                    raise AnsibleActionFail(f"tcpdump has ended in {self._host} before its time ({state}): {report.complaint or 'it said nothing'}.")
                return reason, report
            left = deadline - time.monotonic() if deadline is not None else _BEAT
            if reason == "packet_count":
                if not interruption.happened and left > 0:
                    interruption.sleep(min(left, _BEAT))
                    continue
                reason = "user" if interruption.happened else "duration"
                time.sleep(_DRAIN)
                deadline = time.monotonic() + _READY
            elif left <= 0:
                raise AnsibleActionFail(f"tcpdump could not be ended in {self._host} within {_READY:.0f} s, and its packets are lost: see whether commands can "
                                        "be run there, and run the task again.")
            with contextlib.suppress(AnsibleConnectionFailure):  # repeated in each round: a command may get lost without an error
                self._run(_inside.STOP, folder)
            time.sleep(0.2)

    def _until(self, folder: str, keeper: _Background, holds: t.Callable[[str, _tcpdump.Report], bool], otherwise: str,
               must_be_there: bool = True) -> tuple[str, _tcpdump.Report]:
        """Beat until the condition holds, as long as the keeper lives. Return the state and tcpdump's messages. Raise AnsibleActionFail, _GoneError."""
        said = time.monotonic()
        while True:
            state, report = self._beat(folder, must_be_there)
            if holds(state, report):
                return state, report
            if keeper.ended:
                raise AnsibleActionFail(f"The capture in {self._host} could not start: {otherwise} ({keeper.words or 'its keeper has ended'}).")
            if time.monotonic() - said > _READY:
                said = time.monotonic()
                Display().display(f"[{self._host}] {otherwise} yet; it is waited for.")
            time.sleep(0.1)

    def _beat(self, folder: str, must_be_there: bool = True) -> tuple[str, _tcpdump.Report]:
        """Signal the keeper that we live. Return its state and tcpdump's messages. Raise _GoneError."""
        deadline = time.monotonic() + _inside.LEASE
        while True:
            lines: list[str] = []
            with contextlib.suppress(AnsibleConnectionFailure):  # it is tried again as long as the keeper waits for us
                lines = self._run(_inside.BEAT, folder)["stdout"].splitlines()
            told = [line[len(_inside.MARK):].strip() for line in lines if line.startswith(_inside.MARK)]
            if told:
                self._reached = time.monotonic()
            if len(told) == 2 and (told[0] != "gone" or not must_be_there):
                words = [line for line in lines if not line.startswith(_inside.MARK)]
                return told[0], _tcpdump.parse("".join(f"{line}\n" for line in words))
            if len(told) == 2 or time.monotonic() > deadline:
                raise _GoneError
            time.sleep(_BEAT)

    def _beating(self, folder: str, work: t.Callable[[], object]) -> None:
        """Do work that may take long, and meanwhile signal the keeper that we live. Raise AnsibleError, _GoneError.

        Try failed work again, because the files in the container are still there.
        """
        for left in reversed(range(_TRIES)):
            background = _Background(work)
            while not background.wait(_BEAT):
                self._beat(folder)
            try:
                background.result()
                return
            except AnsibleError:
                if not left:
                    raise
            self._beat(folder)  # returns once the connection works again

    def _leave(self, folder: str, keeper: _Background) -> None:
        """Have the keeper remove everything, and wait until it has. If the keeper cannot be reached, its lease runs out."""
        gone = False
        while True:
            with contextlib.suppress(AnsibleError):
                gone = f"{_inside.MARK} gone" in self._run(_inside.LEAVE, folder)["stdout"]
            # The end of the keeper's thread alone proves nothing: it may be the end of the connection.
            if gone and keeper.ended or time.monotonic() > self._reached + _inside.LEASE:
                return
            time.sleep(0.2)

    def _apart(self) -> ActionModule:
        """Return a copy for a thread: connection and become keep the state of the command that they run, and would mix those of two threads."""
        other = copy.copy(self)
        other._connection = copy.copy(self._connection)
        for name, value in vars(self._connection).items():
            if isinstance(value, (BecomeBase, dict, list)):
                setattr(other._connection, name, copy.copy(value))
        return other

    def _run(self, text: str, *arguments: str) -> dict[str, t.Any]:
        return self._low_level_execute_command(_inside.script(self._shell_path, text, *arguments))


class _Background:
    """Work in a thread, because a connection's commands and transfers wait for their end."""

    def __init__(self, work: t.Callable[[], t.Any]) -> None:
        self._result: t.Any = None
        self._error: BaseException | None = None
        context = contextvars.copy_context()  # Ansible keeps its current task there
        self._thread = threading.Thread(target=context.run, args=(self._do, work), daemon=True)
        self._thread.start()

    def _do(self, work: t.Callable[[], t.Any]) -> None:
        try:
            self._result = work()
        except BaseException as error:
            self._error = error

    def wait(self, seconds: float) -> bool:
        """Wait for the work for so many seconds at most. Return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def ended(self) -> bool:
        """Return whether the work has ended."""
        return not self._thread.is_alive()

    def result(self) -> t.Any:
        """Return the result of the work, or raise its exception."""
        if self._error is not None:
            raise self._error
        return self._result

    @property
    def words(self) -> str:
        """Return the output of a command that has ended, or its error."""
        if self._error is not None:
            return str(self._error)
        return " ".join((self._result["stderr"] or self._result["stdout"]).split()) if self._result else ""


def _told(args: dict[str, t.Any], reason: str | None, started_at: str | None, counts: _tcpdump.Counts) -> dict[str, t.Any]:
    """Return the capture as the task returns it; None for values that are not known."""
    figures = {name: getattr(counts, name) for name in ("packets_captured", "packets_received", "packets_dropped")}
    figures["packets_kept"] = counts.packets_captured  # the file that came was counted
    return {"interface": args["interface"], "filter": args["filter"], "stop_reason": reason, "started_at": started_at, **figures}


def _advice(words: str) -> str:
    """Return advice on tcpdump's error message."""
    if any(part in words for part in ("find user", "change to", "change ownership")):
        return ("This tcpdump becomes another user, for which the container needs that user in its /etc/passwd, CAP_SETUID and CAP_SETGID: "
                "give one that stays root (built without --with-user) as tcpdump, or capture from the host.")
    if "ermi" in words:  # permission to, not permitted
        return "It needs CAP_NET_RAW there and, as a rule, to be root (see the user of the connection)."
    return "Correct the options, or give another tcpdump."


def _complaint(path: str, report: _tcpdump.Report) -> str | None:
    """Return what is wrong with a capture file, given tcpdump's report of how many packets it wrote; None if nothing is."""
    try:
        found = scan(path)
    except PcapError as error:
        return str(error)
    wanted = report.counts.packets_captured
    return found.damages[0] if found.damages else None if found.packets == wanted else f"{found.packets} packets, of {wanted}"
