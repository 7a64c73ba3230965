"""Dropout and the sums, norms and attention it sits in.

Shapes are in the names:
  B  rows of a batch   L  tokens of a row   D  width   H  heads   K  width of one head   Z  3 * D
Every function takes a `key`: None asks for torch's own dropout and its generator; an integer makes the
masks a pure function of the key and the element's number, so that a resumed run draws what it would have
drawn, and nothing but the key needs to be stored.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_WORD = (1 << 64) - 1


def mix(word: int) -> int:
    """Scramble a 64-bit number (the finaliser of splitmix64, Steele et al. 2014)."""
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def subkey(key: int | None, *numbers: int) -> int | None:
    """Derive the key of a part from the key of the whole; None stays None.

    Example: a trainer's step has `subkey(seed, step, micro_step, rank)`.
    """
    if key is None:
        return None
    for number in numbers:
        key = mix(key ^ mix(number))
    return key


def drop(x: Tensor, rate: float, key: int | None) -> Tensor:
    """Set elements to 0 with probability `rate` and scale the rest so that the mean stays."""
    if rate == 0.0:
        return x
    return F.dropout(x, rate)


def drop_add_norm(x: Tensor, residual: Tensor, norm: nn.LayerNorm, rate: float, key: int | None) -> Tensor:
    """LayerNorm(residual + dropout(x)), shapes [..., D]."""
    return norm(residual + drop(x, rate, key))


def attend(qkv_BLZ: Tensor, heads: int, attend_B11L: Tensor | None, rate: float, key: int | None) -> Tensor:
    """Scaled dot-product attention with dropout of its probabilities; returns [B, L, D].

    `attend_B11L` is True on keys that may be looked at; None: on all.
    """
    rows, length, triple = qkv_BLZ.shape
    split_3BHLK = qkv_BLZ.view(rows, length, 3, heads, triple // 3 // heads).permute(2, 0, 3, 1, 4)
    query, key_BHLK, value = split_3BHLK.unbind(0)
    mixed_BHLK = F.scaled_dot_product_attention(query, key_BHLK, value, attend_B11L, dropout_p=rate)
    return mixed_BHLK.transpose(1, 2).reshape(rows, length, triple // 3)
