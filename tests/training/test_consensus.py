"""All processes of a run go on or none, from the same files; none that failed waits for the others.

Run: pytest tests/training/test_consensus.py
"""

import hashlib
import json
from functools import partial

import pytest
import torch
from run_examples import small_run, write_rows

from span_electra.config import TrainingConfig
from span_electra.errors import InputError, SharedInputError
from span_electra.pretraining.experiment import Pretraining
from span_electra.training import checkpoint, devices
from span_electra.training.consensus import flat, hash_of, raised_together, refuse_differences
from span_electra.training.devices import Agreement, Process, join, leave, plan_devices
from span_electra.training.launch import launch
from span_electra.training.run import load_resumed, run_process, run_training

pytestmark = pytest.mark.filterwarnings("ignore:no GPU in use")
CPU = torch.device("cpu")


# --- two processes ------------------------------------------------------------------------------------


def ended(agreement, error):
    """How a block ends here in which this process meets `error`, or none."""
    try:
        with raised_together(agreement):
            if error is not None:
                raise error
    except Exception as raised:
        return type(raised).__name__, str(raised)
    return "passed"


def compared(agreement, facts):
    try:
        refuse_differences(agreement, facts)
    except SharedInputError as error:
        return str(error)


def precision_among(devices_have, kind, rank):
    """What all compute in whose devices alone would take these."""
    devices.automatic_precision = lambda device: devices_have[rank]
    return devices._precision("auto", torch.device(kind), 2)


def meet(rank, world, store):
    """What each of two processes has seen of the other, by rank."""
    config = TrainingConfig(device="cpu", device_ids=[0, 1], precision="fp32")
    process = join(plan_devices(config), config, rank=rank, world_size=world, store=store)
    agreement = Agreement(world)
    met = {
        "nothing": [None, None],
        "first": [InputError("rows.arrow: is broken"), None],
        "second": [None, InputError("rows.arrow: is broken")],
        "both": [InputError("a"), InputError("b")],
        "disk": [OSError(28, "No space left on device", "runs/x"), None],
        "crash": [None, KeyError("ours")],
    }
    seen = {name: ended(agreement, errors[rank]) for name, errors in met.items()}
    seen["same"] = compared(agreement, {"order": {"rows": 54}})
    seen["other"] = compared(agreement, {"seed": 1, "order": {"rows": 54 + rank}})
    bf16, fp16, fp32 = torch.bfloat16, torch.float16, torch.float32
    seen["old card"] = [precision_among(have, "cuda", rank) for have in ((bf16, fp16), (fp16, bf16))]
    seen["new cards"] = precision_among((bf16, bf16), "cuda", rank)
    seen["busy cpu"] = [precision_among(have, "cpu", rank) for have in ((bf16, fp32), (fp32, bf16))]
    everyone = agreement.gather(seen)
    leave(process)
    return everyone


def test_what_one_process_meets_all_do():
    one, other = launch(meet, 2)[0]
    assert one["nothing"] == other["nothing"] == "passed"
    assert one["first"] == other["first"] == ("SharedInputError", "rows.arrow: is broken")
    assert one["second"] == other["second"] == ("SharedInputError", "process 1: rows.arrow: is broken")
    assert one["both"] == other["both"] == ("SharedInputError", "a")
    assert one["disk"] == other["disk"] and "runs/x: No space left" in one["disk"][1]
    # A crash is told where it was, and elsewhere as a loss, so that its own traceback is what is shown.
    assert other["crash"] == ("KeyError", "'ours'")
    assert one["crash"] == ("ConnectionError", "process 1 failed (KeyError: 'ours')")
    assert one["same"] is None and other["same"] is None
    assert one["other"] == other["other"] and one["other"].startswith(
        "process 1: order.rows is 55, process 0 has 54: "
    )
    # In one type, and in one that every device has.
    bf16, fp16, fp32 = torch.bfloat16, torch.float16, torch.float32
    for seen in (one, other):
        assert seen["old card"] == [fp16, fp16] and seen["new cards"] is bf16
        assert seen["busy cpu"] == [bf16, fp32]


