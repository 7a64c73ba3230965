"""Corruption: only slots change, labels are exact, and draws follow the softmax.

Run: pytest tests/model/test_corruption.py
"""

import dataclasses

import numpy as np
import pytest
import torch
from gradient_examples import Allocations
from model_examples import MASK, VOCAB, batch_of, small_config
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from span_electra.model.corruption import (
    BELOW_ONE,
    Sampling,
    corrupt,
    mask_tokens,
    running_sums,
    sample_from_weights,
    sample_tokens,
)
from span_electra.model.electra import SpanElectra


def sampled(logits_SV, uniform_S, temperature=1.0):
    return sample_tokens(logits_SV, Sampling(uniform_S, temperature=temperature))


def hidden_places(masked):
    places = torch.zeros(masked.original_BL.numel(), dtype=torch.bool)
    places[masked.slots_S[masked.slot_weight_S > 0]] = True
    return places.view_as(masked.original_BL)


@pytest.mark.parametrize("padded", [False, True])
def test_only_slots_change_and_labels_say_where_ids_differ(padded):
    masked = batch_of(padded=padded)
    before = masked.original_BL.clone()
    sampled_S = torch.randint(5, VOCAB, masked.slots_S.shape)
    sampled_S[1] = before.flatten()[masked.slots_S[1]]  # a draw that hits the original is no replacement
    corrupted = corrupt(masked, sampled_S)
    places = hidden_places(masked)
    assert torch.equal(corrupted.ids_BL[~places], before[~places])
    assert torch.equal(corrupted.ids_BL[places], sampled_S[masked.slot_weight_S > 0])
    assert torch.equal(corrupted.replaced_BL, corrupted.ids_BL != before)
    assert not corrupted.replaced_BL.flatten()[masked.slots_S[1]]
    assert torch.equal(masked.original_BL, before), "the batch itself must stay as it is"


def test_every_hidden_token_is_mask_and_filling_slots_write_nothing():
    masked = batch_of(fill=5)
    masked_BL = mask_tokens(masked, MASK)
    places = hidden_places(masked)
    assert (masked_BL[places] == MASK).all()
    assert torch.equal(masked_BL[~places], masked.original_BL[~places])


def test_a_batch_without_hidden_tokens_stays_as_it_is():
    masked = batch_of()
    masked = dataclasses.replace(masked, slot_weight_S=masked.slot_weight_S * 0, slots_S=masked.slots_S * 0)
    assert torch.equal(mask_tokens(masked, MASK), masked.original_BL)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_draws_follow_the_softmax(temperature):
    draws, dice = 200_000, np.random.default_rng(7)
    logits_V = torch.from_numpy(dice.normal(0, 2, VOCAB)).float()
    uniform_S = torch.from_numpy(dice.random(draws, dtype=np.float32))
    sampled_S = sampled(logits_V.expand(draws, -1), uniform_S, temperature)
    counts = torch.bincount(sampled_S, minlength=VOCAB).numpy()
    expected = (logits_V.double() / temperature).softmax(0).numpy() * draws
    common = expected >= 5  # chi-square needs some counts a cell; the rare rest is one cell
    observed = np.append(counts[common], counts[~common].sum() + 1)  # + 1 on both sides: never 0
    wanted = np.append(expected[common], expected[~common].sum() + 1)
    assert stats.chisquare(observed, wanted).pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sampling_copies_no_weights(dtype):
    weights_SV = torch.rand(64, 40 * 128 + 3).to(dtype)
    with Allocations() as made:
        sample_from_weights(weights_SV, torch.rand(64))
    assert made.peak < weights_SV.nbytes / 2


def test_draws_are_those_of_the_plain_inverse_distribution_function():
    dice = torch.Generator().manual_seed(3)
    logits_SV = torch.randn(500, VOCAB, generator=dice) * 3
    uniform_S = torch.rand(500, generator=dice)
    running_SV = logits_SV.double().softmax(-1).cumsum(-1)
    plain_S = (running_SV <= uniform_S[:, None]).sum(-1)
    distance_S = (running_SV - uniform_S[:, None]).abs().amin(-1)
    clear_S = distance_S > 1e-5  # nearer than that, rounding may decide
    assert clear_S.float().mean() > 0.9
    assert torch.equal(sampled(logits_SV, uniform_S)[clear_S], plain_S[clear_S])


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.5, BELOW_ONE])
@pytest.mark.parametrize("possible", [[0], [VOCAB - 1], [127, 128], [5, 290]])
def test_impossible_tokens_are_never_sampled(uniform, possible):
    logits_V = torch.full((VOCAB,), -200.0)
    logits_V[possible] = torch.rand(len(possible))
    assert sampled(logits_V[None], torch.tensor([uniform])).item() in possible


def test_argmax_takes_the_likeliest_and_low_temperature_comes_to_the_same():
    logits_SV = torch.randn(50, VOCAB)
    likeliest_S = logits_SV.argmax(-1)
    assert torch.equal(sample_tokens(logits_SV, Sampling(torch.rand(50), "argmax")), likeliest_S)
    assert torch.equal(sampled(logits_SV, torch.rand(50), 1e-6), likeliest_S)


def test_half_precision_logits_are_sampled_from_in_float32():
    logits_SV = torch.randn(50, VOCAB).bfloat16()
    uniform_S = torch.rand(50)
    assert torch.equal(sampled(logits_SV, uniform_S), sampled(logits_SV.float(), uniform_S))


def test_weights_that_are_not_finite_end_no_run():
    weights_SV = torch.zeros(3, VOCAB)  # no running sum is above the target
    sampled_S = sample_from_weights(weights_SV, torch.rand(3))
    assert ((0 <= sampled_S) & (sampled_S < VOCAB + 128)).all()


# --- the same bits from run to run ---


class NoFloatCumsum(TorchDispatchMode):
    """As CUDA under deterministic algorithms: the running sum of floats is refused."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.cumsum.default and args[0].is_floating_point():
            raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_step_is_made_without_what_cuda_has_in_no_fixed_order(temperature, deterministic):
    model = SpanElectra(small_config(temperature=temperature), MASK)
    with NoFloatCumsum():
        model(batch_of(padded=True), dropout_key=1).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


@pytest.mark.parametrize("length", [1, 2, 3, 127, 128, 129, 250])
def test_sums_in_a_fixed_order_are_running_sums_that_never_fall(length, deterministic):
    values_SN = torch.rand(500, length, generator=torch.Generator().manual_seed(length))
    values_SN[torch.rand(values_SN.shape, generator=torch.Generator().manual_seed(1)) < 0.5] = 0.0
    sums_SN = running_sums(values_SN)
    assert torch.allclose(sums_SN.double(), values_SN.double().cumsum(-1), rtol=1e-6, atol=0)
    grown_SN = sums_SN.diff(dim=-1)
    assert (grown_SN >= 0).all() and (grown_SN[values_SN[:, 1:] == 0] == 0).all()


def test_a_fixed_order_samples_what_any_order_samples(deterministic):
    dice = torch.Generator().manual_seed(3)
    weights_SV, uniform_S = torch.rand(2000, 400, generator=dice), torch.rand(2000, generator=dice)
    weights_SV[weights_SV < 0.7] = 0.0
    fixed_S = sample_from_weights(weights_SV, uniform_S)
    assert (weights_SV.gather(1, fixed_S[:, None]) > 0).all()
    torch.use_deterministic_algorithms(False)
    assert (fixed_S == sample_from_weights(weights_SV, uniform_S)).float().mean() > 0.999
