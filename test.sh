#!/usr/bin/env bash
# Runs the style check and the tests. `./test.sh --all` adds the long ones; other words go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
. ./environment.sh requirements.txt requirements-test.txt

chosen=(-m "not slow")
if [ "${1:-}" = --all ]; then
    chosen=()
    shift
fi
ruff check .
ruff format --check .
# One thread a test process: the processes already use the cores. Bash before 4.4, such as a Mac's, takes an empty list
# for an unset one, unless it is asked for so.
OMP_NUM_THREADS=1 python -m pytest -n "${TEST_PROCESSES:-2}" ${chosen[@]+"${chosen[@]}"} "$@"
