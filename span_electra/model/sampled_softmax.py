"""Cross-entropy over a large vocabulary from a sample of it: the sampled softmax.

Shapes are in the names:
  S  slots   C  slots of a chunk   K  candidates   V  vocabulary   E  width of the words' table
The sum over the vocabulary in a softmax is estimated from K candidates, of which each stands for 1 /
(probability that it is drawn) tokens; the slot's own target is always counted, once. The estimate of the sum
has no bias; the loss, which takes its logarithm, has a small one (Bengio and Senecal 2008, "Adaptive
importance sampling"). With the whole vocabulary as candidates, loss and gradients are the full softmax's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from span_electra.model.token_loss import MadeForward, TokenScores, argmax, chunk_size, product_dtype


def score_candidates(
    features_SE: Tensor,
    table_VE: Tensor,
    bias_V: Tensor,
    *,
    target_S: Tensor,
    weight_S: Tensor,
    candidate_K: Tensor,
    log_count_K: Tensor,
) -> TokenScores:
    """Loss and argmax as `score_tokens` has them, from the candidates and each slot's target alone.

    For training: gradients are made whether they are asked for or not. `likeliest_S` is the likeliest of the
    candidates and the target.

    Args:
        candidate_K: int64; each token at most once.
        log_count_K: float32; the logarithm of how many tokens each stands for, 0 for itself alone.
    """
    loss, loss_S, likeliest_S = SampledLoss.apply(
        features_SE, table_VE, bias_V, target_S, weight_S, candidate_K, log_count_K
    )
    return TokenScores(loss, loss_S, likeliest_S, None)


class SampledLoss(MadeForward):
    """Cross-entropy over the candidates, a chunk of slots at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        features_SE: Tensor,
        table_VE: Tensor,
        bias_V: Tensor,
        target_S: Tensor,
        weight_S: Tensor,
        candidate_K: Tensor,
        log_count_K: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = features_SE.device.type
        dtype = product_dtype(features_SE)
        slots, candidates = len(target_S), len(candidate_K)
        loss_S = torch.empty(slots, device=features_SE.device)
        likeliest_S = torch.empty_like(target_S)
        # Narrowed once, not in each chunk.
        narrow_SE, narrow_KE = features_SE.to(dtype), table_VE[candidate_K].to(dtype)
        narrow_bias_K, narrow_count_K = bias_V[candidate_K].to(dtype), log_count_K.to(dtype)
        # A target's logit needs its row of the table alone, whether it is a candidate or not.
        target_SE = table_VE[target_S].to(dtype)
        own_logit_S = (narrow_SE * target_SE).sum(-1, dtype=torch.float32) + bias_V[target_S].float()
        place_S = places_among(candidate_K, target_S, len(table_VE))
        grad_features_SE = torch.empty_like(features_SE)
        grad_own_logit_S = torch.empty_like(loss_S)
        grad_table_KE = torch.zeros(narrow_KE.shape, device=features_SE.device)
        grad_bias_K = torch.zeros(candidates, device=features_SE.device)
        size = chunk_size(slots, candidates, device)
        with torch.autocast(device, enabled=False):
            for start in range(0, slots, size):
                chunk = slice(start, start + size)
                own_C, weight_C = own_logit_S[chunk], weight_S[chunk]
                logits_CK = torch.addmm(narrow_bias_K, narrow_SE[chunk], narrow_KE.T)
                best_C1 = argmax(logits_CK)[:, None]
                other_is_best_C = logits_CK.gather(1, best_C1).squeeze(1).float() > own_C
                best_C = candidate_K[best_C1.squeeze(1)]
                likeliest_S[chunk] = torch.where(other_is_best_C, best_C, target_S[chunk])
                log_others_C, share_CK = sum_of_others(logits_CK, narrow_count_K, place_S[chunk])
                log_sum_C = torch.logaddexp(log_others_C, own_C)
                loss_S[chunk] = log_sum_C - own_C
                # The loss's derivative by the logits: probability, less 1 at the target.
                grad_own_logit_S[chunk] = torch.expm1(own_C - log_sum_C) * weight_C
                # In place: it is the largest tensor here.
                grad_CK = share_CK.mul_(((log_others_C - log_sum_C).exp() * weight_C)[:, None].to(dtype))
                grad_features_SE[chunk] = grad_CK @ narrow_KE
                grad_table_KE += grad_CK.T @ narrow_SE[chunk]
                grad_bias_K += grad_CK.sum(0, dtype=torch.float32)
        # What goes through the targets' own logits, which each slot has one of.
        grad_own_logit_S1 = grad_own_logit_S[:, None]
        grad_features_SE += grad_own_logit_S1 * target_SE
        grad_table_VE = torch.zeros(table_VE.shape, device=features_SE.device)
        grad_table_VE.index_add_(0, candidate_K, grad_table_KE)
        grad_table_VE.index_add_(0, target_S, grad_own_logit_S1 * narrow_SE)
        grad_bias_V = torch.zeros(len(table_VE), device=features_SE.device)
        grad_bias_V.index_add_(0, candidate_K, grad_bias_K).index_add_(0, target_S, grad_own_logit_S)
        ctx.save_for_backward(grad_features_SE, grad_table_VE, grad_bias_V)
        ctx.mark_non_differentiable(loss_S, likeliest_S)
        return (loss_S * weight_S).sum(), loss_S, likeliest_S


def places_among(candidate_K: Tensor, target_S: Tensor, vocabulary: int) -> Tensor:
    """Each target's place among the candidates, int64 [S]; -1 where it is none of them."""
    place_V = torch.full((vocabulary,), -1, device=target_S.device)
    place_V[candidate_K] = torch.arange(len(candidate_K), device=target_S.device)
    return place_V[target_S]


def sum_of_others(logits_CK: Tensor, log_count_K: Tensor, target_place_C: Tensor) -> tuple[Tensor, Tensor]:
    """log(sum of exp) of all tokens but the target, estimated, float32 [C]; the candidates' shares of it.

    target_place_C: the target's place among the candidates, or -1.
    """
    logits_CK = logits_CK + log_count_K
    # A target among the candidates is counted by itself. Where it is none, the first has nothing added.
    struck_C = torch.where(target_place_C >= 0, float("-inf"), 0.0).to(logits_CK.dtype)
    slot_C = torch.arange(len(logits_CK), device=logits_CK.device)
    logits_CK.index_put_((slot_C, target_place_C.clamp(min=0)), struck_C, accumulate=True)
    largest_C1 = argmax(logits_CK)[:, None]
    share_CK = logits_CK.softmax(-1)
    # The largest logit less the logarithm of its share, which is at least 1 / K: exact in bfloat16 too.
    largest_share_C1 = share_CK.gather(1, largest_C1).float()
    return (logits_CK.gather(1, largest_C1).float() - largest_share_C1.log()).squeeze(1), share_CK
