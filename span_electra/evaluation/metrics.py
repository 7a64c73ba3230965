"""Figures that a table shows, from plain arrays and lines.

Shapes are in the names:
  N  things judged (tokens, words or pairs)   C  cuts between distinct probabilities   K  bins
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
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


# --- spelling -----------------------------------------------------------------------------------------
# The figures of nsc's benchmark (bastiscode/spell_check), of a whole set: hits and misses are summed over its
# lines, then divided.


def correction_f1(corrupted: Sequence[str], corrected: Sequence[str], targets: Sequence[str]) -> Scores:
    """Return F1, precision and recall of corrections, over the words of all lines.

    With a word c as it came, o as it was left and t as it should be:
    TP: c != t and o == t    FP: o != c and o != t    FN: c != t and o != t
    so that a misspelt word that became another wrong one is both false positive and false negative.

    Example: "teh cta sat" -> "the car sat" of "the cat sat": TP 1 (the), FP 1 and FN 1 (car), F1 .5
    """
    assert len(corrupted) == len(corrected) == len(targets), "a line for each line"
    counts = sum(map(count, corrupted, corrected, targets), np.zeros(3, np.int64))
    mended, spoilt, missed = counts.tolist()
    return scores_of(mended, mended + spoilt, mended + missed)


def count(corrupted: str, corrected: str, target: str) -> np.ndarray:
    """Return the words of one line that are TP, FP and FN, each against the word in its place, int64 [3].

    Where the line falls apart into stretches of different counts (words run together or torn apart), a
    stretch is right or wrong as a whole, and counts for as many words as the longest of the three has.

    Example: "we went in to it" -> "we went into it" of "we went into it": 2 words mended
    """
    counts = np.zeros(3, np.int64)
    for came, left, right in stretches(corrupted.split(), corrected.split(), target.split()):
        if len(came) == len(left) == len(right):
            # As many words in all three: each is compared with that in its place.
            triples = [(c, o, t, 1) for c, o, t in zip(came, left, right, strict=True)]
        else:
            triples = [(came, left, right, max(len(came), len(left), len(right)))]
        for c, o, t, words in triples:
            counts += np.array([c != t and o == t, o != c and o != t, c != t and o != t]) * words
    return counts


def stretches(
    came: list[str], left: list[str], right: list[str]
) -> list[tuple[list[str], list[str], list[str]]]:
    """Cut three versions of a line at the words that all share; versions of as many words stay whole.

    Example: a bb c, a b b c, a B c -> [([bb], [b b], [B])], a and c being shared
    """
    if len(came) == len(left) == len(right):
        return [(came, left, right)]
    # Words shared by all three pin the versions to each other; only what lies between is in doubt. A diff of
    # two of them alone would call a word that was moved both spoilt and missed.
    in_left, in_right = matches(came, left), matches(came, right)
    shared = [place for place in range(len(came)) if place in in_left and place in in_right]
    ends = [*((c, in_left[c], in_right[c]) for c in shared), (len(came), len(left), len(right))]
    starts = [(0, 0, 0), *((c + 1, o + 1, t + 1) for c, o, t in ends[:-1])]
    found = []
    for start, end in zip(starts, ends, strict=True):
        found.append((came[start[0] : end[0]], left[start[1] : end[1]], right[start[2] : end[2]]))
    return [stretch for stretch in found if any(stretch)]


def matches(first: list[str], second: list[str]) -> dict[int, int]:
    """Return where the words of `first` stand in `second`, in one order (difflib's longest matches)."""
    # autojunk passes over words that are common in long lines, which are what pins them.
    blocks = difflib.SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    return {block.a + n: block.b + n for block in blocks for n in range(block.size)}


def mean_normalized_edit_distance(corrected: Sequence[str], targets: Sequence[str]) -> float:
    """Return the mean over lines of Levenshtein(o, t) / max(len(o), len(t)), in characters; lower is better.

    Two empty lines are 0 apart.

    Example: "cta" of "cat" -> 2 / 3
    """
    from rapidfuzz.distance import Levenshtein

    assert len(corrected) == len(targets), "a line for each line"
    distances = [Levenshtein.normalized_distance(*pair) for pair in zip(corrected, targets, strict=True)]
    return float(np.mean(distances)) if distances else 0.0


def sequence_detection_f1(found: Sequence[Sequence[int]], wrong: Sequence[Sequence[int]]) -> float:
    """Return the F1 of lines, a line being wrong, or called so, if any of its words is.

    Example: found 0 1 | 0 0 of 1 0 | 0 0 -> 1.0  (the line was found, though by another word)
    """
    assert len(found) == len(wrong), "a line for each line"
    called, are = (np.array([any(row) for row in rows], dtype=bool) for rows in (found, wrong))
    return detection(are, called).f1
