"""Figures from arrays, against scipy and by hand. Run: pytest tests/evaluation/test_metrics.py"""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from span_electra.evaluation.metrics import (
    Scores,
    area_under_curve,
    best_threshold,
    bin_of,
    calibration_error,
    correction_f1,
    count,
    detection,
    mean_normalized_edit_distance,
    sequence_detection_f1,
    wilson_interval,
)

WRONG = np.array([1, 1, 0, 0, 1], bool)
PROBABILITY = np.array([0.9, 0.6, 0.4, 0.1, 0.3])
some = st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(lambda n: n / 8)), min_size=1, max_size=40)
words = st.lists(st.sampled_from("a b ab ba c".split()), max_size=6).map(" ".join)
lines = st.lists(st.tuples(words, words, words), min_size=1, max_size=5)
texts = st.text(alphabet="abc ", max_size=8)


def arrays(pairs):
    return np.array([wrong for wrong, _ in pairs]), np.array([share for _, share in pairs])


@pytest.mark.parametrize(("hits", "trials"), [(8, 10), (0, 7), (7, 7), (1, 1000), (35_000, 67_000)])
def test_the_interval_is_that_of_the_score_test(hits, trials):
    """Wilson's bounds are where the normal score of the share is at its 97.5% quantile."""
    for bound in wilson_interval(hits, trials):
        if 0 < bound < 1:
            score = (hits / trials - bound) / math.sqrt(bound * (1 - bound) / trials)
            assert abs(score) == pytest.approx(1.959964, abs=1e-4)
        else:
            assert bound == hits / trials
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_detection_by_hand():
    found = detection(WRONG, PROBABILITY >= 0.5)
    assert (found.precision, found.recall, found.f1) == (1.0, 2 / 3, 0.8)
    assert detection(WRONG, PROBABILITY >= 2.0) == Scores(0.0, 0.0, 0.0)


def test_the_best_threshold_by_hand():
    assert best_threshold(np.array([1, 1, 0, 0], bool), np.array([0.9, 0.6, 0.4, 0.1])) == 0.5
    assert best_threshold(np.zeros(3, bool), np.ones(3)) == 0.5


@given(some)
def test_no_threshold_is_better_than_the_best(pairs):
    wrong_N, share_N = arrays(pairs)
    best = detection(wrong_N, share_N >= best_threshold(wrong_N, share_N)).f1
    assert all(detection(wrong_N, share_N >= cut).f1 <= best + 1e-12 for cut in np.arange(-0.06, 1.1, 1 / 16))


@settings(deadline=None)  # the first call imports sklearn
@given(some)
def test_the_area_is_mann_and_whitneys(pairs):
    wrong_N, share_N = arrays(pairs)
    area = area_under_curve(wrong_N, share_N)
    if wrong_N.all() or not wrong_N.any():
        assert area is None
    else:
        statistic = mannwhitneyu(share_N[wrong_N], share_N[~wrong_N]).statistic
        assert math.isclose(area, statistic / (wrong_N.sum() * (~wrong_N).sum()))


def test_bins_hold_their_lower_bounds_and_the_last_one_1():
    assert bin_of(np.array([0.0, 0.09, 0.5, 0.95, 1.0]), 10).tolist() == [0, 0, 5, 9, 9]


def test_calibration_by_hand():
    things, share = np.array([1, 0, 0, 0], bool), np.array([0.9, 0.9, 0.1, 0.1])
    assert math.isclose(calibration_error(things, share, 10), 0.25)
    assert calibration_error(things, things.astype(float), 10) == 0.0


# --- spelling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corrupted", "corrected", "target", "counted"),
    [
        ("teh cat", "the cat", "the cat", [1, 0, 0]),
        ("teh cat", "teh cat", "the cat", [0, 0, 1]),
        ("teh cat", "ten cat", "the cat", [0, 1, 1]),
        ("the cat", "the car", "the cat", [0, 1, 0]),
        ("the cat", "the cat", "the cat", [0, 0, 0]),
        ("", "", "", [0, 0, 0]),
        # Other counts of words: the stretch between words that all share is one.
        ("we went in to it", "we went into it", "we went into it", [2, 0, 0]),
        ("we went into it", "we went into it", "we went in to it", [0, 0, 2]),
        ("we went into it", "we went in to it", "we went into it", [0, 2, 0]),
        ("the cat", "", "the cat", [0, 2, 0]),
        # ... and elsewhere each word still stands against its own; "wnet in to" is wrong as a whole.
        ("teh cat wnet in to it", "the cat wnet into it", "the cat went into it", [1, 3, 3]),
    ],
)
def test_lines_by_hand(corrupted, corrected, target, counted):
    assert count(corrupted, corrected, target).tolist() == counted


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


def test_detection_of_lines_by_hand():
    found, wrong = [[0, 1], [0, 0], [1], []], [[1, 0], [0, 0], [0], []]
    assert sequence_detection_f1(found, wrong) == pytest.approx(2 / 3)
    assert sequence_detection_f1(wrong, wrong) == 1.0
    assert sequence_detection_f1([[0]], [[0]]) == sequence_detection_f1([[]], [[]]) == 0.0


def test_what_does_not_pair_is_our_fault():
    with pytest.raises(AssertionError, match="a line for each line"):
        correction_f1(["a"], [], ["a"])
