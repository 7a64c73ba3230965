"""Figures from arrays, against scipy and by hand. Run: pytest tests/evaluation/test_metrics.py"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from span_electra.evaluation.metrics import (
    Scores,
    area_under_curve,
    best_threshold,
    bin_of,
    calibration_error,
    detection,
    wilson_interval,
)

WRONG = np.array([1, 1, 0, 0, 1], bool)
PROBABILITY = np.array([0.9, 0.6, 0.4, 0.1, 0.3])
some = st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(lambda n: n / 8)), min_size=1, max_size=40)


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
