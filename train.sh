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
# MASTER_PORT (default: made from the job's number), FORCE_LOCAL=1 (inside an interactive SLURM session:
# this machine alone, without srun). Everything else is a flag of joint_train_span_electra.py.
# SLURM's warning before the end (USR1) makes the run save and stop; RESUME then goes on with it.
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

# torch counts what it can use: NVIDIA's and AMD's devices alike.
count_gpus() { python -c 'import torch; print(torch.cuda.device_count())' 2>/dev/null || echo 0; }
devices=${DEVICES:-${SLURM_GPUS_ON_NODE:-$(count_gpus)}}
[ "$devices" -gt 0 ] || devices=1

# By default torchrun dies of USR1 and leaves its processes behind. It must pass the warning on, and wait
# while they save: SLURM gives 120 seconds. A torchrun that does not know this variable waits for 30.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-110}
torchrun=(torchrun --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --nproc-per-node "$devices")
training=(joint_train_span_electra.py "${flags[@]}" "$@")

if [ -z "${SLURM_JOB_ID:-}" ] || [ "${FORCE_LOCAL:-0}" != 0 ]; then
    # exec: a signal sent to this script reaches torchrun, which hands it to every process.
    exec "${torchrun[@]}" --standalone "${training[@]}"
fi

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)  # not head: closing the pipe early would fail scontrol
port=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
# srun does not inherit the job's cores a task; without them all processes of a node would share one core.
cores=(${SLURM_CPUS_PER_TASK:+--cpus-per-task "$SLURM_CPUS_PER_TASK"})
# One torchrun a node; they find one another at the first node. ${cores[@]+...}: bash before 4.4 has no empty lists.
exec srun --ntasks "$SLURM_NNODES" --ntasks-per-node 1 ${cores[@]+"${cores[@]}"} \
    "${torchrun[@]}" --nnodes "$SLURM_NNODES" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$first:$port" "${training[@]}"
