# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of container_capture_stream: it follows a running session into a file, a FIFO or a program on the controller."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import time
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_stream import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._capture._follow import pack
from ansible_collections.nettap.containers.plugins.plugin_utils._connection_words import plain
from ansible_collections.nettap.containers.plugins.plugin_utils._interruption import Interruption
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked
from ansible_collections.nettap.containers.plugins.plugin_utils._sink import ClosedError, Program, Sink, SinkError, open_file

_MODULE = "nettap.containers.container_capture_stream"
_CAPTURE = "nettap.containers.container_capture"
_WAIT = 1.0  # seconds for which a question waits on the host; meanwhile we do not see that the reader has closed its end
_CYCLE = 0.3  # least seconds from one question to the next: each starts a Python on the host
_RETRY = 1.0  # seconds between two tries of a connection that is broken


class _UnwritableError(AnsibleActionFail):
    """The failure to write the stream on the controller, for example to a full disk."""


class ActionModule(ActionBase):
    """An action that asks the host again and again for the next piece of the stream.

    This works over any connection plugin, and an interrupted connection loses nothing. A piece arrives on the standard output of
    a command, so no packet is staged on the host.
    """

    _requires_connection = True
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action. Raise AnsibleActionFail."""
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        args = checked(self, SPEC)
        if args["argv"] == []:
            raise AnsibleActionFail("argv is empty: give the program that is to read the stream, and its arguments.")
        if self._task.check_mode:
            figures = {**_figures(None, _dest(args)), **({"rc": None} if args["argv"] else {})}
            return {**result, **figures, "changed": bool(args["dest"]) or args["on_close"] != "keep"}
        self._host = task_vars.get("inventory_hostname", "localhost")
        with Interruption() as interruption:
            folder = self._make_tmp_path()
            try:
                figures = self._stream(args, task_vars, folder, interruption)
                ended = self._afterwards(args, task_vars)
            finally:
                with contextlib.suppress(AnsibleError):  # the host is gone; only code is left there
                    self._remove_tmp_path(folder)
            if interruption.happened:
                words = {"keep": "goes on", "stop": "was stopped", "remove": "was removed"}[args["on_close"]]
                interruption.announce(f"[{self._host}] interrupted: the capture session {args['name']} {words}")
                raise AnsibleActionFail(f"Interrupted: the capture session {args['name']} {words}.")
        said = figures.pop("said", None)
        result.update(figures, changed=bool(args["dest"]) or ended.get("changed", False), capture=ended.get("capture") or figures["capture"])
        if figures.get("rc"):
            result.update(failed=True, msg=f"{args['argv'][0]} ended with code {figures['rc']}: {said or 'it said nothing'}")
        return result

    def _stream(self, args: dict[str, t.Any], task_vars: dict[str, t.Any], folder: str, interruption: Interruption) -> dict[str, t.Any]:
        """Run the stream until it has ended. Return the values about it that the task returns. Raise AnsibleActionFail, AnsibleConnectionFailure."""
        names = {key: args[key] for key in ("name", "path")}
        staged = self._execute_module(module_name=_MODULE, module_args={**names, "stage_in": folder}, task_vars=task_vars)
        if staged.get("failed"):
            raise AnsibleActionFail(str(staged.get("msg")))
        if not staged["capture"]["live"] and staged["capture"]["status"] == "running":
            self._warn(f"the session {args['name']} was not started with live: true, so its packets come late, some KiB at a time.")
        dest = _dest(args)
        try:
            sink = open_file(dest, interruption) if dest else Program(args["argv"], interruption, self._say)
        except SinkError as error:
            raise AnsibleActionFail(str(error)) from None
        told = {**_figures(staged["capture"], dest), "ended_by": "interruption"}
        if sink is None:
            return told
        order = {**names, "host": self._host, "form": args["format"], "from_start": args["from_start"], "wait": _WAIT}
        try:
            # -S, without site: a question takes half the time, and the program needs only the standard library.
            self._pump([staged["python"], "-I", "-S", staged["program"], pack(order)], sink, interruption, args["patience"], told)
        except (AnsibleConnectionFailure, _UnwritableError):
            with contextlib.suppress(AnsibleError):  # the task must report the error that broke the stream
                self._afterwards(args, task_vars)
            raise
        finally:
            sink.close()
        told["size"] = sink.size
        if told["ended_by"] == "capture" and args["from_start"]:
            told["missed"] = _missed(told["capture"]["segments"])
        if told["missed"]:
            why = ("their files are damaged on the host" if told["damage"] and not told["lost"] else
                   "their ring files were overwritten before they were read; give the session a larger ring (file_size, file_count)")
            self._warn(f"{told['missed']} packets of the session {args['name']} are not in the stream: {why}.")
        if isinstance(sink, Program):
            told.update(rc=0 if interruption.happened else sink.rc, said=sink.complaint)
        return told

    def _pump(self, command: list[str], sink: Sink, interruption: Interruption, patience: float, told: dict[str, t.Any]) -> None:
        """Move pieces from the host to the sink until the session has ended, the reader has closed its end, or the play is interrupted.

        After patience seconds without an answer, raise AnsibleConnectionFailure. Raise AnsibleActionFail.
        """
        begin = cursor = pack({})
        reached = time.monotonic()
        while not interruption.happened:
            begun = time.monotonic()
            try:
                sink.check()
                answer = self._ask([*command, cursor], cursor != begin)
                reached = time.monotonic()
                sink.write(base64.b64decode(answer["data"]))
            except AnsibleConnectionFailure as error:
                if time.monotonic() - reached > patience:
                    raise
                self._say(f"cannot be reached ({plain(error)}); the capture goes on, and the stream will, too.")
                interruption.sleep(_RETRY)
                continue
            except ClosedError:
                told["ended_by"] = "reader"
                return
            except OSError as error:
                raise _UnwritableError(f"The stream could not be written to {told['dest']} on the controller: {error.strerror}.") from None
            cursor, told["packets"] = answer["cursor"], answer["packets"]
            for place in answer["lost"]:
                told["lost"] = sorted({*told["lost"], place})
                self._warn(f"packets of {place} are missing in the stream from here on: their ring files were overwritten before they were read.")
            for note in answer["damage"] + answer["disorder"]:
                self._warn(note)
            told["damage"] = told["damage"] + answer["damage"]
            told["in_order"] = told["in_order"] and not answer["disorder"]
            if answer["capture"]:
                told.update(capture=answer["capture"], ended_by="interruption" if interruption.happened else "capture")
                return
            interruption.sleep(begun + _CYCLE - time.monotonic())

    def _ask(self, command: list[str], answered: bool) -> dict[str, t.Any]:
        """Run the program on the host, with become. Return its answer. Raise AnsibleActionFail, AnsibleConnectionFailure.

        Some connections report their own failure by a code only. Where the program has answered before, a failure is the connection's.
        """
        before = self._play_context.no_log
        self._play_context.no_log = True  # else the ssh connection prints the packets at -vvv
        try:
            done = self._low_level_execute_command(shlex.join(command))
        finally:
            self._play_context.no_log = before
        for line in reversed(done["stdout"].splitlines()):
            if line.startswith("{"):
                answer: dict[str, t.Any] = json.loads(line)
                if answer.get("failed"):
                    raise AnsibleActionFail(str(answer["msg"]))
                return answer
        words = (done["stderr"] or done["stdout"]).strip().splitlines()[-1:] or ["it said nothing"]
        error = AnsibleConnectionFailure if answered else AnsibleActionFail
        raise error(f"The session could not be followed: the program on the host ended with code {done['rc']} ({words[0]}).")

    def _afterwards(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Keep, stop or remove the session, as on_close says. Return the result of container_capture; {} for keep. Raise AnsibleActionFail."""
        if args["on_close"] == "keep":
            return {}
        state = {"stop": "stopped", "remove": "absent"}[args["on_close"]]
        done = self._execute_module(module_name=_CAPTURE, module_args={"name": args["name"], "path": args["path"], "state": state}, task_vars=task_vars)
        if done.get("failed"):
            raise AnsibleActionFail(f"The stream has ended, but the session {args['name']} could not be ended: {done.get('msg')}")
        return done

    def _say(self, words: str) -> None:
        Display().display(f"[{self._host}] {words}")

    def _warn(self, words: str) -> None:
        self._say(words)  # prints at once: Ansible keeps the warnings of a task until it has ended
        Display().warning(f"[{self._host}] {words}")


def _dest(args: dict[str, t.Any]) -> str | None:
    return os.path.abspath(os.path.expanduser(args["dest"])) if args["dest"] else None


def _figures(capture: dict[str, t.Any] | None, dest: str | None) -> dict[str, t.Any]:
    """Return what the task returns of a stream that has not begun."""
    return {"capture": capture, "dest": dest, "packets": 0, "lost": [], "damage": [], "in_order": True, "missed": None, "ended_by": None, "size": 0}


def _missed(segments: list[dict[str, t.Any]]) -> int | None:
    """Return how many packets tcpdump has captured that were not in the stream; None where its counts are not known."""
    counts = [segment["packets_captured"] for segment in segments]
    return None if None in counts else sum(counts) - sum(segment["packets_followed"] for segment in segments)
