"""Rows of tokens -> the spans that are hidden: geometric lengths in whole words, an exact budget in tokens.

Shapes are in the names:
  R  rows    T  tokens, all rows one after another    S  spans, all rows one after another
  W  words of one row    V  vocabulary    L  lengths 1 .. max_span_len

The n-th random number of a row depends on the row's key and on n alone (keyed_random.py), so neither workers,
batches nor restarts can change a row's spans.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from span_electra.data_config import MaskingConfig
from span_electra.features.keyed_random import GAMMA, finalize
from span_electra.features.span_placement import place_spans, place_spans_format_1, place_tokens
from span_electra.features.words import (
    Row,
    TokenRows,
    count_special,
    find_words,
    find_words_format_1,
    is_special,
    leave_out_special,
    single_tokens,
)
from span_electra.text.compiled import compiled
from span_electra.text.eight_bytes import first_byte, load8
from span_electra.text.word_starts import TokenWords

PADDING = 8  # bytes after the marks, because eight are read at a time


class Spans(NamedTuple):
    """The hidden spans of some rows; within a row they are sorted and never touch."""

    starts_S: np.ndarray  # int32; the span's first token, counted from the row's first ([CLS] is 0)
    lengths_S: np.ndarray  # int32; tokens
    row_ends_R: np.ndarray  # int64; row r owns the spans row_ends_R[r - 1] .. row_ends_R[r] - 1


# --- keyed random numbers -------------------------------------------------------------------------------


def row_keys(seed: int, epoch: int, rows_R: np.ndarray, purpose: str) -> np.ndarray:
    """Return one uint64 key a row, from (seed, epoch, row, purpose) alone.

    `purpose` ("spans", "samples", ...) keeps streams apart that share the other three.
    """
    # Hashed once for all rows: for each it would take longer than the drawing.
    words = f"{purpose}\0{int(seed)}\0{int(epoch)}".encode()
    base = np.uint64(int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little"))
    # The base once more: two epochs' bases a few apart would else share keys, each at another row.
    return finalize(finalize(base + np.asarray(rows_R).astype(np.uint64)) ^ base)


def uniforms(keys_R: np.ndarray, counts_R: np.ndarray) -> np.ndarray:
    """Return float32 numbers in [0, 1): `counts_R[r]` of them for row r, rows one after another."""
    first_R = np.cumsum(counts_R) - counts_R
    counter_S = (1 + np.arange(counts_R.sum()) - np.repeat(first_R, counts_R)).astype(np.uint64)
    bits_S = finalize(np.repeat(keys_R, counts_R) + counter_S * GAMMA)  # as `random_bits` has it
    # 24 bits: every value is exact in float32 and 1.0 cannot come out by rounding.
    return (bits_S >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


# --- spans --------------------------------------------------------------------------------------------


def span_budget(lengths_R: np.ndarray, mask_ratio: float | np.ndarray) -> np.ndarray:
    """Return how many tokens each row hides: round(mask_ratio * (length - 2)), int64.

    Halves go to the even neighbour, as Python's `round` has it. `length` counts [CLS] and [SEP]; the ratio
    is one for all rows, or one for each.

    Example: lengths 512, 14, 3 at ratio .2 -> 102, 2, 0
    """
    content_R = np.asarray(lengths_R, dtype=np.int64) - 2
    return np.rint(content_R * np.asarray(mask_ratio, np.float64)).astype(np.int64)


def length_distribution(masking: MaskingConfig) -> np.ndarray:
    """Return P(length = 1 .. max_span_len): p (1 - p)^(l - 1), renormalised (SpanBERT section 3.1)."""
    # Renormalised, not cut: what lies beyond the longest length is shared out over all.
    probability_L = masking.geometric_p * (1.0 - masking.geometric_p) ** np.arange(masking.max_span_len)
    return probability_L / probability_L.sum()


def _thresholds(probability_L: np.ndarray) -> np.ndarray:
    """Thresholds on 32 random bits: a length is 1 + the number of thresholds not above them."""
    thresholds_L = np.rint(np.cumsum(probability_L) * 2.0**32).astype(np.uint64)
    thresholds_L[-1] = 2**32  # whatever the sum rounds to, the longest length ends the search
    return thresholds_L


class _SpanSettings(NamedTuple):
    """A MaskingConfig for compiled loops, and what each row's spans depend on besides."""

    format: int
    whole_words: int
    thresholds_L: np.ndarray  # of length_distribution
    joined: int  # up to so many words that would be left of a budget go to the span before
    budgets_R: np.ndarray  # tokens to hide
    keys_R: np.ndarray


