"""The table grows, begins anew at its bounds, and mixes up nothing.

Run: pytest tests/text/test_word_table.py
"""

import numpy as np

from span_electra.text import word_table
from span_electra.text.word_table import WordTable


def numbers(count: int, width: int = 2) -> list[bytes]:
    return [b"%0*d" % (width, i) for i in range(count)]


def kept_words(table: WordTable) -> set[bytes]:
    """The short words of the table."""
    slots_S4 = table.table.slots_S.reshape(-1, 4)
    lengths_S = (slots_S4[:, 2] & np.uint64(255)).astype(int)
    raw_S2 = np.ascontiguousarray(slots_S4[:, :2])
    return {raw_S2[i].tobytes()[: lengths_S[i]] for i in np.flatnonzero(lengths_S)}


def test_it_grows_and_keeps_all():
    table = WordTable(100_000, id_bytes=2)
    words = numbers(40_000, width=6)
    for word in words:
        table.insert(word, np.array([1, 0], np.uint8), 1)
    assert kept_words(table) == set(words)


def test_when_full_it_begins_anew(monkeypatch):
    monkeypatch.setattr(word_table, "FIRST_SLOTS", 4)
    table = WordTable(8, id_bytes=2)
    for word in numbers(11):
        table.insert(word, np.array([1, 0], np.uint8), 1)
    assert kept_words(table) == set(numbers(11)[8:])


def test_searches_stay_short_however_many_words_come(monkeypatch):
    monkeypatch.setattr(word_table, "FIRST_SLOTS", 4)
    table = WordTable(2000, id_bytes=2)
    for word in numbers(30_000, width=6):
        table.insert(word, np.array([1, 0], np.uint8), 1)
    empty_S = np.flatnonzero(table.table.slots_S[2::4] == 0)
    assert len(empty_S) >= len(table.table.slots_S) // 8
    assert np.diff(empty_S).max() < 100  # a search ends at the next empty slot


def test_long_words_and_many_ids_do_not_grow_without_bound():
    table = WordTable(1000, id_bytes=2)
    ids_B = np.zeros(2 * 200, np.uint8)
    for number in range(5000):
        table.insert(b"%0250d" % number, ids_B, 200)
    assert table.table.keys_B.nbytes + table.table.ids_B.nbytes < 4 * (48 * 1000 + (1 << 16)) + 8 * (1 << 15)
