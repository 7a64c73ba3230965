#!/usr/bin/env bash
# Ten minutes on a GPU machine, without network: is everything right on this device, and how fast is it?
#
#   benchmarks/gpu_check.sh                          writes gpu_check.md, a page of Markdown
#   benchmarks/gpu_check.sh --out page.md --device cuda:1 --minutes 3
#   benchmarks/gpu_check.sh --device cpu --minutes 0.2    the same checks where there is no GPU
#
# It takes the Python of .venv where that is there, else the one on the PATH, and installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then PATH=$PWD/.venv/bin:$PATH; fi
# Products in full float32, so that what differs from the CPU is a mistake and not TF32's rounding.
exec env NVIDIA_TF32_OVERRIDE=0 PYTHONPATH="$PWD:$PWD/benchmarks" python benchmarks/gpu_check.py "$@"
