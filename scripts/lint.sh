#!/bin/sh
# Run every check that only reads: all of them, even when one fails; the last line tells which did.
#
#   scripts/lint.sh [NAME…]      all, or only those of these names (see the bottom)
set -u
cd "$(dirname "$0")/.." || exit
PATH=$PWD/.venv/bin:$PATH
build=$PWD/.build
mkdir -p "$build"
failed=

check() {
    name=$1
    shift
    case " $only " in "  " | *" $name "*) ;; *) return ;; esac
    echo "== $name"
    "$@" || failed="$failed $name"
}

shell_scripts() {
    # shellcheck disable=SC2046  # names without blanks
    shellcheck $(grep -lE '^#!.*\b(ba)?sh\b' .ci/* scripts/* bench/* 2>/dev/null)
}

# By the schemas that the tool brings along.
github() {
    check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml &&
        check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml &&
        check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
}

# Warns instead of failing when a document is wrong in a way that Galaxy tolerates; here nothing is.
galaxy() (
    rm -rf "$build/galaxy"
    ansible-galaxy collection build --output-path "$build/galaxy" >/dev/null || exit
    cd "$build/galaxy" || exit
    # The check ansible-lint asks for more than the importer, which runs it too.
    GALAXY_IMPORTER_RUN_ANSIBLE_LINT=false python -m galaxy_importer.main ./*.tar.gz >log 2>&1
    result=$?
    grep -E '^(WARNING|ERROR|CRITICAL)' log && result=1
    [ $result = 0 ] || tail -n 20 log
    exit $result
)

only=$*
check shellcheck shell_scripts
check yamllint yamllint --strict .
check github github
check ruff ruff check
check changelog antsibull-changelog lint
check mypy mypy
check docs antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs dependent \
    --disallow-unknown-collection-refs collections/ansible_collections/nettap/containers
check ansible-lint ansible-lint --offline --strict --nocolor
check galaxy galaxy

[ -z "$failed" ] || echo "Failed:$failed" >&2
[ -z "$failed" ]
