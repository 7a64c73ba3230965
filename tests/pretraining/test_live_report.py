"""The report is written while a run trains and changes nothing in it.

Run: pytest tests/pretraining/test_live_report.py
"""

import json
from dataclasses import asdict, replace

import pytest
import torch
from run_examples import small_run, write_rows

from span_electra.pretraining import experiment
from span_electra.pretraining.experiment import run_pretraining
from span_electra.pretraining.live_report import write_live_report
from span_electra.training.checkpoint import load


def broken(folder, data, loader, model):
    raise OSError("no pen")


@pytest.fixture
def features(tmp_path):
    return write_rows(tmp_path / "rows.arrow")


def test_a_report_drawn_at_each_validation_leaves_the_weights_as_they_were(tmp_path, features, monkeypatch):
    monkeypatch.setattr(experiment, "REPORT_EVERY", 0)
    drawn = []

    def watching(folder, data, loader, model):
        write_live_report(folder, data, loader, model)
        drawn.append((tmp_path / "drawn" / "report.html").stat().st_mtime_ns)

    monkeypatch.setattr(experiment, "write_live_report", watching)
    plain = run_pretraining(small_run(features, tmp_path / "plain", eval_every="3"))
    settings = small_run(features, tmp_path / "drawn", eval_every="3")
    described = json.dumps({"model": asdict(settings.model)})
    watched = run_pretraining(replace(settings, live_report=True, config_json=described))
    assert len(drawn) > 1 and len(set(drawn)) == len(drawn)
    for name, weight in load(plain.checkpoint).weights.items():
        assert torch.equal(weight, load(watched.checkpoint).weights[name]), name


def test_a_report_that_fails_does_not_fail_the_run(tmp_path, features, monkeypatch):
    monkeypatch.setattr(experiment, "write_live_report", broken)
    settings = replace(small_run(features, tmp_path / "run"), live_report=True)
    with pytest.warns(UserWarning, match="no pen"):
        assert run_pretraining(settings).state == "finished"


def test_lines_of_training_tell_where_the_time_went(tmp_path, features):
    run_pretraining(small_run(features, tmp_path / "run", log_steps=2))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if line["split"] == "train"]
    assert all({"step", "data"} <= set(line["time"]) and line["mfu"] > 0 for line in told)
