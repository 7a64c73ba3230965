"""Runs under several seeds, one of which is stopped. Run: pytest tests/finetuning/test_seeds.py"""

import json
import shlex
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
from span_electra.finetuning.stage import finetune
from span_electra.hub.folders import weights_sha256
from span_electra.training import checkpoint
from span_electra.training.devices import Process

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


def test_every_seed_starts_from_the_checkpoint_that_the_first_did(tmp_path, monkeypatch):
    """Of a run that is still training another is the newest by the next seed."""
    vocabulary, runs = vocabulary_of_words(), []
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder/tokenizer.json").write_text(vocabulary.to_json())

    def save(step):
        model = random_model(step)
        meta = {"model": asdict(model.config), "mask_id": vocabulary.mask_id}
        return checkpoint.save(tmp_path / "encoder", step, model.state_dict(), {}, meta)

    def once(run):
        runs.append(run)
        Path(run.out_dir).mkdir(parents=True)
        save(10 + len(runs))
        return 0, {"t": {"dev": {"accuracy": 0.5}}}

    first = save(7)
    monkeypatch.setattr("span_electra.finetuning.stage.finetune_once", once)
    tasks = {"t": write_task(tmp_path, SINGLE)}
    assert finetune(settings_of(tmp_path, tasks, encoder=str(tmp_path / "encoder"), seeds=2)) == 0
    assert [run.encoder for run in runs] == [str(first)] * 2
    process = Process(torch.device("cpu"))
    told = Finetuning(runs[1], process).metadata()["encoder_checkpoint"]
    assert (
        told == {"step": 7, "weights": weights_sha256(first)} and told["weights"] == runs[1].encoder_weights
    )
    with pytest.raises(InputError, match="holds other weights than when this command began"):
        Finetuning(replace(runs[1], encoder=str(tmp_path / "encoder")), process)
