"""Attention of rows that share lines by torch's kernel for them, where it works; elsewhere a mask does it.

Shapes are in the names:
  B  lines of a batch   L  tokens of a line   T  tokens of the batch, B * L   Z  3 * D
  D  width              H  attention heads    K  width of one head, D / H
  P  where rows begin, and the end; see `MaskedBatch.cu_seqlens_P`
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from span_electra.config import ModelConfig
from span_electra.errors import reason_of

CLOSE = 0.03  # in 16 bits: two kernels round in other places, and what they are given is about 1


class PackedRows(NamedTuple):
    """Where rows lie, in place of a mask that keeps them apart."""

    cu_seqlens_P: Tensor  # int32
    longest: int  # tokens of the longest row, or more
    window: tuple[int, int]  # places that are seen to the left and to the right; -1: all


def sides(window: int | None, causal: bool) -> tuple[int, int]:
    """A layer's window, of places to each side or None, as the kernel takes it."""
    left = -1 if window is None else window
    return left, 0 if causal else left


def attend_packed(qkv_BLZ: Tensor, heads: int, rows: PackedRows) -> Tensor:
    """Scaled dot-product attention within each row, [B, L, D]; in 16 bits, without dropout."""
    # Here, not above: older versions of torch lack it, and are never asked.
    from torch.nn.attention.varlen import varlen_attn

    lines, length, triple = qkv_BLZ.shape
    query_THK, keys_THK, value_THK = qkv_BLZ.view(-1, 3, heads, triple // 3 // heads).unbind(1)
    ends = rows.cu_seqlens_P, rows.cu_seqlens_P, rows.longest, rows.longest
    mixed_THK = varlen_attn(query_THK, keys_THK, value_THK, *ends, window_size=rows.window)
    return mixed_THK.reshape(lines, length, triple // 3)


def why_masked(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why rows that share lines are kept apart by a mask here, or None: `attend_packed` serves them."""
    if config.attention_probs_dropout_prob:
        return "attention has dropout"
    if device.type == "cpu" or dtype is torch.float32:
        return f"torch has no other way for {'a cpu' if device.type == 'cpu' else 'float32'}"
    networks = config.generator, config.discriminator
    return varlen_fault(device, dtype, {each.hidden_size // each.num_attention_heads for each in networks})


def varlen_fault(device: torch.device, dtype: torch.dtype, head_sizes: Iterable[int]) -> str | None:
    """What is wrong with `attend_packed` on this device, or None; tried with a few rows, and their gradients.

    Not told by versions or names of devices: it must give what a mask gives, wherever it runs.
    """
    # Two lines of 24 tokens: rows of 9 and 15, and one of 24; what fills up has no tokens.
    cu_seqlens_P = torch.tensor([0, 9, 24, 48, 48], dtype=torch.int32, device=device)
    row_BL = torch.tensor([[0] * 9 + [1] * 15, [2] * 24], device=device)
    place_L = torch.arange(24, device=device)
    distance_LL = place_L[:, None] - place_L
    drawn = torch.Generator().manual_seed(0)  # the run's own numbers stay as they are
    try:
        for head_size in sorted(head_sizes):
            for window, causal in ((None, False), (3, False), (None, True)):
                left, right = sides(window, causal)
                seen_LL = (distance_LL <= left) | (left < 0)
                seen_LL = seen_LL & ((-distance_LL <= right) | (right < 0))
                mask_B1LL = ((row_BL[:, :, None] == row_BL[:, None]) & seen_LL)[:, None]
                qkv_BLZ = torch.randn(2, 24, 6 * head_size, generator=drawn).to(device, dtype)
                packed = PackedRows(cu_seqlens_P, 24, (left, right))
                ours = _with_gradient(lambda x, rows=packed: attend_packed(x, 2, rows), qkv_BLZ)
                theirs = _with_gradient(lambda x, mask=mask_B1LL: _attend_masked(x, 2, mask), qkv_BLZ)
                gap = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
                if not gap <= CLOSE * max(1.0, *(float(b.abs().max()) for b in theirs)):
                    return f"heads of {head_size} differ from a mask's by {gap:.2g}"
    except Exception as error:  # whatever a kernel or an older torch raises, a mask does the same
        return reason_of(error)
    return None


def _attend_masked(qkv_BLZ: Tensor, heads: int, mask_B1LL: Tensor) -> Tensor:
    parts = qkv_BLZ.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(*parts, mask_B1LL).transpose(1, 2).flatten(2)


def _with_gradient(function, qkv_BLZ: Tensor) -> tuple[Tensor, Tensor]:
    qkv_BLZ = qkv_BLZ.clone().requires_grad_()
    with torch.enable_grad():
        found = function(qkv_BLZ)
        found.float().square().sum().backward()
    return found.detach().float(), qkv_BLZ.grad.float()
