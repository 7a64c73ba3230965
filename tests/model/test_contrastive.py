"""The sequence contrastive objective: crops, its loss written out, and whom it teaches.

Run: pytest tests/model/test_contrastive.py
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from model_examples import CLS, MASK, SEP, batch_of, small_config

from span_electra.model.batch import TALLY
from span_electra.model.contrastive import contrastive_losses, crop
from span_electra.model.electra import SpanElectra

CONTRASTIVE = {"sequence_objective": "contrastive"}


def cropped_batch(rows=6, **changes):
    """Rows with their places of crops; row r is padded by r tokens if asked for."""
    dice = torch.Generator().manual_seed(4)
    total = torch.tensor(float(rows))
    return replace(batch_of(rows=rows, **changes), crop_B=torch.rand(rows, generator=dice), row_total=total)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("padded", [False, True])
def test_a_crop_is_a_stretch_of_its_row_between_the_same_ends(padded, share):
    masked = cropped_batch(padded=padded)
    ids_BW, mask_BW = crop(masked, share)
    assert (mask_BW is None) == (not padded)
    for row, ids_W in enumerate(ids_BW):
        content = masked.original_BL[row, 1 : 15 - row * padded].tolist()
        found = ids_W.tolist() if mask_BW is None else ids_W[mask_BW[row]].tolist()
        kept = max(1, round(share * len(content)))
        assert (found[0], found[-1], len(found)) == (CLS, SEP, kept + 2)
        stretches = [content[start : start + kept] for start in range(len(content) - kept + 1)]
        expected = stretches[int(masked.crop_B[row] * len(stretches))]
        assert found[1:-1] == expected


def test_a_crop_is_of_the_text_as_it_was_before_words_were_misspelt():
    masked = cropped_batch(padded=True)
    spelt = replace(masked, original_BL=masked.original_BL + 1, clean_BL=masked.original_BL)
    assert all(map(torch.equal, crop(spelt, 0.7), crop(masked, 0.7)))


def test_every_place_of_a_crop_is_drawn_as_often():
    masked = cropped_batch(rows=1)
    uniform_B = (torch.arange(1400) + 0.5) / 1400
    masked = replace(masked, original_BL=torch.arange(16).expand(1400, -1), crop_B=uniform_B)
    firsts = crop(masked, 0.6)[0][:, 1]  # 8 of 14 tokens: starts 1 to 7
    assert firsts.bincount().tolist() == [0] + [200] * 7


def test_the_loss_is_cross_entropy_of_cosines_in_both_directions():
    dice = torch.Generator().manual_seed(0)
    states = [torch.randn(5, 8, generator=dice, requires_grad=True) for _ in range(2)]
    partner_B = torch.arange(5)
    logits_BB = torch.stack([F.cosine_similarity(one, states[1]) for one in states[0]]) / 0.3
    expected_B = (
        F.cross_entropy(logits_BB, partner_B, reduction="none")
        + F.cross_entropy(logits_BB.T, partner_B, reduction="none")
    ) / 2
    given_B = contrastive_losses(*states, 0.3)
    assert torch.allclose(given_B, expected_B, atol=1e-6)
    gradients = [
        torch.autograd.grad(loss_B.sum(), states, retain_graph=True) for loss_B in (given_B, expected_B)
    ]
    for one, other in zip(*gradients, strict=True):
        assert one.any() and torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_is_float32_whatever_the_run_computes_in(dtype):
    dice = torch.Generator().manual_seed(0)
    states = [torch.randn(5, 64, generator=dice).to(dtype) for _ in range(2)]
    with torch.autocast("cpu", dtype):
        given_B = contrastive_losses(*states, 0.3)
    assert given_B.dtype is torch.float32 and torch.equal(given_B, contrastive_losses(*states, 0.3))


def test_rows_that_fill_up_are_as_if_they_were_not_there():
    dice = torch.Generator().manual_seed(0)
    one, other = (torch.randn(6, 8, generator=dice) for _ in range(2))
    mask_B = torch.tensor([True, True, False, True, True, False])
    expected_B = contrastive_losses(one[mask_B], other[mask_B], 0.5)
    given_B = contrastive_losses(one, other, 0.5, mask_B)
    assert torch.allclose(given_B[mask_B], expected_B) and not given_B[~mask_B].any()
    assert contrastive_losses(one[:0], other[:0], 0.5).shape == (0,)
    assert contrastive_losses(one[:1], other[:1], 0.5) == 0


def test_it_teaches_the_discriminators_encoder_alone(architecture):
    config = small_config(
        **CONTRASTIVE, embedding_sharing="none", generator_weight=0.0, discriminator_weight=0.0
    )
    model, masked = SpanElectra(config, MASK), cropped_batch(padded=True)
    output = model(masked)
    output.loss.backward()
    tally = dict(zip(TALLY, output.tally.tolist(), strict=True))
    assert tally["rows"] == 6 and output.loss.item() == pytest.approx(tally["contrastive_loss"] / 6)
    touched = {
        name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()
    }
    assert touched and all(name.startswith("discriminator.encoder.") for name in touched)


def test_it_adds_its_weight_to_the_loss_and_nothing_without_crops(architecture):
    losses = []
    for weight in (0.0, 1.0, 3.0):
        model = SpanElectra(small_config(**CONTRASTIVE, sequence_weight=weight), MASK)
        losses.append(model(cropped_batch()).loss.item())
    plain = SpanElectra(small_config(), MASK)(batch_of(rows=6)).loss.item()
    assert losses[0] == plain and losses[2] - plain == pytest.approx(3 * (losses[1] - plain), rel=1e-4)
    assert losses[1] > plain


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, tracing
def test_a_step_with_crops_compiles_without_a_break_and_rows_that_fill_up_leave_it_finite():
    model, masked = (
        SpanElectra(small_config(**CONTRASTIVE, hidden_dropout_prob=0.1), MASK),
        cropped_batch(padded=True),
    )
    mask_BL = masked.attention_mask_BL.clone()
    mask_BL[-1] = False
    masked = replace(masked, attention_mask_BL=mask_BL)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    output = compiled(masked)
    output.loss.backward()
    torch._dynamo.reset()
    assert output.tally[TALLY.index("rows")] == 5
    assert all(weight.grad is None or torch.isfinite(weight.grad).all() for weight in model.parameters())
