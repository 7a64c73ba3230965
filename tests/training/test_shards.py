"""Laws of sharded checkpoints: what is read is what was written, whoever reads it, and nothing else.

Run: pytest tests/training/test_shards.py
"""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from run_examples import assert_same_end, lines_of, small_run, write_rows
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from span_electra.errors import InputError
from span_electra.hub.opening import load_model
from span_electra.pretraining.experiment import run_pretraining
from span_electra.pretraining.stage import export
from span_electra.training import checkpoint
from span_electra.training.launch import launch
from span_electra.training.shards import SHARD, load_sharded, write_shards

pytestmark = pytest.mark.filterwarnings("ignore:no GPU in use")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "train.arrow")


def run(features, folder, **options):
    options = {"device_ids": [0, 1], "parallel": "fsdp", "sharded_checkpoints": True} | options
    return run_pretraining(small_run(features, folder, max_steps=6, save_every="3", save_last=9, **options))


@pytest.fixture(scope="module")
def straight(features, tmp_path_factory):
    """A run of two processes whose checkpoints are sharded."""
    return run(features, tmp_path_factory.mktemp("straight") / "run")


def test_a_run_stopped_and_resumed_by_shares_is_one_that_never_stopped(features, straight, tmp_path):
    half = Path(straight.checkpoint).with_name("step-00000003")
    resumed = run(features, tmp_path / "run", resume=half)
    assert_same_end(straight, resumed)
    end = [line for line in lines_of(Path(straight.checkpoint).parents[1]) if line["step"] > 3]
    assert [line for line in lines_of(tmp_path / "run") if line["step"] > 3] == end


@pytest.fixture(scope="module")
def gathered(features, tmp_path_factory):
    """The same run, its checkpoints in one file."""
    return run(features, tmp_path_factory.mktemp("gathered") / "run", sharded_checkpoints=False)


def test_put_together_they_are_what_is_gathered_and_no_file_is_whole(straight, gathered):
    assert_same_end(straight, gathered)
    folder = Path(straight.checkpoint)
    first, second = (file.stat().st_size for file in sorted(folder.glob("shard-*")))
    assert 0.8 < first / second < 1.25, "one process has written more than its share"
    one, other = load_model(straight.checkpoint), load_model(gathered.checkpoint)
    assert all(torch.equal(one.state_dict()[name], tensor) for name, tensor in other.state_dict().items())
    table = "embeddings.word.weight"
    shared = [weight for name, weight in one.state_dict(keep_vars=True).items() if name.endswith(table)]
    assert len(shared) == 1 or shared[0] is shared[1]


