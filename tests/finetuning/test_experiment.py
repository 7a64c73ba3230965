"""The parts of a fine-tuning run: rates by layer, the encoder's bits.

Run: pytest tests/finetuning/test_experiment.py
"""

import pytest
import torch
from network_examples import exported, vocabulary_of_words

from span_electra.config import TrainingConfig
from span_electra.finetuning.experiment import outputs_of, rate_shares, task_losses
from span_electra.finetuning.metrics import METRICS
from span_electra.hub.encoders import open_encoder, take_pretrained
from span_electra.model.multi_task import HeadConfig, TaskNetwork


@pytest.fixture
def start(tmp_path):
    exported(tmp_path / "small")
    return open_encoder(tmp_path / "small")


def test_each_layer_has_the_rate_of_the_written_out_table(start):
    share = rate_shares(TaskNetwork(start.config, (HeadConfig("sequence", 2),)), 0.5)
    table = {
        "heads.0.score.weight": 1.0,
        "encoder.layers.1.": 0.5,
        "encoder.layers.0.": 0.25,
        "encoder.embeddings.": 0.125,
        "encoder.projection.": 0.125,
    }
    assert {name: share(name) for name in table} == table


def test_a_loaded_encoder_is_equal_bit_for_bit_after_heads_are_attached(start):
    network = TaskNetwork(start.config, (HeadConfig("sequence", 3), HeadConfig("replaced", 1)), seed=4)
    take_pretrained(network, start)
    found = dict(network.named_parameters())
    for name, weight in start.weights.items():
        own = name if name.startswith("encoder.") else f"heads.1.{name.removeprefix('head.')}"
        assert torch.equal(found[own], weight), name
    assert start.vocabulary.sha256 == vocabulary_of_words().sha256


def test_outputs_of_heads_and_losses_by_task():
    labels = ("a", "b", "c")
    kinds = {
        "sequence": 3,
        "several": 3,
        "tokens": 3,
        "number": 1,
        "ranking": 1,
        "replaced": 1,
        "language": 0,
    }
    assert {kind: outputs_of(kind, labels) for kind in kinds} == kinds
    sums = {"loss": 6.0, "steps": 3, "a:loss": 8.0, "a:targets": 4, "b:loss": 0.0, "b:targets": 0}
    assert task_losses(sums, ["a", "b"]) == {"loss": 2.0, "a_loss": 2.0}
    assert TrainingConfig().epochs and METRICS
