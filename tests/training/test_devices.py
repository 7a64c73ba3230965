"""Devices are chosen or refused; two processes = one; whatever ends one process ends all, with its message.

Run: pytest tests/training/test_devices.py
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from run_examples import lines_of, small_run, write_rows

from span_electra import accelerators
from span_electra.config import OptimizerConfig, TrainingConfig
from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.features.store import open_features
from span_electra.model.dropout import drop
from span_electra.pretraining.data import open_data
from span_electra.pretraining.experiment import build_model, run_pretraining
from span_electra.pretraining.loader import Batches
from span_electra.training import checkpoint, devices
from span_electra.training.devices import (
    Process,
    go_on_in,
    join,
    leave,
    other_device,
    plan_devices,
    share_cores,
)
from span_electra.training.launch import launch

TWO = "ignore:no GPU in use"


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("features") / "rows.arrow")


# --- which devices ------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_ids_name_processes_and_cuda_is_refused():
    with pytest.warns(UserWarning, match="no GPU in use: --device_ids 0 1 starts 2 CPU processes"):
        assert plan_devices(TrainingConfig(device_ids=[0, 1])).processes == 2
    assert plan_devices(TrainingConfig()).processes == 1
    with pytest.raises(InputError, match="device: cuda: there is no such device here; use cpu"):
        plan_devices(TrainingConfig(device="cuda"))


@pytest.mark.parametrize("name", ["mps", "xpu", "cuda:1"])
def test_other_devices_are_taken_where_they_are_and_refused_in_a_line_where_not(monkeypatch, name):
    here = {"cpu": 1, "cuda": 2, "mps": 1, "xpu": 1}
    monkeypatch.setattr(devices, "count_devices", here.get)
    monkeypatch.setattr(accelerators, "count_devices", here.get)
    plan = plan_devices(TrainingConfig(device=name))
    assert (plan.kind, plan.processes) == (name.partition(":")[0], 1)
    here.update(cuda=0, mps=0, xpu=0)
    with pytest.raises(InputError, match=f"^device: {name}: there is no such device here; use cpu or auto$"):
        plan_devices(TrainingConfig(device=name))


def test_with_gpus_each_id_is_one_and_absent_ones_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    plan = plan_devices(TrainingConfig(device_ids=[1, 0]))
    assert (plan.kind, plan.ids, plan.processes) == ("cuda", (1, 0), 2)
    with pytest.raises(InputError, match="device_ids: 2 is not there; this machine has 0 to 1"):
        plan_devices(TrainingConfig(device_ids=[0, 2]))


@pytest.mark.parametrize("kind", ["cpu", "cuda", "xpu"])
@pytest.mark.parametrize("ids", [[0], [0, 1], [1, 0, 2]])
@pytest.mark.filterwarnings(TWO)
def test_dp_plans_the_processes_of_ddp_and_says_so_once_where_there_are_several(monkeypatch, kind, ids):
    monkeypatch.setattr(devices, "count_devices", lambda kind: 3)
    monkeypatch.setattr(accelerators, "count_devices", lambda kind: 3)
    expected = plan_devices(TrainingConfig(device=kind, device_ids=ids))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert plan_devices(TrainingConfig(device=kind, device_ids=ids, parallel="dp")) == expected
    assert sum("as ddp" in str(warning.message) for warning in said) == (len(ids) > 1)


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_whoever_has_one_device_is_told_to_name_none(monkeypatch, kind):
    here = {"cpu": 1, "cuda": 0, "mps": 0, "xpu": 0} | {kind: 1}
    monkeypatch.setattr(devices, "count_devices", here.get)
    monkeypatch.setattr(accelerators, "count_devices", here.get)
    with pytest.raises(
        InputError, match="1 is not there; this machine has 1 .device 0.; leave --device_ids out$"
    ):
        plan_devices(TrainingConfig(device_ids=[0, 1]))
    assert plan_devices(TrainingConfig()).ids == plan_devices(TrainingConfig(device_ids=[0])).ids == (0,)


def test_a_device_with_its_number_is_that_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert plan_devices(TrainingConfig(device="cuda:1")).ids == (1,)
    with pytest.raises(InputError, match="differ; name one of them"):
        plan_devices(TrainingConfig(device="cuda:1", device_ids=[0]))


def test_devices_that_torchrun_numbers_itself_are_said_to_be_left_out(monkeypatch, torchrun):
    monkeypatch.setattr("span_electra.training.devices.count_devices", lambda kind: 4)
    torchrun()
    with pytest.warns(UserWarning, match="device ids 2 3 are left out: torchrun .*CUDA_VISIBLE_DEVICES"):
        plan_devices(TrainingConfig(device="cpu", device_ids=[2, 3]))


def test_more_processes_than_gpus_under_torchrun_are_refused(monkeypatch, torchrun):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    torchrun(RANK="2", LOCAL_RANK="2", WORLD_SIZE="3")
    with pytest.raises(InputError, match="LOCAL_RANK 2: this machine has 2 cuda devices"):
        plan_devices(TrainingConfig())


def test_several_processes_share_the_cores_and_one_is_left_alone(monkeypatch, torchrun):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    alone = torch.get_num_threads()  # asked before: numba's threads, once started, change the answer
    for processes in (1, 2, 3, 16):
        share_cores(processes)
    assert chosen == [alone, 4, 2, 1]
    torchrun(WORLD_SIZE="1")
    share_cores(1)
    assert chosen[-1] == 8


def test_precision_follows_the_settings():
    config = TrainingConfig(device="cpu", precision="bf16")
    process = join(plan_devices(config), config, rank=0, world_size=1, store=None)
    assert process.is_main_process and process.precision is torch.bfloat16


def threads_around_a_kernel(rank, world, store):
    """Torch's threads before and after numba has started its own."""
    share_cores(world)
    before = torch.get_num_threads()
    drop(torch.ones(10), 0.5, 1)
    return before, torch.get_num_threads()


