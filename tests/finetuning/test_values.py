"""What a value in a row says. Run: pytest tests/finetuning/test_values.py"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from span_electra.errors import InputError
from span_electra.finetuning.rows import Row
from span_electra.finetuning.values import list_of, text_of, word_of, words_of

ROW = Row(Path("a.tsv"), 7, {})


@pytest.mark.parametrize(
    ("value", "text"), [("é ", "é "), ("", ""), (3, "3"), (2.5, "2.5"), (True, "true"), (False, "false")]
)
def test_single_values_are_texts(value, text):
    assert text_of(ROW, value, "label") == text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "holds nothing"), (["a"], "holds a list"), ({}, "holds a dict"), (b"a", "holds a bytes"),
        ("a\0", "NUL"), ("\ud83d", "half a surrogate pair"),
    ],
)  # fmt: skip
def test_other_values_are_refused_by_row(value, problem):
    with pytest.raises(InputError, match=f"^a.tsv: line 7: label .*{problem}"):
        text_of(ROW, value, "label")


@pytest.mark.parametrize("value", ["", "a\tb", "a\nb", "a\rb"])
def test_a_word_keeps_its_place_in_a_table(value):
    assert word_of(ROW, "a b", "uid") == "a b"
    with pytest.raises(InputError, match=r"a.tsv: line 7: uid (is empty|holds a tab or a line end)"):
        word_of(ROW, value, "uid")


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        (["a"], ["a"]), ("['O','B-PER']", ["O", "B-PER"]), ('["it\'s"]', ["it's"]), ("[]", []),
        (" [1, 'a'] ", [1, "a"]), (r"['\d']", ["\\d"]), ("a", None), ("", None),
        ("['a'", None), ("[sic] nmae", None), ("[ 1 ]", [1]), ("[ laughs ]", None),
        ("[ 'a' , \"b\",]", ["a", "b"]),
        (None, None), ({"a": 1}, None), ("('a',)", None),
    ],
    ids=range(16),
)  # fmt: skip
def test_lists_are_read_and_nothing_runs(value, listed):
    assert list_of(ROW, value, "labels") == listed


@pytest.mark.parametrize(
    "value",
    [
        "[O, B-PER]", "['O' 'B-PER']", "['O'\n 'B-PER']", "[0 1 2]", "[x]", "['a', b]", "['a',, 'b']",
        "[,]", "['a'] ['b']",
        "[1], [2]", "[__import__('os')]", "[1]+[2]", "[" * 9999 + "]" * 9999, "['a\0']",
        "['a' if 1 else 'b']",
    ],
    ids=range(15),
)  # fmt: skip
def test_what_only_looks_like_a_list_is_refused_and_nothing_runs(value):
    with pytest.raises(InputError, match=r"line 7: .* is no list; write labels as \['one', 'two'\]"):
        list_of(ROW, value, "labels")


@given(st.lists(st.text()))
def test_lists_come_back_from_both_spellings(words):
    assert list_of(ROW, repr(words), "labels") == words
    assert list_of(ROW, json.dumps(words), "labels") == words


def test_words_stand_in_a_list_or_between_white_space():
    assert words_of(ROW, "['My', 'name']", "words", split=False) == ("My", "name")
    assert words_of(ROW, ["B", 1], "labels", split=False) == ("B", "1")
    assert words_of(ROW, " My  name ", "words", split=True) == ("My", "name")
    with pytest.raises(InputError, match=r"line 7: 'My name' is no list; write words as \['one', 'two'\]"):
        words_of(ROW, "My name", "words", split=False)
    with pytest.raises(InputError, match="line 7: words is empty"):
        words_of(ROW, ["My", ""], "words", split=False)


@pytest.mark.parametrize("value", ["[1990]", "[1, 2]", "['In', 1990]", "[true]", "[null]", "[['In']]"])
def test_a_token_in_brackets_loses_them_to_no_list(value):
    """Where blanks part words, `[1990]` is a token as well as a list of one."""
    for split in (True, False):
        with pytest.raises(InputError, match=r"line 7: .* is no list; write words as \['one', 'two'\]"):
            words_of(ROW, value, "words", split=split)
    assert words_of(ROW, '["[1990]", "."]', "words", split=True) == ("[1990]", ".")
    assert words_of(ROW, ["In", 1990], "words", split=True) == ("In", "1990")  # as .jsonl has it
    assert words_of(ROW, "[0, 1]", "labels", split=True, numbers=True) == ("0", "1")
