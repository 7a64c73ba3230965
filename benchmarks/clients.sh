#!/usr/bin/env bash
# Tries what others do with our exports and feature files, in environments laid over .venv, so that no
# client's pins are the stages'. Prints the table that docs/ecosystem.md shows.
#
#   benchmarks/clients.sh RUN FEATURES [FOLDER]
#
# RUN holds generator/ and discriminator/, FEATURES is a feature file; the environments (some GB less than it
# looks, for torch is .venv's) are made in FOLDER, by default .venv/clients, and kept for the next time.
set -uo pipefail
[ $# -ge 2 ] || { sed -n '2,9p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
run=$(realpath "$1") features=$(realpath "$2") folder=${3:-$here/.venv/clients}
base=${PYTHON:-$here/.venv/bin/python}
mkdir -p "$folder" || exit 2
failed=0

# environment NAME REQUIREMENT...: makes it where it is not there, and leaves its python in $python
environment() {
    local name=$1 site
    shift
    python=$folder/$name/bin/python
    [ -e "$folder/$name/installed" ] && return
    "$base" -m venv "$folder/$name" || return
    site=$("$base" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$site" > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
    "$python" -m pip install --quiet --disable-pip-version-check "$@" >&2 && touch "$folder/$name/installed"
}

try() {
    local log=$folder/$1.log
    if ! "$python" "$here/benchmarks/clients.py" "$1" "$run" "$features" 2> "$log" | grep '^|'; then
        echo "| $1 | | FAILED: $(grep -a . "$log" | tail -1 | cut -c1-150) |"
        failed=1
    fi
}

echo "| client | version | what came out |"
echo "|---|---|---|"
environment models sentence-transformers peft onnx onnxscript onnxruntime accelerate
for client in trainer pipelines sentence-transformers onnxruntime peft; do try $client; done
environment setfit setfit && try setfit
# These two need what transformers 5 no longer has; they show at once that our tokenizers are read right there.
environment spacy spacy-transformers && try spacy-transformers
environment minicons minicons 'transformers<5' && try minicons
environment files pyarrow polars pandas duckdb datasets
for client in pyarrow polars pandas duckdb datasets; do try $client; done
exit $failed
