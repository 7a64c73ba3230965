"""Rotary positions: queries and keys turned by their places, so that a score depends on distances alone.

Shapes are in the names:
  B  rows of a batch   L  tokens of a row   Z  3 * D: query, key and value of all heads   D  width
  H  attention heads   K  width of one head   F  frequencies, K / 2   X  2 * D, the part that is turned
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LONG_RUNS = (torch.bfloat16,)  # in float32, runs of a head's half fill a CPU's vectors


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
        if qkv_BLZ.dtype in LONG_RUNS:
            return turned_in_long_runs(qkv_BLZ, heads, cos_LF, sin_LF)
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


def turned_in_long_runs(qkv_BLZ: Tensor, heads: int, cos_LF: Tensor, sin_LF: Tensor) -> Tensor:
    """The same numbers in half the time in bf16, where runs of F columns are too short for a CPU's vectors.

    All heads' columns are gone through at once. Sines of 0 keep a column from the wrong side out of the sum.
    """
    turned, half = 2 * qkv_BLZ.shape[-1] // 3, cos_LF.shape[1]
    none_LF = torch.zeros_like(sin_LF)
    cos_LX = cos_LF.repeat(1, 4 * heads)
    from_right_LX = torch.cat([-sin_LF, none_LF], dim=1).repeat(1, 2 * heads)
    from_left_LX = torch.cat([none_LF, sin_LF], dim=1).repeat(1, 2 * heads)
    out_BLZ = torch.empty_like(qkv_BLZ)
    torch.mul(qkv_BLZ[..., :turned], cos_LX, out=out_BLZ[..., :turned])
    out_BLZ[..., : turned - half].addcmul_(qkv_BLZ[..., half:turned], from_right_LX[:, :-half])
    out_BLZ[..., half:turned].addcmul_(qkv_BLZ[..., : turned - half], from_left_LX[:, half:])
    out_BLZ[..., turned:] = qkv_BLZ[..., turned:]
    return out_BLZ
