"""Networks of tasks: opened from runs and checkpoints, their heads taken into other runs.

Run: pytest tests/finetuning/test_task_model.py
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finetune_examples import lines_of, settings_of, write_task
from network_examples import exported, vocabulary_of_words
from predictor_examples import TASKS, finetuned, spec_of
from run_examples import stop_at
from safetensors.torch import load_file
from task_examples import write

from argument import FinetuneArgs
from span_electra.compose import compose, config_file
from span_electra.config import OptimizerConfig
from span_electra.errors import InputError
from span_electra.finetuning.stage import finetune
from span_electra.finetuning.task_model import load_task_model
from span_electra.training import checkpoint

pytestmark = pytest.mark.usefixtures("here")

SINGLE = "SingleSenClassification"


def test_a_run_and_its_checkpoint_give_the_network_and_its_tasks(tmp_path):
    finetuned(tmp_path)
    run, place = load_task_model(tmp_path), load_task_model(tmp_path / "checkpoints/step-00000001")
    assert run.specs == place.specs == tuple(spec_of(name) for name in TASKS)
    assert run.vocabulary.sha256 == vocabulary_of_words().sha256
    for name, weight in run.network.state_dict().items():
        assert torch.equal(weight, place.network.state_dict()[name])


@pytest.mark.parametrize("damage", [{"heads": [{"kind": "sequence"}]}, {"recipes": None}, {"model": {}}])
def test_what_describes_no_fine_tuned_model_is_refused(damage, tmp_path):
    finetuned(tmp_path)
    meta = tmp_path / "checkpoints/step-00000001/meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | damage))
    with pytest.raises(InputError, match="step-00000001.*describes no.* model of ours"):
        load_task_model(tmp_path)


def test_a_pretrained_model_is_none(tmp_path):
    exported(tmp_path)
    with pytest.raises(InputError, match="no run of fine-tuning; name a folder that finetune_SE.py made"):
        load_task_model(tmp_path)


# --- heads of a saved model in another run --------------------------------------------------------------


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_saved_model_gives_its_encoder_or_also_the_heads_of_tasks_of_the_same_name(tmp_path):
    kept, other = write_task(tmp_path, SINGLE, "kept"), write_task(tmp_path, SINGLE, "other")
    assert finetune(settings_of(tmp_path, {"kept": kept, "other": other})) == 0
    saved = load_task_model("run").network
    tasks = {"new": other, "kept": kept}
    frozen = {"optimizer": OptimizerConfig(lr=0.0), "load_saved_model": "run", "epochs": 1}
    assert finetune(settings_of(tmp_path, tasks, out_dir="both", **frozen)) == 0
    assert finetune(settings_of(tmp_path, tasks, out_dir="encoder", finetune=True, **frozen)) == 0
    both, encoder = (load_task_model(folder).network for folder in ("both", "encoder"))
    for network in (both, encoder):
        assert_same_bits(saved.encoder.state_dict(), network.encoder.state_dict())
    assert_same_bits(saved.heads[0].state_dict(), both.heads[1].state_dict())
    assert not torch.equal(saved.heads[0].score.weight, encoder.heads[1].score.weight)
    assert not torch.equal(saved.heads[1].score.weight, both.heads[0].score.weight)
    # As the command says that a stop prints: by the run's own file, which forgets what the run began from.
    saved = compose(FinetuneArgs, [config_file("encoder/config.json")])
    assert finetune(replace(saved, load_saved_model="encoder", resume_train=True, epochs=2)) == 0


def test_it_is_told_which_heads_were_taken_and_why_others_are_new(tmp_path, capsys):
    tasks = {name: write_task(tmp_path, SINGLE, name) for name in ("same", "more", "turned", "other")}
    assert finetune(settings_of(tmp_path, tasks, epochs=1)) == 0
    tasks["more"] |= {"label_map_or_file": ["no", "yes", "maybe"]}
    tasks["turned"] |= {"label_map_or_file": ["yes", "no"]}
    tasks["other"] = write_task(tmp_path, "NER", "other")
    tasks["new"] = tasks["same"]
    again = settings_of(tmp_path, tasks, load_saved_model="run", out_dir="next", epochs=1, silent=False)
    assert finetune(again) == 0
    said = Path("next/log.txt").read_text().splitlines()
    for name, how in {
        "same": "taken",
        "more": "new, as its labels differ (2 there, 3 here)",
        "turned": "new, as its labels have another order",
        "other": "new, as it was a SingleSenClassification there",
        "new": "new, as the model has no task new",
    }.items():
        assert any(line.endswith(f" {name}: {how}") for line in said), name


# --- numbers --------------------------------------------------------------------------------------------


def in_other_units(folder, factor, offset):
    """The files of task t with labels y -> factor * y + offset."""
    for split in ("train", "dev", "test"):
        rows = [line.split("\t") for line in lines_of("Regression", seed=len(split)).splitlines()]
        text = "".join(f"{uid}\t{factor * int(y) + offset}\t{text}\n" for uid, y, text in rows)
        write(folder / "data", f"t/{split}.tsv", text)


def predicted(run):
    rows = Path(run, "predictions/t-dev.tsv").read_text().splitlines()[1:]
    return torch.tensor([float(row.split("\t")[1]) for row in rows])


LEARN = {"epochs": 4, "optimizer": OptimizerConfig(lr=5e-3), "dropout": 0.0}


@pytest.mark.parametrize(("factor", "offset"), [(4, 1980), (0.001, 0), (1000, -1e6)])
def test_numbers_are_learned_alike_in_whatever_units(factor, offset, tmp_path, architecture):
    """Years, prices and grades: what a head says of y it says of factor * y + offset."""
    task = write_task(tmp_path, "Regression")
    assert finetune(settings_of(tmp_path, {"t": task}, **LEARN)) == 0
    in_other_units(tmp_path, factor, offset)
    assert finetune(settings_of(tmp_path, {"t": task}, out_dir="other", **LEARN)) == 0
    plain, other = predicted("run"), predicted("other")
    assert abs(plain.mean() - 5.5) < 1, "it has learned what they are about"
    assert ((other - offset) / factor).allclose(plain, atol=0.02)
    # The exported head says label units too, and so it does when opened.
    opened = load_task_model("other").network
    assert (opened.tasks[0].target_mean, opened.tasks[0].target_deviation) == (0.0, 1.0)
    exported = load_file("other/exported/t/model.safetensors")
    assert any(torch.equal(value, opened.heads[0].score.weight) for value in exported.values())
    assert any(torch.equal(value, opened.heads[0].score.bias) for value in exported.values())


def test_a_taken_head_says_the_numbers_that_it_said(tmp_path):
    task = write_task(tmp_path, "Regression")
    in_other_units(tmp_path, 4, 1980)
    assert finetune(settings_of(tmp_path, {"t": task}, **LEARN)) == 0
    saved = load_task_model("run").network.heads[0].state_dict()
    # Of other rows, whose mean and deviation are others.
    rows = (tmp_path / "data/t/train.tsv").read_text().splitlines(keepends=True)
    write(tmp_path / "data", "t/train.tsv", "".join(rows[:5]))
    frozen = {"optimizer": OptimizerConfig(lr=0.0), "load_saved_model": "run", "epochs": 1}
    assert finetune(settings_of(tmp_path, {"t": task}, out_dir="next", **frozen)) == 0
    scales = [checkpoint.read_meta(checkpoint.latest(run))["heads"][0] for run in ("run", "next")]
    assert scales[0]["target_mean"] != scales[1]["target_mean"]
    taken = load_task_model("next").network.heads[0].state_dict()
    assert all(taken[name].allclose(value, rtol=1e-4, atol=1e-4) for name, value in saved.items())


@pytest.mark.parametrize("earlier", [False, True])
def test_a_resumed_run_learns_numbers_as_it_did(earlier, tmp_path, monkeypatch):
    task = write_task(tmp_path, "Regression")
    settings = settings_of(tmp_path, {"t": task}, save_per_updates=1, limit_save=9)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        finetune(settings)
    place = checkpoint.latest("run")
    meta = json.loads((place / "meta.json").read_text())
    scale = {name: meta["heads"][0][name] for name in ("target_mean", "target_deviation")}
    assert scale["target_mean"] > 1 and scale["target_deviation"] not in (0, 1)
    if earlier:  # which learned them as they are
        scale = {"target_mean": 0.0, "target_deviation": 1.0}
        for name in scale:
            del meta["heads"][0][name]
        (place / "meta.json").write_text(json.dumps(meta))
    assert finetune(replace(settings, load_saved_model="run", resume_train=True, out_dir=None)) == 0
    for path in checkpoint.in_run(Path("run")):
        if checkpoint.step_of(path) >= 3:
            assert checkpoint.read_meta(path)["heads"][0].items() >= scale.items() or path == place
    if not earlier:
        assert finetune(replace(settings, out_dir="straight")) == 0
        one, other = (checkpoint.load(checkpoint.latest(run)).weights for run in ("run", "straight"))
        assert_same_bits(one, other)
