# Makes .venv, installs what the given requirement files list, and enters it; sourced by run.sh and test.sh, or by hand.
# Usage: . ./environment.sh requirements.txt [more.txt ...]
# A second call finds everything in place and returns at once.

find_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "error: no Python from 3.10 to 3.14 found; install one, or name it: export PYTHON=/path/to/python" >&2
    return 2
}

# Not by the file alone: without Debian's python3-venv, say, it is left behind without pip. A second making completes
# what stands there, and clears it only where its Python is gone.
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    python=$(find_python) || return 2
    echo "making .venv with $("$python" --version)"
    if .venv/bin/python -c '' 2>/dev/null; then clear=; else clear=--clear; fi
    "$python" -m venv ${clear:+"$clear"} .venv || return 2
fi
for requirements in "$@"; do
    stamp=.venv/$requirements.installed
    if ! cmp -s "$requirements" "$stamp"; then
        echo "installing $requirements (once; some minutes)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements" || return 2
        cp "$requirements" "$stamp"
    fi
done
. .venv/bin/activate
