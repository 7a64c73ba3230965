"""Words of lines, and windows over lines that are too long. Run: pytest tests/text/test_token_spans.py"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from span_electra.text.token_spans import cut_windows, over_windows, pool_words, read_lines
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble
from span_electra.text.word_starts import byte_letters

TOKENS = [*SPECIAL_TOKENS, "the", "cats", "un", "##do", ","]
VOCABULARY = assemble("BERT", {token: number for number, token in enumerate(TOKENS)})
LETTERS = [*SPECIAL_TOKENS, *byte_letters()]
BYTES = assemble("BPE", {token: number for number, token in enumerate(LETTERS)}, [])  # no merges


def test_words_are_what_stands_between_white_space():
    line = read_lines(VOCABULARY, ["  the undo, cats "])[0]
    assert line.words == ["the", "undo,", "cats"]
    assert line.word_T.tolist() == [0, 1, 1, 1, 2]
    pieces = [line.text[start:end] for start, end in zip(line.starts_T, line.ends_T, strict=True)]
    assert pieces == ["the", "un", "do", ",", "cats"]


def test_byte_level_tokens_belong_to_the_word_they_lead_to():
    lines = read_lines(BYTES, ["ab  c", "a", "", "   "])
    assert lines[0].word_T.tolist() == [0, 0, 0, 1, 1, 1]  # Ġ a b Ġ Ġ c
    assert lines[0].words == ["ab", "c"]
    assert [len(line.ids_T) for line in lines[1:]] == [2, 0, 0]


@pytest.mark.parametrize("script", ["我爱你们。", "แมวกินปลา", "ねこが好き", "ဒါကောင်း"])
def test_where_no_blanks_are_written_a_word_is_a_token_or_a_character_of_several(script):
    line = read_lines(BYTES, [f"ab {script}ab c"])[0]
    assert line.words == ["ab", *script, "ab", "c"]
    for word, (start, end) in enumerate(line.word_spans):
        mine_T = line.word_T == word  # every byte of a character lies in its word
        assert line.starts_T[mine_T].min() == start and line.ends_T[mine_T].max() == end
        assert mine_T.sum() == len(line.text[start:end].encode()) + (
            start == 0 or line.text[start - 1] == " "
        )
    assert read_lines(BYTES, [f"ab {script}ab c"], blanks_alone=True)[0].words == ["ab", f"{script}ab", "c"]


def test_a_token_of_several_characters_is_one_word():
    letters = [byte_letters()[byte] for byte in "我们".encode()]
    joined = ["".join(letters[begin:end]) for begin, end in ((0, 2), (0, 3), (3, 5), (3, 6), (0, 6))]
    merges = [(letters[0], letters[1]), (joined[0], letters[2]), (letters[3], letters[4])]
    merges += [(joined[2], letters[5]), (joined[1], joined[3])]
    ids = {token: number for number, token in enumerate([*LETTERS, *joined])}
    assert read_lines(assemble("BPE", ids, merges), ["你我们你"])[0].words == ["你", "我们", "你"]


@pytest.mark.parametrize("text", ["naïve text ", "漢字 ", "漢字  "])
def test_a_blank_at_the_end_of_a_line_is_no_place_to_cut(text):
    trimming = assemble("BPE", {token: number for number, token in enumerate(LETTERS)}, [])
    trimming.tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)  # as exports have it
    line = read_lines(trimming, [text])[0]
    assert line.words == read_lines(BYTES, [text])[0].words and len(line.word_T) == len(line.ids_T)


def test_scripts_that_write_blanks_stay_whole():
    assert read_lines(BYTES, ["네가 нет, naïve"])[0].words == ["네가", "нет,", "naïve"]


@given(st.integers(0, 200), st.integers(1, 30))
def test_every_token_is_judged_once_with_room_on_both_sides(length, room):
    windows = cut_windows(np.array([length]), room)
    scored = [place for window in windows for place in range(window.scored_start, window.scored_end)]
    assert scored == list(range(length))
    for window in windows:
        assert window.start <= window.scored_start < window.scored_end <= window.end
        assert window.end - window.start <= room
        if window.start:
            assert window.scored_start - window.start >= room // 4
        if window.end < length:
            assert window.end - window.scored_end >= room // 4


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(3, 12))
def test_windows_give_each_token_its_own_value(lengths, longest):
    ids = [np.arange(length) + 1000 * number for number, length in enumerate(lengths)]
    seen = over_windows(VOCABULARY, longest, ids, lambda rows: [row.astype(float) for row in rows])
    assert [found.tolist() for found in seen] == [row.tolist() for row in ids]


def test_pooling_by_hand():
    share_T, word_T = np.array([0.5, 0.2, 0.9]), np.array([0, 0, 2])
    assert pool_words(share_T, word_T, 3, "max").tolist() == [0.5, 0.0, 0.9]
    assert pool_words(share_T, word_T, 3, "mean").tolist() == [0.35, 0.0, 0.9]
    assert pool_words(share_T, word_T, 3, "any") == pytest.approx([0.6, 0.0, 0.9])
    assert str(pool_words(share_T, word_T, 3, "any")[1]) == "0.0", "not -0.0, which people would read"
