"""train.sh, local and SLURM, with stand-ins for the launchers; and local with the real torchrun.

Run: pytest tests/training/test_launch.py
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from run_examples import write_rows

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = ["--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"]
# Each stand-in writes down how it was called; srun then runs its command, as the real one does on a node.
STAND_INS = {
    "torchrun": 'printf "%s\\n" "torchrun" "$@" >> "$CALLS"',
    "srun": 'printf "%s\\n" "srun" "$@" >> "$CALLS"\nwhile [ "$1" != torchrun ]; do shift; done\nexec "$@"',
    "scontrol": 'printf "node07\\nnode08\\n"',
    "python": 'printf "%s\n" "${GPUS:-0}"',  # torch's count of devices
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
    assert calls == ["torchrun", *SIGNALS, "--nproc-per-node", "2", "--standalone",
                     "joint_train_span_electra.py", "--config_file", "c/small.json",
                     "--lr", "3", "--train_file", "a b.arrow"]  # fmt: skip


@pytest.mark.parametrize(("gpus", "processes"), [("0", 1), ("3", 3)])
def test_a_process_runs_for_each_gpu_that_torch_counts_or_one(launch, gpus, processes):
    assert f"--nproc-per-node\n{processes}" in "\n".join(launch(CONFIG="x.json", GPUS=gpus)[2])


def test_inside_an_interactive_session_srun_can_be_left_out(launch):
    calls = launch(CONFIG="x.json", SLURM_JOB_ID="123", FORCE_LOCAL="1")[2]
    assert calls[0] == "torchrun" and "--standalone" in calls and "srun" not in calls


def test_resume_takes_the_place_of_the_config(launch):
    assert launch(RESUME="runs/my run")[2][-2:] == ["--resume", "runs/my run"]


def test_under_slurm_each_node_gets_one_torchrun_that_meets_at_the_first(launch):
    slurm = {"SLURM_JOB_ID": "123", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[07-08]"}
    code, _, calls = launch(CONFIG="c.json", SLURM_GPUS_ON_NODE="8", **slurm)
    assert code == 0 and calls[:5] == ["srun", "--ntasks", "2", "--ntasks-per-node", "1"]
    command = calls[calls.index("torchrun", 6) :]
    options = dict(zip(command[1:13:2], command[2:14:2], strict=True))
    assert options == {SIGNALS[0]: SIGNALS[1], "--nnodes": "2", "--nproc-per-node": "8",
                       "--rdzv-id": "123", "--rdzv-backend": "c10d",
                       "--rdzv-endpoint": "node07:20123"}  # fmt: skip


def test_srun_gets_the_cores_of_a_task(launch):
    slurm = {"SLURM_JOB_ID": "1", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "n"}
    calls = launch(CONFIG="c.json", SLURM_CPUS_PER_TASK="12", **slurm)[2]
    assert calls[calls.index("--cpus-per-task") + 1] == "12"


@pytest.mark.parametrize("variables", [{}, {"CONFIG": "a.json", "RESUME": "runs/b"}])
def test_neither_or_both_of_config_and_resume_is_an_error(launch, variables):
    code, error, calls = launch(**variables)
    assert code == 2 and not calls and error.count("\n") == 1 and "CONFIG" in error and "RESUME" in error


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes by /proc")
@pytest.mark.parametrize("warning", [signal.SIGUSR1, signal.SIGTERM])
def test_a_warning_through_the_real_torchrun_saves_the_run_and_leaves_no_process(tmp_path, warning):
    features, folder = write_rows(tmp_path / "rows.arrow", rows=600), tmp_path / "run"
    flags = ["--train_file", features, "--out_dir", str(folder), "--device", "cpu", "--epochs", "100000",
             "--log_steps", "1", "--train_batch_size", "8", "--preset", "tiny"]  # fmt: skip
    variables = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CONFIG": str(ROOT / "configs/tiny.json"),
        "DEVICES": "2",
        "OMP_NUM_THREADS": "1",
    }
    running = subprocess.Popen(
        ["bash", str(ROOT / "train.sh"), *flags],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that its processes can be found by their session
    )
    try:
        metrics, output = folder / "metrics.jsonl", ""
        while not (metrics.exists() and metrics.stat().st_size) and running.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                running.wait(timeout=0.2)
        for process in processes_of_session(running.pid):
            # As a terminal does, or a scheduler: what torchrun passes on, its processes have got already.
            if b"LOCAL_RANK=" in Path(f"/proc/{process}/environ").read_bytes():
                os.kill(process, warning)
        running.send_signal(warning)
        output = running.communicate(timeout=100)[0]
        assert json.loads((folder / "run.json").read_text())["state"] == "stopped", output
        assert list((folder / "checkpoints").glob("step-*")), output
        assert not processes_of_session(running.pid), output
    finally:
        for process in [*processes_of_session(running.pid), running.pid]:
            if running.poll() is None or process != running.pid:
                os.kill(process, signal.SIGKILL)


def processes_of_session(session: int) -> list[int]:
    """The numbers of the processes of a session that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # pid (name) state parent group session ...; a name may hold blanks and brackets
            state, _, _, number = entry.read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                found.append(int(entry.parent.name))
    return found
