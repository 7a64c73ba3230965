"""Scaled dot-product attention, with or without rotary positions, and dropout of its probabilities.

Shapes are in the names:
  B  rows of a batch   L  tokens of a row   D  width   H  heads   K  width of one head   Z  3 * D
  Q  tokens that look, of L looked at: 1 where all see the same, else L
  C  rows of a piece   M  heads of a piece, C * H      F  frequencies of rotary positions, K / 2
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.model.dropout import fits, loops
from span_electra.model.varlen import PackedRows, attend_packed

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
    rows, length, triple = qkv_BLZ.shape
    split_3BHLK = qkv_BLZ.view(rows, length, 3, heads, triple // 3 // heads).permute(2, 0, 3, 1, 4)
    query, keys, value = split_3BHLK.unbind(0)
    if qkv_BLZ.device.type == "cpu" and qkv_BLZ.dtype == torch.bfloat16:
        mixed_BHLK = attend_spelled_out(query, keys, value, seen, rate)
    else:
        mixed_BHLK = F.scaled_dot_product_attention(query, keys, value, seen, dropout_p=rate)
    return mixed_BHLK.transpose(1, 2).reshape(rows, length, triple // 3)


def attend_spelled_out(
    query_BHLK: Tensor, keys_BHLK: Tensor, value_BHLK: Tensor, attend_B1QL: Tensor | None, rate: float
) -> Tensor:
    """The same in single operators: on CPUs the fused one's backward pass is several times slower in bf16."""
    scale = query_BHLK.shape[-1] ** -0.5
    scores_BHLL = (query_BHLK * scale) @ keys_BHLK.transpose(-1, -2)
    if attend_B1QL is not None:
        scores_BHLL = scores_BHLL.masked_fill(~attend_B1QL, float("-inf"))
    probability_BHLL = scores_BHLL.softmax(-1, dtype=scores_BHLL.dtype)  # autocast would make it float32
    return (F.dropout(probability_BHLL, rate) if rate else probability_BHLL) @ value_BHLK


# --- rotary positions -----------------------------------------------------------------------------------


def rotation_of(length: int, head_size: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [L, F] each, of the angles by which RoPE turns places 0 to `length` - 1.

    Frequency f turns place p by p * theta^(-2 f / K) (Su et al. 2021, RoFormer, section 3.2.2).
    """
    double_F = torch.arange(0, head_size, 2, dtype=torch.float32, device=device)
    inverse_F = 1.0 / theta ** (double_F / head_size)  # rounded as in `transformers`, for equal bits
    angle_LF = torch.arange(length, dtype=torch.float32, device=device)[:, None] * inverse_F
    return angle_LF.cos(), angle_LF.sin()


def rotate(qkv_BLZ: Tensor, heads: int, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries and keys by their places; the value part stays. Column f goes with column f + F of a head.

    A score then depends on contents and on the distance of two places alone.
    """
    cos_LF, sin_LF = (angles.to(qkv_BLZ.dtype) for angles in rotation)
    if qkv_BLZ.device.type == "cpu" and not torch.compiler.is_compiling():
        return Rotate.apply(qkv_BLZ, heads, cos_LF, sin_LF)
    rows, length, triple = qkv_BLZ.shape
    split_BL3HK = qkv_BLZ.view(rows, length, 3, heads, triple // 3 // heads)
    both, value = split_BL3HK[:, :, :2], split_BL3HK[:, :, 2:]
    first, second = both.chunk(2, dim=-1)
    cos, sin = cos_LF[:, None, None], sin_LF[:, None, None]
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([turned, value], dim=2).view(rows, length, triple)


class Rotate(torch.autograd.Function):
    """The rotation in place on one copy; its backward pass turns gradients back and keeps nothing."""

    @staticmethod
    def forward(ctx: Any, qkv_BLZ: Tensor, heads: int, cos_LF: Tensor, sin_LF: Tensor) -> Tensor:
        ctx.heads, ctx.angles = heads, (cos_LF, sin_LF)
        return Rotate.turned(qkv_BLZ, heads, cos_LF, sin_LF)

    @staticmethod
    def backward(ctx: Any, grad_BLZ: Tensor) -> tuple[Tensor | None, ...]:
        cos_LF, sin_LF = ctx.angles
        return Rotate.turned(grad_BLZ.contiguous(), ctx.heads, cos_LF, -sin_LF), None, None, None

    @staticmethod
    def turned(qkv_BLZ: Tensor, heads: int, cos_LF: Tensor, sin_LF: Tensor) -> Tensor:
        rows, length, triple = qkv_BLZ.shape
        shape = rows, length, 3, heads, 2, triple // 6 // heads
        out_BLZ = qkv_BLZ.clone()
        before = qkv_BLZ.view(shape)[:, :, :2]
        after = out_BLZ.view(shape)[:, :, :2]
        cos, sin = cos_LF[:, None, None], sin_LF[:, None, None]
        torch.mul(before, cos[..., None, :], out=after)
        after[..., 0, :].addcmul_(before[..., 1, :], sin, value=-1)
        after[..., 1, :].addcmul_(before[..., 0, :], sin)
        return out_BLZ


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
            query_MLK, keys_MLK, value_MLK = heads_of(qkv_BLZ[piece], heads)
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
            query_MLK, keys_MLK, value_MLK = heads_of(qkv_BLZ[piece], heads)
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


def heads_of(qkv_CLZ: Tensor, heads: int) -> Tensor:
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
