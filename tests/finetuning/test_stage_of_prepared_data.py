"""Fine-tuning as a whole: which checkpoint is the best, and data that are prepared already.

Run: pytest tests/finetuning/test_stage_of_prepared_data.py
"""

import json
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import pytest
import torch
from finetune_examples import ROWS, settings_of, write_task
from network_examples import vocabulary_of_words
from task_examples import write

from span_electra.errors import InputError
from span_electra.finetuning import stage
from span_electra.finetuning.arguments import TaskDataArguments
from span_electra.finetuning.experiment import open_rows
from span_electra.finetuning.prepared import open_prepared
from span_electra.finetuning.stage import finetune, prepare, tasks_of
from span_electra.finetuning.task_model import load_task_model
from span_electra.hub.opening import Opened
from span_electra.hub.runs import best_checkpoint
from span_electra.training import checkpoint

pytestmark = pytest.mark.usefixtures("here")

SINGLE = "SingleSenClassification"
PREPARED = TaskDataArguments(task_file="tasks.yaml", encoder="small", max_seq_len=24, workers=1)


@pytest.mark.parametrize("begin", ["prepare", "finetune"])
def test_the_encoders_tokenizer_is_checked_before_rows_are_made(begin, tmp_path, monkeypatch):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1)
    monkeypatch.setattr(Opened, "check_tokenizer", lambda opened: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(PREPARED) if begin == "prepare" else finetune(settings)


def test_what_is_exported_is_the_checkpoint_with_the_best_score(tmp_path, monkeypatch):
    from span_electra.finetuning import experiment as finetuning

    scores = iter([0.9, 0.1, 0.2])
    monkeypatch.setattr(finetuning, "one_score", lambda *_: next(scores))
    assert finetune(settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=3, limit_save=1)) == 0
    assert [checkpoint.step_of(place) for place in checkpoint.in_run(Path("run"))] == [12, 4]
    assert checkpoint.step_of(best_checkpoint(Path("run"))) == 4
    from safetensors.torch import load_file

    theirs = load_file("run/exported/t/model.safetensors")["classifier.out_proj.weight"]
    assert torch.equal(theirs, load_task_model("run").network.heads[0].score.weight)


def test_the_best_is_kept_where_saves_and_validations_have_cadences_apart(tmp_path, monkeypatch):
    from span_electra.finetuning import experiment as finetuning

    scores = iter([0.9, 0.5, 0.1])
    monkeypatch.setattr(finetuning, "one_score", lambda *_: next(scores))
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=3, limit_save=2)
    assert finetune(replace(settings, save_per_updates=5)) == 0
    assert [checkpoint.step_of(place) for place in checkpoint.in_run(Path("run"))] == [12, 10, 4]
    assert checkpoint.step_of(best_checkpoint(Path("run"))) == 4


def test_data_that_are_prepared_are_taken_as_they_are(tmp_path):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1)
    assert prepare(PREPARED) == 0
    mark = Path("small_prepared_data/prepared.json")
    before = mark.stat().st_mtime_ns
    write(tmp_path / "data", "t/dev.tsv", "1\tyes\tthe cat\n")  # what the files hold by now is not asked
    assert finetune(replace(settings, data_dir="small_prepared_data", max_seq_len=128)) == 0
    assert mark.stat().st_mtime_ns == before
    assert load_task_model("run").specs[0].max_seq_len == 24


@pytest.mark.parametrize(
    ("changes", "flags", "said"),
    [
        (
            {"limit": 5},
            {},
            "small_prepared_data: t was prepared with limit 0, the task file has 5; run prepare",
        ),
        ({"label_map_or_file": ["yes", "no"]}, {}, "t was prepared with labels .*'no', 'yes'"),
        ({"task_type": "Regression", "label_map_or_file": None}, {}, "prepared with task_type SingleSenCl"),
        ({}, {"max_seq_len": 32}, "max_seq_len: 32, but small_prepared_data was prepared with 24; leave it"),
        ({}, {"do_lower_case": True}, "do_lower_case: True, but small_prepared_data was prepared with False"),
    ],
)
def test_prepared_data_that_other_settings_would_make_otherwise_are_refused(changes, flags, said, tmp_path):
    task = write_task(tmp_path, SINGLE) | {"label_map_or_file": ["no", "yes"]}
    settings = settings_of(tmp_path, {"t": task}, data_dir="small_prepared_data", max_seq_len=128)
    assert prepare(PREPARED) == 0
    write(tmp_path, "tasks.yaml", json.dumps({"t": task | {"dropout_prob": 0.2} | changes}))
    with pytest.raises(InputError, match=said):
        finetune(replace(settings, **flags))
    assert not Path("run").exists()


def test_rows_are_prepared_for_a_run_of_a_generator_alone(tmp_path, capsys):
    settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)})
    rmtree("small/discriminator")
    assert prepare(PREPARED) == 0
    assert "--encoder small --network generator" in capsys.readouterr().out


def test_seeds_whose_rows_another_command_made_anew_are_refused(tmp_path, monkeypatch):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1, seeds=2)
    once = stage.finetune_once

    def then_prepared_anew(run):
        found = once(run)
        prepare(replace(PREPARED, max_seq_len=12))
        return found

    monkeypatch.setattr(stage, "finetune_once", then_prepared_anew)
    with pytest.raises(InputError, match="small_prepared_data: another command prepared t anew meanwhile"):
        finetune(settings)


def test_rows_cut_before_some_were_held_out_are_counted_of_both(tmp_path):
    task = write_task(tmp_path, SINGLE)
    del task["file_names"]["dev"]
    settings_of(tmp_path, {"t": task | {"val_split": 4}})
    prepare(replace(PREPARED, max_seq_len=8))
    cut = json.loads(Path("small_prepared_data/prepared.json").read_text())["cut"]["t"]
    assert cut.keys() == {"train and dev", "test"} and 0 < cut["train and dev"] <= ROWS


def test_prepared_rows_are_enough_wherever_their_files_have_gone(tmp_path):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1)
    prepare(replace(PREPARED, max_seq_len=32))
    rmtree(tmp_path / "data")
    Path("small_prepared_data").rename("carried")
    assert finetune(replace(settings, data_dir="carried")) == 0


def test_so_are_those_of_labels_and_misspellings_that_had_a_file(tmp_path):
    clean = {"task_type": "SpellingWords", "file_names": {"train": "clean.txt"}}
    clean["noise"] = {"kind": "realistic", "word_share": 1.0, "misspellings": "teh.json"}
    tasks = {"a": write_task(tmp_path, SINGLE, "a") | {"label_map_or_file": "labels.txt"}, "b": clean}
    write(tmp_path / "data", "clean.txt", "the cat\n" * 20)
    write(tmp_path / "data", "labels.txt", "yes\nno\n")
    misspelt = write(tmp_path / "data", "teh.json", '{"the": ["teh"]}')
    settings = settings_of(tmp_path, tasks, data_dir="small_prepared_data")
    assert prepare(PREPARED) == 0
    rows = Path("small_prepared_data/b")
    assert (rows / "misspellings.json").read_bytes() == misspelt.read_bytes()
    rmtree(tmp_path / "data")
    tasks, prepared = tasks_of(settings), open_prepared("small_prepared_data")
    assert tasks.tasks[0].labels == ("yes", "no") == prepared.tasks["a"].labels
    source = open_rows(tasks.tasks, prepared, vocabulary_of_words(), "train")[1]
    assert source.misspellings == {"the": ["teh"]}
    assert finetune(replace(settings, max_seq_len=24)) == 0
