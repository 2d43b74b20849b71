"""The role's own Suricata for tests: its task files, run by ansible-playbook, with all paths in one folder."""

from __future__ import annotations

import pathlib
import typing as t

import yaml
from ansible_cli import ROOT, AnsibleCLI, Finished

# Of the role's paths, what is a test's own; the rest of its variables is as users have it.
PATHS = {"folder": "etc", "log": "log", "logrotate": "logrotate.conf"}


class SuricataRole:
    """Task files of the role, and the engine's command line. The engine's socket is run/socket in the folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.log = folder / "log" / "eve.json"
        variables = yaml.safe_load((ROOT / "roles/inline_protect/vars/main.yml").read_text())
        self.argv = [word.replace("{{ inline_protect_suricata_folder }}", str(folder / "etc")) for word in variables["inline_protect_suricata_argv"]]
        self._cli = AnsibleCLI(folder / "ansible")

    def run(self, *tasks: str, rules: list[str], **variables: t.Any) -> Finished:
        """Run task files of the role, such as configure."""
        play = {"hosts": "all", "gather_facts": False, "tasks": [
            {"ansible.builtin.include_role": {"name": "nettap.containers.inline_protect", "tasks_from": f"suricata/{name}"}} for name in tasks
        ]}  # fmt: skip
        return self._cli.playbook([play], extra_vars={
            **paths(self.folder), "inline_protect_suricata_socket": str(self.folder / "run/socket"),
            **{f"inline_protect_{name}": value for name, value in {"rules": rules, "suricata_stats_interval": 1, **variables}.items()},
        }, env={"ANSIBLE_PIPELINING": "1"})  # fmt: skip


def paths(folder: pathlib.Path) -> dict[str, str]:
    """Return the role's variables that keep its files in a folder."""
    return {f"inline_protect_suricata_{name}": str(folder / path) for name, path in PATHS.items()}
