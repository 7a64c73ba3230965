"""Runs of fine-tuning that are gone on with, and concluded, as the script does it.

Run: pytest tests/finetuning/test_saved_runs.py
"""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finetune_examples import lines_of, settings_of, write_task
from run_examples import stop_at
from task_examples import write

from argument import FinetuneArgs
from span_electra.commandline import parse
from span_electra.config import OptimizerConfig
from span_electra.errors import InputError
from span_electra.finetuning.defaults import stack_layers
from span_electra.finetuning.stage import finetune
from span_electra.hub.runs import best_checkpoint
from span_electra.training import checkpoint

SINGLE = "SingleSenClassification"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Prepared data go into the current folder."""
    monkeypatch.chdir(tmp_path)


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


@pytest.mark.parametrize("settings", [{}, {"load_saved_model": "run", "resume_train": True}])
def test_what_cannot_be_concluded_is_refused(settings, tmp_path):
    with pytest.raises(InputError, match="--conclude needs --load_saved_model"):
        finetune(FinetuneArgs(conclude=True, **settings))
