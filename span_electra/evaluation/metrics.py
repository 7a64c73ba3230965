"""Figures that a table shows, from plain arrays.

Shapes are in the names:
  N  things judged (tokens, words or pairs)   C  cuts between distinct probabilities   K  bins
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """F1 = 2 P R / (P + R) of precision P = TP / (TP + FP) and recall R = TP / (TP + FN)."""

    f1: float
    precision: float
    recall: float


def scores_of(hits: int, called: int, wrong: int) -> Scores:
    """Return the scores of who called so many things wrong, of which so many are; a share of nothing is 0.

    Example: 1 hit, 2 called, 1 wrong -> F1 2 / 3, precision .5, recall 1
    """
    return Scores(
        2 * hits / (called + wrong) if called + wrong else 0.0,
        hits / called if called else 0.0,
        hits / wrong if wrong else 0.0,
    )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95% score interval of a share (Wilson 1927); never outside [0, 1].

    Example: 8 of 10 -> (.490, .943)
    """
    from scipy.stats import binomtest

    if trials == 0:  # nothing is known
        return 0.0, 1.0
    found = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def detection(wrong_N: np.ndarray, called_N: np.ndarray) -> Scores:
    """Return the scores of calling some things wrong, bool [N]."""
    return scores_of(int((called_N & wrong_N).sum()), int(called_N.sum()), int(wrong_N.sum()))


def best_threshold(wrong_N: np.ndarray, probability_N: np.ndarray) -> float:
    """Return the threshold of the highest F1, the middle between the two probabilities it separates.

    Example: wrong 1 1 0 0 at .9 .6 .4 .1 -> .5
    """
    if not len(wrong_N) or not wrong_N.any():
        return 0.5
    # From the most suspicious down: after n things the threshold has called n, and hits are a running sum.
    order_N = np.argsort(-probability_N, kind="stable")
    falling_N = probability_N[order_N]
    hits_N = np.cumsum(wrong_N[order_N])
    # A cut may stand only after the last of equal probabilities.
    last_C = np.flatnonzero(np.append(falling_N[1:] != falling_N[:-1], True))
    f1_C = 2 * hits_N[last_C] / (last_C + 1 + hits_N[-1])
    cut = int(last_C[np.argmax(f1_C)])
    # Midway to the next: a threshold on a value itself would fall to either side by rounding.
    below = falling_N[cut + 1] if cut + 1 < len(falling_N) else 0.0
    middle = (float(falling_N[cut]) + float(below)) / 2
    return middle if middle > below else float(falling_N[cut])  # neighbours in float have no middle


def area_under_curve(wrong_N: np.ndarray, probability_N: np.ndarray) -> float | None:
    """Return the chance that a wrong thing ranks above a right one, ties counting one half.

    None where there is only one kind.
    """
    from sklearn.metrics import roc_auc_score

    if wrong_N.all() or not wrong_N.any():
        return None
    return float(roc_auc_score(wrong_N, probability_N))


def bin_of(probability_N: np.ndarray, bins: int) -> np.ndarray:
    """Return the number of each probability's bin, of so many equal ones in [0, 1], int64 [N].

    Example: .0 .09 .1 1. in 10 bins -> 0 0 1 9
    """
    # A probability of exactly 1 belongs into the last bin.
    return np.minimum((probability_N * bins).astype(np.int64), bins - 1)


def calibration_error(wrong_N: np.ndarray, probability_N: np.ndarray, bins: int) -> float:
    """Return the expected calibration error: mean distance of probability and frequency, over equal bins.

    Bins of equal width in [0, 1], weighted by what falls into them (Guo et al. 2017, equation 5, with the
    probability of `wrong` in place of the confidence).

    Example: probabilities .9 .9 .1 .1 of things 1 0 0 0 -> (2 * |.5 - .9| + 2 * |0 - .1|) / 4 = .25
    """
    if not len(wrong_N):
        return 0.0
    bin_N = bin_of(probability_N, bins)
    # Counts cancel: count * |mean frequency - mean probability| is the sum of differences within a bin.
    gap_K = np.bincount(bin_N, wrong_N.astype(np.float64) - probability_N, bins)
    return float(np.abs(gap_K).sum() / len(wrong_N))
