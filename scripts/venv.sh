#!/bin/sh
# Make a virtual environment with the requirements of one purpose, unless it is there already.
#
#   scripts/venv.sh newest run|pytest|test     .venv         on the newest Python that fits
#   scripts/venv.sh oldest run|pytest|test     .venv-oldest  on the oldest one; nothing where only one fits
#
# NETTAP_PYTHON=3.12 lets only that Python fit, and NETTAP_CORE=2.20 brings the newest such ansible-core (2.20.10: just
# that one) instead of the pinned one: `make unit NETTAP_PYTHON=3.12 NETTAP_CORE=2.20`.
#
# Also makes the link by which this checkout is the collection nettap.containers.
set -eu
cd "$(dirname "$0")/.."
age=$1 purpose=$2
venv=.venv
[ "$age" = newest ] || venv=.venv-$age

# Prints "MINOR PATH" of the first Python 3 of each minor version that fits. A version manager's shim can
# exist for a version that is not enabled, so every candidate is run and tells its own real path.
pythons() {
    probe='import os, sys; v = sys.version_info
wanted = os.environ.get("NETTAP_PYTHON") or "%d.%d" % v[:2]
if (3, 11) <= v < (3, 15) and wanted == "%d.%d" % v[:2]: print(v[1], os.path.realpath(getattr(sys, "_base_executable", sys.executable)))'
    IFS=:
    for folder in $PATH $(printf '%s:' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin); do
        for candidate in "$folder"/python3 "$folder"/python3.1[1-4]; do
            [ -x "$candidate" ] && "$candidate" -c "$probe" </dev/null 2>/dev/null || :
        done
    done | sort -s -n -u -k1,1
}

if ! [ collections/ansible_collections/nettap/containers/galaxy.yml -ef galaxy.yml ]; then
    mkdir -p collections/ansible_collections/nettap
    # Git-ignored and made here: ansible-test refuses a committed link that leads out of the tree.
    ln -sfn ../../.. collections/ansible_collections/nettap/containers
fi

wanted=$({ cat requirements/*.txt && echo "${NETTAP_PYTHON:-} ${NETTAP_CORE:-}"; } | cksum)
if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.made-for-$purpose" 2>/dev/null)" = "$wanted" ]; then
    exit
fi

found=$(pythons)
if [ -z "$found" ]; then
    echo "No Python that fits: install Python ${NETTAP_PYTHON:-3.11, 3.12, 3.13 or 3.14} and put it on PATH." >&2
    exit 1
fi
newest=$(echo "$found" | tail -n 1 | cut -d ' ' -f 2-)
oldest=$(echo "$found" | head -n 1 | cut -d ' ' -f 2-)
if [ "$age" = newest ]; then
    python=$newest
elif [ "$newest" != "$oldest" ]; then
    python=$oldest
else
    echo "Only one Python fits here ($oldest): the tests run on that one alone." >&2
    rm -rf "$venv" # of a time when more fitted
    exit
fi

# Debian's Python comes without ensurepip unless pythonX.Y-venv is installed.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$(basename "$python")-venv
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "$python cannot make virtual environments: install its venv package ($package on Debian)." >&2
        exit 1
    fi
    # scripts/deps.sh may be at work beside this.
    apt_get() { apt-get -qq -o DPkg::Lock::Timeout=-1 "$@"; }
    apt_get install "$package" >/dev/null || { apt_get update && apt_get install "$package" >/dev/null; }
fi

echo "Making $venv for '$purpose' with $python" >&2
if [ "$(readlink -f "$venv/bin/python")" != "$python" ] || ! [ -x "$venv/bin/pip" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
"$venv/bin/pip" install -qq --disable-pip-version-check -r "requirements/$purpose.txt"
# A second step, since no requirement may contradict those above.
[ -z "${NETTAP_CORE:-}" ] || "$venv/bin/pip" install -qq --disable-pip-version-check -c requirements/constraints.txt "ansible-core==$NETTAP_CORE.*"
[ "$purpose" = run ] || "$venv/bin/python" scripts/fetch_collections.py
# The purposes build on one another: what serves the tests serves a run as well.
for served in run pytest test; do
    echo "$wanted" >"$venv/.made-for-$served"
    [ "$served" != "$purpose" ] || break
done
