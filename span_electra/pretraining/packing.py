"""Packed batches: rows one after another in lines of the longest row's width, so that one shape serves all.

Shapes are in the names:
  R  rows of an epoch   N  batches of an epoch   B  rows of a batch   L  tokens of a line   S  hidden tokens
  P  where rows begin, and the end   W  the width of a line
What a row holds, hides and samples follows from its number as ever; attention stays inside it, and positions
begin anew with it (`MaskedBatch.position_BL`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from span_electra.text.compiled import compiled


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


def pack_into_lines(lengths_R: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Lay rows into lines, the longest first, each where the least room that it fits is left (best fit).

    Returns each row's line and the place of its first token in it, int64, and the number of lines. Rows of
    one length go into lines in the order in which they come.

    Example: lengths 3, 6, 5, 2 in lines of 8 -> lines 1, 0, 1, 0 at places 5, 0, 0, 6
    """
    lengths_R = np.ascontiguousarray(lengths_R, dtype=np.int64)
    assert not len(lengths_R) or 0 < lengths_R.min() <= lengths_R.max() <= width, "a row fits no line"
    line_R, start_R = np.empty((2, len(lengths_R)), np.int64)
    order_R = np.argsort(-lengths_R, kind="stable")
    return line_R, start_R, _best_fit(lengths_R, order_R, width, line_R, start_R)


@compiled
def _best_fit(lengths_R, order_R, width, line_R, start_R):
    # Lines with the same room are chained, so that one is found without a look at all the others.
    newest_W = np.full(width + 1, -1, np.int64)  # by the room that is left
    before_N = np.empty(len(order_R), np.int64)  # the next line with as much room as this one
    lines = 0
    for row in order_R:
        room = lengths_R[row]
        while room <= width and newest_W[room] < 0:
            room += 1
        if room > width:
            room, line = width, lines
            lines += 1
        else:
            line = newest_W[room]
            newest_W[room] = before_N[line]
        line_R[row], start_R[row] = line, width - room
        room -= lengths_R[row]
        before_N[line] = newest_W[room]
        newest_W[room] = line
    return lines


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
