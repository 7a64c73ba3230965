"""Hiding tokens, drawing their replacements, and putting these in their places.

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

BLOCK = 128  # entries of a block in the two-step search of `draw`; near the square root of a vocabulary
BELOW_ONE = 1.0 - 2.0**-24  # the largest float32 below 1; times x it is always below x


@dataclass(frozen=True)
class Corrupted(Movable):
    """The discriminator's input and its labels."""

    ids_BL: Tensor  # int64; the original with the drawn tokens in the slots
    replaced_BL: Tensor  # bool; True exactly where ids differ from the original


def put_in_slots(ids_BL: Tensor, masked: MaskedBatch, values_S: Tensor) -> Tensor:
    """Return a copy of `ids_BL` with values in the slots; slots of weight 0 write nothing.

    Filling slots all point at position 0, so there they write back what it holds; position 0 is a [CLS] and
    hides nothing, hence equal writes never race with different ones.
    """
    flat = ids_BL.flatten()
    kept_S = flat.index_select(0, masked.slots_S)
    values_S = torch.where(masked.slot_weight_S > 0, values_S, kept_S)
    return flat.scatter(0, masked.slots_S, values_S).view_as(ids_BL)


def hide(masked: MaskedBatch, mask_id: int) -> Tensor:
    """Return the generator's input [B, L]: every hidden token is [MASK]."""
    return put_in_slots(masked.original_BL, masked, torch.full_like(masked.slots_S, mask_id))


@torch.no_grad()
def draw(logits_SV: Tensor, uniform_S: Tensor, temperature: float = 1.0) -> Tensor:
    """Draw one token a slot from softmax(logits / temperature), by the inverse of its distribution function.

    One uniform number a slot decides, so that the draw depends on the batch alone and not on the device's
    generator; the law is that of Gumbel-max. Computed in float32 whatever the logits are. The uniforms
    have 24 bits, and block sums carry a relative error near 1e-6, so probabilities below about 1e-7 are not
    resolved; a token whose weight underflows to 0 is never drawn. Returns int64 [S].

    Two steps spare the running sum over the whole vocabulary: first the block, then the entry in it.

    Example: weights [.1 .2 | .3 .4], uniform .5 -> the blocks' running sums are [.3 1.], block 1 is the first
    above .5; in it .2 is left to pass, entry 0 (.3) is the first above it -> token 2.
    """
    logits_SV = logits_SV.float()
    weights_SV = ((logits_SV - logits_SV.amax(-1, keepdim=True)) / temperature).exp_()
    weights_SCW = F.pad(weights_SV, (0, -weights_SV.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    running_SC = weights_SCW.sum(-1).cumsum(-1)
    target_S1 = running_SC[:, -1:] * uniform_S.clamp(max=BELOW_ONE)[:, None]
    block_S1 = (running_SC <= target_S1).sum(-1, keepdim=True)
    passed_SC = F.pad(running_SC, (1, 0))
    inside_SW = weights_SCW.gather(1, block_S1[:, :, None].expand(-1, -1, BLOCK)).squeeze(1).cumsum(-1)
    left_S1 = torch.minimum(target_S1 - passed_SC.gather(1, block_S1), inside_SW[:, -1:] * BELOW_ONE)
    return (block_S1 * BLOCK + (inside_SW <= left_S1).sum(-1, keepdim=True)).squeeze(1)


@torch.no_grad()
def choose(logits_SV: Tensor, uniform_S: Tensor, sampling: str, temperature: float) -> Tensor:
    """Return the replacement of each slot, int64 [S]: drawn (`sample`) or the likeliest (`argmax`)."""
    if sampling == "argmax":
        return logits_SV.argmax(-1)
    return draw(logits_SV, uniform_S, temperature)


@torch.no_grad()
def corrupt(masked: MaskedBatch, drawn_S: Tensor) -> Corrupted:
    """Put the drawn tokens in their slots; a token drawn equal to the original counts as not replaced."""
    ids_BL = put_in_slots(masked.original_BL, masked, drawn_S)
    return Corrupted(ids_BL, ids_BL != masked.original_BL)
