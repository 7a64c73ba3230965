"""What a run says before its first step, after the first seconds, and in its log.

Run: pytest tests/training/test_start.py
"""

from dataclasses import replace

import pytest
import torch
from run_examples import small_run, write_rows

from span_electra.config import OptimizerConfig
from span_electra.data_config import LoaderConfig
from span_electra.pretraining.experiment import Pretraining, run_pretraining
from span_electra.training import log as log_module
from span_electra.training.devices import Process

CPU = Process(torch.device("cpu"))


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("features") / "rows.arrow")


def facts_in(text: str) -> dict[str, str]:
    """The lines of a start block, by their names."""
    lines = [line for line in text.splitlines() if line[:1].isalpha() and line[8:10].isspace()]
    return {line[:10].strip(): line[10:] for line in lines}


def test_rows_sizes_device_steps_and_the_way_back_are_told_on_the_screen_and_in_the_log(
    features, tmp_path, capfd
):
    folder = tmp_path / "my run"
    run_pretraining(small_run(features, folder, loader=LoaderConfig(6), gradient_accumulation_steps=2))
    said = capfd.readouterr().err
    facts = facts_in(said)
    assert list(facts) == ["model", "data", "masks", "batches", "training", "device", "run"]
    experiment = Pretraining(small_run(features, tmp_path / "x"), CPU)
    tokens = int(experiment.data.train.lengths_R[experiment.data.train_rows].sum())
    assert facts["data"] == f"54 of 60 rows, {tokens:,} tokens; 6 rows held out"
    assert facts["model"].startswith("electra, generator 1 x 8, discriminator 1 x 16; ")
    assert facts["masks"] == "as the features have them"
    assert facts["batches"] == "6 rows"
    assert facts["training"] == "3 epochs of 5 steps of 2 batches, 15 in all; adamw, rate 0.005"
    assert facts["device"].startswith("cpu, ") and facts["device"].endswith("fp32 (--precision fp32)")
    assert f"joint_train_span_electra.py --resume '{folder}'" in facts["run"]
    assert said.index("model ") < said.index("step ")
    assert facts_in((folder / "log.txt").read_text()) == facts


def test_parameters_count_once_what_is_shared(features, tmp_path, capfd):
    experiment = Pretraining(small_run(features, tmp_path / "a"), CPU)
    unique = sum(parameter.numel() for parameter in experiment.model.parameters())
    assert experiment.describe()["model"].endswith(
        f"{unique / 1e6:.1f} M parameters, {0.0:.1f} M of them embeddings"
    )


def test_a_warm_up_longer_than_the_run_is_told(features, tmp_path, capfd):
    optimizer = OptimizerConfig(lr=0.01, warmup=100)
    run_pretraining(small_run(features, tmp_path / "a", max_steps=2, optimizer=optimizer))
    said = facts_in(capfd.readouterr().err)["training"]
    assert said.endswith("rate 0.01, which a warm-up of 100 steps never reaches")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_rate_that_is_used_is_told(features, tmp_path, capfd, optimizer):
    own = {"generator_lr": 0.001, "discriminator_lr": 0.002, "adamw_lr": 0.003, "embedding_lr": 0.004}
    settings = small_run(features, tmp_path / "a", optimizer=OptimizerConfig(optimizer, lr=0.01, **own))
    run_pretraining(replace(settings, training=replace(settings.training, max_steps=1)))
    said = facts_in(capfd.readouterr().err)["training"].split("; ")[-1]
    used = {name: rate for name, rate in own.items() if optimizer == "muon" or name != "adamw_lr"}
    assert said.startswith(f"{optimizer}, rate 0.01, ")
    assert set(said.split(", ")[2:]) == {f"{name} {rate}" for name, rate in used.items()}


def test_a_limit_in_time_is_no_length_of_the_run(features, tmp_path, capfd):
    """Whoever gave an hour had neither a lowered rate nor exports at its end."""
    run_pretraining(small_run(features, tmp_path / "run", max_minutes=1e-9))
    assert "ends after 1e-09 minutes (--by_clock" in facts_in(capfd.readouterr().err)["training"]


def test_a_resumed_run_says_what_it_goes_on_with(features, tmp_path, capfd):
    run = tmp_path / "run"
    run_pretraining(small_run(features, run, max_minutes=1e-9))
    run_pretraining(small_run(features, run, resume=run))
    assert facts_in(capfd.readouterr().err)["device"].endswith("; fp32")
    assert (run / "log.txt").read_text().count("model     ") == 2


def test_the_time_that_is_left_is_told_once_after_the_first_seconds(features, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(log_module, "ESTIMATE_AFTER", 0.0)
    run_pretraining(small_run(features, tmp_path / "run", log_steps=0))
    said = [line for line in capfd.readouterr().err.splitlines() if "to go" in line]
    assert len(said) == 1 and said[0].startswith("step 2 of 21; ") and " s a step, about " in said[0]


@pytest.mark.parametrize(
    ("seconds", "said"), [(1.2, "1 second"), (119, "119 seconds"), (5400, "90 minutes"), (9000, "2 hours")]
)
def test_durations_are_said_in_the_unit_that_fits(seconds, said):
    assert log_module.about(seconds) == f"about {said}"
