"""Metrics follow from counts. Run: pytest tests/pretraining/test_metrics.py"""

import pytest
import torch
from model_examples import MASK, small_config
from network_examples import away_from_start
from run_examples import WORDS, write_rows

from span_electra.data_config import LoaderConfig
from span_electra.features.store import open_features
from span_electra.model.batch import TALLY
from span_electra.model.electra import SpanElectra
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.metrics import compute_metrics, validation_metrics
from span_electra.training.devices import Process

COUNTS = dict(zip(TALLY, (100, 20, 60.0, 5, 30.0, 10, 8, 6, 0.0, 0.0, 100, 4, 6.0, 8, 20.0, 2), strict=True))


def test_metrics_written_out():
    metrics = compute_metrics(COUNTS | {"loss": 9.0, "steps": 3})
    expected = {
        "loss": 3.0,
        "generator_loss": 3.0,
        "generator_accuracy": 0.25,
        "discriminator_loss": 0.3,
        "discriminator_precision": 6 / 8,
        "discriminator_recall": 6 / 10,
        "discriminator_f1": 12 / 18,
        "discriminator_accuracy": (88 + 6) / 100,  # 88 originals left alone, 6 replaced ones found
        "original_accuracy": 88 / 90,
        "replaced_share": 0.1,
        "replaced_of_masked": 0.5,
        "contrastive_loss": 1.5,
        "next_token_loss": 2.5,
        "next_token_accuracy": 0.25,
    }
    assert metrics == pytest.approx(expected)


def test_a_share_of_nothing_is_left_out():
    assert compute_metrics(dict.fromkeys(TALLY, 0.0)) == {}
    generator_alone = COUNTS | dict.fromkeys(
        ("tokens", "replaced", "flagged", "hits", "rows", "next_tokens"), 0
    )
    assert set(compute_metrics(generator_alone)) == {"generator_loss", "generator_accuracy"}


WEIGHTS = {"generator_weight": 0.7, "discriminator_weight": 20.0, "span_boundary_weight": 0.3}


@pytest.mark.parametrize("heads", [{}, {"use_SBGO": True, "use_SBPO": True}])
@pytest.mark.parametrize("objective", ["joint", "generator", "discriminator"])
@torch.no_grad()
def test_a_validation_s_loss_is_that_of_all_rows_however_they_are_cut(tmp_path, objective, heads):
    config = small_config(vocab_size=5 + WORDS, objective=objective, **WEIGHTS, **heads)
    model = away_from_start(SpanElectra(config, MASK).eval())
    features = open_features(write_rows(tmp_path / "rows.arrow"))

    def batches(size):
        return Batches(features, LoaderConfig(size, workers=0), epoch=0)

    whole = next(iter(batches(features.rows)))
    for size in (4, 16, features.rows):
        found = validation_metrics(model, batches(size), Process(torch.device("cpu")), lambda: False)
        assert found["loss"] == pytest.approx(float(model(whole).loss), rel=1e-5)
