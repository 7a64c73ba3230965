"""Marks of every script. Run: pytest tests/text/test_punctuation.py"""

import unicodedata

from span_electra.text.punctuation import ENDS_ALWAYS, PAUSES, PER_CENT, stands_at_word


def test_what_closes_ends_or_parts_stands_at_its_word():
    assert all(map(stands_at_word, ".,;:!?)]}،؟؛।”»…%’" + ENDS_ALWAYS + PAUSES + PER_CENT))
    assert not any(map(stands_at_word, "([{„“‘«'\"-–&+a1我क"))


def test_the_lists_hold_marks_alone():
    assert {unicodedata.category(mark) for mark in ENDS_ALWAYS + PAUSES + PER_CENT} == {"Po"}
