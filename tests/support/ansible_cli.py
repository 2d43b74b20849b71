"""Run this checkout as its users do: the real command lines, or one module in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCAL: dict[str, t.Any] = {
    "ansible_connection": "local",
    # A version manager's shims break the discovery of interpreters.
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}

# What ansible.module_utils.testing does; it would import unittest.mock, which takes a third of such a process's time.
RUN_MODULE = """
import importlib, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
importlib.import_module("ansible_collections.nettap.containers.plugins.modules." + sys.argv[1]).main()
"""


def run_module(
    name: str,
    args: dict[str, t.Any] | None = None,
    *,
    check: bool = False,
    diff: bool = False,
    env: dict[str, str] | None = None,
    timeout: float = 300,
) -> dict[str, t.Any]:
    """Run the main() of a module of this collection in a fresh process and return what it returned, a failure too.

    It costs about a tenth of a task. A module that leaves a process behind which holds its standard output
    open times out here, as it would hang a real connection.
    """
    done = subprocess.run(
        [sys.executable, "-c", RUN_MODULE, name],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**(args or {}), "_ansible_check_mode": check, "_ansible_diff": diff}}),
        env={**os.environ, "PYTHONPATH": str(ROOT / "collections"), **(env or {})},
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise AssertionError(
            f"{name} ended with {done.returncode} and without a result.\n{done.stdout}\n{done.stderr}"
        ) from None


@dataclasses.dataclass
class Finished:
    """A run that has ended: `results` has a {status, host, task, action, result} for each task and host."""

    rc: int
    output: str
    results: list[dict[str, t.Any]]

    def result(self, task: str = "", host: str = "") -> dict[str, t.Any]:
        """Return the last result whose task's name or action contains `task`, of `host` or of any."""
        for entry in reversed(self.results):
            if host in ("", entry["host"]) and (task in entry["task"] or task in entry["action"]):
                return entry["result"]
        raise AssertionError(f"No result of '{task}' on '{host or 'any host'}' in:\n{self.output}")


class Running:
    """A run that goes on; wait() for its end, or interrupt() it."""

    def __init__(self, argv: list[str], env: dict[str, str], folder: pathlib.Path) -> None:
        self._output, self._results = folder / "output", folder / "results"
        with self._output.open("w") as out:
            # A group of its own: an interrupt reaches the run and its workers, as from a terminal.
            self._process = subprocess.Popen(
                argv, cwd=ROOT, env={**env, "NETTAP_RESULTS": str(self._results)},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        """What the run has printed so far."""
        return self._output.read_text()

    @property
    def ended(self) -> bool:
        """Whether the run has ended by itself."""
        return self._process.poll() is not None

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal to the run and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kill the run, its workers and the modules that they run, whatever their groups are: none of them can clean up."""
        pids = [self._process.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # it starts nothing while its children are listed
            with contextlib.suppress(FileNotFoundError):
                pids += [int(child) for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait(self, timeout: float = 300) -> Finished:
        """Return the run when it has ended; a run that takes longer is killed."""
        try:
            rc = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.interrupt(signal.SIGKILL)
            self._process.wait()
            raise AssertionError(f"Not finished after {timeout} s:\n{self.output}") from None
        lines = self._results.read_text().splitlines() if self._results.exists() else []
        return Finished(rc, self.output, [json.loads(line) for line in lines])


class AnsibleCLI:
    """The commands `ansible` and `ansible-playbook` over an inventory, each run in a folder of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._runs = 0

    def start(
        self,
        argv: list[str],
        *,
        hosts: dict[str, dict[str, t.Any]] | None = None,
        extra_vars: dict[str, t.Any] | None = None,
        env: dict[str, str] | None = None,
    ) -> Running:
        """Start a command over the hosts {name: variables}; without any, over one local host named `local`."""
        self._runs += 1
        folder = self._folder / f"run{self._runs}"
        folder.mkdir(parents=True)
        inventory = folder / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts or {"local": LOCAL}}}))
        argv = [*argv, "--inventory", str(inventory)]
        if extra_vars:
            argv += ["--extra-vars", json.dumps(extra_vars)]
        return Running([str(pathlib.Path(sys.executable).parent / argv[0]), *argv[1:]], {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/integration/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "results",
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",  # ad hoc commands load none unless told
            "ANSIBLE_NOCOLOR": "1",
            **(env or {}),
        }, folder)  # fmt: skip

    def ansible(self, module: str, args: str | dict[str, t.Any] = "", *options: str, timeout: float = 300, **more: t.Any) -> Finished:
        """Run `ansible all -m MODULE -a ARGS OPTIONS`; for `more` see start()."""
        text = args if isinstance(args, str) else json.dumps(args)
        return self.start(["ansible", "all", "-m", module, "-a", text, *options], **more).wait(timeout)

    def playbook(self, play: str | list[dict[str, t.Any]], *options: str, timeout: float = 300, **more: t.Any) -> Finished:
        """Run a playbook: its path, its full name in a collection, or its plays as data."""
        return self.start_playbook(play, *options, **more).wait(timeout)

    def start_playbook(self, play: str | list[dict[str, t.Any]], *options: str, **more: t.Any) -> Running:
        """Start what playbook() runs, and leave it running."""
        if not isinstance(play, str):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"playbook{self._runs + 1}.json"
            path.write_text(json.dumps(play))
            play = str(path)
        return self.start(["ansible-playbook", play, *options], **more)
