"""The ids of a word, known or new, are the model's; the table grows and mixes up nothing.

Run: pytest tests/text/test_lookup.py
"""

import random

import numpy as np
import pytest
from encode_examples import TOKENIZERS
from tokenizers import Tokenizer, models, pre_tokenizers

from span_electra.text import lookup
from span_electra.text.compiled import compiled
from span_electra.text.encode import TextEncoder
from span_electra.text.lookup import WordTable
from span_electra.text.lookup import _find as find

ALPHABETS = {"few letters": "ab", "letters": "adeinorstuw", "signs": ".'!-", "accents": "éaüoñ"}


@pytest.mark.parametrize("name", ["bpe", "wordpiece cased"])
@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_ids_of_random_words(name, alphabet):
    rng = random.Random(5)
    encoder = TextEncoder(TOKENIZERS[name])
    words = ["".join(rng.choices(ALPHABETS[alphabet], k=rng.randint(1, 60))) for _ in range(400)]
    for word in words + words:  # new, then known
        ours = encoder.encode(word.encode()).ids_T.tolist()
        assert ours == TOKENIZERS[name].encode(word, add_special_tokens=False).ids, word


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 24, 99, 100, 101, 254, 255, 256, 257, 5000])
@pytest.mark.parametrize("name", ["bpe", "wordpiece cased"])
def test_lengths_where_a_word_is_kept_otherwise(name, length):
    encoder = TextEncoder(TOKENIZERS[name])
    for tail in ("d", "w", "d"):
        word = ("understanding" * 500)[: length - 1] + tail
        ours = encoder.encode(word.encode()).ids_T.tolist()
        assert ours == TOKENIZERS[name].encode(word, add_special_tokens=False).ids


def test_of_equal_merges_the_leftmost_goes_first():
    tokenizer = Tokenizer(models.BPE({"a": 0, "aa": 1, "aaa": 2}, [("a", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for word in ("aaa", "aaaaa", "a"):
        ours = TextEncoder(tokenizer).encode(word.encode()).ids_T.tolist()
        assert ours == tokenizer.encode(word).ids


@compiled
def is_kept(text_B, length, table):
    return find(text_B, 0, length, table.slots_S, table.keys_B)[1]


def test_a_hash_is_never_trusted():
    """A long word of the same hash and length, but of other bytes, is another word."""
    table, word = WordTable(10, id_bytes=2), b"a word of more than sixteen bytes"
    table.insert(word, np.array([7, 0], np.uint8), 1)
    word_B = np.frombuffer(word + bytes(lookup.PADDING), np.uint8).copy()
    assert is_kept(word_B, len(word), table.table)
    table.table.keys_B[len(word) - 1] ^= 1
    assert not is_kept(word_B, len(word), table.table)


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
    monkeypatch.setattr(lookup, "FIRST_SLOTS", 4)
    table = WordTable(8, id_bytes=2)
    for word in numbers(11):
        table.insert(word, np.array([1, 0], np.uint8), 1)
    assert kept_words(table) == set(numbers(11)[8:])


def test_searches_stay_short_however_many_words_come(monkeypatch):
    monkeypatch.setattr(lookup, "FIRST_SLOTS", 4)
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
