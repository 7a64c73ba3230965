#!/usr/bin/env bash
#SBATCH --job-name=span_electra
#SBATCH --signal=USR1@120
# Trains on this machine or under SLURM, one process a device, by torchrun.
#
#   CONFIG=configs/small.json ./train.sh --epochs 3            this machine, all its devices
#   RESUME=runs/small ./train.sh                               goes on with a run
#   CONFIG=... sbatch --nodes 2 --gpus-per-node 8 train.sh     SLURM; also inside salloc
#
# Environment: CONFIG or RESUME (one of them), DEVICES (processes a node; default: the GPUs, else 1),
# MASTER_PORT (default: made from the job's number). Everything else is a flag of
# joint_train_span_electra.py. SLURM's warning before the end (USR1) makes the run save and stop;
# RESUME then goes on with it.
set -euo pipefail
# Under sbatch this file is a copy elsewhere; the job starts where it was submitted.
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}"
[ -f joint_train_span_electra.py ] || { echo "error: $PWD: submit from the project's folder" >&2; exit 2; }
# A cluster may bring its own Python; the project's, where it is there, comes first.
if [ -x .venv/bin/python ]; then PATH=$PWD/.venv/bin:$PATH; fi

if [ -n "${CONFIG:-}" ] && [ -n "${RESUME:-}" ]; then
    echo "error: CONFIG=$CONFIG and RESUME=$RESUME: give one; a resumed run has its own config" >&2
    exit 2
elif [ -n "${CONFIG:-}" ]; then
    flags=(--config_file "$CONFIG")
elif [ -n "${RESUME:-}" ]; then
    flags=(--resume "$RESUME")
else
    echo "error: give CONFIG=configs/small.json or RESUME=runs/<run>" >&2
    exit 2
fi

count_gpus() { { nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l; }
devices=${DEVICES:-${SLURM_GPUS_ON_NODE:-$(count_gpus)}}
[ "$devices" -gt 0 ] || devices=1

if [ -z "${SLURM_JOB_ID:-}" ]; then
    # exec: a signal sent to this script reaches torchrun, which hands it to every process.
    exec torchrun --standalone --nproc-per-node "$devices" joint_train_span_electra.py "${flags[@]}" "$@"
fi

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)  # not head: closing the pipe early would fail scontrol
port=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
# One torchrun a node; they find one another at the first node.
exec srun --ntasks "$SLURM_NNODES" --ntasks-per-node 1 \
    torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$devices" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$first:$port" \
    joint_train_span_electra.py "${flags[@]}" "$@"
