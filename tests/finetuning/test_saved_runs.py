"""Runs of fine-tuning that are gone on with, and concluded, as the script does it.

Run: pytest tests/finetuning/test_saved_runs.py
"""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finetune_examples import lines_of, settings_of, write_task
from run_examples import stop_at
from safetensors.torch import load_file
from task_examples import write

from argument import FinetuneArgs
from span_electra.commandline import parse
from span_electra.config import OptimizerConfig
from span_electra.errors import InputError
from span_electra.finetuning import experiment
from span_electra.finetuning.defaults import stack_layers
from span_electra.finetuning.stage import finetune
from span_electra.hub.runs import best_checkpoint
from span_electra.training import checkpoint

pytestmark = pytest.mark.usefixtures("here")

SINGLE = "SingleSenClassification"


def saved(*flags, run="run"):
    """The settings by which the script goes on with a run, or concludes it."""
    return parse(FinetuneArgs, "", ["--load_saved_model", run, *flags], stack=stack_layers)


def weights_of(folder):
    return checkpoint.load(next(checkpoint.in_run(Path(folder)))).weights


def test_what_is_in_the_way_of_an_export_is_told_before_training_and_before_measuring(tmp_path):
    assert finetune(settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1)) == 0
    Path("run/exported/t/notes.txt").write_text("mine")
    before, results = weights_of("run"), Path("run/results.json")
    results.unlink()
    for flags in (("--resume_train", "--epochs", "2"), ("--conclude",)):
        with pytest.raises(InputError, match="run/exported/t/notes.txt: no export of ours has it"):
            finetune(saved(*flags))
    after = weights_of("run")
    assert all(torch.equal(before[name], after[name]) for name in before) and not results.exists()


def test_a_run_that_was_stopped_is_concluded_with_its_best_model(tmp_path, monkeypatch, capsys):
    tasks = {"a": write_task(tmp_path, SINGLE, "a"), "b": write_task(tmp_path, "Conversation", "b")}
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert finetune(settings_of(tmp_path, tasks)) == 128 + signal.SIGTERM
    assert "finetune_SE.py --load_saved_model" in capsys.readouterr().out
    assert not Path("run/results.json").exists()
    before = best_checkpoint(Path("run"))
    assert finetune(saved("--conclude")) == 0
    assert best_checkpoint(Path("run")) == before
    assert set(json.loads(Path("run/results.json").read_text())) == {"a", "b"}
    assert {path.name for path in Path("run/exported").iterdir()} == {"a", "b"}
    assert {path.name for path in Path("run/predictions").iterdir()} == {
        "a-dev.tsv", "a-test.tsv", "b-dev.tsv", "b-test.tsv",
    }  # fmt: skip
    write(tmp_path / "data", "a/dev.tsv", lines_of(SINGLE, seed=99))
    with pytest.raises(InputError, match="run: was trained on other data than small_prepared_data holds"):
        finetune(saved("--conclude"))


def test_a_validation_without_memory_keeps_the_training_and_names_its_own_flag(tmp_path, monkeypatch):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1)

    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "predict_rows", no_memory)
        with pytest.raises(InputError, match="in the validation .*: halve --eval_batch_size, and go"):
            finetune(settings)
    saved_steps = [checkpoint.step_of(folder) for folder in checkpoint.in_run(Path("run"))]
    assert finetune(saved("--resume_train", "--eval_batch_size", "8")) == 0
    assert [checkpoint.step_of(folder) for folder in checkpoint.in_run(Path("run"))] == saved_steps != []
    assert json.loads(Path("run/results.json").read_text())["t"]["dev"]


def test_a_run_whose_files_have_moved_is_concluded_by_the_flags_that_say_where(tmp_path):
    assert finetune(settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1)) == 0
    results = Path("run/results.json").read_text()
    for name in ("data", "tasks.yaml"):
        Path(name).rename(f"moved-{name}")
    Path("run/results.json").unlink()
    with pytest.raises(InputError, match="tasks.yaml: no such task file; --task_file"):
        finetune(saved("--conclude"))
    moved = ["--task_file", "moved-tasks.yaml", "--data_dir", "moved-data", "--eval_batch_size", "5"]
    assert finetune(saved("--conclude", *moved)) == 0
    assert Path("run/results.json").read_text() == results


def test_a_run_goes_on_with_its_own_settings_where_none_are_given(tmp_path, monkeypatch):
    own = {"optimizer": OptimizerConfig(lr=5e-3, schedule="cosine"), "freeze_encoder": True, "seed": 3}
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, **own)
    assert finetune(settings) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert finetune(replace(settings, out_dir="stopped")) == 128 + signal.SIGTERM
    before = Path("stopped/config.json").read_text()
    assert finetune(saved("--resume_train", run="stopped")) == 0
    assert Path("stopped/config.json").read_text() == before
    straight, resumed = weights_of("run"), weights_of("stopped")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_seeds_are_concluded_together(tmp_path):
    assert finetune(settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=2, epochs=1)) == 0
    whole = Path("run/results.json").read_text()
    Path("run/results.json").unlink()
    assert finetune(saved("--conclude")) == 0
    assert Path("run/results.json").read_text() == whole


