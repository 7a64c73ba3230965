"""The table of words met so far, which compiled loops (lookup.py) work on.

Shapes: B bytes, S slots of 4 numbers.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from span_electra.text.lookup import PADDING, export_words, insert_word, move_slots
from span_electra.text.word_ids import new_scratch

FIRST_SLOTS = 1 << 15  # the table doubles as words come in
FIRST_BYTES = 1 << 17  # of keys, and of ids; one word's are far fewer
MAX_OUTSIDE_BYTES = 48  # per word of max_words, of keys and ids that do not fit their slots


class Table(NamedTuple):
    slots_S: np.ndarray  # uint64; a power of two of them
    keys_B: np.ndarray
    ids_B: np.ndarray
    fill: np.ndarray  # int64: words, bytes used of keys_B, bytes used of ids_B


class WordTable:
    """A table that grows, and begins anew where it would grow beyond some max_words."""

    def __init__(self, max_words: int, id_bytes: int):
        self._max_words = max_words
        self._id_bytes = id_bytes
        self.scratch = new_scratch()
        self.table = Table(
            slots_S=np.zeros(4 * FIRST_SLOTS, np.uint64),
            keys_B=np.empty(FIRST_BYTES, np.uint8),
            ids_B=np.empty(FIRST_BYTES, np.uint8),
            fill=np.zeros(3, np.int64),
        )

    def insert(self, word: bytes, ids_B: np.ndarray, id_count: int) -> None:
        """Keep a word whose ids the library gave."""
        word_B = np.frombuffer(word + bytes(PADDING), np.uint8)
        padded_B = np.concatenate([ids_B, np.zeros(PADDING, np.uint8)])
        while not insert_word(
            word_B,
            len(word),
            ids_B=padded_B,
            id_count=id_count,
            id_size=self._id_bytes,
            table=self.table,
        ):
            self.make_room()

    def make_room(self) -> None:
        """Grow where half is used, or forget all words when the bounds are reached."""
        slots_S, keys_B, ids_B, fill = self.table
        words, key_bytes, id_bytes = fill.tolist()
        if words >= self._max_words or key_bytes + id_bytes > MAX_OUTSIDE_BYTES * self._max_words:
            # Those in use are soon learned anew: to keep them, uses would have to be counted and sorted.
            slots_S[:], fill[:] = 0, 0
            return
        if 8 * words >= len(slots_S):
            old_S, slots_S = slots_S, np.zeros(2 * len(slots_S), np.uint64)
            move_slots(old_S, slots_S)
        if 2 * key_bytes > len(keys_B):
            keys_B = np.concatenate([keys_B, np.empty_like(keys_B)])
        if 2 * id_bytes > len(ids_B):
            ids_B = np.concatenate([ids_B, np.empty_like(ids_B)])
        self.table = Table(slots_S, keys_B, ids_B, fill)

    def words(self) -> tuple[list[bytes], np.ndarray]:
        """All words, in no order, and how often each was used (int64)."""
        count, key_bytes = int(self.table.fill[0]), int(self.table.fill[1])
        words_B = np.empty(16 * count + key_bytes, np.uint8)
        ends_W, uses_W = np.empty(count, np.int64), np.empty(count, np.int64)
        export_words(self.table, words_B, ends_W, uses_W)
        raw = words_B.tobytes()
        return [raw[start:end] for start, end in pairwise([0, *ends_W.tolist()])], uses_W
