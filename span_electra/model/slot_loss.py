"""The masked tokens' loss without their logits: a block of slots at a time, gradients made on the way.

Logits of all slots over the whole vocabulary are the largest tensor of a step: written once and read five
times (softmax, loss, argmax, draw, gradient), they are half of a small model's time on a CPU. A block of
them fits the cache; while it is there, all that anybody wants to know of it is computed, the gradient too
(so do Liger's and Apple's fused losses: Hsu et al. 2024; Wijmans et al. 2024, "Cut Your Losses").

Shapes are in the names:
  S  masked slots   E  width of the embeddings   V  vocabulary   C  slots of a block
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from span_electra.model.corruption import choose

BLOCK_SLOTS = 256  # logits of so many slots over 10,000 tokens are 5 MB in bfloat16, 10 MB in float32


@dataclass(frozen=True)
class SlotOutput:
    """What training needs of the generator's logits; only `loss_sum` carries a graph."""

    loss_sum: Tensor  # float32; the cross-entropies' sum over slots, each times its weight, in nats
    correct_sum: Tensor  # float32; weights of the slots whose likeliest token is the target
    drawn_S: Tensor | None  # int64; the replacements


@dataclass(frozen=True)
class DrawConfig:
    """How replacements are drawn; see `corruption.choose`."""

    uniform_S: Tensor  # float32 in [0, 1); decides the draw
    sampling: str
    temperature: float


def slot_loss(
    features_SE: Tensor,
    table_VE: Tensor,
    bias_V: Tensor,
    *,
    target_S: Tensor,
    weight_S: Tensor,
    draw: DrawConfig | None = None,
) -> SlotOutput:
    """Return the loss of `features @ table.T + bias` against the targets, and draws from it.

    Products are made in the features' dtype (bfloat16 under autocast), sums over slots in float32. What
    `F.cross_entropy` gives for the same logits, this gives; the graph holds no logits.
    """
    found = _SlotLoss.apply(features_SE, table_VE, bias_V, target_S, weight_S, draw)
    loss_sum, correct_sum, drawn_S = found
    return SlotOutput(loss_sum, correct_sum, drawn_S if draw is not None else None)


class _SlotLoss(torch.autograd.Function):
    """Gradients are linear in the loss's own, so they can be made before it is known, and scaled later."""

    @staticmethod
    def forward(ctx, features_SE, table_VE, bias_V, target_S, weight_S, draw):
        learns = any(ctx.needs_input_grad)
        dtype = features_SE.dtype
        table, bias = table_VE.to(dtype), bias_V.to(dtype)
        d_features_SE = torch.empty_like(features_SE)
        # bfloat16 would lose the small summands of a sum over blocks; these two add up in float32.
        d_table_VE = torch.zeros(table.shape, device=table.device)
        d_bias_V = torch.zeros(bias.shape, device=table.device)
        loss_sum = correct_sum = torch.zeros((), device=table.device)
        drawn = []
        for start in range(0, len(target_S), BLOCK_SLOTS):
            block = slice(start, start + BLOCK_SLOTS)
            features_CE, target_C, weight_C = features_SE[block], target_S[block], weight_S[block]
            log_p_CV = torch.addmm(bias, features_CE, table.t()).log_softmax(-1)
            own_C = log_p_CV.gather(1, target_C[:, None]).squeeze(1).float()
            loss_sum = loss_sum - (own_C * weight_C).sum()
            # The target is the likeliest where nothing is likelier: cheaper than the place of the largest.
            correct_sum = correct_sum + ((own_C >= log_p_CV.amax(-1).float()) * weight_C).sum()
            if draw is not None:
                drawn.append(choose(log_p_CV, draw.uniform_S[block], draw.sampling, draw.temperature))
            if not learns:
                continue
            d_logits_CV = log_p_CV.exp_()  # the log-probabilities are not needed any more
            d_logits_CV.scatter_add_(1, target_C[:, None], -torch.ones_like(target_C[:, None], dtype=dtype))
            d_logits_CV *= weight_C[:, None].to(dtype)
            d_features_SE[block] = d_logits_CV @ table
            d_table_VE += d_logits_CV.t() @ features_CE
            d_bias_V += d_logits_CV.sum(0, dtype=torch.float32)
        ctx.save_for_backward(d_features_SE, d_table_VE, d_bias_V)
        drawn_S = torch.cat(drawn) if drawn else target_S.new_zeros(0)
        ctx.mark_non_differentiable(correct_sum, drawn_S)
        return loss_sum, correct_sum, drawn_S

    @staticmethod
    def backward(ctx, d_loss, _correct, _drawn):
        d_features_SE, d_table_VE, d_bias_V = ctx.saved_tensors
        return (
            d_features_SE * d_loss.to(d_features_SE.dtype),
            d_table_VE * d_loss,
            d_bias_V * d_loss,
            *[None] * 3,
        )
