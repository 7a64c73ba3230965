"""Training of vocabularies from word counts: the merges that the tokenizer library's trainers find, sooner.

The library's order is kept to the letter: the pair of highest count goes first, of equal counts the one of
smaller ids; counts of a pair are those of all its places, but a pair met anew is merged only where it was
met since. For byte-level BPE the result is the library's. For WordPiece the library numbers the pieces ##a,
##b ... of single characters as its hash map happens to hold the words, differently in every run, and those
ids decide between pairs of equal counts. Here they follow the characters' own order, so that the same text
gives the same file; given the library's numbering the result is the library's again.

    train_bpe({b"aab": 5, b"ab": 3}, 3, 2, [], "ab")  ->  ({"a": 0, "b": 1, "ab": 2}, [("a", "b")])

Shapes: W words, Y symbols of all words, P pairs, H hash places, Q queue entries, O occurrences.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from span_electra.text.compiled import compiled, inlined
from span_electra.text.eight_bytes import mixed
from span_electra.text.word_starts import byte_letters

PAIRS, OCCURRENCES, QUEUED, TOUCHED = range(4)  # places of State.used
_CONTINUES = "##"


class State(NamedTuple):
    """Words as symbols, pairs with counts and lists of the words that hold them, and a queue of pairs."""

    symbols_Y: np.ndarray  # int32; a word shrinks in its place
    starts_W: np.ndarray
    lengths_W: np.ndarray
    counts_W: np.ndarray  # int64
    hashed_H: np.ndarray  # int64, number of a pair + 1
    pairs_P: np.ndarray  # int64, left << 32 | right
    counts_P: np.ndarray  # int64
    lists_P: np.ndarray  # int64, newest occurrence that is in no queue entry yet, -1 for none
    words_O: np.ndarray  # int32
    next_O: np.ndarray  # int64
    queue_counts_Q: np.ndarray  # a heap: highest count first, then smallest pair
    queue_pairs_Q: np.ndarray
    queue_lists_Q: np.ndarray
    touched_P: np.ndarray  # pairs with a list, to be queued
    used: np.ndarray


@inlined
def _place(pair, hashed_H, pairs_P):
    """Place of a pair in the hash, or of the empty place where it would be."""
    mask = len(hashed_H) - 1
    at = np.int64(mixed(np.uint64(pair))) & mask
    while hashed_H[at] != 0 and pairs_P[hashed_H[at] - 1] != pair:
        at = (at + 1) & mask
    return at


@compiled
def _pair_number(state, left, right):
    """Number of a pair, given to it now if it is new."""
    pair = left << 32 | right
    at = _place(pair, state.hashed_H, state.pairs_P)
    if state.hashed_H[at] == 0:
        number = state.used[PAIRS]
        state.used[PAIRS] += 1
        state.hashed_H[at] = number + 1
        state.pairs_P[number], state.counts_P[number], state.lists_P[number] = pair, 0, -1
    return state.hashed_H[at] - 1


@compiled
def rehash(state):
    """Number all pairs again in an empty, larger hash."""
    for number in range(state.used[PAIRS]):
        at = _place(state.pairs_P[number], state.hashed_H, state.pairs_P)
        state.hashed_H[at] = number + 1


@compiled
def _met(state, left, right, word):
    """A pair came up in a word: count it and note the word."""
    number = _pair_number(state, left, right)
    state.counts_P[number] += state.counts_W[word]
    newest = state.lists_P[number]
    if newest < 0:
        state.touched_P[state.used[TOUCHED]] = number
        state.used[TOUCHED] += 1
    elif state.words_O[newest] == word:
        return
    at = state.used[OCCURRENCES]
    state.words_O[at], state.next_O[at] = word, newest
    state.lists_P[number] = at
    state.used[OCCURRENCES] += 1


@compiled
def _goes_before(state, a, b):
    if state.queue_counts_Q[a] != state.queue_counts_Q[b]:
        return state.queue_counts_Q[a] > state.queue_counts_Q[b]
    return state.pairs_P[state.queue_pairs_Q[a]] < state.pairs_P[state.queue_pairs_Q[b]]


@compiled
def _swap(state, a, b):
    for array in (state.queue_counts_Q, state.queue_pairs_Q, state.queue_lists_Q):
        array[a], array[b] = array[b], array[a]


@compiled
def _sink(state):
    """Put the first entry of the queue where it belongs."""
    at = 0
    while True:
        first = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < state.used[QUEUED] and _goes_before(state, child, first):
                first = child
        if first == at:
            return
        _swap(state, at, first)
        at = first


@compiled
def queue_touched(state):
    """Queue the pairs met since the last time, with the words they were met in."""
    for i in range(state.used[TOUCHED]):
        pair = state.touched_P[i]
        if state.counts_P[pair] > 0:
            at = state.used[QUEUED]
            state.used[QUEUED] += 1
            state.queue_counts_Q[at] = state.counts_P[pair]
            state.queue_pairs_Q[at] = pair
            state.queue_lists_Q[at] = state.lists_P[pair]
            while at > 0 and _goes_before(state, at, (at - 1) // 2):
                _swap(state, at, (at - 1) // 2)
                at = (at - 1) // 2
        state.lists_P[pair] = -1
    state.used[TOUCHED] = 0


@compiled
def count_pairs(state):
    for word in range(len(state.starts_W)):
        start = state.starts_W[word]
        for i in range(start, start + state.lengths_W[word] - 1):
            _met(state, np.int64(state.symbols_Y[i]), np.int64(state.symbols_Y[i + 1]), word)
    queue_touched(state)


@compiled
def next_pair(state, min_frequency):
    """left << 32 | right of the pair to merge now, first of the queue; -1 when none is frequent enough."""
    while state.used[QUEUED] > 0:
        count = state.counts_P[state.queue_pairs_Q[0]]
        if count == state.queue_counts_Q[0]:
            if count < 1 or count < min_frequency:
                return -1
            return state.pairs_P[state.queue_pairs_Q[0]]
        state.queue_counts_Q[0] = count  # merges of other pairs took places from this one
        _sink(state)
    return -1


@compiled
def _merge_in_word(state, word, left, right, new):
    start, length = state.starts_W[word], state.lengths_W[word]
    # In its own place: a merged word is never longer than it was.
    read = write = start
    end = start + length
    symbols = state.symbols_Y
    while read < end:
        if read + 1 < end and symbols[read] == left and symbols[read + 1] == right:
            if write > start:
                before = np.int64(symbols[write - 1])
                state.counts_P[_pair_number(state, before, left)] -= state.counts_W[word]
                _met(state, before, new, word)
            if read + 2 < end:
                after = np.int64(symbols[read + 2])
                state.counts_P[_pair_number(state, right, after)] -= state.counts_W[word]
                _met(state, new, after, word)
            symbols[write] = new
            read += 2
        else:
            symbols[write] = symbols[read]
            read += 1
        write += 1
    state.lengths_W[word] = write - start


@compiled
def merge_first(state, new):
    """Merge the first pair of the queue into the symbol `new`, in the words of its entry."""
    pair, occurrence = state.pairs_P[state.queue_pairs_Q[0]], state.queue_lists_Q[0]
    last = state.used[QUEUED] - 1
    state.used[QUEUED] = last
    _swap(state, 0, last)
    _sink(state)
    while occurrence >= 0:
        _merge_in_word(state, state.words_O[occurrence], pair >> 32, pair & 0xFFFFFFFF, new)
        occurrence = state.next_O[occurrence]
    queue_touched(state)


def _new_state(symbols_Y: np.ndarray, lengths_W: np.ndarray, counts_W: np.ndarray) -> State:
    """Rooms are as large as they can need to be: a merge takes a symbol away and meets two pairs at most.

    What is not written to takes no memory.
    """
    room = 3 * len(symbols_Y) + 1

    def empty(dtype: type = np.int64) -> np.ndarray:
        return np.empty(room, dtype)

    starts_W = np.cumsum(lengths_W) - lengths_W
    return State(
        *(symbols_Y.astype(np.int32), starts_W, lengths_W.copy(), counts_W, np.zeros(1 << 16, np.int64)),
        *(empty(), empty(), empty(), empty(np.int32), empty(), empty(), empty(), empty(), empty()),
        used=np.zeros(4, np.int64),
    )


def _with_hash_for(state: State, pairs: int) -> State:
    """The state with a hash that so many pairs fill by half at most."""
    if 2 * pairs <= len(state.hashed_H):
        return state
    state = state._replace(hashed_H=np.zeros(1 << (4 * pairs).bit_length(), np.int64))
    rehash(state)
    return state


def _merge_all(
    state: State, ids: dict[str, int], vocab_size: int, min_frequency: int, continues: str
) -> list[tuple[str, str]]:
    """Merge until the vocabulary is full; adds the new tokens to `ids` and returns the merges."""
    tokens, merges = list(ids), []
    # Distinct pairs there can be now: places, or all pairs of symbols; and a merge adds two a token at most.
    pairs = min(len(state.symbols_Y), len(tokens) ** 2)
    state = _with_hash_for(state, pairs)
    count_pairs(state)
    while len(tokens) < vocab_size and (pair := next_pair(state, min_frequency)) >= 0:
        state = _with_hash_for(state, int(state.used[PAIRS]) + 2 * len(tokens) + 2)
        left, right = tokens[pair >> 32], tokens[pair & 0xFFFFFFFF]
        merged = left + (right.removeprefix(continues) if continues else right)
        if merged not in ids:  # another pair may have made the same token
            ids[merged] = len(tokens)
            tokens.append(merged)
        merges.append((left, right))
        merge_first(state, ids[merged])
    return merges


def train_bpe(
    word_counts: Mapping[bytes, int],
    vocab_size: int,
    min_frequency: int,
    special_tokens: Sequence[str],
    initial_alphabet: Iterable[str],
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-level BPE from counts of words as count_words gives them: (vocabulary, merges)."""
    words = list(word_counts)
    bytes_Y = np.frombuffer(b"".join(words), np.uint8)
    letters = byte_letters()
    seen = {letters[byte] for byte in np.flatnonzero(np.bincount(bytes_Y, minlength=256))}
    ids = _numbered([*special_tokens, *sorted(seen | set(initial_alphabet))])
    symbol_of = np.array([ids.get(letter, 0) for letter in letters], np.int32)
    lengths_W = np.array([len(word) for word in words], np.int64)
    counts_W = np.fromiter(word_counts.values(), np.int64, len(words))
    state = _new_state(symbol_of[bytes_Y], lengths_W, counts_W)
    merges = _merge_all(state, ids, vocab_size, min_frequency, continues="")
    return ids, merges


