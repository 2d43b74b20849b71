#!/usr/bin/python
# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: host programs in a container's namespaces."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_nsenter
short_description: Run a program of the host in a container's namespaces
description:
  - Runs a program of the host, such as C(ss), C(ip), C(ethtool) or C(conntrack), in namespaces of a running container.
    By default it enters the network namespace alone. The program then has the host's files and tools, and the container's network;
    it finds names as the container does (see O(container_files)).
  - The program is run as it is given, without a shell.
version_added: 0.1.0
author:
  - The nettap.containers authors (@nettap)
extends_documentation_fragment:
  - nettap.containers._attributes
  - nettap.containers._attributes.actiongroup
  - nettap.containers._target
requirements:
  - nsenter (util-linux) on the host
attributes:
  action_group:
    membership:
      - nettap.containers.targets
  check_mode:
    support: none
    details:
      - The module cannot know what a program would do, so the task is skipped in check mode.
  diff_mode:
    support: none
  idempotent:
    support: N/A
    details:
      - Depends on the program.
options:
  argv:
    description:
      - The program and its arguments.
      - Exactly one of O(argv) or O(command) must be specified.
    type: list
    elements: str
  command:
    description:
      - The program and its arguments in one string. The module splits it as a shell would, but runs no shell.
      - Exactly one of O(argv) or O(command) must be specified.
    type: str
  env:
    description:
      - Environment variables for the program, in addition to those of the task; C(nsenter) gets them too.
      - With V(mnt) in O(namespaces), the program is looked up in the folders of C(PATH), as it is set here or else on the host.
      - Values that YAML reads as numbers or booleans must be quoted, and templates need the filter C(string).
    type: dict
    version_added: 0.2.0
  namespaces:
    description:
      - The namespaces of the container to enter. For all others, the program runs in the host's.
      - With V(mnt), the program is looked up in the container's file system, not in the host's.
    type: list
    elements: str
    choices: [net, mnt, uts, ipc, pid, user, cgroup]
    default: [net]
  container_files:
    description:
      - Whether the program sees the container's C(/etc/resolv.conf), C(/etc/hosts) and C(/etc/nsswitch.conf) in place of the host's, and the links
        of the container's network namespace in C(/sys), as C(ip netns exec) shows them. Otherwise it asks the host's resolvers for names.
      - The files are copies in a mount namespace of the program's own, so the host's files do not change, and what the program mounts is gone
        with it. The host's C(nscd), C(systemd-resolved) and Avahi cannot be asked there.
      - With O(netns), the files are those in C(/etc/netns/NAME), where there are any.
      - Has no effect unless V(net) is in O(namespaces) and V(mnt) is not.
    type: bool
    default: true
    version_added: 0.2.0
  chdir:
    description:
      - Folder to run the program in; with V(mnt) in O(namespaces), a folder of the container.
    type: str
  stdin:
    description:
      - Standard input of the program.
    type: str
  stdin_add_newline:
    description:
      - Whether to append a newline to O(stdin).
    type: bool
    default: true
    version_added: 0.2.0
  strip_empty_ends:
    description:
      - Whether to strip empty lines from the end of RV(stdout) and RV(stderr).
    type: bool
    default: true
    version_added: 0.2.0
  timeout:
    description:
      - Seconds after which the program is killed and the task fails; V(0) means never.
    type: float
    default: 0
seealso:
  - module: ansible.builtin.command
"""

EXAMPLES = r"""
- name: List the listening sockets of the web container
  nettap.containers.container_nsenter:
    container: web
    argv: [ss, -ltnp]
  register: sockets
  changed_when: false

- name: Check that the container can reach a database
  nettap.containers.container_nsenter:
    container: web
    command: nc -zv -w 3 db 5432

- name: Run a program of the container in the language of its users
  nettap.containers.container_nsenter:
    container: web
    namespaces: [net, mnt]
    argv: [/app/report]
    env:
      LANG: de_DE.UTF-8
