"""Packed batches: rows one after another in lines of the longest row's width, so that one shape serves all.

Shapes are in the names:
  R  rows of an epoch   N  batches of an epoch   B  rows of a batch   L  tokens of a line   S  hidden tokens
  P  where rows begin, and the end
What a row holds, hides and samples follows from its number as ever; attention stays inside it, and positions
begin anew with it (`MaskedBatch.position_BL`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from span_electra.features.packing import pack_into_lines


class PackedEpoch(NamedTuple):
    """The rows of an epoch in the order of batches, and where in its batch each lies."""

    order_R: np.ndarray  # int64; rows
    ends_N: np.ndarray  # int64; the exclusive end of each batch in that order
    line_R: np.ndarray  # int64; the row's line in its batch
    start_R: np.ndarray  # int64; the place of its first token in that line


def plan_packed_epoch(
    lengths_R: np.ndarray, rng: np.random.Generator, *, width: int, lines: int, span_rows: int
) -> PackedEpoch:
    """Shuffle the rows, pack every `span_rows` of them together, shuffle the lines; `lines` are a batch."""
    shuffled_R, count = rng.permutation(len(lengths_R)), 0
    line_R, start_R = np.empty((2, len(lengths_R)), np.int64)
    for begin in range(0, len(lengths_R), span_rows):
        span = shuffled_R[begin : begin + span_rows]
        own, start_R[span], more = pack_into_lines(lengths_R[span], width)
        line_R[span], count = own + count, count + more
    # Lines were opened from the longest row down; which meet in a batch must be chance.
    line_R = rng.permutation(count)[line_R]
    order_R = np.lexsort((start_R, line_R))
    line_R = line_R[order_R]
    ends_N = np.cumsum(np.bincount(line_R // lines))
    return PackedEpoch(order_R, ends_N, line_R % lines, start_R[order_R])


def pack(
    arrays: dict[str, np.ndarray],
    lengths_B: np.ndarray,
    *,
    line_B: np.ndarray,
    start_B: np.ndarray,
    lines: int,
) -> dict[str, np.ndarray]:
    """Move the rows of a batch, a line each, into `lines` lines; with `position_BL` and `attention_mask_BL`.

    arrays: under MaskedBatch's names. Tokens of no row are 0, which no loss counts.
    """
    width = arrays["original_BL"].shape[1]
    place_L = np.arange(width)
    real_BL = place_L < lengths_B[:, None]
    first_B = line_B * width + start_B
    target_T = (first_B[:, None] + place_L)[real_BL]
    rows = {name: value for name, value in arrays.items() if name.endswith("_BL")}
    rows |= {"position_BL": np.broadcast_to(place_L, real_BL.shape), "attention_mask_BL": real_BL}
    packed = dict(arrays)
    for name, value_BL in rows.items():
        packed[name] = np.zeros((lines, width), value_BL.dtype)
        packed[name].reshape(-1)[target_T] = value_BL[real_BL]
    for name in ("slots_S", "left_S", "right_S"):
        packed[name] = first_B[arrays[name] // width] + arrays[name] % width
    return packed


def cumulative_lengths(position_BL: np.ndarray, real_BL: np.ndarray) -> np.ndarray:
    """`MaskedBatch.cu_seqlens_P` of the lines of a batch; what fills up a line counts as a row.

    Their number is one more than a power of two, so that batches differ seldom in shape.

    Example: a line of rows of 2 and 3 tokens, and 1 that fills up -> 0, 2, 5, 6, 6
    """
    filling_BL = ~real_BL
    filling_BL[:, 1:] &= real_BL[:, :-1]  # the first token of it alone
    begin_P = np.flatnonzero((position_BL == 0) & real_BL | filling_BL)
    filled = np.full((1 << (len(begin_P) - 1).bit_length()) + 1, position_BL.size, np.int32)
    filled[: len(begin_P)] = begin_P
    return filled