def meet(rank, world, store):
    """What all processes' ranks sum to."""
    config = TrainingConfig(device="cpu", device_ids=[0, 1])
    process = join(plan_devices(config), config, rank=rank, world_size=world, store=store)
    total = torch.tensor([rank + 1])
    torch.distributed.all_reduce(total)
    leave(process)
    return total.item()


def test_a_run_that_recorded_no_precision_goes_on_in_float32_on_a_cpu():
    process = Process(torch.device("cpu"), precision=torch.bfloat16)
    auto, named = TrainingConfig(), TrainingConfig(precision="bf16")
    assert go_on_in(process, auto, {}).precision is torch.float32
    assert go_on_in(process, auto, {"device": "cuda", "precision": "fp16"}).precision is torch.bfloat16
    assert go_on_in(process, named, {"precision": "fp32"}).precision is torch.bfloat16


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_a_gpu_without_bf16_goes_on_in_what_it_has(name):
    process = Process(torch.device("cuda"), precision=torch.float16)  # what such a one chooses
    gone_on = go_on_in(process, TrainingConfig(), {"device": "cuda", "precision": name})
    assert gone_on.precision is {"fp32": torch.float32}.get(name, torch.float16)
    assert bool(other_device(gone_on, {"device": "cuda", "precision": name})) == (name == "bf16")


def test_processes_meet_in_a_folder_of_any_name(tmp_path, monkeypatch):
    place = tmp_path / "a#b?c%20 d"
    place.mkdir()
    (tmp_path / "a").mkdir()  # where a URL of the place would lead
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    assert launch(meet, 2)[0] == 3


