"""Runs under several seeds, one of which is stopped. Run: pytest tests/finetuning/test_seeds.py"""

import json
import shlex
import shutil
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from finetune_examples import settings_of, write_task
from network_examples import random_model, vocabulary_of_words
from run_examples import stop_at

from span_electra.errors import InputError
from span_electra.finetuning import stage
from span_electra.finetuning.experiment import Finetuning
from span_electra.finetuning.seeds import note_other_starts
from span_electra.finetuning.stage import finetune
from span_electra.hub.folders import weights_sha256
from span_electra.training import checkpoint
from span_electra.training.devices import Process
from span_electra.training.run_folder import write_mark

pytestmark = pytest.mark.usefixtures("here")

SINGLE = "SingleSenClassification"


def results_of(folder):
    return json.loads((Path(folder) / "results.json").read_text())


def test_seeds_after_a_stopped_one_are_run_as_told_and_concluded_together(tmp_path, monkeypatch, capsys):
    import finetune_SE

    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=2, epochs=1)
        assert finetune(settings) == 128 + signal.SIGTERM
    lines = [line for line in capsys.readouterr().out.splitlines() if "finetune_SE.py" in line]
    go_on, _, following, together = (shlex.split(line.partition(": ")[2])[1:] for line in lines)
    for argv in (go_on, following, together):
        monkeypatch.setattr(sys, "argv", argv)
        assert finetune_SE.main() == 0
    assert len(results_of("run")["t"]["dev"]["accuracy"]["values"]) == 2


def test_seeds_that_are_left_are_run_from_the_encoder_that_was_taken(tmp_path, monkeypatch, capsys):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1)
    monkeypatch.setattr(stage, "newest_run", lambda: "small")
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert finetune(replace(settings, encoder=None, seeds=2)) != 0
    assert "--encoder small --seed 1" in capsys.readouterr().out


def run_each(lines, monkeypatch):
    import finetune_SE

    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line)[1:])
        assert finetune_SE.main() == 0


@pytest.mark.parametrize(("seed", "step"), [(1, 2), (1, 0), (2, 3)])
def test_after_a_kill_the_same_command_tells_how_the_rest_is_run(seed, step, tmp_path, monkeypatch):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=3, epochs=1)
    once = stage.finetune_once

    def killed(run):
        if run.training.seed < seed:
            return once(run)
        if step:  # else it has no checkpoint yet
            with monkeypatch.context() as patch:
                stop_at(patch, step)
                once(run)
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(stage, "finetune_once", killed)
        finetune(settings)
    with pytest.raises(InputError, match="run: holds runs of these seeds already; .*choose another") as told:
        finetune(settings)
    assert "\n" not in str(told.value)
    lines = [line for line in str(told.value).partition("together: ")[2].split("; ") if "finetune_SE" in line]
    assert ["--resume_train" in line for line in lines].count(True) == bool(step)
    run_each(lines, monkeypatch)
    assert len(results_of("run")["t"]["dev"]["accuracy"]["values"]) == 3


def test_all_are_concluded_together_where_the_last_was_stopped(tmp_path, monkeypatch, capsys):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=2, epochs=1)
    once = stage.finetune_once

    def stopped(run):
        with monkeypatch.context() as patch:
            if run.training.seed == 1:
                stop_at(patch, 2)
            return once(run)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "finetune_once", stopped)
        assert finetune(settings) == 128 + signal.SIGTERM
    lines = [line for line in capsys.readouterr().out.splitlines() if "finetune_SE.py" in line]
    assert len(lines) == 3 and lines[2].startswith("and all together: ")
    run_each([line.partition(": ")[2] for line in (lines[0], lines[2])], monkeypatch)
    assert len(results_of("run")["t"]["dev"]["accuracy"]["values"]) == 2


def test_a_folder_of_something_else_is_refused_as_it_was(tmp_path):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, seeds=2, epochs=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="run: is not empty; choose another --out_dir for the runs of all"):
        finetune(settings)


def saved_at(folder, step):
    """A checkpoint of a pretraining that goes on: of two steps the weights differ."""
    vocabulary, model = vocabulary_of_words(), random_model(step)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(vocabulary.to_json())
    meta = {"model": asdict(model.config), "mask_id": vocabulary.mask_id}
    return checkpoint.save(folder, step, model.state_dict(), {}, meta)


def test_every_seed_starts_from_the_checkpoint_that_the_first_did(tmp_path, monkeypatch):
    """A run that is still training has saved others by the next seed, and let the first go."""
    place, told, process = tmp_path / "encoder", [], Process(torch.device("cpu"))
    first = saved_at(place, 7)
    start = {"step": 7, "weights": weights_sha256(first)}

    def once(run):
        shutil.rmtree(first, ignore_errors=True)
        saved_at(place, 10 + len(told))
        experiment = Finetuning(run, process)
        told.append((experiment.metadata()["encoder_checkpoint"], Path(experiment.facts["encoder"]).name))
        Path(run.out_dir).mkdir(parents=True)
        if len(told) == 3:
            raise InputError("refused")
        write_mark(Path(run.out_dir), "finished", 1)
        return 0, {"t": {"dev": {"accuracy": 0.5}}}

    monkeypatch.setattr("span_electra.finetuning.stage.finetune_once", once)
    tasks = {"t": write_task(tmp_path, SINGLE)}
    settings = settings_of(tmp_path, tasks, encoder=str(place), seeds=3)
    with pytest.raises(InputError, match="refused"):
        finetune(settings)
    assert told == [(start, "encoder")] * 3
    with pytest.raises(InputError, match="holds runs of these seeds already") as rest:  # by the next command
        finetune(settings)
    held = tmp_path / "run/encoder/encoder/checkpoints/step-00000007"
    assert f"--encoder {held} --seed 2" in str(rest.value) and checkpoint.read_meta(held)["step"] == 7


@pytest.mark.parametrize("from_scratch", [False, True])  # then they have the encoder's sizes alone
@pytest.mark.parametrize(("starts", "said"), [("aaa", False), ("aba", True), ("a-b", True), ("a-", False)])
def test_seeds_of_different_starts_are_said_to_be_so(starts, said, from_scratch, tmp_path, capsys):
    runs = [tmp_path / f"seed-{seed}" for seed in range(len(starts))]
    for run, weights in zip(runs, starts, strict=True):
        # An older release, "-", did not tell.
        start = {} if weights == "-" else {"encoder_checkpoint": {"step": None, "weights": weights}}
        checkpoint.save(run, 1, {}, {}, start | {"from_scratch": from_scratch})
    note_other_starts(tmp_path, runs)
    assert capsys.readouterr().err.count("started from different weights") == (said and not from_scratch)
