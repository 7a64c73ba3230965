"""The report is written while a run trains and changes nothing in it.

Run: pytest tests/pretraining/test_live_report.py
"""

import json
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path

import pytest
import torch
from run_examples import small_run, write_rows

from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.pretraining import experiment, live_report
from span_electra.pretraining.experiment import Pretraining, run_pretraining
from span_electra.pretraining.live_report import write_live_report
from span_electra.training.checkpoint import load
from span_electra.training.devices import Process
from span_electra.training.log import RunLog


@pytest.fixture
def features(tmp_path):
    return write_rows(tmp_path / "rows.arrow")


def test_a_report_drawn_at_each_validation_leaves_the_weights_as_they_were(tmp_path, features, monkeypatch):
    monkeypatch.setattr(experiment, "REPORT_EVERY", 0)
    drawn, said = [], []

    def watching(settings, data, model):
        said.append(write_live_report(settings, data, model))
        drawn.append((tmp_path / "drawn" / "report.html").stat().st_mtime_ns)
        return said[-1]

    monkeypatch.setattr(experiment, "write_live_report", watching)
    plain = run_pretraining(small_run(features, tmp_path / "plain", eval_every="3"))
    settings = small_run(features, tmp_path / "drawn", eval_every="3")
    described = json.dumps({"model": asdict(settings.model)})
    watched = run_pretraining(replace(settings, live_report=True, config_json=described))
    assert len(drawn) > 1 and len(set(drawn)) == len(drawn)
    assert all("called replaced" in sentences for sentences in said)
    for name, weight in load(plain.checkpoint).weights.items():
        assert torch.equal(weight, load(watched.checkpoint).weights[name]), name


def test_what_a_discriminator_says_before_it_learns_is_not_told(tmp_path, features, monkeypatch):
    monkeypatch.setattr(experiment, "REPORT_EVERY", 0)
    texts = []
    monkeypatch.setattr(RunLog, "log_text", lambda log, step, name, text: texts.append((name, text)))
    settings = small_run(features, tmp_path / "run", eval_every="3")
    model = replace(settings.model, generator_first=0.5)
    described = json.dumps({"model": asdict(model)})
    run_pretraining(replace(settings, model=model, live_report=True, config_json=described))
    told = ["called replaced" in text for name, text in texts if name == "validation sentences"]
    assert told == sorted(told) and {*told} == {False, True}
    assert all("written: " in text for name, text in texts if name == "validation sentences")


def hidden_runs(masked):
    """Lengths of the runs of hidden tokens. Example: [False, True, True, False, True] -> [2, 1]"""
    return [sum(run) for hidden, run in groupby(masked) if hidden]


def test_sentences_and_numbers_have_the_masks_of_validations(tmp_path, features):
    lines = ["0: mask_ratio=0.1", "0.5: mask_ratio=0.4 max_span_len=1 whole_words=false"]
    settings = small_run(features, tmp_path / "run", loader=LoaderConfig(60, masking_schedule=lines))
    # As the stage has it: held-out rows are masked alike in every validation.
    plain = replace(settings.valid_loader, masking="static", masking_schedule=[])
    described = json.dumps({"model": asdict(settings.model)})
    settings = replace(settings, valid_loader=plain, config_json=described)
    trained = Pretraining(settings, Process(torch.device("cpu")))
    run_pretraining(settings)
    write_live_report(settings, trained.data, trained.model)
    examples, statistics = (
        json.loads((tmp_path / "run" / name).read_text()) for name in ("examples.json", "statistics.json")
    )
    spans = [length for example in examples for length in hidden_runs(example["masked"])]
    assert len(spans) > 6 and set(spans) == {1}
    assert {split["mask_ratio"] for split in statistics["splits"].values()} == {0.4}
    assert (statistics["spans"]["unit"], statistics["spans"]["mean_tokens"]) == ("tokens", 1)


def test_a_report_is_not_written_again_within_a_minute(tmp_path, features, monkeypatch):
    now, written = [100.0], []
    monkeypatch.setattr(experiment.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(experiment, "write_live_report", lambda *_: written.append(now[0]))
    settings = replace(small_run(features, tmp_path / "run"), live_report=True)
    trained = Pretraining(settings, Process(torch.device("cpu")))
    for passed in (0, 30, 29, 1, 59, 1):
        now[0] += passed
        trained.write_report()
    assert written == [100.0, 160.0, 220.0]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_last_report_is_of_the_end_of_the_run_and_its_own_data(tmp_path, features, monkeypatch, parallel):
    """Within a minute of another one, and whatever lies in the places of its features by then."""
    written = []

    def writing(settings, data, model):
        Path(features).unlink(missing_ok=True)
        state = json.loads((tmp_path / "run" / "run.json").read_text())["state"]
        written.append((state, model is not None, data.train.rows))
        return write_live_report(settings, data, model)

    monkeypatch.setattr(experiment, "write_live_report", writing)
    settings = small_run(features, tmp_path / "run", max_steps=3, parallel=parallel)
    described = json.dumps({"model": asdict(settings.model)})
    run_pretraining(replace(settings, live_report=True, config_json=described))
    # Of one that is sharded a validation has no whole model, and the end has that of its checkpoint.
    assert written == [("running", parallel == "ddp", 60), ("finished", True, 60)]
    assert {"report.html", "examples.json", "statistics.json"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("collect_examples", KeyError("row")),
        ("write_statistics", OSError(28, "No space left on device")),
        ("make_page", InputError("report.html: stands there and is no report of ours")),
    ],
)
def test_a_report_that_fails_is_a_warning_whatever_fails_in_it(part, error, monkeypatch, tmp_path, features):
    def broken(*_):
        raise error

    settings = small_run(features, tmp_path / "run")
    trained = Pretraining(settings, Process(torch.device("cpu")))
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(live_report, part, broken)
    with pytest.warns(UserWarning, match=rf"report.html is not written: {type(error).__name__}: .*\w"):
        assert write_live_report(settings, trained.data, trained.model) == ""


def test_lines_of_training_tell_where_the_time_went(tmp_path, features):
    run_pretraining(small_run(features, tmp_path / "run", log_steps=2))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if line["split"] == "train"]
    assert all({"step", "data"} <= set(line["time"]) and line["mfu"] > 0 for line in told)
