"""Rows of tokens -> the spans that are hidden: geometric lengths in whole words, an exact budget in tokens.

Shapes are in the names:
  R  rows    T  tokens, all rows one after another    S  spans, all rows one after another
  W  words of one row    V  vocabulary    L  lengths 1 .. max_span_len

Random numbers are counter-based (splitmix64, Steele, Lea and Flood 2014): the n-th number of a row depends on
the row's key and on n alone, so neither workers, batches nor restarts can change a row's spans.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from span_electra.config import MaskingConfig
from span_electra.features.keyed_random import HALF_MASK, mix, pick_below, random_bits
from span_electra.text.compiled import compiled
from span_electra.text.eight_bytes import first_byte, load8

PLACE_TRIES = 16  # random places tried for a span before the free places are counted
# Tokens; text without word starts (Chinese in a byte-level vocabulary) is cut into words of this size.
LONGEST_WORD = 32
PADDING = 8  # bytes after the marks, because eight are read at a time


@dataclass(frozen=True)
class Spans:
    """The hidden spans of some rows; within a row they are sorted and never touch."""

    starts_S: np.ndarray  # int32; the span's first token, counted from the row's first ([CLS] is 0)
    lengths_S: np.ndarray  # int32; tokens
    row_ends_R: np.ndarray  # int64; row r owns the spans row_ends_R[r - 1] .. row_ends_R[r] - 1


# --- keyed random numbers -------------------------------------------------------------------------------


def row_keys(seed: int, epoch: int, rows_R: np.ndarray, purpose: str) -> np.ndarray:
    """Return one uint64 key a row, from (seed, epoch, row, purpose) alone.

    `purpose` ("spans", "samples", ...) keeps streams apart that share the other three.
    """
    words = f"{purpose}\0{int(seed)}\0{int(epoch)}".encode()
    base = np.uint64(int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little"))
    keys_R = np.empty(len(rows_R), np.uint64)
    _keys_of_rows(base, np.ascontiguousarray(rows_R, dtype=np.int64), keys_R)
    return keys_R


@compiled
def _keys_of_rows(base, rows_R, keys_R):
    for row in range(len(rows_R)):
        keys_R[row] = mix(mix(base + np.uint64(rows_R[row])) ^ base)


def uniforms(keys_R: np.ndarray, counts_R: np.ndarray) -> np.ndarray:
    """Return float32 numbers in [0, 1): `counts_R[r]` of them for row r, rows one after another."""
    counts_R = np.ascontiguousarray(counts_R, dtype=np.int64)
    uniforms_S = np.empty(int(counts_R.sum()), np.float32)
    _uniforms(np.ascontiguousarray(keys_R, dtype=np.uint64), counts_R, uniforms_S)
    return uniforms_S


@compiled
def _uniforms(keys_R, counts_R, uniforms_S):
    slot = 0
    for row in range(len(keys_R)):
        for counter in range(counts_R[row]):
            # 24 bits: every value is exact in float32 and 1.0 cannot come out by rounding.
            bits = random_bits(keys_R[row], counter + 1) >> np.uint64(40)
            uniforms_S[slot] = np.float32(bits) * np.float32(2.0**-24)
            slot += 1


# --- the law --------------------------------------------------------------------------------------------


def span_budget(lengths_R: np.ndarray, mask_ratio: float | np.ndarray) -> np.ndarray:
    """Return how many tokens each row hides: round(mask_ratio * (length - 2)), int64.

    Halves go to the even neighbour, as Python's `round` has it. `length` counts [CLS] and [SEP]; the ratio
    is one for all rows, or one for each.

    Example: lengths 512, 14, 3 at ratio .2 -> 102, 2, 0
    """
    content_R = np.asarray(lengths_R, dtype=np.int64) - 2
    return np.rint(content_R * np.asarray(mask_ratio, np.float64)).astype(np.int64)


def length_law(masking: MaskingConfig) -> np.ndarray:
    """Return P(length = 1 .. max_span_len): p (1 - p)^(l - 1), renormalised (SpanBERT section 3.1)."""
    law_L = masking.geometric_p * (1.0 - masking.geometric_p) ** np.arange(masking.max_span_len)
    return law_L / law_L.sum()


def _length_thresholds(masking: MaskingConfig) -> np.ndarray:
    """The law as thresholds on 32 random bits: a length is 1 + the number of thresholds not above them."""
    thresholds_L = np.rint(np.cumsum(length_law(masking)) * 2.0**32).astype(np.uint64)
    thresholds_L[-1] = 2**32  # whatever the sum rounds to, the longest length ends the search
    return thresholds_L


def draw_spans(
    ids_T: np.ndarray,
    row_starts_R: np.ndarray,
    row_lengths_R: np.ndarray,
    starts_word_V: np.ndarray,
    keys_R: np.ndarray,
    masking: MaskingConfig,
) -> Spans:
    """Draw the spans of some rows; the tokens are read where they lie (`ids_T` may be a memory map).

    Row r is ids_T[row_starts_R[r] : row_starts_R[r] + row_lengths_R[r]], with [CLS] and [SEP], which are
    never hidden. Lengths are drawn one after another until they fill the budget; the last is cut to it. A
    length keeps its value while its place is redrawn, else long spans, which fit less often, would be too
    few. Where no place is left for it, it is shortened word by word; where not even a word fits, the whole
    row is drawn anew in tokens. So the budget is always met.

    Example: budget 4, lengths drawn 3, 2 -> spans [(5, 8), (11, 12)]  (the last is cut to the budget)
    """
    lengths_R = np.ascontiguousarray(row_lengths_R, dtype=np.int64)
    budgets_R = span_budget(lengths_R, masking.mask_ratio)
    most = int(budgets_R.sum())  # a span hides at least one token
    starts_S, lengths_S = np.empty(most, np.int32), np.empty(most, np.int32)
    row_ends_R = np.empty(len(lengths_R), np.int64)
    longest = int(lengths_R.max(initial=0))
    _draw_rows(
        ids_T,
        np.ascontiguousarray(row_starts_R, dtype=np.int64),
        lengths_R,
        budgets_R,
        # Without whole words every token may begin a span.
        np.ascontiguousarray(starts_word_V | (not masking.whole_words), dtype=np.bool_),
        np.ascontiguousarray(keys_R, dtype=np.uint64),
        _length_thresholds(masking),
        np.empty(longest + 1, np.int64),
        np.zeros(longest + 2 + PADDING, np.uint8),
        starts_S,
        lengths_S,
        row_ends_R,
    )
    count = int(row_ends_R[-1]) if len(row_ends_R) else 0
    return Spans(starts_S[:count].copy(), lengths_S[:count].copy(), row_ends_R)


# --- loops ----------------------------------------------------------------------------------------------
# Inside a row positions count content tokens from 0. `taken` marks the hidden ones, token t at taken[t + 1],
# so that every token has neighbours. Spans never touch, so its runs are the row's spans in order.


@compiled
def _draw_rows(
    ids_T,
    row_starts_R,
    lengths_R,
    budgets_R,
    starts_word_V,
    keys_R,
    thresholds_L,
    word_at_W,
    taken,
    starts_S,
    lengths_S,
    row_ends_R,
):
    """Fill starts_S, lengths_S and row_ends_R. `taken` is zeros before and after each row."""
    span = 0
    for row in range(len(lengths_R)):
        content, budget = lengths_R[row] - 2, budgets_R[row]
        if budget > 0:
            words = _find_words(ids_T, row_starts_R[row] + 1, content, starts_word_V, word_at_W)
            stopped = _place_row(word_at_W, words, budget, keys_R[row], thresholds_L, taken)
            if stopped:
                _spread_row(content, budget, keys_R[row], stopped, thresholds_L, word_at_W, taken)
            span = _take_spans(taken, content, starts_S, lengths_S, span)
        row_ends_R[row] = span


@compiled
def _find_words(ids_T, first, content, starts_word_V, word_at_W):
    """Write where the row's words start, and behind them the row's end; return the number of words."""
    word_at_W[0] = 0
    words, latest, size = 1, 0, len(starts_word_V)
    for token in range(1, content):
        number = ids_T[first + token]
        # An id outside the table (a damaged file) must not read outside it either.
        if (number < size and starts_word_V[number]) or token - latest >= LONGEST_WORD:
            word_at_W[words] = token
            words += 1
            latest = token
    word_at_W[words] = content
    return words


@compiled
def _place_row(word_at_W, words, budget, key, thresholds_L, taken):
    """Mark spans one after another; 0, or the numbers drawn until no place was left, and nothing marked."""
    counter, left = 0, budget
    while left > 0:
        counter += 1
        bits = random_bits(key, counter)
        span_words = _draw_length(bits, thresholds_L)
        length = 0
        for _ in range(PLACE_TRIES):
            word = pick_below(bits, words)
            length = _fitting_length(word_at_W, words, word, span_words, left, taken)
            if length > 0:
                break
            counter += 1
            bits = random_bits(key, counter)
        if length == 0:
            counter += 1
            word, length = _search_place(word_at_W, words, span_words, left, taken, random_bits(key, counter))
        if length == 0:
            taken[: word_at_W[words] + 1] = 0
            return counter
        start = word_at_W[word]
        taken[start + 1 : start + 1 + length] = 1
        left -= length
    return 0


@compiled
def _take_spans(taken, content, starts_S, lengths_S, span):
    """Write the runs of marks as spans, from number `span` on, and clear them; the number after the last."""
    place = 1
    while place <= content:
        marks = load8(taken, place)
        if marks == 0:
            place += 8
            continue
        place += first_byte(marks)
        start = place
        while taken[place]:
            taken[place] = 0
            place += 1
        starts_S[span], lengths_S[span] = start, place - start
        span += 1
    return span


@compiled
def _draw_length(bits, thresholds_L):
    """Turn the lower half of 64 random bits into a length of the law."""
    length = 1
    while (bits & HALF_MASK) >= thresholds_L[length - 1]:
        length += 1
    return length


@compiled
def _fitting_length(word_at_W, words, word, span_words, left, taken):
    """Return the tokens of a span of `span_words` words at `word`, cut to `left`; 0: it does not fit."""
    start, content = word_at_W[word], word_at_W[words]
    if word + span_words <= words:
        length = min(word_at_W[word + span_words] - start, left)
    elif content - start >= left:
        length = left  # longer than the row, but the budget cuts it before the row's end
    else:
        return 0
    for place in range(start, start + length + 2):  # from the token before to the token after
        if taken[place]:
            return 0
    return length


@compiled
def _search_place(word_at_W, words, span_words, left, taken, bits):
    """Choose evenly among all places that fit, as endless retries would; fewer words where there is none."""
    for fewer in range(span_words, 0, -1):
        fitting = 0
        for word in range(words):
            fitting += _fitting_length(word_at_W, words, word, fewer, left, taken) > 0
        if fitting == 0:
            continue
        chosen = pick_below(bits, fitting)
        for word in range(words):
            length = _fitting_length(word_at_W, words, word, fewer, left, taken)
            if length > 0:
                if chosen == 0:
                    return word, length
                chosen -= 1
    return 0, 0


@compiled
def _spread_row(content, budget, key, counter, thresholds_L, lengths, taken):
    """Draw the row anew in tokens, not words, and lay the spans out evenly over every way not to touch.

    Stars and bars: count spans need count - 1 tokens between them; the other free tokens and the spans come
    in any order. There is always room, for at most half the content (rounded up) is hidden. `lengths` is room
    for the spans' lengths.
    """
    count, left = 0, budget
    while left > 0:
        counter += 1
        lengths[count] = min(_draw_length(random_bits(key, counter), thresholds_L), left)
        left -= lengths[count]
        count += 1
    free = content - budget - (count - 1)
    start, laid = 0, 0
    while laid < count:
        counter += 1
        if pick_below(random_bits(key, counter), free + count - laid) < count - laid:
            taken[start + 1 : start + 1 + lengths[laid]] = 1
            start += lengths[laid] + 1
            laid += 1
        else:
            start += 1
            free -= 1
