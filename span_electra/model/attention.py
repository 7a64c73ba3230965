"""Scaled dot-product attention, and dropout of its probabilities.

Shapes are in the names:
  B  rows of a batch   L  tokens of a row   D  width   H  heads   K  width of one head   Z  3 * D
  Q  tokens that look, of L looked at: 1 where all see the same, else L
  C  rows of a piece   M  heads of a piece, C * H, or of all rows, B * H   N  L filled up to whole vectors
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.model.dropout import fits, loops
from span_electra.model.varlen import PackedRows, attend_packed

VECTOR = 32  # numbers of 16 bits that a CPU's widest vectors hold
PIECE = 1 << 19  # attention scores held at once; 2 MB stay in the cache

Seen = Tensor | PackedRows | None  # a mask, bool [B, 1, Q, L]; rows that share lines; None: everything


def attend(qkv_BLZ: Tensor, heads: int, seen: Seen, rate: float, key: int | None) -> Tensor:
    """Scaled dot-product attention with dropout of its probabilities; returns [B, L, D].

    A mask is True on keys that may be looked at, by all alike (Q = 1) or one by one (Q = L).
    """
    if isinstance(seen, PackedRows):
        assert not rate, "packed rows are attended to without dropout"
        return attend_packed(qkv_BLZ, heads, seen)
    if rate and key is not None and fits(qkv_BLZ):
        return Attend.apply(qkv_BLZ, heads, seen, rate, key)
    if qkv_BLZ.device.type == "cpu" and qkv_BLZ.dtype == torch.bfloat16:
        return NarrowAttend.apply(qkv_BLZ, heads, seen, rate)
    rows, length, triple = qkv_BLZ.shape
    split_3BHLK = qkv_BLZ.view(rows, length, 3, heads, triple // 3 // heads).permute(2, 0, 3, 1, 4)
    query, keys, value = split_3BHLK.unbind(0)
    mixed_BHLK = F.scaled_dot_product_attention(query, keys, value, seen, dropout_p=rate)
    return mixed_BHLK.transpose(1, 2).reshape(rows, length, triple // 3)


# --- in bf16 on a CPU -----------------------------------------------------------------------------------


class NarrowAttend(torch.autograd.Function):
    """Attention in single products: the fused operator's backward pass is several times slower in bf16.

    Heads are laid end to end once, and their gradients go straight to where the projection wants them. Keys
    are filled up to whole vectors of the CPU, without which a softmax takes two to three times as long.
    """

    @staticmethod
    def forward(ctx: Any, qkv_BLZ: Tensor, heads: int, attend_B1QL: Tensor | None, rate: float) -> Tensor:
        rows, length, triple = qkv_BLZ.shape
        width, filled = triple // 3 // heads, -(-length // VECTOR) * VECTOR
        heads_3BHNK = qkv_BLZ.new_zeros(3, rows, heads, filled, width)
        heads_3BHNK[..., :length, :] = qkv_BLZ.unflatten(-1, (3, heads, width)).permute(2, 0, 3, 1, 4)
        query_MNK, keys_MNK, value_MNK = heads_3BHNK.flatten(1, 2)
        scores_MLN = qkv_BLZ.new_empty(rows * heads, length, filled)
        with torch.autocast("cpu", enabled=False):  # which would make the softmax one of float32
            scaled = {"beta": 0, "alpha": width**-0.5, "out": scores_MLN}
            torch.baddbmm(scores_MLN, query_MNK[:, :length], keys_MNK.mT, **scaled)
            if (unseen_B1QN := unseen(attend_B1QL, scores_MLN)) is not None:
                scores_MLN.unflatten(0, (rows, heads)).add_(unseen_B1QN)
            probability_MLN = torch.softmax(scores_MLN, -1, out=scores_MLN)
            factor_MLN = F.dropout(torch.ones_like(probability_MLN), rate) if rate else None
            weight_MLN = probability_MLN if factor_MLN is None else probability_MLN * factor_MLN
            mixed_MLK = torch.bmm(weight_MLN, value_MNK)
        out_BLD = mixed_MLK.unflatten(0, (rows, heads)).transpose(1, 2).reshape(rows, length, triple // 3)
        ctx.save_for_backward(heads_3BHNK, probability_MLN, factor_MLN, out_BLD)
        return out_BLD

    @staticmethod
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Tensor | None, ...]:
        heads_3BHNK, probability_MLN, factor_MLN, out_BLD = ctx.saved_tensors
        _, rows, heads, _, width = heads_3BHNK.shape
        length = out_BLD.shape[1]
        query_MNK, keys_MNK, value_MNK = heads_3BHNK.flatten(1, 2)
        grad_MLK = grad_BLD.unflatten(-1, (heads, width)).transpose(1, 2).reshape(-1, length, width)
        weight_MLN = probability_MLN if factor_MLN is None else probability_MLN * factor_MLN
        grad_value_MNK = torch.bmm(weight_MLN.mT, grad_MLK)
        # What a softmax's gradient takes off each row, the mean of what comes by its probabilities, is the
        # same as the gradient times what the row gave (Dao et al. 2022, FlashAttention, appendix B.2).
        mean_BLH1 = (grad_BLD * out_BLD).unflatten(-1, (heads, width)).sum(-1, keepdim=True)
        mean_ML1 = mean_BLH1.transpose(1, 2).reshape(-1, length, 1)
        if factor_MLN is None:
            grad_MLN = torch.baddbmm(mean_ML1, grad_MLK, value_MNK.mT, beta=-1)
        else:
            grad_MLN = torch.bmm(grad_MLK, value_MNK.mT).mul_(factor_MLN).sub_(mean_ML1)
        grad_MLN.mul_(probability_MLN)
        scaled = {"beta": 0, "alpha": width**-0.5}
        grad_query_MLK = torch.baddbmm(grad_MLK, grad_MLN, keys_MNK, **scaled)
        grad_keys_MNK = torch.baddbmm(keys_MNK, grad_MLN.mT, query_MNK[:, :length], **scaled)
        grad_BL3HK = out_BLD.new_empty(rows, length, 3, heads, width)
        for part, grad_MNK in enumerate((grad_query_MLK, grad_keys_MNK, grad_value_MNK)):
            grad_BL3HK[:, :, part] = grad_MNK[:, :length].unflatten(0, (rows, heads)).transpose(1, 2)
        return grad_BL3HK.flatten(2), None, None, None


def unseen(attend_B1QL: Tensor | None, scores_MLN: Tensor) -> Tensor | None:
    """What is added to scores so that keys which may not be looked at get nothing, [B, 1, Q, N] or [N]."""
    length, filled = scores_MLN.shape[1:]
    if attend_B1QL is None and filled == length:
        return None
    if attend_B1QL is None:
        return scores_MLN.new_zeros(filled).masked_fill_(torch.arange(filled) >= length, -math.inf)
    # Added, not filled in: to read a mask for each head takes longer than to make this.
    unseen_B1QN = scores_MLN.new_full((*attend_B1QL.shape[:-1], filled), -math.inf)
    unseen_B1QN[..., :length].masked_fill_(attend_B1QL, 0.0)
    return unseen_B1QN


# --- dropout by key -------------------------------------------------------------------------------------


class Attend(torch.autograd.Function):
    """Attention with dropout, a few rows at a time; keeps its input alone and computes the rest again.

    Scores of a whole batch would not fit the cache, and keeping them costs more memory than all the rest.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv_BLZ: Tensor, heads: int, attend_B1QL: Tensor | None, rate: float, key: int
    ) -> Tensor:
        rows, length, triple = qkv_BLZ.shape
        out_BLHK = torch.empty(rows, length, heads, triple // 3 // heads)
        kernels, mask = loops(key, rate)
        for piece, first in pieces(rows, heads, length):
            query_MLK, keys_MLK, value_MLK = split_heads(qkv_BLZ[piece], heads)
            probability_MLL = probabilities(query_MLK, keys_MLK, attend_B1QL, piece)
            flat = probability_MLL.view(-1).numpy()
            kernels.drop(flat, mask, first, flat)
            mixed_MLK = torch.bmm(probability_MLL, value_MLK)
            out_BLHK[piece].copy_(mixed_MLK.unflatten(0, (-1, heads)).transpose(1, 2))
        # Neither scores nor masks: both are made again a piece at a time, at half of the memory's price.
        ctx.save_for_backward(qkv_BLZ, attend_B1QL)
        ctx.settings = heads, rate, key
        return out_BLHK.view(rows, length, triple // 3)

    @staticmethod
    def backward(ctx: Any, grad_BLD: Tensor) -> tuple[Tensor | None, ...]:
        qkv_BLZ, attend_B1QL = ctx.saved_tensors
        heads, rate, key = ctx.settings
        rows, length, triple = qkv_BLZ.shape
        width = triple // 3 // heads
        grad_qkv_BL3HK = torch.empty(rows, length, 3, heads, width)
        kernels, mask = loops(key, rate)
        for piece, first in pieces(rows, heads, length):
            query_MLK, keys_MLK, value_MLK = split_heads(qkv_BLZ[piece], heads)
            probability_MLL = probabilities(query_MLK, keys_MLK, attend_B1QL, piece)
            grad_MLK = (
                grad_BLD[piece].unflatten(-1, (heads, width)).transpose(1, 2).reshape(-1, length, width)
            )
            grad_MLL = torch.bmm(grad_MLK, value_MLK.transpose(1, 2))
            kernels.softmax_drop_backward(
                probability_MLL.view(-1, length).numpy(), grad_MLL.view(-1, length).numpy(), mask, first
            )
            grads_3MLK = torch.empty(3, *query_MLK.shape)
            torch.bmm(grad_MLL, keys_MLK, out=grads_3MLK[0])
            grads_3MLK[0].mul_(width**-0.5)
            torch.bmm(grad_MLL.transpose(1, 2), query_MLK, out=grads_3MLK[1])
            torch.bmm(probability_MLL.transpose(1, 2), grad_MLK, out=grads_3MLK[2])
            grads_3CHLK = grads_3MLK.unflatten(1, (-1, heads))
            grad_qkv_BL3HK[piece].copy_(grads_3CHLK.permute(1, 3, 0, 2, 4))
        return grad_qkv_BL3HK.view(rows, length, triple), None, None, None, None


def pieces(rows: int, heads: int, length: int) -> list[tuple[slice, np.uint32]]:
    """Cut the batch so that a piece's scores stay in the cache; with each, the number of its first score."""
    each = max(1, PIECE // (heads * length * length))
    return [
        (slice(row, row + each), np.uint32(row * heads * length * length & 0xFFFFFFFF))
        for row in range(0, rows, each)
    ]


def split_heads(qkv_CLZ: Tensor, heads: int) -> Tensor:
    """Return query (already scaled), key and value of a piece, each [M, L, K] and contiguous."""
    length, triple = qkv_CLZ.shape[1:]
    width = triple // 3 // heads
    split_3CHLK = qkv_CLZ.unflatten(-1, (3, heads, width)).permute(2, 0, 3, 1, 4)
    # A copy even where one head would allow a view: the query is scaled in place.
    split = split_3CHLK.clone(memory_format=torch.contiguous_format).view(3, -1, length, width)
    split[0].mul_(width**-0.5)
    return split


def probabilities(query_MLK: Tensor, keys_MLK: Tensor, attend_B1QL: Tensor | None, piece: slice) -> Tensor:
    """Return softmax(query key^T) of a piece, [M, L, L]; tokens that may not be looked at get 0."""
    scores_MLL = torch.bmm(query_MLK, keys_MLK.transpose(1, 2))
    if attend_B1QL is not None:
        allowed_C1QL = attend_B1QL[piece]
        scores_MLL.unflatten(0, (len(allowed_C1QL), -1)).masked_fill_(~allowed_C1QL, float("-inf"))
    return torch.softmax(scores_MLL, -1, out=scores_MLL)
