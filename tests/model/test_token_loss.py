"""Losses, likeliest tokens and samples in chunks: those of whole logits, and so are the gradients.

Run: pytest tests/model/test_token_loss.py
"""

import pytest
import torch
import torch.nn.functional as F
from gradient_examples import Allocations

from span_electra.model import token_loss
from span_electra.model.corruption import Sampling
from span_electra.model.token_loss import chunk_size, score_logits, score_tokens

SLOTS, WIDTH, VOCAB = 150, 12, 300


def inputs(slots=SLOTS):
    dice = torch.Generator().manual_seed(0)
    features_SE = torch.randn(slots, WIDTH, generator=dice, requires_grad=True)
    table_VE = torch.randn(VOCAB, WIDTH, generator=dice, requires_grad=True)
    bias_V = torch.randn(VOCAB, generator=dice, requires_grad=True)
    known = {
        "target_S": torch.randint(VOCAB, (slots,), generator=dice),
        "weight_S": (torch.rand(slots, generator=dice) < 0.9).float(),
        "sampling": Sampling(torch.rand(slots, generator=dice)),
    }
    return (features_SE, table_VE, bias_V), known


@pytest.mark.parametrize("chunk", [1, 1 << 21], ids=["many chunks", "one"])
@pytest.mark.parametrize("sampling", [{}, {"method": "argmax"}, {"temperature": 0.01}, {"temperature": 3.0}])
def test_chunks_give_what_whole_logits_give(chunk, sampling, monkeypatch):
    monkeypatch.setattr(token_loss, "CHUNK_LOGITS", chunk)
    weights, known = inputs()
    known["sampling"] = Sampling(known["sampling"].uniform_S, **sampling)
    chunked = score_tokens(*weights, **known)
    given = torch.autograd.grad(3 * chunked.loss, weights)
    features_SE, table_VE, bias_V = weights
    plain = score_logits(F.linear(features_SE, table_VE, bias_V), **known)
    expected = torch.autograd.grad(3 * plain.loss, weights)
    assert torch.allclose(chunked.loss, plain.loss, rtol=1e-6)
    assert torch.allclose(chunked.loss_S, plain.loss_S, atol=1e-5)
    assert torch.equal(chunked.likeliest_S, plain.likeliest_S)
    assert torch.equal(chunked.sampled_S, plain.sampled_S)
    for one, other in zip(given, expected, strict=True):
        assert (one - other).abs().max() <= 1e-6 * other.abs().max()


def test_without_gradients_none_are_made():
    weights, known = inputs()
    with torch.no_grad(), Allocations() as made:
        score_tokens(*weights, **known)
    assert all(numel != VOCAB * WIDTH for numel, _ in made.float32), "no gradient of the table"


@pytest.mark.parametrize("shift", [0.0, -9.0, 9.0])  # all below 0, all above, and both
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_likeliest_is_the_first_of_the_largest(precision, shift):
    logits_CV = (torch.randn(60, 300) + shift).to(precision)
    logits_CV[0] = 0.0
    logits_CV[1] = -0.0
    logits_CV[2, 7] = float("inf")
    assert token_loss.argmax(logits_CV).tolist() == logits_CV.float().argmax(-1).tolist()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_logits_of_all_slots_never_live_and_nothing_of_their_size_is_kept(precision, monkeypatch):
    monkeypatch.setattr(token_loss, "CHUNK_LOGITS", 16 * VOCAB)
    (features_SE, table_VE, bias_V), known = inputs(slots=4000)
    kept = []
    with Allocations() as made, torch.autocast("cpu", precision, enabled=precision is not torch.float32):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            loss = score_tokens(features_SE, table_VE, bias_V, **known).loss
        loss.backward()
    assert made.peak < 4000 * VOCAB * 4 / 4, "a quarter of what they would take in float32"
    assert max(tensor.numel() for tensor in kept) <= max(features_SE.numel(), table_VE.numel())


@pytest.mark.parametrize("slots", [1, 100, 26_215, 300_000])
def test_an_accelerator_gets_few_equal_chunks(slots):
    size = chunk_size(slots, 30_000, "cuda")
    assert -(-slots // size) <= token_loss.MOST_CHUNKS
    assert size * -(-slots // size) - slots < token_loss.MOST_CHUNKS, "the last is as large as the others"
    assert chunk_size(slots, 30_000, "cpu") * 30_000 <= token_loss.CHUNK_LOGITS


def test_losses_are_cross_entropy_and_weights_count():
    (features_SE, table_VE, bias_V), known = inputs()
    scores = score_tokens(features_SE, table_VE, bias_V, **known)
    loss_S = F.cross_entropy(F.linear(features_SE, table_VE, bias_V), known["target_S"], reduction="none")
    assert torch.allclose(scores.loss_S, loss_S, atol=1e-5)
    assert torch.allclose(scores.loss, (loss_S * known["weight_S"]).sum(), rtol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_target_too_improbable_for_a_float_has_its_exact_loss(precision):
    (features_SE, table_VE, bias_V), known = inputs()
    bias_V = torch.where(torch.arange(VOCAB) == 7, 512.0, 0.0)  # exp(-512) is 0 in float32
    known["target_S"] = torch.full((SLOTS,), 3)
    with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
        scores = score_tokens(0 * features_SE, table_VE, bias_V, **known)
    assert torch.equal(scores.loss_S, torch.full((SLOTS,), 512.0)) and (scores.likeliest_S == 7).all()


def test_nothing_is_sampled_unasked_and_no_graph_is_kept_without_gradients():
    weights, known = inputs()
    with torch.no_grad():
        scores = score_tokens(*weights, **(known | {"sampling": None}))
    assert scores.sampled_S is None and scores.loss.grad_fn is None


def test_autocast_decides_the_precision_and_gradients_come_in_that_of_the_weights():
    weights, known = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = score_tokens(*weights, **known)
    plain = score_tokens(*weights, **known)
    assert not torch.equal(narrow.loss, plain.loss) and torch.allclose(narrow.loss, plain.loss, rtol=0.02)
    for one, other in zip(
        torch.autograd.grad(narrow.loss, weights), torch.autograd.grad(plain.loss, weights), strict=True
    ):
        assert one.dtype == torch.float32
        assert torch.allclose(one, other, atol=0.05 * other.abs().max().item())


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps", "xpu"])
def test_no_slots_at_all_are_no_error(device, monkeypatch):
    monkeypatch.setattr(token_loss, "chunk_size", lambda slots, size, _: chunk_size(slots, size, device))
    (features_SE, table_VE, bias_V), _ = inputs()
    nothing = torch.zeros(0)
    known = {"target_S": nothing.long(), "weight_S": nothing, "sampling": Sampling(nothing)}
    scores = score_tokens(features_SE[:0], table_VE, bias_V, **known)
    scores.loss.backward()
    assert scores.loss == 0 and not table_VE.grad.any()
