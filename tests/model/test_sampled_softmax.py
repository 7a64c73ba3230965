"""The sampled softmax: exact where all are candidates, and right on average where few are.

Run: pytest tests/model/test_sampled_softmax.py
"""

import math

import pytest
import torch

from span_electra.model import token_loss
from span_electra.model.sampled_softmax import score_candidates
from span_electra.model.token_loss import score_tokens

SLOTS, WIDTH, VOCAB = 150, 12, 300


def inputs():
    dice = torch.Generator().manual_seed(0)
    features_SE = torch.randn(SLOTS, WIDTH, generator=dice, requires_grad=True)
    table_VE = (torch.randn(VOCAB, WIDTH, generator=dice) / 2).requires_grad_()
    bias_V = torch.randn(VOCAB, generator=dice, requires_grad=True)
    known = {
        "target_S": torch.randint(VOCAB, (SLOTS,), generator=dice),
        "weight_S": (torch.rand(SLOTS, generator=dice) < 0.9).float(),
    }
    return (features_SE, table_VE, bias_V), known


def all_of_them(seed=0):
    order_V = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(seed))
    return {"candidate_K": order_V, "log_count_K": torch.zeros(VOCAB)}


def some(seed, common=60, drawn=60):
    dice = torch.Generator().manual_seed(seed)
    rare = torch.randperm(VOCAB - common, generator=dice)[:drawn] + common
    log_count_K = torch.zeros(common + drawn)
    log_count_K[common:] = math.log((VOCAB - common) / drawn)
    return {"candidate_K": torch.cat([torch.arange(common), rare]), "log_count_K": log_count_K}


@pytest.mark.parametrize("chunk", [1, 1 << 21], ids=["many chunks", "one"])
def test_from_all_tokens_it_is_the_whole_softmax(chunk, monkeypatch):
    monkeypatch.setattr(token_loss, "CHUNK_LOGITS", chunk)
    weights, known = inputs()
    sampled = score_candidates(*weights, **known, **all_of_them())
    whole = score_tokens(*weights, **known, sampling=None)
    torch.testing.assert_close(sampled.loss, whole.loss)
    torch.testing.assert_close(sampled.loss_S, whole.loss_S, atol=1e-5, rtol=1e-5)
    assert torch.equal(sampled.likeliest_S, whole.likeliest_S)
    ours, theirs = (torch.autograd.grad(3 * scores.loss, weights) for scores in (sampled, whole))
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= 2e-6 * other.abs().max()


def test_from_a_sample_the_sum_and_the_gradients_by_it_are_right_on_average():
    weights, known = inputs()
    whole = score_tokens(*weights, **known, sampling=None)
    expected = torch.autograd.grad(whole.loss, weights)
    losses, ratios, gradients = [], [], []
    for seed in range(300):
        scores = score_candidates(*weights, **known, **some(seed))
        ratio_S = (scores.loss_S - whole.loss_S).exp()  # of the estimated sum to that of all tokens
        # The candidates' shares are of the estimate: times the ratio, theirs of the sum, on average exactly.
        by_sum = known | {"weight_S": known["weight_S"] * ratio_S}
        gradients.append(
            torch.autograd.grad(score_candidates(*weights, **by_sum, **some(seed)).loss, weights)
        )
        losses.append(scores.loss.detach())
        ratios.append(ratio_S)
    ratio_NS = torch.stack(ratios)
    assert ratio_NS.mean() == pytest.approx(1.0, abs=0.03)
    for whole_gradient, *sampled in zip(expected, *gradients, strict=True):
        off = torch.stack(sampled).mean(0) - whole_gradient
        assert off.norm() < 0.09 * whole_gradient.norm()
    # The logarithm of an estimate is a little low: by half of its relative variance, and no more.
    low = whole.loss - torch.stack(losses).mean()
    assert low.item() == pytest.approx((ratio_NS.var(0) / 2 * known["weight_S"]).sum().item(), rel=0.2)


def test_a_target_counts_once_whether_it_is_a_candidate_or_not():
    (features_SE, table_VE, bias_V), known = inputs()
    some_of_them = some(0)
    log_count_V = torch.full((VOCAB,), -math.inf)
    log_count_V[some_of_them["candidate_K"]] = some_of_them["log_count_K"]
    scores = score_candidates(features_SE, table_VE, bias_V, **known, **some_of_them)
    for slot, target in enumerate(known["target_S"].tolist()):
        own_V = log_count_V.clone()
        own_V[target] = 0.0
        logits_V = features_SE[slot] @ table_VE.T + bias_V
        nats = torch.logsumexp(logits_V + own_V, 0) - logits_V[target]
        assert scores.loss_S[slot].item() == pytest.approx(nats.item(), abs=1e-5)
        among = torch.isfinite(own_V)
        assert scores.likeliest_S[slot] == torch.where(among, logits_V, -math.inf).argmax()


def test_autocast_decides_the_precision_and_gradients_come_in_that_of_the_weights():
    weights, known = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = score_candidates(*weights, **known, **some(0))
    plain = score_candidates(*weights, **known, **some(0))
    assert not torch.equal(narrow.loss, plain.loss) and torch.allclose(narrow.loss, plain.loss, rtol=0.02)
    for one, other in zip(
        torch.autograd.grad(narrow.loss, weights), torch.autograd.grad(plain.loss, weights), strict=True
    ):
        assert one.dtype == torch.float32 and (one - other).norm() < 0.02 * other.norm()


def test_a_target_that_nothing_else_comes_near_has_no_loss_and_no_gradient():
    (features_SE, table_VE, bias_V), known = inputs()
    bias_V = torch.where(torch.arange(VOCAB) == 7, 512.0, 0.0).requires_grad_()
    known["target_S"] = torch.full((SLOTS,), 7)
    scores = score_candidates(0 * features_SE, table_VE, bias_V, **known, **some(0))
    assert torch.equal(scores.loss_S, torch.zeros(SLOTS))
    [grad_V] = torch.autograd.grad(scores.loss, [bias_V])
    assert not grad_V.any()