def of_other_rows(features, folder, rank, world, store):
    settings = small_run(features[rank], folder, device_ids=[0, 1], max_steps=1)
    plan = plan_devices(settings.training)
    return run_process(settings, Pretraining, plan, rank, world_size=world, store=store)


def test_processes_that_read_other_rows_do_not_begin(tmp_path):
    features = [write_rows(tmp_path / f"{seed}.arrow", seed=seed) for seed in range(2)]
    with pytest.raises(InputError, match="^process 1: masks.seed is 1, process 0 has 0: .*the same feat"):
        launch(partial(of_other_rows, features, tmp_path / "run"), 2)
    assert not (tmp_path / "run" / "run.json").exists()


# --- the checkpoint -----------------------------------------------------------------------------------


class Answers:
    """An agreement of two processes of which the other, the first, has `theirs` to give."""

    group = object()

    def __init__(self, *theirs):
        self.theirs = list(theirs)

    def gather(self, value):
        return [self.theirs.pop(0), value]


def in_shares(run):
    """A run's checkpoint of one shard, whose tensors nobody reads here."""
    folder, data = run / "checkpoints" / "step-00000003", b"tensors"
    folder.mkdir(parents=True)
    shard = folder / "shard-00001-model-00001-of-00001.safetensors"
    shard.write_bytes(data)
    described = {shard.name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    meta = {"format": 2, "step": 3, "aliases": {}, "files": described}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder, meta


def test_the_first_process_alone_chooses_and_hashes_what_is_gone_on_from(tmp_path, monkeypatch):
    folder, meta = in_shares(tmp_path / "run")
    settings = small_run("rows.arrow", tmp_path / "run", resume=tmp_path / "run", parallel="fsdp")
    hashed, honest = [], checkpoint.sha256_of
    monkeypatch.setattr(checkpoint, "sha256_of", lambda file: hashed.append(file.name) or honest(file))
    # Newer than what the first one chose, and seen by the other alone.
    in_shares(tmp_path / "other")[0].rename(folder.with_name("step-00000009"))
    other = Answers(None, (folder, hash_of(meta)), None)
    assert load_resumed(settings, Process(CPU, rank=1, world_size=2), other).folder == folder
    assert not hashed
    chosen = load_resumed(settings, Process(CPU, world_size=2), Agreement(1))
    assert chosen.folder.name == "step-00000009" and hashed


def test_a_process_that_sees_another_checkpoint_of_that_name_is_refused(tmp_path):
    folder, meta = in_shares(tmp_path / "run")
    settings = small_run("rows.arrow", tmp_path / "run", resume=tmp_path / "run", parallel="fsdp")
    other = Answers(None, (folder, hash_of(meta | {"seed": 2})), None)
    with pytest.raises(SharedInputError, match=f"^process 1: {folder}: is another checkpoint here"):
        load_resumed(settings, Process(CPU, rank=1, world_size=2), other)


def test_long_values_are_told_apart_by_their_hash():
    one, other = (flat({"order": {"rows": 54}, "labels": ["yes", "no"] * 9 + [last]}) for last in "ab")
    assert one["order.rows"] == other["order.rows"] == "54"
    assert one["labels"] != other["labels"] and len(one["labels"]) == 12


# --- ends ---------------------------------------------------------------------------------------------


def refuse(settings, process):
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(True)
    raise InputError("rows.arrow: is broken")


def switches():
    return torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()


def test_an_error_arrives_though_leaving_would_wait_for_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "leave", lambda process: pytest.fail("waits for ever"))
    before = switches()
    with pytest.raises(InputError, match="rows.arrow: is broken"):
        run_training(small_run("rows.arrow", tmp_path / "run"), refuse)
    assert switches() == before, "what comes after a run is rounded as the run was"
