"""Run every `ansible-test sanity` test, with an empty ignore list; on the oldest ansible-core, those that ask ansible-core itself.

    python scripts/sanity.py [NAME…]        all of them, or only the tests of these names, on both

ansible-test looks at the tree it stands in, so it is given a clean copy of what git would commit. Each
virtual environment brings its own ansible-core; the tests `compile` and `import` run on every Python that
core supports on managed nodes and that is found on this machine.
"""

from __future__ import annotations

import functools
import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"

# What these find depends on ansible-core's own code: its schemas, its loaders, its module_utils. The others read files alone.
OF_CORE = ["action-plugin-docs", "ansible-doc", "import", "runtime-metadata", "validate-modules"]

# ansible-test downloads this file from a host that a closed network lacks. All it is asked for is to put
# pip into a fresh virtual environment, and the Python standard library can do that.
GET_PIP = """\
import glob, os, runpy, sys, ensurepip
bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled", "pip-*.whl")
wheel = (glob.glob(bundled) or glob.glob("/usr/share/python-wheels/pip-*.whl"))[0]
sys.path.insert(0, wheel)
sys.argv = ["pip", "install", "--quiet", "--no-index", wheel]
runpy.run_module("pip", run_name="__main__")
"""


@functools.cache
def real_pythons() -> dict[str, str]:
    """Give the path of each Python 3.x found on this machine by its version; a shim tells its real path."""
    folders = os.environ["PATH"].split(os.pathsep)
    folders += glob.glob(os.path.expanduser(os.environ.get("PYENV_ROOT", "~/.pyenv") + "/versions/*/bin"))
    probe = "import sys, os; print('%d.%d' % sys.version_info[:2], os.path.realpath(sys.executable))"
    found: dict[str, str] = {}
    for path in (p for folder in folders for p in sorted(glob.glob(folder + "/python3*"))):
        if re.fullmatch(r"python3(\.\d+)?", os.path.basename(path)) and str(ROOT) not in path:
            told = subprocess.run([path, "-c", probe], capture_output=True, text=True, check=False).stdout.split()
            if len(told) == 2:
                found.setdefault(*told)
    return found


def copy_of_tree(place: pathlib.Path) -> pathlib.Path:
    """Copy what git tracks or would track, and return the collection's folder in the copy."""
    tree = place / "ansible_collections/nettap/containers"
    shutil.rmtree(tree, ignore_errors=True)
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():  # a file deleted but not yet committed is neither
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    # ansible-test asks git for the files: without a repository of its own, the one around it would ignore them all.
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    return tree


def sanity(venv: pathlib.Path, tests: list[str]) -> bool:
    """Run the tests with the ansible-core of one virtual environment; tell whether all passed."""
    source = next(venv.glob("lib/python3*/site-packages/ansible_test"))
    own = subprocess.run([venv / "bin/python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    supported = re.findall(r"'(3\.\d+)'", (source / "_util/target/common/constants.py").read_text())
    wanted_pip = re.search(r"pip='([0-9.]+)'", (source / "_internal/python_requirements.py").read_text())
    assert wanted_pip, "ansible-test names no pip version any more: look for the new place"

    tree = copy_of_tree(BUILD / f"sanity-{own}")
    stand_in = pathlib.Path(f"~/.ansible/test/cache/get_pip_{wanted_pip[1].replace('.', '_')}.py").expanduser()
    if not stand_in.exists():
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text(GET_PIP)
    # Its search by name must find real interpreters, no version manager's shims.
    pythons = tree.parents[2] / "pythons"
    shutil.rmtree(pythons, ignore_errors=True)
    pythons.mkdir()
    targets = [v for v in supported if v in real_pythons() and v not in (own, "3.8")]
    for version in targets:
        (pythons / f"python{version}").symlink_to(real_pythons()[version])

    # The newest environment's folder comes last, for shellcheck.
    path = [venv / "bin", pythons, os.environ["PATH"], ROOT / ".venv/bin"]
    env = os.environ | {"PATH": os.pathsep.join(map(str, path)), "LC_ALL": "C.UTF-8"}
    argv = [str(venv / "bin/ansible-test"), "sanity", "--color", "no"]
    for version in (own, *targets):
        argv += ["--target-python", version]
    for test in tests:
        argv += ["--test", test]
    print(f"ansible-test sanity on Python {own}; compile and import also on {', '.join(targets) or 'no other'}", flush=True)
    return subprocess.run(argv, cwd=tree, env=env, stdin=subprocess.DEVNULL, check=False).returncode == 0


def main() -> int:
    """Run the sanity tests in every virtual environment that the set-up made."""
    results = [sanity(ROOT / ".venv", sys.argv[1:])]
    if (ROOT / ".venv-oldest").is_dir():
        results.append(sanity(ROOT / ".venv-oldest", sys.argv[1:] or OF_CORE))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
