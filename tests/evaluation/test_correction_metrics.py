"""Figures of spelling correction, by hand and by law.

Run: pytest tests/evaluation/test_correction_metrics.py
"""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from span_electra.evaluation.correction_metrics import (
    Counts,
    correction_f1,
    count,
    mean_normalized_edit_distance,
    sequence_detection_f1,
)
from span_electra.evaluation.metrics import Scores

words = st.lists(st.sampled_from("a b ab ba c".split()), max_size=6).map(" ".join)
lines = st.lists(st.tuples(words, words, words), min_size=1, max_size=5)
texts = st.text(alphabet="abc ", max_size=8)


@pytest.mark.parametrize(
    ("corrupted", "corrected", "target", "counted"),
    [
        ("teh cat", "the cat", "the cat", Counts(mended=1)),
        ("teh cat", "teh cat", "the cat", Counts(missed=1)),
        ("teh cat", "ten cat", "the cat", Counts(spoilt=1, missed=1)),
        ("the cat", "the car", "the cat", Counts(spoilt=1)),
        ("the cat", "the cat", "the cat", Counts()),
        ("", "", "", Counts()),
        # Other counts of words: the stretch between words that all share is one.
        ("we went in to it", "we went into it", "we went into it", Counts(mended=2)),
        ("we went into it", "we went into it", "we went in to it", Counts(missed=2)),
        ("we went into it", "we went in to it", "we went into it", Counts(spoilt=2)),
        ("the cat", "", "the cat", Counts(spoilt=2)),
        # ... and elsewhere each word still stands against its own; "wnet in to" is wrong as a whole.
        ("teh cat wnet in to it", "the cat wnet into it", "the cat went into it", Counts(1, 3, 3)),
    ],
)
def test_lines_by_hand(corrupted, corrected, target, counted):
    assert count(corrupted, corrected, target) == counted


def test_a_set_by_hand():
    # 2 mended, 1 of them beside a spoilt word; 1 misspelt word became another wrong one
    scores = correction_f1(
        ["teh cta sat", "a dgo", "fine here"],
        ["the car sat", "a dog", "fine hare"],
        ["the cat sat", "a dog", "fine here"],
    )
    assert (scores.precision, scores.recall) == pytest.approx((2 / 4, 2 / 3))
    assert scores.f1 == pytest.approx(4 / 7)


@settings(deadline=None)
@given(lines)
def test_perfect_correction_is_one_and_none_recalls_nothing(rows):
    corrupted, _, targets = map(list, zip(*rows, strict=True))
    assume([line.split() for line in corrupted] != [line.split() for line in targets])
    assert correction_f1(corrupted, targets, targets) == Scores(1.0, 1.0, 1.0)
    assert correction_f1(corrupted, corrupted, targets) == Scores(0.0, 0.0, 0.0)


@settings(deadline=None)
@given(lines, st.randoms())
def test_the_order_of_lines_does_not_matter(rows, dice):
    before = correction_f1(*zip(*rows, strict=True))
    dice.shuffle(rows)
    assert correction_f1(*zip(*rows, strict=True)) == before
    assert before.f1 * (before.precision + before.recall) == pytest.approx(
        2 * before.precision * before.recall
    )


def test_distance_by_hand():
    assert mean_normalized_edit_distance(["cta", "", "", "same"], ["cat", "", "ab", "same"]) == pytest.approx(
        (2 / 3 + 0 + 1 + 0) / 4
    )
    assert mean_normalized_edit_distance([], []) == 0.0


@settings(deadline=None)
@given(texts, texts, texts)
def test_distance_is_a_distance(a, b, c):
    def apart(one, other):
        return mean_normalized_edit_distance([one], [other])

    assert apart(a, b) == apart(b, a)
    assert (apart(a, b) == 0) == (a == b)
    assert 0 <= apart(a, b) <= 1
    # Divided by the longer length it is no metric (ab, aba, ba: 1 > 1/3 + 1/3); undivided it is.
    edits = [apart(one, other) * max(len(one), len(other)) for one, other in ((a, c), (a, b), (b, c))]
    assert edits[0] <= edits[1] + edits[2] + 1e-9


def test_detection_by_hand():
    found, wrong = [[0, 1], [0, 0], [1], []], [[1, 0], [0, 0], [0], []]
    assert sequence_detection_f1(found, wrong) == pytest.approx(2 / 3)
    assert sequence_detection_f1(wrong, wrong) == 1.0
    assert sequence_detection_f1([[0]], [[0]]) == sequence_detection_f1([[]], [[]]) == 0.0


def test_what_does_not_pair_is_our_fault():
    with pytest.raises(AssertionError, match="a line for each line"):
        correction_f1(["a"], [], ["a"])
