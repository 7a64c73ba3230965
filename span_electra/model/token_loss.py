"""What a generator says of its masked slots: losses, likeliest tokens and samples, without keeping logits.

Shapes are in the names:
  S  masked slots   C  slots of a chunk   V  vocabulary   E  width of the words' table
The logits of all slots would be the largest tensor of a step. They are made a chunk at a time, while the
cache holds them, and everything that needs them is done at once: loss, argmax, sample, and the gradients too,
since a gradient of a sum of losses needs nothing that comes later but one factor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from span_electra.model.corruption import Sampling, sample_tokens

CHUNK_LOGITS = 1 << 21  # at once on a CPU: 8 MB in float32, which its cache holds
MOST_CHUNKS = 4  # elsewhere: each is a few kernels and, compiled, code of its own


@dataclass(frozen=True)
class TokenScores:
    """What a head says of each slot."""

    loss: Tensor  # float32 scalar with its graph: nats, summed over slots by weight
    loss_S: Tensor  # float32, detached; nats of each slot, whatever its weight
    likeliest_S: Tensor  # int64
    sampled_S: Tensor | None  # int64; the replacements, if they were asked for


def score_logits(
    logits_SV: Tensor, target_S: Tensor, weight_S: Tensor, sampling: Sampling | None
) -> TokenScores:
    """Loss, argmax and sample of logits that are there already, whole; `score_tokens` makes them itself."""
    log_probability_SV = logits_SV.float().log_softmax(-1)
    loss_S = -log_probability_SV.gather(1, target_S[:, None]).squeeze(1)
    sampled_S = None if sampling is None else sample_tokens(log_probability_SV, sampling)
    return TokenScores((loss_S * weight_S).sum(), loss_S.detach(), logits_SV.argmax(-1), sampled_S)


def score_tokens(
    features_SE: Tensor,
    table_VE: Tensor,
    bias_V: Tensor,
    *,
    target_S: Tensor,
    weight_S: Tensor,
    sampling: Sampling | None,
) -> TokenScores:
    """Loss, argmax and sample of the logits features @ table^T + bias, in the precision of autocast."""
    # Told, since in a function's forward pass gradients are off, and parameters seem to want theirs always.
    learns = torch.is_grad_enabled()
    loss, loss_S, likeliest_S, sampled_S = ChunkedLoss.apply(
        features_SE, table_VE, bias_V, target_S, weight_S, sampling, learns
    )
    return TokenScores(loss, loss_S, likeliest_S, sampled_S)


def argmax(logits_CV: Tensor) -> Tensor:
    """Return the place of each row's largest logit, int64 [C]; the first of several."""
    if logits_CV.device.type != "cpu" or torch.compiler.is_compiling():
        return logits_CV.argmax(-1)
    # PyTorch's takes 9 times as long as NumPy's on a CPU, and in bfloat16 20 times, more than the products.
    logits_CV = logits_CV.detach()
    if logits_CV.dtype == torch.bfloat16:
        # Read as integers, in a sixth of the time: those above 0 keep their order, and lie above all others.
        bits_CV = logits_CV.view(torch.int16).numpy()
        likeliest_C = bits_CV.argmax(-1)
        if (np.take_along_axis(bits_CV, likeliest_C[:, None], -1) > 0).all():
            return torch.from_numpy(likeliest_C)
    return torch.from_numpy(logits_CV.float().numpy().argmax(-1))


def chunk_size(slots: int, vocabulary: int, device: str) -> int:
    """Slots whose logits are made at once: as many as a CPU's cache holds; elsewhere few equal chunks."""
    size = max(16, CHUNK_LOGITS // vocabulary)
    if device == "cpu":
        return size
    chunks = min(MOST_CHUNKS, -(-slots // (16 * size)))
    return max(1, -(-slots // max(1, chunks)))  # 1 where a batch hides nothing: no step of a range is 0


def product_dtype(features: Tensor) -> torch.dtype:
    """What matrix products are made in: autocast's type where that is on, else the tensor's own."""
    device = features.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype


class MadeForward(torch.autograd.Function):
    """A summed loss whose gradients, by the first three of its seven inputs, are made and saved with it."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        scaled = (part * grad.to(part.dtype) for part in ctx.saved_tensors)
        return *scaled, None, None, None, None


class ChunkedLoss(MadeForward):
    """Cross-entropy over the whole vocabulary, a chunk of slots at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        features_SE: Tensor,
        table_VE: Tensor,
        bias_V: Tensor,
        target_S: Tensor,
        weight_S: Tensor,
        sampling: Sampling | None,
        learns: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        device = features_SE.device.type
        dtype = product_dtype(features_SE)
        # In validation, or of a frozen generator, the gradients would be half of the work for nothing.
        learns = learns and any(ctx.needs_input_grad[:3])
        slots = len(target_S)
        loss_S = torch.empty(slots, device=features_SE.device)
        likeliest_S = torch.empty_like(target_S)
        sampled_S = None if sampling is None else torch.empty_like(target_S)
        grad_features_SE = torch.empty_like(features_SE) if learns else None
        grad_table_VE = torch.zeros_like(table_VE, dtype=torch.float32) if learns else None
        grad_bias_V = torch.zeros_like(bias_V, dtype=torch.float32) if learns else None
        # Narrowed once, not in each chunk: the table is the largest tensor here.
        narrow_VE, narrow_bias_V = table_VE.to(dtype), bias_V.to(dtype)
        size = chunk_size(slots, len(table_VE), device)
        with torch.autocast(device, enabled=False):
            for start in range(0, slots, size):
                chunk = slice(start, start + size)
                features_CE, target_C1 = features_SE[chunk].to(dtype), target_S[chunk, None]
                logits_CV = torch.addmm(narrow_bias_V, features_CE, narrow_VE.T)
                likeliest_C1 = argmax(logits_CV)[:, None]
                likeliest_S[chunk] = likeliest_C1.squeeze(1)
                probability_CV = logits_CV.softmax(-1)
                # log(sum of exp) is the largest logit less the logarithm of its probability, which is at
                # least 1/V: exact where the target's own probability would underflow, in bfloat16 too.
                surest_C1 = probability_CV.gather(1, likeliest_C1).float().log()
                behind_C1 = logits_CV.gather(1, likeliest_C1).float() - logits_CV.gather(1, target_C1).float()
                loss_S[chunk] = (behind_C1 - surest_C1).squeeze(1)
                if sampling is not None:
                    own = replace(sampling, uniform_S=sampling.uniform_S[chunk])
                    sampled_S[chunk] = sample_tokens(logits_CV, own, probability_CV)
                if learns:
                    # The loss's derivative by the logits: probability, less 1 at the target.
                    # By indices: on a CPU, scattering takes all of a bf16 tensor to float32 and back.
                    slot_C = torch.arange(len(target_C1), device=target_C1.device)
                    probability_CV[slot_C, target_C1.squeeze(1)] -= 1.0
                    weight_C1 = weight_S[chunk, None].to(dtype)
                    grad_features_SE[chunk] = (probability_CV @ narrow_VE) * weight_C1
                    grad_table_VE += probability_CV.T @ (features_CE * weight_C1)
                    grad_bias_V += (probability_CV.T @ weight_C1).squeeze(1)
        if learns:
            ctx.save_for_backward(grad_features_SE, grad_table_VE, grad_bias_V)
        # The loss of each slot is for counting; a gradient through it would come twice.
        ctx.mark_non_differentiable(loss_S, *(x for x in (likeliest_S, sampled_S) if x is not None))
        return (loss_S * weight_S).sum(), loss_S, likeliest_S, sampled_S
