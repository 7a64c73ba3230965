"""Word counts are those of the library's own cutting, line by line.

Run: pytest tests/text/test_word_counts.py
"""

import random
from collections import Counter

import pytest
from encode_examples import NASTY, SETTINGS, TEXT, TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from span_electra.errors import InputError
from span_electra.text import word_counts
from span_electra.text.word_counts import WordCounter, count_words
from span_electra.text.word_starts import BYTE_OF_LETTER


def counted_by_library(tokenizer: Tokenizer, lines: list[str]) -> Counter[bytes]:
    counts: Counter[bytes] = Counter()
    for line in lines:
        if tokenizer.normalizer is not None:
            line = tokenizer.normalizer.normalize_str(line)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(line):
            bytelevel = isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)
            counts[bytes(BYTE_OF_LETTER[c] for c in word) if bytelevel else word.encode()] += 1
    return counts


@pytest.mark.parametrize("name", SETTINGS)
def test_nasty_lines(name):
    lines = NASTY * 2 + TEXT
    text = "".join(line + "\n" for line in lines).encode()
    assert count_words([text], TOKENIZERS[name]) == counted_by_library(TOKENIZERS[name], lines)


@pytest.mark.parametrize("name", ["bpe with prefix space", "wordpiece uncased"])
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(lines=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))))
def test_any_text(name, lines):
    text = "".join(line + "\n" for line in lines).encode()
    assert count_words([text], TOKENIZERS[name]) == counted_by_library(TOKENIZERS[name], lines)


def test_blocks_add_up():
    counter = WordCounter(TOKENIZERS["bpe"])
    for _ in range(3):
        counter.add(b"one two two")
    assert counter.counts() == {b"one": 3, b" two": 6}


def test_counts_outlive_the_growth_of_the_table():
    text = " ".join(f"{i:x} {i:x} {i:x}" for i in range(0xA00000, 0xA00000 + 40_000)).encode()
    counts = count_words([text], TOKENIZERS["wordpiece cased"])
    assert len(counts) == 40_000 and set(counts.values()) == {3}


def test_the_vocabulary_does_not_matter():
    empty = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    empty.normalizer = TOKENIZERS["wordpiece uncased"].normalizer
    empty.pre_tokenizer = TOKENIZERS["wordpiece uncased"].pre_tokenizer
    counts = count_words([b"The cat, the dog\n"], empty)
    assert counts == {b"the": 2, b"cat": 1, b",": 1, b"dog": 1}


def test_a_tokenizer_that_cuts_in_its_own_way_is_refused():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="Whitespace"):
        count_words([b"x"], tokenizer)


def test_text_without_blanks_has_a_bounded_number_of_words(monkeypatch):
    """However much there is: pieces of two characters are the least, and there are few of those."""
    monkeypatch.setattr(word_counts, "MAX_SIZE", 1 << 16)
    dice = random.Random(0)
    letters = [chr(0x4E00 + number) for number in range(30)]
    counter, sizes, characters = WordCounter(TOKENIZERS["bpe"]), [], 0
    for _ in range(12):
        lines = ["".join(dice.choices(letters, k=dice.randint(1, 150))) for _ in range(1000)]
        counter.add("".join(line + "\n" for line in lines).encode())
        characters += sum(map(len, lines))
        sizes.append(counter.size)
    assert max(sizes[6:]) <= max(sizes[:6]) and max(sizes) < 4 * word_counts.MAX_SIZE
    counts = counter.counts()
    assert sum(len(word.decode()) * count for word, count in counts.items()) == characters


def test_words_with_blanks_are_never_cut(monkeypatch):
    monkeypatch.setattr(word_counts, "MAX_SIZE", 1 << 10)
    lines = [f"number{i}andsomewhatlongertext Straße{i} слово{i} 단어{i}" for i in range(3000)] + ["x" * 999]
    text = "".join(line + "\n" for line in lines).encode()
    assert count_words([text] * 3, TOKENIZERS["bpe"]) == counted_by_library(TOKENIZERS["bpe"], lines * 3)
