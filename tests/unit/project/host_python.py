"""A host's Python for tests: it runs no module, but returns the module's name and arguments, or what the test has it return.

A stand-in for the package managers of distributions that are not here: all of Ansible runs, up to the module itself.
Arguments: JSON of what modules return, by their names; the file that Ansible has sent.
"""

from __future__ import annotations

import ast
import json
import pathlib
import sys


def main() -> None:
    """Print what the module in the file is called and told, as if it had done it."""
    program = ast.parse(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
    call = next(node for node in ast.walk(program) if isinstance(node, ast.Call) and {"module_fqn", "params"} <= {word.arg for word in node.keywords})
    given = {word.arg: word.value for word in call.keywords}
    name = ast.literal_eval(given["module_fqn"]).rpartition(".")[2]
    args = json.loads(ast.literal_eval(given["params"]))["ANSIBLE_MODULE_ARGS"]
    told = {"changed": True, "module": name, "args": {key: value for key, value in args.items() if not key.startswith("_ansible")}}
    print(json.dumps({**told, **json.loads(sys.argv[1]).get(name, {})}))


if __name__ == "__main__":
    main()
