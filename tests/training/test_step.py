"""fp16's loss is scaled, and the scale finds its size; accumulated batches are one step.

Run: pytest tests/training/test_step.py
"""

import pytest
import torch
from torch import nn

from span_electra.batch import StepOutput
from span_electra.config import OptimizerConfig
from span_electra.training import step
from span_electra.training.devices import Process
from span_electra.training.optim import Optimizers

CPU = torch.device("cpu")


class Number:
    """A batch of one number, which the loss multiplies the weights' sum by."""

    def __init__(self, factor):
        self.factor = factor

    def to(self, device, non_blocking=False):
        return self


class Sum(nn.Linear):
    """A network whose loss is its weights' sum times the batch's number."""

    def forward(self, batch, dropout_key):
        return StepOutput(self.weight.sum() * batch.factor, torch.ones(1))

    def unused_parameters(self, batch):
        """The experiment's part of a step."""
        return ()


def run_of(precision, **options):
    """A function that makes a step of some numbers, its weights and its counters."""
    network = Sum(3, 1, bias=False)
    nn.init.ones_(network.weight)
    config = OptimizerConfig("sgd", lr=1.0, momentum=0.0, weight_decay=0.0, **options)
    process = Process(CPU, precision=precision)
    optimizers, counters = Optimizers(network, config), step.Counters.fresh(process, 1)

    def make(*factors):
        step.train_step(
            network,
            network,
            [Number(factor) for factor in factors],
            optimizers=optimizers,
            counters=counters,
            process=process,
            key=0,
            lr_multiplier=0.5,
        )
        return network.weight.detach().flatten().tolist()

    return make, counters


@pytest.mark.parametrize("most", [0.0, 1.0])
def test_a_scaled_loss_makes_the_step_of_one_that_is_not(most):
    scaled, counters = run_of(torch.float16, max_gradient_norm=most)
    plain, unscaled = run_of(torch.float32, max_gradient_norm=most)
    assert counters.scale == step.FIRST_SCALE and unscaled.scale == 1.0
    for factors in ([0.25], [2.0], [0.5, 0.25]):
        assert scaled(*factors) == pytest.approx(plain(*factors), rel=1e-6)


def test_the_scale_is_halved_at_a_bad_step_and_doubled_after_many_good_ones(monkeypatch):
    monkeypatch.setattr(step, "GROWTH_STEPS", 3)
    make, counters = run_of(torch.float16)
    before = make(0.5)
    assert make(float("inf")) == before and counters.scale == step.FIRST_SCALE / 2
    assert counters.in_a_row == 1.0
    for expected in (0.5, 0.5, 1.0, 1.0, 1.0, 2.0):
        make(0.5)
        assert counters.scale == step.FIRST_SCALE * expected and counters.in_a_row == 0.0
    *_, steps, skipped = counters.sums.tolist()
    assert (steps, skipped) == (7.0, 1.0)


def test_without_fp16_nothing_is_scaled(monkeypatch):
    monkeypatch.setattr(step, "GROWTH_STEPS", 1)
    make, counters = run_of(torch.bfloat16)
    make(float("nan"))
    make(1.0)
    assert counters.scale == 1.0