def test_numba_leaves_torchs_threads_alone():
    before, after = launch(threads_around_a_kernel, 2)[0]
    assert before == after == max(1, len(os.sched_getaffinity(0)) // 2)


# --- many = one ---------------------------------------------------------------------------------------


def gap(one, other, part):
    first, second = (getattr(checkpoint.load(result.checkpoint), part) for result in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.filterwarnings(TWO)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_are_one_in_gradients_and_losses(features, tmp_path, parallel, architecture):
    # sgd without momentum or clipping at rate 1: the weights' difference is the gradients'.
    options = {
        "optimizer": OptimizerConfig("sgd", lr=1.0, momentum=0.0, max_gradient_norm=0.0, warmup=0.0),
        "loader": LoaderConfig(8),
        "dropout": 0.0,
        "valid": (0.1,),
    }
    one = run_pretraining(small_run(features, tmp_path / "a", max_steps=1, **options))
    two = run_pretraining(
        small_run(features, tmp_path / "b", max_steps=1, device_ids=[0, 1], parallel=parallel, **options)
    )
    # At rate 1 the largest weight is the largest gradient, above 16: one float32 step of it is 2e-6.
    largest = max(float(value.abs().max()) for value in checkpoint.load(one.checkpoint).weights.values())
    assert gap(one, two, "weights") < 1e-6 * max(1.0, largest)
    for name, value in one.metrics.items():
        assert two.metrics[name] == pytest.approx(value, rel=1e-6, abs=1e-5)


@pytest.mark.filterwarnings(TWO)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_make_muons_step_of_one(features, tmp_path, parallel):
    # The polynomials magnify what is nearly 0 three hundred times, rounding too.
    options = {"optimizer": OptimizerConfig("muon", lr=1e-2, adamw_lr=0.0), "dropout": 0.0, "max_steps": 2}
    one = run_pretraining(small_run(features, tmp_path / "a", **options))
    two = small_run(features, tmp_path / "b", device_ids=[0, 1], parallel=parallel, **options)
    assert gap(one, run_pretraining(two), "weights") < 1e-4


@pytest.mark.filterwarnings(TWO)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_generator_alone_first_leaves_the_discriminator_alone_on_two_processes_too(
    features, tmp_path, parallel, capfd
):
    # AdamW tells a gradient of zeros from none: it would decay the weights, and count the step.
    options = {"optimizer": OptimizerConfig(lr=1e-2, weight_decay=0.5), "dropout": 0.0, "max_steps": 6}

    def run(name, **more):
        settings = small_run(features, tmp_path / name, **options, **more)
        return run_pretraining(replace(settings, model=replace(settings.model, generator_first=0.5)))

    one, two = run("a"), run("b", device_ids=[0, 1], parallel=parallel)
    counts = checkpoint.load(two.checkpoint).optimizer
    assert counts["step:generator.head.bias"] == 6 and counts["step:discriminator.head.score.weight"] == 3
    assert gap(one, two, "weights") < 1e-3
    assert "find_unused_parameters" not in capfd.readouterr().err


@pytest.mark.filterwarnings(TWO)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_compare_each_its_own_rows(features, tmp_path, parallel):
    run = small_run(features, tmp_path, device_ids=[0, 1], parallel=parallel, max_steps=2)
    result = run_pretraining(replace(run, model=replace(run.model, sequence_objective="contrastive")))
    trained = [line for line in lines_of(run.out_dir) if line["split"] == "train"]
    assert result.state == "finished" and trained and trained[0]["contrastive_loss"] > 0


@pytest.mark.filterwarnings(TWO)
def test_fifty_steps_on_two_processes_give_the_losses_of_one(features, tmp_path):
    options = {
        "dropout": 0.0,
        "epochs": 8,
        "log_steps": 0,
        "eval_every": "50",
        "gradient_accumulation_steps": 1,
    }
    one = run_pretraining(small_run(features, tmp_path / "a", **options))
    two = run_pretraining(small_run(features, tmp_path / "b", device_ids=[0, 1], **options))
    assert one.step == two.step >= 50
    assert two.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-5)


@pytest.mark.filterwarnings(TWO)
@pytest.mark.parametrize("in_shares", [False, True])
def test_a_checkpoint_of_two_sharded_processes_goes_on_alone_and_back(features, tmp_path, in_shares):
    # Momentum at a steady rate, unclipped: what a resume loses of it, or gives to another weight, stays seen.
    steady = OptimizerConfig("sgd", lr=0.05, momentum=0.9, schedule="constant", max_gradient_norm=0.0)
    options = {"dropout": 0.0, "gradient_accumulation_steps": 2, "valid": (0,), "save_every": "4"}
    options["optimizer"] = steady
    straight = run_pretraining(small_run(features, tmp_path / "a", **options))
    sharded = {"device_ids": [0, 1], "parallel": "fsdp", "sharded_checkpoints": in_shares}
    first = run_pretraining(small_run(features, tmp_path / "b", max_steps=4, **sharded, **options))
    assert first.step == 4
    resumed = run_pretraining(small_run(features, tmp_path / "b", resume=first.checkpoint, **options))
    assert resumed.step == straight.step
    assert gap(straight, resumed, "weights") < 1e-4 and gap(straight, resumed, "optimizer") < 1e-3
    again = small_run(
        features, tmp_path / "b", resume=resumed.checkpoint, device_ids=[0, 1], **options | {"epochs": 4}
    )
    assert run_pretraining(again).step > straight.step


@pytest.mark.parametrize("key", [None, 7])
def test_a_share_without_rows_adds_nothing_and_breaks_nothing(features, tmp_path, key, architecture):
    settings = small_run(features, tmp_path)
    model = build_model(settings, open_data(settings))
    empty = next(iter(Batches(open_features(features), LoaderConfig(1, workers=0), 0, rank=1, world=2)))
    assert empty.original_BL.shape[0] == 0
    output = model(empty, dropout_key=key)
    output.loss.backward()
    assert output.loss == 0 and not output.tally.any()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


# --- ends ---------------------------------------------------------------------------------------------


def warn(rank, world, store):
    warnings.warn(f"of process {rank}", stacklevel=2)


def test_a_warning_is_one_line_of_the_leading_process(capfd):
    launch(warn, 2)
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if "of process" in line] == ["warning: of process 0"]


