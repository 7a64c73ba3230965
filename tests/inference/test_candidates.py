"""What a misspelt word may have been meant as. Run: pytest tests/inference/test_candidates.py"""

import unicodedata
from string import ascii_lowercase

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from network_examples import vocabulary_of_words

from span_electra.inference.candidates import (
    MOST_TRIED,
    Candidates,
    letters_within,
    of_letters,
    one_edit_away,
)
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble
from span_electra.text.word_starts import byte_letters

letters = st.text("catdogs", min_size=1, max_size=7)
TABLE = Candidates(vocabulary_of_words())


def best(typed, log_V, top_k):
    return [word for word, _ in TABLE.best(typed, log_V, after_blank=True, top_k=top_k)]


def slow_distance(one, two):
    """Optimal string alignment as the textbook has it."""
    table = [[max(i, j) if 0 in (i, j) else 0 for j in range(len(two) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(two) + 1):
            table[i][j] = min(
                table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (one[i - 1] != two[j - 1])
            )
            if i > 1 and j > 1 and one[i - 1] == two[j - 2] and one[i - 2] == two[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@settings(deadline=None)
@given(letters)
def test_distances_are_the_textbooks(word):
    assert TABLE.distances(word).tolist() == [slow_distance(known, word) for known in TABLE.words]
    assert TABLE.distances(word, 2).tolist() == [min(slow_distance(known, word), 3) for known in TABLE.words]
    assert {"the", "cats", "un"} <= set(TABLE.words) and "do" not in TABLE.words


def test_candidates_weigh_the_place_against_the_letters():
    log_V = np.full(vocabulary_of_words().size, -3.0)
    assert best("Teh", log_V, top_k=1) == ["The"]
    log_V[vocabulary_of_words().tokenizer.token_to_id("cats")] = 30.0
    assert best("cast", log_V, top_k=2) == ["cats", "cat"]
    assert best("catt", log_V, top_k=1) == ["cats"], "what fits the place wins among equals"
    assert best("teh", log_V, top_k=9) == ["the"], "what shares half the letters is another word"


def test_words_without_a_blank_are_candidates_where_blanks_are_part_of_tokens():
    school = "".join(byte_letters()[byte] for byte in "校".encode())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("in", "g")]
    merges += [(school[0], school[1]), (school[:2], school[2])]
    tokens = [*SPECIAL_TOKENS, *byte_letters(), *map("".join, merges)]
    table = Candidates(assemble("BPE", {token: number for number, token in enumerate(tokens)}, merges))
    whole = [pair for pair in zip(table.words, table.blank_N.tolist(), strict=True) if len(pair[0]) > 1]
    assert sorted(whole) == [("the", False), ("the", True)] and "校" in table.words
    log_V = np.zeros(len(tokens))
    for after_blank in (False, True):
        ((word, _),) = table.best("teh", log_V, after_blank=after_blank, top_k=1)
        assert word == "the"
    assert [word for word, _ in table.best("效", log_V, after_blank=False, top_k=1)] == ["校"]


def test_korean_is_compared_by_its_letters_and_written_in_syllables():
    """BERT's rules take syllables apart: 안뇽 is one of six letters from 안녕."""
    words = ["안녕", "안경", "아"]
    tokens = [*SPECIAL_TOKENS, *(unicodedata.normalize("NFD", word) for word in words)]
    table = Candidates(assemble("BERT", {token: n for n, token in enumerate(tokens)}))
    assert table.words == words and table.distances("안뇽").tolist() == [1, 2, 4]
    log_V = np.zeros(len(tokens))
    found = [word for word, _ in table.best("안뇽", log_V, after_blank=True, top_k=9)]
    assert found == words[:2], "of six letters it bears two edits"
    assert {*letters_within("\u1100", table.letters)} == {*unicodedata.normalize("NFD", "안녕경아")}


def test_candidates_are_of_the_typed_words_script():
    words = ["a", "ب", "ดี", "一", "食べる", "あ", "д", "cat", "é"]
    table = Candidates(assemble("BERT", {token: n for n, token in enumerate([*SPECIAL_TOKENS, *words])},
                                strip_accents=False))  # fmt: skip
    log_V = np.zeros(len(words) + len(SPECIAL_TOKENS))
    alone = {"x": ["a", "é"], "ต": [], "ตี": ["ดี"], "二": ["一"], "食ぺる": ["食べる"], "い": ["あ"]}
    alone |= {"\u0441at": ["cat"]}  # of two scripts, by a slip
    for typed, expected in alone.items():
        scored = [table.best(typed, log_V, after_blank=blank, top_k=9) for blank in (True, False)]
        assert [word for found in scored for word, _ in found] == expected, typed


def test_marks_are_parts_of_letters():
    assert all(map(of_letters, ["cat", "cafe\u0301", "\u0939\u093f\u0928\u094d\u0926\u0940"]))
    assert not any(map(of_letters, ["", "a1", "a-b", ".", "\u0301"]))


@settings(deadline=None, max_examples=30)
@given(st.text("abcé", min_size=1, max_size=6))
def test_one_edit_makes_all_that_is_one_edit_away(word):
    made = one_edit_away(word, ascii_lowercase)
    assert {slow_distance(word, other) for other in made} == {1} and len(set(made)) == len(made)
    # Letters less, exchanged, other and more, but for those that two ways give and the empty word.
    assert {word + "q", "q" + word, word[:-1] + "q"} <= set(made) and ("" not in made)


def test_an_edit_brings_letters_of_the_words_script_that_the_vocabulary_has():
    tokens = [*SPECIAL_TOKENS, "cat", "да", "كَ", "कि"]
    letters = Candidates(assemble("BERT", {token: n for n, token in enumerate(tokens)})).letters
    for word, wanted in (("Tac", "act"), ("(Да", "ад"), ("كك", "كَ"), ("क", "कि")):
        assert set(letters_within(word, letters)) == set(wanted)
    syllables = {"HANGUL": [chr(0xAC00 + number) for number in range(2000)]}
    assert letters_within("가", syllables) and not letters_within("가" * 9, syllables)
    assert 2 * 48 * 80 <= MOST_TRIED, "the longest words of an alphabet are tried"


def test_what_an_uncased_vocabulary_does_not_read_is_no_edit():
    tokens = [*SPECIAL_TOKENS, "fur", "für"]
    for strip_accents, nearest in ((None, "fur"), (False, "für")):
        table = Candidates(
            assemble("BERT", {token: n for n, token in enumerate(tokens)}, strip_accents=strip_accents)
        )
        assert dict(zip(table.words, table.distances(table.as_read("FÜR")), strict=True))[nearest] == 0