def test_seeds_without_a_checkpoint_are_left_out_before_the_first_is_concluded(tmp_path, capsys):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=3, max_steps=1)
    assert finetune(settings) == 0
    for path in (Path("run/results.json"), Path("run/seed-1/results.json")):
        path.unlink()
    shutil.rmtree("run/seed-2/checkpoints")
    capsys.readouterr()
    assert finetune(saved("--conclude")) == 0
    said = capsys.readouterr()
    assert "note: run/seed-2: has no checkpoint yet, and is left out\n" in said.err
    assert len(json.loads(Path("run/results.json").read_text())["t"]["dev"]["accuracy"]["values"]) == 2
    # One that is damaged is found before any results are written.
    Path("run/results.json").unlink()
    Path("run/seed-0/results.json").unlink()
    for weights in Path("run/seed-1/checkpoints").glob("*/model.safetensors"):
        weights.write_bytes(b"cut off")
    with pytest.raises(InputError, match="run/seed-1: holds no whole checkpoint"):
        finetune(saved("--conclude"))
    assert not Path("run/seed-0/results.json").exists()
    for seed in (0, 1):
        shutil.rmtree(f"run/seed-{seed}/checkpoints")
    with pytest.raises(InputError, match="run/seed-0: this run has kept no checkpoint yet"):
        finetune(saved("--conclude"))


def test_a_checkpoint_is_not_concluded_in_place_of_its_runs_best(tmp_path):
    assert finetune(settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, max_steps=1)) == 0
    named = best_checkpoint(Path("run"))
    with pytest.raises(InputError, match=f"{named}: --conclude takes the best .*; name run, or export this"):
        finetune(saved("--conclude", run=str(named)))


def edited(tmp_path, **changes):
    """The task file with other keys of its task."""
    task = json.loads((tmp_path / "tasks.yaml").read_text())["t"] | changes
    write(tmp_path, "tasks.yaml", json.dumps({"t": task}))


EDITS = [
    ({"metrics": ["macro_f1", "accuracy"]}, "score", True),
    ({"metrics": ["macro_f1", "accuracy"]}, "t_accuracy", False),
    ({"tuned_threshold": True}, "t_accuracy", True),
    ({"metrics": ["accuracy"], "dropout_prob": 0.3}, "score", False),
]


@pytest.mark.parametrize(("changes", "monitor", "aside"), EDITS)
def test_scores_of_what_is_measured_no_more_are_set_aside(changes, monitor, aside, tmp_path, monkeypatch):
    task = write_task(tmp_path, SINGLE) | {"metrics": ["accuracy", "macro_f1"]}
    settings = settings_of(tmp_path, {"t": task}, monitor=monitor, limit_save=9)
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        assert finetune(settings) == 128 + signal.SIGTERM
    before = {path: checkpoint.read_meta(path) for path in checkpoint.in_run(Path("run"))}
    edited(tmp_path, **changes)
    assert finetune(saved("--resume_train")) == 0
    said = "scores were of another metric" in Path("run/log.txt").read_text()
    now = checkpoint.read_meta(next(checkpoint.in_run(Path("run"))))
    kept = [checkpoint.score_of(meta, now) for meta in before.values() if meta["metric"] is not None]
    assert kept and said == aside == (kept == [None] * len(kept))
    # The best is that of scores which mean the same.
    metas = [checkpoint.read_meta(path) for path in checkpoint.in_run(Path("run"))]
    alike = [meta["metric"] for meta in metas if checkpoint.score_of(meta, now) is not None]
    assert now["loop"]["best"] == max(alike)
    assert checkpoint.read_meta(best_checkpoint(Path("run")))["metric"] == max(alike)


def test_a_threshold_is_that_of_a_metric_which_still_decides(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("span_electra.finetuning.predictions.best_shift", lambda metric_at: 1.5)
    task = write_task(tmp_path, SINGLE) | {"metrics": ["accuracy", "f1"], "tuned_threshold": True}
    settings = settings_of(tmp_path, {"t": task}, epochs=1)
    assert finetune(settings) == 0
    plain = weights_of("run")["heads.0.score.bias"]
    learned = open_head("run/exported/t")
    assert learned - plain == pytest.approx([0.0, 1.5], abs=1e-6)
    capsys.readouterr()
    for changes, shift in (({"metrics": ["accuracy"]}, 1.5), ({"metrics": ["f1"]}, 0), (NO_TUNING, 0)):
        edited(tmp_path, **changes)
        assert finetune(saved("--conclude")) == 0
        assert open_head("run/exported/t") - plain == pytest.approx([0.0, shift], abs=1e-6)
        assert ("its best checkpoint is that of other metrics" in capsys.readouterr().err) == (not shift)
    # Gone on with, it is not the old one either.
    finetune(saved("--resume_train", "--epochs", "2", "--max_steps", "5"))
    assert checkpoint.read_meta(checkpoint.latest("run"))["heads"][0]["shift"] == 0


NO_TUNING = {"metrics": ["accuracy", "f1"], "tuned_threshold": False}


def open_head(folder):
    weights = load_file(Path(folder, "model.safetensors"))
    return next(value for name, value in weights.items() if name.endswith("out_proj.bias"))


@pytest.mark.parametrize("settings", [{}, {"load_saved_model": "run", "resume_train": True}])
def test_what_cannot_be_concluded_is_refused(settings, tmp_path):
    with pytest.raises(InputError, match="--conclude needs --load_saved_model"):
        finetune(FinetuneArgs(conclude=True, **settings))
