"""An answer as plain values and as text. Run: pytest tests/inference/test_records.py"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from span_electra.inference.correction import Change, Corrected
from span_electra.inference.detection import Detected
from span_electra.inference.filling import Blank, Filled, Filling
from span_electra.inference.records import (
    corrected_record,
    detected_record,
    detected_text,
    filled_record,
    filled_text,
    marked,
    pairs,
    rounded,
    written,
)

LINE = Detected("the  cats.", ["the", "cats."], [(0, 3), (5, 10)], [0.018, 0.951])


def test_words_for_the_eye():
    assert detected_text(LINE, 0.5, coloured=False) == "the  cats.{.95}"
    assert detected_text(LINE, 0.5, coloured=True) == "the  \033[31;1mcats.\033[0m"
    assert detected_text(LINE, 0.99, coloured=True) == "the  \033[33mcats.\033[0m"


def test_what_was_typed_stays_as_it_was_where_it_looks_like_a_mark():
    found = Detected("{0.5 cats", ["{0.5", "cats"], [(0, 4), (5, 9)], [0.97, 1.0])
    assert detected_text(found, 0.5, coloured=False) == "{0.5{.97} cats{1.00}"
    assert marked("x{0.5", 0.004) == "x{0.5{.00}"


def test_a_word_is_wrong_from_the_threshold_on():
    assert LINE.wrong(0.951) == [False, True] and LINE.wrong(0.952) == [False, False]
    assert detected_record(LINE, 0.951)["wrong"] == [False, True]
    assert detected_text(LINE, 0.951, coloured=False) == "the  cats.{.95}"


def test_small_shares_keep_their_digits():
    assert rounded(0.00012345) == 0.0001234 and rounded(1.0) == 1.0
    fillings = [Filling(" dog", 0.75), Filling(" cat", 0.0000123456)]
    line = Filled("the [MASK]", [Blank(4, 10, [fillings], fillings)], "the dog")
    plain = [["dog", 0.75], ["cat", 0.0000123456]]
    assert filled_record(line)["blanks"] == [{"tokens": [plain], "whole": plain}]
    assert pairs(fillings, rounded) == [["dog", 0.75], ["cat", 0.00001235]]
    assert filled_text(line) == "the dog\n  [1] dog 75.0%, cat 0.0%"


@given(st.floats(2.0**-100, 2.0**100, width=32))
def test_a_number_for_a_program_is_the_very_one_of_float32(value):
    for number in (value, -value):
        assert np.float32(written(number)) == np.float32(number)
        assert len(repr(abs(written(number))).split("e")[0].replace(".", "").strip("0")) <= 9


@given(st.floats(0, 1))
def test_no_probability_becomes_certain_by_rounding(share):
    assert (written(share) in (0, 1)) == (share in (0, 1))
    assert written(share) == pytest.approx(share, rel=1e-6, abs=0)


def test_numbers_for_a_program_by_hand():
    assert written(254317.40625) == 254317.4 and written(0.1 + 0.2) == 0.3 and written(1.0) == 1.0


def test_a_token_that_ends_a_line_ends_none_for_the_eye():
    fillings = [Filling("\n", 0.75), Filling(" a\nb", 0.25)]
    line = Filled("the [MASK]", [Blank(4, 10, [fillings], fillings)], "the \n")
    assert filled_text(line).count("\n") == 1


def test_doubted_words_say_what_became_of_them():
    expected = {"word": 1, "before": "teh", "after": None, "suggestions": ["the"]}
    line = Corrected("a teh", "a teh", [Change(1, "teh", None, ["the"])])
    assert corrected_record(line) == {"text": "a teh", "corrected": "a teh", "doubted": [expected]}