def test_exported_they_are_what_is_gathered_and_stock_transformers_opens_them(straight, gathered, tmp_path):
    run = Path(shutil.copytree(Path(straight.checkpoint).parents[1], tmp_path / "run"))
    (run / "config.json").write_text('{"init_from": "runs/older/discriminator"}')
    folders = export(run / "checkpoints" / "step-00000006", tmp_path / "shares")
    wholes = export(gathered.checkpoint, tmp_path / "whole")
    for folder, whole in zip(folders, wholes, strict=True):
        assert "Started from `older`." in (folder / "README.md").read_text()
        assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        name = json.loads((folder / "config.json").read_text())["architectures"][0]
        _, found = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
        assert not any(found[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("damage", ["missing", "strange", "cut", "altered", "renamed"])
def test_shards_that_are_not_those_described_are_refused_by_name(straight, tmp_path, damage):
    folder = Path(shutil.copytree(straight.checkpoint, tmp_path / "step-00000006"))
    shard = sorted(folder.glob("shard-*"))[1]
    data, words = shard.read_bytes(), shard.name
    if damage == "missing":
        shard.unlink()
    elif damage == "strange":
        words = shard.name.replace("00002", "00003")
        (folder / words).write_bytes(data)
    elif damage == "renamed":
        words = "model.safetensors"
        shard.rename(folder / words)
    else:
        shard.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match=words):
        checkpoint.load(folder)


def test_what_retention_deletes_is_gone_whole(straight, tmp_path):
    run_folder = Path(shutil.copytree(Path(straight.checkpoint).parents[1], tmp_path / "run"))
    newest = run_folder / "checkpoints" / "step-00000006"
    checkpoint.retain(run_folder, last=1, best=0, now={}, higher_is_better=True, newest=newest)
    assert [path.name for path in newest.parent.iterdir()] == [newest.name]


# --- other numbers of processes -----------------------------------------------------------------------


class Tied(nn.Module):
    """Tensors that processes cannot share evenly, one of them under two names, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.score = nn.Linear(5, 7), nn.Linear(5, 7), nn.Linear(3, 1)
        self.other.weight = self.one.weight
        self.register_buffer("places", torch.arange(4.0))


def sharded(rank, world_size, store, seed):
    init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    torch.manual_seed(seed)
    model = Tied()
    state = {"exp_avg:one.weight": torch.randn(7, 5), "step:one.weight": torch.tensor(3.0)}
    whole = {name: tensor.clone() for name, tensor in (model.state_dict() | state).items()}
    fully_shard(model, mesh=init_device_mesh("cpu", (world_size,)))
    state["exp_avg:one.weight"] = torch.distributed.tensor.distribute_tensor(
        state["exp_avg:one.weight"], model.one.weight.device_mesh, model.one.weight.placements
    )
    return model, state, whole


def written(folder, rank, world_size, store):
    model, state, _ = sharded(rank, world_size, store, seed=1)
    weights = model.state_dict(keep_vars=True)
    checkpoint.save_sharded(folder, 5, weights, state, {}, is_main_process=rank == 0)
    destroy_process_group()


def read_again(folder, rank, world_size, store):
    """Whether a model of other values has those of the file, and the optimizer's state, wherever they lie."""
    *_, whole = sharded_once = sharded(rank, world_size, store, seed=1)
    torch.manual_seed(2)
    model = sharded_once[0]
    with torch.no_grad():
        for tensor in model.state_dict(keep_vars=True).values():
            tensor.zero_()
    saved = checkpoint.load(folder / "checkpoints" / "step-00000005", leave_shards=True)
    optimizer = load_sharded(saved.folder, saved.meta["aliases"], model)
    found = model.state_dict() | optimizer
    lies_as_parameter = optimizer["exp_avg:one.weight"].placements == model.one.weight.placements
    equal = [
        torch.equal(found[name].full_tensor() if hasattr(found[name], "full_tensor") else found[name], tensor)
        for name, tensor in whole.items()
    ]
    destroy_process_group()
    return lies_as_parameter and found.keys() == whole.keys() and all(equal)


def test_three_processes_read_what_two_wrote(tmp_path):
    launch(partial(written, tmp_path), 2)
    folder = tmp_path / "checkpoints" / "step-00000005"
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "meta.json" and len(names) == 3 and all(map(SHARD.fullmatch, names[1:]))
    assert launch(partial(read_again, tmp_path), 3)[0] is True
    alone = checkpoint.load(folder)
    torch.manual_seed(1)
    assert all(torch.equal(alone.weights[name], value) for name, value in Tied().state_dict().items())
    assert alone.weights["other.weight"] is alone.weights["one.weight"]
    assert alone.optimizer["step:one.weight"] == 3.0


def into_a_file(place, rank, world_size, store):
    init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    write_shards(place, {"a": torch.ones(3)})


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file"):
        launch(partial(into_a_file, tmp_path / "file"), 2)
    assert (tmp_path / "file").read_text() == "mine"


def test_sharded_checkpoints_are_asked_for_where_the_model_is_sharded(features, tmp_path):
    with pytest.raises(InputError, match="sharded_checkpoints: .*--parallel fsdp"):
        run(features, tmp_path / "run", parallel="ddp")
    assert not (tmp_path / "run").exists()