def sample_spans(rows: TokenRows, tokens: TokenWords, keys_R: np.ndarray, masking: MaskingConfig) -> Spans:
    """Draw the spans of some rows as `masking` says; [CLS] and [SEP] are never hidden.

    Nor are these, [PAD] and [MASK] where a text spells them out (in format 2), as long as the row has enough
    other tokens for its budget: spans are laid over the row without them.

    Lengths are drawn one after another until they fill the budget; the last is cut to it. Where no place is
    left for a length, it is shortened word by word; where not even a word fits, the whole row is drawn anew
    in tokens. So the budget is always met.

    tokens: the vocabulary's, see `Vocabulary.token_words`. keys_R: each row's own, see `row_keys`.

    Example: budget 4, lengths drawn 3, 2 -> spans [(5, 8), (11, 12)]  (the last is cut to the budget)
    """
    starts_R, lengths_R = (np.ascontiguousarray(values, dtype=np.int64) for values in rows[1:])
    # Known before anything is drawn, so that totals of a step can be counted from lengths alone.
    budgets_R = span_budget(lengths_R, masking.mask_ratio)
    most = int(budgets_R.sum())  # a span hides at least one token
    spans = Spans(np.empty(most, np.int32), np.empty(most, np.int32), np.empty(len(lengths_R), np.int64))
    longest = int(lengths_R.max(initial=0))
    room = Row(
        np.empty(longest + 1, np.int64),
        np.ones(longest + 1, np.uint8),
        np.zeros(longest + 2 + PADDING, np.uint8),
    )
    # One type each, since numba compiles anew for every other one, which takes seconds.
    keys_R = np.ascontiguousarray(keys_R, dtype=np.uint64)
    probability_L = length_distribution(masking)
    mean_length = probability_L @ np.arange(1, len(probability_L) + 1)
    joined = min(2, int(mean_length / 2))  # less than half a mean span
    settings = _SpanSettings(
        format=masking.format,
        whole_words=int(masking.whole_words),
        thresholds_L=_thresholds(probability_L),
        joined=joined,
        budgets_R=budgets_R,
        keys_R=keys_R,
    )
    _sample_rows(TokenRows(rows.ids_T, starts_R, lengths_R), tokens, settings, room, spans)
    count = int(spans.row_ends_R[-1]) if len(lengths_R) else 0
    # Copies, since a view would keep the room for the most spans there can be.
    return Spans(spans.starts_S[:count].copy(), spans.lengths_S[:count].copy(), spans.row_ends_R)


# --- loops ----------------------------------------------------------------------------------------------


@compiled
def _sample_rows(rows, tokens, settings, row, spans):
    """Fill `spans`. `row.taken` is zeros before and after each row."""
    span = 0
    for number in range(len(settings.budgets_R)):
        first, content = rows.starts_R[number] + 1, rows.lengths_R[number] - 2
        budget, key = settings.budgets_R[number], settings.keys_R[number]
        # A row too short to hide a token has no spans; its words need not be found.
        if budget > 0:
            if settings.whole_words == 0:
                words = single_tokens(content, row.word_at_W, row.begins_T)
            elif settings.format == 1:
                words = find_words_format_1(rows.ids_T, first, content, tokens.starts_V, row.word_at_W)
            else:
                words = find_words(rows.ids_T, first, content, tokens, row=row)
            # Spans that do not touch need so much room at most, each of them being one token.
            special = count_special(rows.ids_T, first, content, tokens.flags_V)
            if settings.format == 1 or content - special < 2 * budget - 1:
                special = 0
            if special > 0:
                words = leave_out_special(rows.ids_T, first, content, tokens.flags_V, row=row, words=words)
            if settings.format == 1:
                stopped = place_spans_format_1(row, words, budget, key, settings.thresholds_L)
            else:
                stopped = place_spans(row, words, budget, key, settings)
            if stopped:
                left = content - special
                place_tokens(row, left, budget, key=key, counter=stopped, thresholds_L=settings.thresholds_L)
            if special > 0:
                kept = content - special
                _put_back(rows.ids_T, first, content, tokens.flags_V, taken=row.taken, kept=kept)
            span = _take_spans(row.taken, content, spans, span)
        spans.row_ends_R[number] = span


@compiled
def _put_back(ids_T, first, content, flags_V, taken, kept):
    """Spread the marks of `kept` tokens over the row that special ones were left out of."""
    place = kept  # from the end, so that no mark is written over before it has moved
    for token in range(content, 0, -1):
        taken[token] = 0 if is_special(ids_T, first + token - 1, flags_V) else taken[place]
        place -= not is_special(ids_T, first + token - 1, flags_V)


@compiled
def _take_spans(taken, content, spans, span):
    """Write the runs of marks as spans, from number `span` on, and clear them; the number after the last."""
    place = 1
    while place <= content:
        marks = load8(taken, place)  # most of a row is not hidden, and passed eight tokens at a time
        if marks == 0:
            place += 8
            continue
        place += first_byte(marks)
        start = place
        while taken[place]:
            taken[place] = 0
            place += 1
        spans.starts_S[span], spans.lengths_S[span] = start, place - start
        span += 1
    return span
