"""train.sh, local and SLURM, with stand-ins for the launchers. Run: pytest tests/training/test_launch.py"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Each stand-in writes down how it was called; srun then runs its command, as the real one does on a node.
STAND_INS = {
    "torchrun": 'printf "%s\\n" "torchrun" "$@" >> "$CALLS"',
    "srun": 'printf "%s\\n" "srun" "$@" >> "$CALLS"\nwhile [ "$1" != torchrun ]; do shift; done\nexec "$@"',
    "scontrol": 'printf "node07\\nnode08\\n"',
    "nvidia-smi": "exit 1",
}


@pytest.fixture
def launch(tmp_path):
    """Call train.sh with a PATH on which the stand-ins come first; give back exit code, error and calls."""
    place = tmp_path / "project"
    place.mkdir()
    (place / "train.sh").write_text((ROOT / "train.sh").read_text())
    (place / "joint_train_span_electra.py").write_text("")
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name, body in STAND_INS.items():
        (stand_ins / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (stand_ins / name).chmod(0o755)

    def call(*flags: str, **variables: str):
        calls = tmp_path / "calls"
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        path = f"{stand_ins}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "train.sh", *flags],
            cwd=place,
            env=kept | {"PATH": path, "CALLS": str(calls)} | variables,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr, calls.read_text().splitlines() if calls.exists() else []

    return call


def test_on_one_machine_torchrun_gets_the_config_and_all_flags(launch):
    code, _, calls = launch("--lr", "3", "--train_file", "a b.arrow", CONFIG="c/small.json", DEVICES="2")
    assert code == 0
    assert calls == ["torchrun", "--standalone", "--nproc-per-node", "2", "joint_train_span_electra.py",
                     "--config_file", "c/small.json", "--lr", "3", "--train_file", "a b.arrow"]  # fmt: skip


def test_without_a_gpu_one_process_runs(launch):
    assert "--nproc-per-node\n1" in "\n".join(launch(CONFIG="x.json")[2])


def test_resume_takes_the_place_of_the_config(launch):
    assert launch(RESUME="runs/my run")[2][-2:] == ["--resume", "runs/my run"]


def test_under_slurm_each_node_gets_one_torchrun_that_meets_at_the_first(launch):
    slurm = {"SLURM_JOB_ID": "123", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[07-08]"}
    code, _, calls = launch(CONFIG="c.json", SLURM_GPUS_ON_NODE="8", **slurm)
    assert code == 0 and calls[:5] == ["srun", "--ntasks", "2", "--ntasks-per-node", "1"]
    command = calls[calls.index("torchrun", 6) :]
    options = dict(zip(command[1:11:2], command[2:12:2], strict=True))
    assert options == {"--nnodes": "2", "--nproc-per-node": "8", "--rdzv-id": "123", "--rdzv-backend": "c10d",
                       "--rdzv-endpoint": "node07:20123"}  # fmt: skip


@pytest.mark.parametrize("variables", [{}, {"CONFIG": "a.json", "RESUME": "runs/b"}])
def test_neither_or_both_of_config_and_resume_is_an_error(launch, variables):
    code, error, calls = launch(**variables)
    assert code == 2 and not calls and error.count("\n") == 1 and "CONFIG" in error and "RESUME" in error
