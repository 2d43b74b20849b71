# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of container_capture_wait: it waits for the end of a session, shows its progress, and ends it in order when interrupted."""

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_wait import SPEC
from ansible_collections.nettap.containers.plugins.plugin_utils._interruption import Interruption
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked


class ActionModule(ActionBase):
    """An action that waits in a worker process of the controller. Nothing waits on the host."""

    _requires_connection = True
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action. Raise AnsibleActionFail."""
        result = super().run(tmp, task_vars)
        args = checked(self, SPEC)
        if self._task.check_mode:
            return {**result, "changed": False, "capture": None}
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
        while not interruption.happened:
            try:
                told = self._module("container_capture_info", args, task_vars)
                # Some connections report their own failure by a code only. Where the module has answered before, any failure is the connection's.
                if capture and told.get("module_stdout") is not None:
                    words = (told.get("module_stderr") or told["module_stdout"]).strip().splitlines()[-1:] or ["it said nothing"]
                    raise AnsibleConnectionFailure(f"The session {args['name']} could not be asked for: code {told.get('rc')} ({words[0]}).")
            except AnsibleError as error:
                if time.monotonic() - reached > args["patience"] or not (capture or isinstance(error, AnsibleConnectionFailure)):
                    raise
                Display().display(f"[{host}] cannot be reached ({error}); the capture goes on, and so does the waiting.")
                interruption.sleep(args["interval"])
                continue
            if told.get("failed"):
                raise AnsibleActionFail(str(told.get("msg")))
            if not told["captures"]:
                raise AnsibleActionFail(f"There is no capture session {args['name']!r} under {args['path']} (any more).")
            capture = told["captures"][0]
            reached = time.monotonic()
            for line in progress(capture):
                Display().display(f"[{host}] {line}")
            if capture["status"] != "running":
                return capture
            # A long interval must not delay the end of a short capture.
            interruption.sleep(min(args["interval"], capture["duration"] or args["interval"]))
        return None

    def _end(self, args: dict[str, t.Any], task_vars: dict[str, t.Any], interruption: Interruption) -> t.NoReturn:
        """Stop the session, and fetch it where fetch_on_interrupt is given. Raise AnsibleActionFail, which says what was done."""
        host, name = task_vars.get("inventory_hostname", "localhost"), args["name"]
        interruption.announce(f"[{host}] interrupted: stopping the capture session {name} ...")
        stopped = self._module("container_capture", args, task_vars, state="stopped")
        words = f"stopped; its captures are on the host under {args['path']}/{name}"
        if stopped.get("failed"):
            words = f"could not be stopped: {stopped.get('msg')}"
        elif args["fetch_on_interrupt"]:
            words = self._fetch(args, task_vars)
        interruption.announce(f"[{host}] interrupted: the capture session {name} was {words}")
        raise AnsibleActionFail(f"Interrupted: the capture session {name} was {words}.")

    def _fetch(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> str:
        task = self._task.copy()
        task.args = {"name": args["name"], "path": args["path"], **args["fetch_on_interrupt"]}
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

    def _module(self, module: str, args: dict[str, t.Any], task_vars: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
        return self._execute_module(
            module_name=f"nettap.containers.{module}", module_args={"name": args["name"], "path": args["path"], **more}, task_vars=task_vars
        )


def progress(capture: dict[str, t.Any]) -> list[str]:
    """Return one line for each segment."""
    return [
        f"{'+'.join(segment['containers'])} {segment['interface']}" + (f" ({segment['device']})" if segment["vantage"] == "host" else "")
        + f": {segment['packets_received'] or 0} packets, {_amount(segment['bytes'])}, {segment['packets_dropped'] or 0} dropped"
        + (f", {segment['status']} ({segment['error'] or segment['stop_reason']})" if segment["stop_reason"] else "")
        for segment in capture["segments"]
    ]


def _amount(size: int) -> str:
    """Return a number of bytes as text for a person, in decimal units, as tcpdump -C."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
