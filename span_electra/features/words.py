"""Rows of tokens -> where their words begin, by either format of features; loops over arrays.

W words of one row    T content tokens of one row
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from span_electra.text.compiled import compiled
from span_electra.text.word_starts import (
    BEGINS,
    CONTINUES,
    INSIDE,
    OPEN,
    OPEN_END,
    PARTS,
    SPECIAL,
    TokenWords,
)

# Format 1: text without word starts (Chinese in a byte-level vocabulary) was cut into words of this size.
LONGEST_WORD = 32
# Format 2: what is longer, in tokens, is no word but text without blanks; there every character is one.
# Real words of 16 tokens are rare even in small vocabularies; links and hashes are longer.
LONGEST_REAL_WORD = 16


class TokenRows(NamedTuple):
    """Rows where they lie: row r is ids_T[starts_R[r] : starts_R[r] + lengths_R[r]], with [CLS] and [SEP]."""

    ids_T: np.ndarray  # uint16, uint32 or int64; may be a memory map
    starts_R: np.ndarray  # int64
    lengths_R: np.ndarray  # int64; tokens


class Row(NamedTuple):
    """One row's words and marks: arrays with room for the longest row. Positions count content tokens from 0.

    Token t is marked at taken[t + 1], so that every token has neighbours. Spans never touch, so runs of marks
    are the row's spans in order.
    """

    word_at_W: np.ndarray  # int64; where words begin, and the row's end behind them
    begins_T: np.ndarray  # uint8; whether a token begins a character
    taken: np.ndarray  # uint8; 1 on the hidden tokens


def word_starts(rows: TokenRows, tokens: TokenWords, format: int = 2) -> np.ndarray:
    """Return where words begin in some rows, bool, for the content tokens of all rows one after another.

    format: that of features whose words are meant.
    """
    starts_R, lengths_R = (np.ascontiguousarray(values, dtype=np.int64) for values in rows[1:])
    longest = int(lengths_R.max(initial=0))
    row = Row(np.empty(longest + 1, np.int64), np.ones(longest + 1, np.uint8), np.zeros(1, np.uint8))
    marks_T = np.zeros(int((lengths_R - 2).sum()), np.bool_)
    _mark_words(TokenRows(rows.ids_T, starts_R, lengths_R), tokens, format, row, marks_T)
    return marks_T


@compiled
def _mark_words(rows, tokens, format, row, marks_T):
    place = 0
    for number in range(len(rows.starts_R)):
        first, content = rows.starts_R[number] + 1, rows.lengths_R[number] - 2
        if content > 0:
            if format == 1:
                words = find_words_format_1(rows.ids_T, first, content, tokens.starts_V, row.word_at_W)
            else:
                words = find_words(rows.ids_T, first, content, tokens, row)
            for word in range(words):
                marks_T[place + row.word_at_W[word]] = True
            place += content


@compiled
def single_tokens(content, word_at_W, begins_T):
    """Every token a word; returns their number."""
    for token in range(content + 1):
        word_at_W[token] = token
        begins_T[token] = 1
    return content


@compiled
def find_words_format_1(ids_T, first, content, starts_word_V, word_at_W):
    """Write where the row's words begin, and behind them the row's end; return the number of words."""
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
def find_words(ids_T, first, content, tokens, row):
    """The same by the rule of word_starts.py; `begins_T` gets 1 where a token begins a character.

    A character whose bytes lie in several tokens is put together from them, so that its script decides and
    not the chance of where the vocabulary cuts. `parted` is whether the latest character parts words.
    """
    word_at_W, begins_T = row.word_at_W, row.begins_T
    words, latest, parted, size = 0, 0, False, len(tokens.flags_V)
    for token in range(content):
        number = np.int64(ids_T[first + token])
        flags = tokens.flags_V[number] if number < size else BEGINS
        begins = flags & CONTINUES == 0
        starts = token == 0 or (begins and (parted or flags & BEGINS != 0))
        of_cut = np.uint8(0)
        if flags & OPEN_END:
            of_cut = _class_of_cut(ids_T, first + token, first + content, tokens)
        if flags & OPEN and of_cut & BEGINS:
            starts = True
        begins_T[token] = begins or token == 0  # whatever a row begins with is whole as far as it knows
        if starts:
            if token - latest > LONGEST_REAL_WORD:
                words = _part_characters(latest, token, begins_T, word_at_W, words)
            word_at_W[words] = token
            words += 1
            latest = token
        if flags & OPEN_END:
            parted = of_cut & PARTS != 0
        elif flags & INSIDE == 0:
            parted = flags & PARTS != 0
    if content - latest > LONGEST_REAL_WORD:
        words = _part_characters(latest, content, begins_T, word_at_W, words)
    word_at_W[words], begins_T[content] = content, 1
    return words


@compiled
def is_special(ids_T, place, flags_V):
    """Whether the token at a place is one that no span may hide."""
    number = np.int64(ids_T[place])
    return number < len(flags_V) and flags_V[number] & SPECIAL != 0


@compiled
def count_special(ids_T, first, content, flags_V):
    """How many of the row's content tokens are special: a text may spell them out."""
    found = 0
    for token in range(content):
        found += is_special(ids_T, first + token, flags_V)
    return found


@compiled
def leave_out_special(ids_T, first, content, flags_V, row, words):
    """Take the row's special tokens out of its words, which end at each; return the words that are left."""
    word_at_W, begins_T = row.word_at_W, row.begins_T
    starts_W = word_at_W[:words].copy()
    kept, left, word, opens = 0, 0, 0, True
    for token in range(content):
        if word < words and starts_W[word] == token:
            word, opens = word + 1, True
        if is_special(ids_T, first + token, flags_V):
            opens = True
            continue
        if opens:
            word_at_W[left], opens = kept, False
            left += 1
        begins_T[kept] = begins_T[token]
        kept += 1
    word_at_W[left], begins_T[kept] = kept, 1
    return left


@compiled
def _part_characters(latest, end, begins_T, word_at_W, words):
    """Make words of the characters after the first of latest .. end - 1; return the new number of words."""
    for token in range(latest + 1, end):
        if begins_T[token]:
            word_at_W[words] = token
            words += 1
    return words


@compiled
def _class_of_cut(ids_T, place, end, tokens):
    """BEGINS and PARTS of the character that the token at `place` ends inside of; `end`: of the row.

    Where the row ends first, the bits that are missing count as zeros: its block of Unicode is the same.
    """
    number = np.int64(ids_T[place])
    # The bits of its code point so far; the tokens behind it bring the rest, six bits a byte.
    bits, missing = np.int64(tokens.end_V[number]), np.int64(tokens.missing_V[number])
    place += 1
    while missing > 0 and place < end:
        number = np.int64(ids_T[place])
        brought = np.int64(tokens.fronts_V[number]) if number < len(tokens.fronts_V) else 0
        if brought == 0:
            break
        used = min(brought, missing)
        front = np.int64(tokens.front_V[number]) >> (6 * (brought - used))
        bits = bits << (6 * used) | front
        missing -= used
        place += 1
    bits <<= 6 * missing
    return tokens.classes_C[bits] if bits < len(tokens.classes_C) else np.uint8(0)
