"""Masking tokens, sampling their replacements, and putting these in their places.

Shapes are in the names:
  B  rows         L  tokens of a row               S  masked slots
  V  vocabulary   C  blocks of the vocabulary      W  width of a block
Nothing here lets a gradient through, and nothing waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.batch import Movable
from span_electra.model.batch import MaskedBatch

BLOCK = 128  # entries of a block in the two-step search of a sample; near the square root of a vocabulary
BELOW_ONE = 1.0 - 2.0**-24  # the largest float32 below 1; times x it is always below x


@dataclass(frozen=True)
class Corrupted(Movable):
    """The discriminator's input and its labels."""

    ids_BL: Tensor  # int64; the original with the sampled tokens in the slots
    replaced_BL: Tensor  # bool; True exactly where ids differ from the original, or it was misspelt


def put_in_slots(ids_BL: Tensor, masked: MaskedBatch, values_S: Tensor) -> Tensor:
    """Return a copy of `ids_BL` with values in the slots; slots of weight 0 write nothing.

    They write back what their place holds. Those that fill up all point at position 0, which is a [CLS] and
    hides nothing, hence equal writes never race with different ones.
    """
    flat = ids_BL.flatten()
    kept_S = flat.index_select(0, masked.slots_S)
    values_S = torch.where(masked.slot_weight_S > 0, values_S, kept_S)
    return flat.scatter(0, masked.slots_S, values_S).view_as(ids_BL)


def mask_tokens(masked: MaskedBatch, mask_id: int) -> Tensor:
    """Return the generator's input [B, L]: every hidden token is [MASK]; a causal batch hides none."""
    if masked.causal:
        return masked.original_BL
    return put_in_slots(masked.original_BL, masked, torch.full_like(masked.slots_S, mask_id))


def running_sums(values_SN: Tensor) -> Tensor:
    """The sums of each row's values up to each place, never falling where no value is negative; [S, N].

    Where results must be the same from run to run, CUDA refuses `cumsum` of floats. There sums are doubled in
    length step by step, always in the same order: to each second stretch the sum of the first is added.

    Example: 1 2 3 4 -> 1 3 3 7 -> 1 3 6 10
    """
    if not torch.are_deterministic_algorithms_enabled():
        return values_SN.cumsum(-1)
    place_N, length = torch.arange(values_SN.shape[-1], device=values_SN.device), 1
    while length < len(place_N):
        before_N = place_N // length * length - 1  # where the stretch before ends
        sums_SN = values_SN + values_SN.index_select(-1, before_N.clamp(min=0))
        values_SN = torch.where(place_N // length % 2 == 1, sums_SN, values_SN)
        length *= 2
    return values_SN


@torch.no_grad()
def sample_from_weights(weights_SV: Tensor, uniform_S: Tensor) -> Tensor:
    """Sample one token a slot with probability weight / sum, by the inverse of its distribution function.

    One uniform number a slot decides, so that the sample depends on the batch alone and not on the device's
    generator; the law is that of Gumbel-max. Sums are float32 whatever the weights are. The uniforms have 24
    bits, and block sums carry a relative error near 1e-6, so probabilities below about 1e-7 are not resolved;
    a token of weight 0 is never sampled. Returns int64 [S].

    Two steps spare the running sum over the whole vocabulary: first the block, then the entry in it.

    Example: weights [.1 .2 | .3 .4], uniform .5 -> the blocks' running sums are [.3 1.], block 1 is the first
    above .5; in it .2 is left to pass, entry 0 (.3) is the first above it -> token 2.
    """
    # The last block may be short; filled up, the weights would be copied, the largest tensor there is.
    vocabulary = weights_SV.shape[-1]
    # Float32 sums whatever the weights are in: a running sum in bf16 stops growing after some hundred tokens.
    blocks, rest = divmod(vocabulary, BLOCK)
    whole_SCW = weights_SV[:, : blocks * BLOCK].unflatten(-1, (blocks, BLOCK))
    sums_SC = whole_SCW.sum(-1, dtype=torch.float32)
    if rest:
        rest_S1 = weights_SV[:, -rest:].sum(-1, keepdim=True, dtype=torch.float32)
        sums_SC = torch.cat([sums_SC, rest_S1], dim=-1)
    running_SC = running_sums(sums_SC)
    target_S1 = running_SC[:, -1:] * uniform_S.clamp(max=BELOW_ONE)[:, None]
    # Clamped for weights that are not finite: such a step is skipped later, and must not end the run here.
    block_S1 = (running_SC <= target_S1).sum(-1, keepdim=True).clamp(max=running_SC.shape[-1] - 1)
    passed_SC = F.pad(running_SC, (1, 0))
    place_SW = block_S1 * BLOCK + torch.arange(BLOCK, device=weights_SV.device)
    own_SW = weights_SV.gather(1, place_SW.clamp(max=vocabulary - 1)).float() * (place_SW < vocabulary)
    inside_SW = running_sums(own_SW)
    left_S1 = torch.minimum(target_S1 - passed_SC.gather(1, block_S1), inside_SW[:, -1:] * BELOW_ONE)
    return (block_S1 * BLOCK + (inside_SW <= left_S1).sum(-1, keepdim=True)).squeeze(1)


@dataclass(frozen=True)
class Sampling:
    """How replacements are made: `uniform_S` decides each; by `argmax` the likeliest tokens are taken."""

    uniform_S: Tensor  # float32 in [0, 1)
    method: str = "sample"
    temperature: float = 1.0


@torch.no_grad()
def sample_tokens(
    log_probability_SV: Tensor, sampling: Sampling, probability_SV: Tensor | None = None
) -> Tensor:
    """Return the replacement of each slot, int64 [S]; logits will do for log-probabilities.

    `probability_SV`: the same without logarithm, where they are at hand; they spare a pass at temperature 1.
    """
    if sampling.method == "argmax":
        return log_probability_SV.argmax(-1)
    if probability_SV is None or sampling.temperature != 1.0:
        # Less the largest, so that no temperature lets all of them underflow.
        above_SV = log_probability_SV.float() - log_probability_SV.amax(-1, keepdim=True).float()
        probability_SV = (above_SV / sampling.temperature).exp_()
    return sample_from_weights(probability_SV, sampling.uniform_S)


@torch.no_grad()
def corrupt(masked: MaskedBatch, sampled_S: Tensor) -> Corrupted:
    """Put the sampled tokens in their slots; one that equals the original counts as not replaced."""
    ids_BL = put_in_slots(masked.original_BL, masked, sampled_S)
    # By ids, not by slots: a generator that hits the original has replaced nothing (ELECTRA, section 3.1).
    replaced_BL = ids_BL != masked.original_BL
    if masked.misspelt_BL is not None:
        replaced_BL = replaced_BL | masked.misspelt_BL
    return Corrupted(ids_BL, replaced_BL)
