"""Where words begin in rows of tokens, by format 2. Run: pytest tests/features/test_words.py"""

import numpy as np
import pytest

from span_electra.features.words import LONGEST_REAL_WORD, Row, TokenRows, find_words, word_starts
from span_electra.text.word_starts import token_words


def words(tokens: list[bytes], goes_on=None) -> list[bytes]:
    """The words of a row of tokens, spelt as bytes."""
    kinds = list(dict.fromkeys(tokens))
    on_V = np.ones(len(kinds), bool) if goes_on is None else np.array([goes_on(kind) for kind in kinds])
    table = token_words(kinds, on_V, np.zeros(len(kinds), bool))
    ids_T = np.array([kinds.index(token) for token in tokens], np.uint16)
    row = Row(np.zeros(len(ids_T) + 1, np.int64), np.zeros(len(ids_T) + 1, np.uint8), np.zeros(1, np.uint8))
    count = find_words(ids_T, 0, len(ids_T), table, row)
    ends = row.word_at_W[: count + 1]
    return [b"".join(tokens[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def cut(text: str, *places: int) -> list[bytes]:
    """The bytes of a text, cut at these places."""
    spelt = text.encode()
    edges = [0, *places, len(spelt)]
    return [spelt[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]


@pytest.mark.parametrize(
    "tokens, expected",
    [
        (["the", " sm", "all", " cat", "."], ["the", " small", " cat", "."]),
        (["a", "\tb", "c", "\u00a0d", "e"], ["a", "\tbc", "\u00a0de"]),  # a tab, a no-break space
        (["我们", "学", "习", "。", "on"], ["我们", "学", "习", "。", "on"]),
        (["GPT", "4", "は", "東", "京", "v", "2"], ["GPT4", "は", "東", "京", "v2"]),
        (["กา", "ร", "ไ", "ทย", "ok"], ["กา", "ร", "ไ", "ทย", "ok"]),
        (["ខ្", "មែ", "រ", "។", "x", "y"], ["ខ្", "មែ", "រ", "។", "xy"]),
        (["안", "녕", " 하", "세요", "!"], ["안녕", " 하세요", "!"]),  # Korean parts words by blanks
        (["हि", "न्", "दी", " भा", "षा", "।"], ["हिन्दी", " भाषा", "।"]),
        (["ال", "عربية", " كل", "مة", "،", " x"], ["العربية", " كلمة", "،", " x"]),
        (["word", "。", "next"], ["word", "。", "next"]),  # its marks part what stands round them
        (["don", "’", "t"], ["don", "’t"]),
        (["👍", "🏽", "ok"], ["👍🏽ok"]),
    ],
)
def test_words_begin_where_a_reader_would_say(tokens, expected):
    assert words([token.encode() for token in tokens]) == [word.encode() for word in expected]


def test_a_character_cut_into_tokens_is_one_word_however_it_is_cut():
    for places in ((3, 4, 6), (3, 5, 6), (3, 4, 5, 6), (1, 2, 3, 6), (2, 3, 5, 6), (1, 3, 6)):
        assert b"|".join(words(cut("我学ok", *places))) == "我|学|ok".encode()
    for places in ((3, 4, 5, 6, 8), (3, 6, 7, 8)):  # Devanagari's first byte is Thai's too
        assert b"|".join(words(cut("हिab", *places))) == "हिab".encode()
    # A token that ends one character and begins the next belongs to the word of the first.
    assert words(cut("我学ok", 2, 5, 6)) == ["我学".encode(), b"ok"]
    # A Latin letter after a cut Han character is a word of its own, after a cut Latin one it is not.
    assert words(cut("我x", 1, 2, 3)) == ["我".encode(), b"x"]
    assert words(cut("éx", 1, 2)) == ["éx".encode()]


def test_a_row_that_begins_or_ends_inside_a_character_is_no_trouble():
    assert words(cut("我学", 3, 5)[1:]) == ["学".encode()]
    assert words(["我".encode()[1:], "学".encode()[:2]]) == ["我".encode()[1:], "学".encode()[:2]]


def test_a_run_that_is_no_word_is_parted_at_characters():
    syllables = [bytes(f"s{number}", "ascii") for number in range(LONGEST_REAL_WORD)]
    assert words(syllables) == [b"".join(syllables)]
    longer = [*syllables, b"x"]
    assert words(longer) == longer
    assert words([*longer, b" end", b"ed"]) == [*longer, b" ended"]
    cut_ones = [part for _ in range(12) for part in cut("я", 1)]  # 24 tokens, 12 letters
    assert words(cut_ones) == ["я".encode()] * 12


def test_wordpiece_says_itself_what_goes_on():
    def on(token):
        return token in (b"ing", "き".encode(), "す".encode(), b"x")

    tokens = [b"read", b"ing", "カ".encode(), "き".encode(), "す".encode(), b"x", b"book"]
    expected = ["reading", "カ", "き", "す", "x", "book"]
    assert words(tokens, on) == [word.encode() for word in expected]


def test_words_of_several_rows_are_marked_by_either_format():
    kinds = [b"a", b" b", "我".encode()]
    table = token_words(kinds, np.ones(3, bool), np.array([False, True, False]))
    ids_T = np.array([9, 0, 0, 1, 2, 2, 9, 9, 9, 9, 2, 0, 9], np.uint16)  # 9: [CLS] and [SEP]
    rows = TokenRows(ids_T, np.array([0, 7, 9]), np.array([7, 2, 4]))
    assert word_starts(rows, table).tolist() == [True, False, True, True, True, True, True]
    assert word_starts(rows, table, format=1).tolist() == [True, False, True, False, False, True, False]


def test_ids_outside_the_vocabulary_are_words_and_nothing_is_read_there():
    table = token_words([b"a"], np.ones(1, bool), np.zeros(1, bool))
    row = Row(np.zeros(5, np.int64), np.zeros(5, np.uint8), np.zeros(1, np.uint8))
    assert find_words(np.array([0, 9, 0, 60000], np.uint16), 0, 4, table, row) == 3
