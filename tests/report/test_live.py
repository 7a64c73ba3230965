"""The report is drawn while a run trains and changes nothing in it. Run: pytest tests/report/test_live.py"""

import json
from dataclasses import asdict, replace

import pytest
import torch
from run_examples import small_run, write_rows

from span_electra.pretraining import experiment as prepare
from span_electra.report.live import picture
from span_electra.training.checkpoint import load
from span_electra.training.run import run_training


def broken(settings, data, model):
    raise OSError("no pen")


@pytest.fixture
def features(tmp_path):
    return write_rows(tmp_path / "rows.arrow")


def test_a_report_drawn_at_each_validation_leaves_the_weights_as_they_were(tmp_path, features, monkeypatch):
    monkeypatch.setattr(prepare, "REPORT_EVERY", 0)
    drawn = []

    def watching(settings, data, model):
        picture(settings, data, model)
        drawn.append((tmp_path / "drawn" / "report.html").stat().st_mtime_ns)

    plain = run_training(small_run(features, tmp_path / "plain", eval_every="3"))
    settings = small_run(features, tmp_path / "drawn", eval_every="3")
    described = json.dumps({"model": asdict(settings.model)})
    watched = run_training(replace(settings, picture=watching, config_json=described))
    assert len(drawn) > 1 and len(set(drawn)) == len(drawn)
    for name, weight in load(plain.checkpoint).weights.items():
        assert torch.equal(weight, load(watched.checkpoint).weights[name]), name


def test_a_report_that_fails_does_not_fail_the_run(tmp_path, features):
    settings = replace(small_run(features, tmp_path / "run"), picture=broken)
    with pytest.warns(UserWarning, match="no pen"):
        assert run_training(settings).state == "finished"


def test_lines_of_training_tell_where_the_time_went(tmp_path, features):
    run_training(small_run(features, tmp_path / "run", log_steps=2))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if line["split"] == "train"]
    assert all({"step", "data"} <= set(line["time"]) and line["mfu"] > 0 for line in told)
