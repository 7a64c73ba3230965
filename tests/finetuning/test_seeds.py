"""Runs under several seeds, one of which is stopped. Run: pytest tests/finetuning/test_seeds.py"""

import json
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_examples import settings_of, write_task
from run_examples import stop_at

from span_electra.finetuning import stage
from span_electra.finetuning.stage import finetune

SINGLE = "SingleSenClassification"


def results_of(folder):
    return json.loads((Path(folder) / "results.json").read_text())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Prepared data go into the current folder."""
    monkeypatch.chdir(tmp_path)


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