"""

RETURN = r"""
cmd:
  description: The program and its arguments.
  returned: always
  type: list
  elements: str
rc:
  description: Exit code of the program.
  returned: when it ran
  type: int
stdout:
  description: Standard output of the program.
  returned: when it ran
  type: str
stdout_lines:
  description: Standard output of the program, in lines.
  returned: when it ran
  type: list
  elements: str
stderr:
  description: Standard error of the program.
  returned: when it ran
  type: str
stderr_lines:
  description: Standard error of the program, in lines.
  returned: when it ran
  type: list
  elements: str
"""

import shlex

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nettap.containers.plugins.module_utils._arguments._target import EXCLUSIVE, KINDS, TARGET
from ansible_collections.nettap.containers.plugins.module_utils._errors import NettapError, TargetError
from ansible_collections.nettap.containers.plugins.module_utils._system import _nsenter, _view
from ansible_collections.nettap.containers.plugins.module_utils._targets import _target


def run(module: AnsibleModule, argv: list[str]) -> dict[str, object]:
    """Run the program in the one target, and return its exit code and output. Raise NettapError."""
    params = module.params
    with _target.resolved(params, module.warn) as targets:
        if len(targets) != 1:
            names = ", ".join(target.container.name for target in targets) or "none"
            raise TargetError(f"Exactly one container is needed, and the target options match {len(targets)} ({names}).")
        stdin = params["stdin"] + "\n" if params["stdin"] is not None and params["stdin_add_newline"] else params["stdin"]
        namespace, kinds = targets[0].namespace, params["namespaces"]
        view = _view.of(namespace, targets[0].container.resolver) if params["container_files"] and "net" in kinds and "mnt" not in kinds else None
        for path in view.missing if view else ():
            module.warn(f"The host has no {path}, so {argv[0]} does not see that of {targets[0].container.name}.")
        done = _nsenter.run(namespace, kinds, argv, params["chdir"], stdin, params["timeout"] or None, params["env"], view)
    ends = "\r\n" if params["strip_empty_ends"] else ""
    return {"rc": done.returncode, "stdout": done.stdout.rstrip(ends), "stderr": done.stderr.rstrip(ends)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **TARGET,
            "argv": {"type": "list", "elements": "str"},
            "command": {"type": "str"},
            "env": {"type": "dict"},
            "namespaces": {"type": "list", "elements": "str", "choices": list(_nsenter.OPTIONS), "default": ["net"]},
            "container_files": {"type": "bool", "default": True},
            "chdir": {"type": "str"},
            "stdin": {"type": "str"},
            "stdin_add_newline": {"type": "bool", "default": True},
            "strip_empty_ends": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 0},
        },
        mutually_exclusive=[*EXCLUSIVE, ("argv", "command")],
        required_one_of=[KINDS, ("argv", "command")],
        supports_check_mode=False,
    )
    try:
        argv = module.params["argv"] or shlex.split(module.params["command"] or "")
    except ValueError as error:
        module.fail_json(msg=f"command cannot be split into arguments ({error}): {module.params['command']}")
    if not argv:
        module.fail_json(msg="There is no program to run: argv or command is empty.")
    if not module.params["namespaces"]:  # such as from an empty variable: never run the program on the host instead
        module.fail_json(msg="namespaces is empty: name at least one to run the program in.", cmd=argv)
    for name, value in (module.params["env"] or {}).items():
        if not isinstance(value, str):  # YAML reads 010 as 8 and on as True
            module.fail_json(msg=f"env must give {name} as a string, not {value!r}: put it in quotes, and add '| string' to a template.", cmd=argv)
    try:
        result = run(module, argv)
    except NettapError as error:
        module.fail_json(msg=str(error), cmd=argv)
    if result["rc"]:
        module.fail_json(msg="non-zero return code", cmd=argv, changed=True, **result)
    module.exit_json(cmd=argv, changed=True, **result)


if __name__ == "__main__":
    main()
