"""The table of words met so far, which compiled loops (lookup.py) work on.

Shapes: B bytes, S slots of 4 numbers.
"""

from typing import NamedTuple

import numpy as np

from span_electra.text.lookup import PADDING, export_words, insert_word, move_words
from span_electra.text.word_ids import new_scratch

FIRST_SLOTS = 1 << 15  # the table doubles as words come in
MAX_OUTSIDE_BYTES = 48  # per word of max_words, of keys and ids that do not fit their slots


class Table(NamedTuple):
    slots_S: np.ndarray  # uint64
    keys_B: np.ndarray
    ids_B: np.ndarray
    fill: np.ndarray  # int64: words, bytes used of keys_B, bytes used of ids_B


class WordTable:
    """A table that grows, and when it holds max_words drops the less used half."""

    def __init__(self, max_words: int, id_bytes: int):
        self.max_words = max_words
        self._id_bytes = id_bytes
        self.scratch = new_scratch()
        self.table = _new_table(FIRST_SLOTS, 4 * FIRST_SLOTS, 4 * FIRST_SLOTS)

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
            max_words=self.max_words,
        ):
            self.make_room()

    def make_room(self) -> None:
        """Grow, or when the bounds are reached keep the more used half."""
        words, key_bytes, id_bytes = (int(used) for used in self.table.fill)
        slots = len(self.table.slots_S) // 4
        if words < self.max_words and key_bytes + id_bytes < MAX_OUTSIDE_BYTES * self.max_words + (1 << 16):
            least, equal, spare, halve = 0, words, words, False
            slots *= 2 if 2 * words >= slots else 1
        else:
            uses_S = np.sort((self.table.slots_S[2::4] >> np.uint64(16))[self.table.slots_S[2::4] != 0])
            kept = words // 2
            least, halve = int(uses_S[words - kept]), True
            equal = int(np.count_nonzero(uses_S == least))
            spare = kept - int(np.count_nonzero(uses_S > least))
        factor = 1 if halve else 2  # of room for long keys and ids, where half of it is used
        key_room, id_room = len(self.table.keys_B), len(self.table.ids_B)
        key_room *= factor if 2 * key_bytes > key_room else 1
        id_room *= factor if 2 * id_bytes > id_room else 1
        old, self.table = self.table, _new_table(slots, key_room, id_room)
        move_words(
            old, self.table, least_uses=least, equal=equal, spare=spare, id_size=self._id_bytes, halve=halve
        )

    def words(self) -> tuple[list[bytes], np.ndarray]:
        """All words, in no order, and how often each was used (int64)."""
        count, key_bytes = int(self.table.fill[0]), int(self.table.fill[1])
        words_B = np.empty(16 * count + key_bytes, np.uint8)
        ends_W, uses_W = np.empty(count, np.int64), np.empty(count, np.int64)
        export_words(self.table, words_B, ends_W, uses_W)
        raw, ends = words_B.tobytes(), [0, *ends_W.tolist()]
        return [raw[start:end] for start, end in zip(ends, ends[1:], strict=False)], uses_W


def _new_table(slots: int, key_bytes: int, id_bytes: int) -> Table:
    """An empty table; `slots` is a power of two. Memory is touched only as words come in."""
    return Table(
        np.zeros(slots * 4, np.uint64),
        np.empty(key_bytes, np.uint8),
        np.empty(id_bytes, np.uint8),
        np.zeros(3, np.int64),
    )
