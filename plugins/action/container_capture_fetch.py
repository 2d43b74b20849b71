# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of container_capture_fetch: it streams staged captures to the controller, verifies them and puts them into place."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.nettap.containers.plugins.module_utils._arguments._container_capture_fetch import SPEC
from ansible_collections.nettap.containers.plugins.module_utils._system._runner import Runner
from ansible_collections.nettap.containers.plugins.plugin_utils._arrival import bring, folder_of, origin_of, sha256
from ansible_collections.nettap.containers.plugins.plugin_utils._options import checked
from ansible_collections.nettap.containers.plugins.plugin_utils._vanishing import absolute, reason_to_vanish

_MODULE = "nettap.containers.container_capture_fetch"
_CAPTURE = "nettap.containers.container_capture"


class ActionModule(ActionBase):
    """An action that has the module part stage the captures, as root, where the login user can read them. connection.fetch_file streams them."""

    _requires_connection = True
    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action. Raise AnsibleActionFail."""
        result = super().run(tmp, task_vars)
        args = checked(self, SPEC)
        host = (task_vars or {}).get("inventory_hostname", "localhost")
        check = self._task.check_mode
        here = absolute(args["dest"])
        # Asked now, because the processes that tell may be gone when the files have arrived.
        vanishing = reason_to_vanish(here, args["dest_lasts"])
        runner = {"runner": dataclasses.asdict(Runner.of(os.getpid())), "carrier": None if check else self._carrier()}
        folder = None if check else self._make_tmp_path()
        try:
            staged = self._execute_module(
                module_name=_MODULE, task_vars=task_vars,
                module_args={**{key: args[key] for key in ("name", "owner", "merge", "compress", "path")},
                             "stage_in": folder, "stage_as": host, "stage_for": runner},
            )
            if staged.get("failed"):
                return {**result, **staged}
            if args["remove"] and staged["capture"]["status"] == "running":
                raise AnsibleActionFail(f"Session {args['name']} is still running: stop it before you fetch it with remove: true, "
                                        "or packets to come would be lost.")
            for file in staged["staged"]:  # a host says what its files are called, not where they go
                base = folder_of(host, here, make=False)
                if not _place(base, file).startswith(base + os.sep):
                    raise AnsibleActionFail(f"{host} gives a capture the name {file['dest']}, which leads out of {base}, so it was not fetched: "
                                            "see what runs on that host.")
            base = folder_of(host, here, make=not check)
            origin = f"{host} {args['name']} {staged['capture']['started_at']}"
            changed = False
            files = []
            for file in staged["staged"]:
                dest = _place(base, file)
                if not _same(dest, file):
                    changed = True
                    self._let_go(dest, origin)
                    if not check:
                        self._fetch(file, dest, origin)
                files.append({"dest": dest, **{key: file[key] for key in ("size", "sha256", "packets", "damage", "in_order", "host", "containers")}})
        finally:
            if folder:
                with contextlib.suppress(AnsibleError):  # the host is gone: the next fetch or state: absent clears the folder
                    self._remove_tmp_path(folder)
        warnings = staged.get("warnings", []) + [f"{host}: {warning}" for file in staged["staged"] for warning in file["warnings"]]
        stays = _stay(args, host, staged["capture"]["name"], vanishing) if args["remove"] and vanishing else None
        removed = args["remove"] and not stays
        if removed:
            names = {key: args[key] for key in ("name", "owner", "path")}
            gone = self._execute_module(module_name=_CAPTURE, module_args={**names, "state": "absent"}, task_vars=task_vars)
            if gone.get("failed"):
                return {**result, **gone, "msg": f"The captures were fetched, but the session could not be deleted: {gone.get('msg')}", "files": files}
            changed = changed or gone["changed"]
        if stays:
            warnings.append(f"{host}: {stays}")
        return {**result, **({"warnings": warnings} if warnings else {}), **({"stays": stays} if stays else {}),
                "changed": changed, "files": files, "removed": removed, "capture": staged["capture"]}

    def _carrier(self) -> int | None:
        """Return the PID of the process on the host that ran a command for us; None where it is not known.

        If this process still runs when the module does, it carries the connection, and ends with it.
        """
        with contextlib.suppress(AnsibleError, IndexError, ValueError):  # a host that cannot be reached is reported by the next command
            return int(self._low_level_execute_command("echo $PPID", sudoable=False)["stdout"].split()[-1])
        return None

    def _let_go(self, dest: str, origin: str) -> None:
        """Refuse to replace another capture's file; warn where nothing tells whose it is."""
        known = origin_of(dest)
        if known not in (None, origin):
            raise AnsibleActionFail(f"{dest} holds another capture ({known}, not {origin}) and stays as it is: fetch this one with another dest.")
        if known is None and os.path.lexists(dest):
            self._display.warning(f"{dest} was there, with other packets; nothing tells which capture they are of. It is replaced.")

    def _fetch(self, file: dict[str, t.Any], dest: str, origin: str) -> None:
        def complaint(path: str) -> str | None:
            found = sha256(path)
            return None if found == file["sha256"] else f"SHA-256 {found}, on the host {file['sha256']}"

        bring(self._connection.fetch_file, file["path"], dest, complaint, origin)


def _stay(args: dict[str, t.Any], host: str, name: str, why: str) -> str:
    """Return the sentence that a session was not deleted, and how to fetch it later."""
    words = f"name={name} path={args['path']} dest=FOLDER remove=true"
    return f"Session {name} stays on {host}, because {why}: fetch it by ansible {host} -b -m nettap.containers.container_capture_fetch -a '{words}'."


def _place(base: str, file: dict[str, t.Any]) -> str:
    return os.path.normpath(os.path.join(base, file["dest"]))


def _same(dest: str, file: dict[str, t.Any]) -> bool:
    return os.path.isfile(dest) and os.path.getsize(dest) == file["size"] and sha256(dest) == file["sha256"]
