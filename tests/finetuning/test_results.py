"""Results over seeds (a run's are in test_stage.py). Run: pytest tests/finetuning/test_results.py"""

import json
import math

import pytest
import torch

from span_electra.config import TrainingConfig
from span_electra.finetuning.results import evaluation_process, over_seeds, table_of, write_results


def test_mean_and_deviation_over_seeds():
    found = [{"t": {"dev": {"f1": value}}} for value in (1.0, 3.0)]
    entry = over_seeds(found)["t"]["dev"]["f1"]
    assert entry == {"mean": 2.0, "deviation": pytest.approx(2**0.5), "values": [1.0, 3.0]}


def test_an_infinite_perplexity_has_no_deviation():
    summary = over_seeds([{"t": {"dev": {"perplexity": value}}} for value in (2.0, math.inf)])
    entry = summary["t"]["dev"]["perplexity"]
    assert entry["mean"] == math.inf and entry["deviation"] is None
    assert table_of(summary) == "t: dev perplexity inf ± ?"


def test_a_line_for_each_task(tmp_path):
    results = {"a": {"dev": {"f1": 0.12345, "perplexity": math.inf}, "test": {"f1": 1.0}}, "b": {}}
    assert table_of(results) == "a: dev f1 0.1235, dev perplexity inf, test f1 1\nb: no dev or test rows"
    summary = over_seeds([{"t": {"dev": {"f1": value}}} for value in (0.1, 0.3)])
    assert table_of(summary) == "t: dev f1 0.2 \u00b1 0.14"
    write_results(tmp_path, summary)
    assert json.loads((tmp_path / "results.json").read_text()) == summary


def test_results_are_computed_on_the_first_device_in_full_precision():
    process = evaluation_process(TrainingConfig(device="cpu", precision="bf16"))
    assert process.device.type == "cpu" and process.precision == torch.float32
