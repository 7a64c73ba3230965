"""The loss by blocks: equal to the loss of whole logits, its gradients and its draws too.

pytest tests/model/test_slot_loss.py
"""

import pytest
import torch
import torch.nn.functional as F

from span_electra.model import slot_loss as module
from span_electra.model.corruption import choose
from span_electra.model.slot_loss import DrawConfig, slot_loss

SLOTS, WIDTH, VOCABULARY = 37, 8, 131


@pytest.fixture
def inputs():
    """Features, table and bias that learn; targets; weights, some of them 0 as those of filling slots."""
    dice = torch.Generator().manual_seed(3)
    learning = [
        torch.randn(shape, generator=dice).requires_grad_()
        for shape in ((SLOTS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,))
    ]
    target_S = torch.randint(VOCABULARY, (SLOTS,), generator=dice)
    weight_S = (torch.rand(SLOTS, generator=dice) > 0.2).float()
    return *learning, target_S, weight_S


@pytest.mark.parametrize("block", [1, 8, 37, 256])
def test_blocks_give_the_loss_and_gradients_of_whole_logits(inputs, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SLOTS", block)
    *learning, target_S, weight_S = inputs
    features_SE, table_VE, bias_V = learning
    logits_SV = F.linear(features_SE, table_VE, bias_V)
    expected = (F.cross_entropy(logits_SV, target_S, reduction="none") * weight_S).sum()
    found = slot_loss(*learning, target_S=target_S, weight_S=weight_S)
    torch.testing.assert_close(found.loss_sum, expected)
    assert found.correct_sum == ((logits_SV.argmax(-1) == target_S) * weight_S).sum()
    wanted = torch.autograd.grad(3.0 * expected, learning)
    for ours, theirs in zip(torch.autograd.grad(3.0 * found.loss_sum, learning), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampling", ["sample", "argmax"])
def test_draws_are_those_from_whole_logits(inputs, sampling, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SLOTS", 10)
    *learning, target_S, weight_S = inputs
    uniform_S = torch.rand(SLOTS, generator=torch.Generator().manual_seed(1))
    draw = DrawConfig(uniform_S, sampling, 0.7)
    found = slot_loss(*learning, target_S=target_S, weight_S=weight_S, draw=draw)
    expected_S = choose(F.linear(*learning).detach(), uniform_S, sampling, 0.7)
    assert torch.equal(found.drawn_S, expected_S)


def test_in_bfloat16_gradients_point_where_float32s_do(inputs):
    *learning, target_S, weight_S = inputs
    exact = slot_loss(*learning, target_S=target_S, weight_S=weight_S)
    wanted = torch.autograd.grad(exact.loss_sum, learning)
    features_SE, *rest = learning
    rough = slot_loss(features_SE.bfloat16(), *rest, target_S=target_S, weight_S=weight_S)
    torch.testing.assert_close(rough.loss_sum, exact.loss_sum, rtol=0.01, atol=0.0)
    for ours, theirs in zip(torch.autograd.grad(rough.loss_sum, learning), wanted, strict=True):
        assert ours.dtype == torch.float32
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


def test_without_gradients_none_are_made(inputs):
    *learning, target_S, weight_S = inputs
    with torch.no_grad():
        found = slot_loss(*learning, target_S=target_S, weight_S=weight_S)
    assert not found.loss_sum.requires_grad and found.drawn_S is None