def train_wordpiece(
    word_counts: Mapping[bytes, int],
    vocab_size: int,
    min_frequency: int,
    special_tokens: Sequence[str],
    continuing: Sequence[str] | None = None,
) -> dict[str, int]:
    """WordPiece vocabulary from counts of normalized words.

    `continuing` gives the pieces ##a, ##b ... in the order of their ids; without it the characters' order.
    """
    text = [word.decode() for word in word_counts]
    lengths_W = np.array([len(word) for word in text], np.int64)
    counts_W = np.fromiter(word_counts.values(), np.int64, len(text))
    code_points_Y = np.frombuffer("".join(text).encode("utf-32-le"), np.uint32)
    word_Y = np.repeat(np.arange(len(text)), lengths_W)
    first_Y = np.diff(word_Y, prepend=-1) > 0
    seen = np.unique(code_points_Y)  # in their own order; each gets a token, so that no word is unknown
    if continuing is None:
        continuing = [_CONTINUES + chr(c) for c in np.unique(code_points_Y[~first_Y])]
    ids = _numbered([*special_tokens, *map(chr, seen), *continuing])
    starting = np.array([ids[chr(c)] for c in seen], np.int32)
    inside = np.array([ids.get(_CONTINUES + chr(c), 0) for c in seen], np.int32)
    place_Y = np.searchsorted(seen, code_points_Y)
    symbols_Y = np.where(first_Y, starting[place_Y], inside[place_Y])
    state = _new_state(symbols_Y, lengths_W, counts_W)
    _merge_all(state, ids, vocab_size, min_frequency, _CONTINUES)
    return ids


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    """Token -> id; one that comes twice has the first of its places."""
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
