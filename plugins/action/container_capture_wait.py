# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of container_capture_wait: it waits for the end of a session, shows its progress, and ends it in order when interrupted."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_wait import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._capture import _words
from ansible_collections.nettap.containers.plugins.module_utils._system._clock import timestamp
from ansible_collections.nettap.containers.plugins.module_utils._system._runner import Runner
from ansible_collections.nettap.containers.plugins.plugin_utils._connection_words import plain
from ansible_collections.nettap.containers.plugins.plugin_utils._interruption import Interruption, run_pid
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked
from ansible_collections.nettap.containers.plugins.plugin_utils._vanishing import absolute, reason_to_vanish

_LATE = 10  # seconds that a question may come late before its run is taken for one that waits no longer


class ActionModule(ActionBase):
    """An action that waits in a worker process of the controller. Nothing waits on the host."""

    _requires_connection = True
    _supports_async = False
    _supports_check_mode = True
    _vanishing: str | None = None  # why what would be fetched vanishes

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action. Raise AnsibleActionFail."""
        result = super().run(tmp, task_vars)
        args = checked(self, SPEC)
        if self._task.check_mode:
            return {**result, "changed": False, "capture": None}
        fetch = args["fetch_on_interrupt"]
        # Asked now, because the processes that tell may be gone when the play is interrupted.
        self._vanishing = reason_to_vanish(absolute(fetch["dest"]), fetch["dest_lasts"]) if fetch else None
        with Interruption() as interruption:
            capture = self._wait(args, task_vars or {}, interruption)
            if interruption.happened:
                self._end(args, task_vars or {}, interruption)
        return {**result, "changed": False, "capture": capture}

    def _wait(self, args: dict[str, t.Any], task_vars: dict[str, t.Any], interruption: Interruption) -> dict[str, t.Any] | None:
        """Return the ended session; None when interrupted before. Raise AnsibleActionFail."""
        host = task_vars.get("inventory_hostname", "localhost")
        reached = time.monotonic()
        capture: dict[str, t.Any] | None = None
        shown: list[str] = []
        while not interruption.happened:
            try:
                told = self._look(args, task_vars, 2 * args["interval"] + _LATE)
                # Some connections report their own failure by a code only. Where the module has answered before, any failure is the connection's.
                if capture and told.get("module_stdout") is not None:
                    words = (told.get("module_stderr") or told["module_stdout"]).strip().splitlines()[-1:] or ["it said nothing"]
                    raise AnsibleConnectionFailure(f"The session {args['name']} could not be asked for: code {told.get('rc')} ({words[0]}).")
            except AnsibleError as error:
                lost = isinstance(error, AnsibleConnectionFailure)
                if time.monotonic() - reached > args["patience"] or not (capture or lost):
                    kind = AnsibleConnectionFailure if lost else AnsibleActionFail
                    raise kind(f"The capture session {args['name']} goes on, but its host could not be asked for it any more: {plain(error)}.") from None
                Display().display(f"[{host}] cannot be reached ({plain(error)}); the capture goes on, and so does the waiting.")
                interruption.sleep(args["interval"])
                continue
            if told.get("failed"):
                raise AnsibleActionFail(str(told.get("msg")))
            if not told["captures"]:
                raise AnsibleActionFail(f"There is no capture session {args['name']!r} under {args['path']} (any more).")
            capture = told["captures"][0]
            reached = time.monotonic()
            lines = progress(capture)
            if lines != shown or capture["started_at"]:  # until when a session waits is said once
                for line in lines:
                    Display().display(f"[{host}] {line}")
            shown = lines
            if capture["status"] != "running":
                return capture
            # A long interval must not delay the end of a short capture.
            interruption.sleep(min(args["interval"], capture["duration"] or args["interval"]))
        return None

    def _end(self, args: dict[str, t.Any], task_vars: dict[str, t.Any], interruption: Interruption) -> t.NoReturn:
        """Stop the session, and fetch it where fetch_on_interrupt is given. Raise AnsibleActionFail, which says what was done."""
        host, name = task_vars.get("inventory_hostname", "localhost"), args["name"]
        if self._look(args, task_vars, 0).get("awaited_by_others"):
            words = "goes on, for another run waits for it"
        else:
            interruption.announce(f"[{host}] interrupted: stopping the capture session {name} ...")
            words = f"was {self._stop(args, task_vars, interruption)}"
        interruption.announce(f"[{host}] interrupted: the capture session {name} {words}")
        raise AnsibleActionFail(f"Interrupted: the capture session {name} {words}.")

    def _stop(self, args: dict[str, t.Any], task_vars: dict[str, t.Any], interruption: Interruption) -> str:
        """Stop the session, and fetch it if that is asked for and the files will last. Return what was done."""
        stopped = self._module("container_capture", args, task_vars, state="stopped")
        if stopped.get("failed"):
            return f"not stopped: {stopped.get('msg')}"
        stays = f"stopped; its captures are on the host under {stopped['capture']['path']}"
        if self._vanishing and interruption.abandoned:
            return f"{stays}, because {self._vanishing}"
        return self._fetch(args, task_vars) if args["fetch_on_interrupt"] else stays

    def _fetch(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> str:
        task = self._task.copy()
        given = {key: value for key, value in args["fetch_on_interrupt"].items() if value is not None}
        if self._vanishing:
            given["dest_lasts"] = False
        task.args = {**_names(args), **given}
        action = self._shared_loader_obj.action_loader.get(
            "nettap.containers.container_capture_fetch", task=task, connection=self._connection, play_context=self._play_context,
            loader=self._loader, templar=self._templar, shared_loader_obj=self._shared_loader_obj,
        )
        fetched = action.run(task_vars=task_vars)
        action.cleanup()
        if fetched.get("failed"):
            return f"stopped, but could not be fetched: {fetched.get('msg')}"
        for warning in fetched.get("warnings", []):  # of the files, which this task does not return
            Display().warning(warning)
        return f"stopped and fetched to {', '.join(file['dest'] for file in fetched['files'])}"

    def _look(self, args: dict[str, t.Any], task_vars: dict[str, t.Any], promise: float) -> dict[str, t.Any]:
        """Ask for the session, and promise to ask again within so many seconds; 0 means not again.

        Who waits is this worker, which ends with the task. An owner also waits between its tasks, so it is Ansible's own process.
        """
        runner = Runner.of(run_pid() if args["owner"] is not None else os.getpid())
        return self._module("container_capture_wait", args, task_vars, waiter={"runner": dataclasses.asdict(runner), "promise": promise})

    def _module(self, module: str, args: dict[str, t.Any], task_vars: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
        return self._execute_module(module_name=f"nettap.containers.{module}", module_args={**_names(args), **more}, task_vars=task_vars)


def _names(args: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the options that name the session."""
    return {key: args[key] for key in ("name", "path", "owner") if args[key] is not None}


def progress(capture: dict[str, t.Any]) -> list[str]:
    """Return one line for each segment and for what the session waits for; for a session that has yet to begin, one."""
    waiting = _words.waits(capture, timestamp(time.time()))
    if waiting:
        return [f"{capture['name']} {waiting}"]
    return [
        f"{_words.where(segment)}: {_words.packets(segment)}, {_amount(segment['bytes'])}, {_words.drops(segment)}"
        + (f", {segment['status']} ({segment['error'] or segment['stop_reason']})" if segment["stop_reason"] else "")
        for segment in capture["segments"]
    ] + capture.get("waiting", [])  # a host may still have the module of an older release


def _amount(size: int) -> str:
    """Return a number of bytes as text for a person, in decimal units, as tcpdump -C."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