def misbehave(how, rank, world, store):
    """Rank 1 ends badly while rank 0 would wait for ever."""
    if rank == 1:
        if how == "input":
            raise InputError("rows.arrow: is broken; make it again")
        if how == "crash":
            raise KeyError("a bug of ours")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return how
    while how != "fine":
        time.sleep(0.05)  # stands in for a collective that will never complete
    return rank


@pytest.mark.parametrize(
    "how, error, message",
    [
        ("input", InputError, "^rows.arrow: is broken; make it again$"),
        ("crash", RuntimeError, "process 1 failed:(.|\n)*KeyError: 'a bug of ours'"),
        ("kill", RuntimeError, "process 1 was killed by SIGKILL"),
    ],
)
def test_whatever_ends_one_process_ends_all(how, error, message):
    with pytest.raises(error, match=message):
        launch(partial(misbehave, how), 2)
    assert not multiprocessing.active_children()


def test_the_leading_process_gives_the_result():
    assert launch(partial(misbehave, "fine"), 2) == (0, 0)


SIGNALLED_RUN = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from run_examples import small_run
from span_electra.pretraining.experiment import run_pretraining
if __name__ == "__main__":
    options = dict(epochs=4000, device_ids=[0, 1], log_steps=1)
    result = run_pretraining(small_run({features!r}, {folder!r}, **options))
    print(result.state, result.step)
    sys.exit(result.exit_code)
"""


def test_a_signal_to_two_processes_keeps_a_checkpoint_and_the_customary_code(features, tmp_path):
    root, script = Path(__file__).resolve().parents[2], tmp_path / "script.py"
    places = {"tests": str(root / "tests"), "root": str(root), "folder": str(tmp_path / "run")}
    script.write_text(SIGNALLED_RUN.format(features=features, **places))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        for line in process.stderr:
            if "step 2 of" in line:
                process.send_signal(signal.SIGINT)
                break
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    state, step = out.split()
    assert state == "stopped" and checkpoint.latest(tmp_path / "run").name == f"step-{int(step):08d}"
