"""Scores of labels -> the labels that are given: tags in an order that training has, thresholds by dev rows.

Shapes are in the names:
  W  words of a row   C  labels   E  labels and the edge of a row
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np

OUTSIDE = "O"  # the tag of no chunk, and what stands before a row's first tag and behind its last
IMPOSSIBLE = -1e9  # a score that no sum of others makes up for
TUNABLE = ("sequence", "several", "tokens")  # heads with a score for each label
# What may be added to scores, logits; beyond, a threshold would be that of a few dev rows.
SHIFTS = np.arange(-3.0, 3.25, 0.5)


# --- orders of tags -------------------------------------------------------------------------------------


def orders_of(rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Which tags follow each other in rows, by their letters and whether the types are the same.

    So BIO, IOB1, BIOES, BILOU or BMES need no names, and a type has what another one has.
    Example: O B-PER I-PER O -> "B I same", "I O", "O B"
    """
    pairs = set()
    for tags in rows:
        padded = (OUTSIDE, *tags, OUTSIDE)
        pairs |= set(zip(padded, padded[1:], strict=False))
    return tuple(sorted({_order(*pair) for pair in pairs}))


def _order(tag: str, following: str) -> str:
    letters = f"{tag[:1]} {following[:1]}"
    return letters if OUTSIDE in (tag, following) else f"{letters} {_sameness(tag, following)}"


def _sameness(tag: str, following: str) -> str:
    return "same" if tag[1:] == following[1:] else "other"


@cache
def legal_orders(labels: tuple[str, ...], orders: tuple[str, ...]) -> np.ndarray | None:
    """Whether each tag may follow each, bool [E, E], the edge of a row last; None where all may."""
    # The edge is as O is, and stands apart from it: tags of word segmentation have no O.
    tags = (*labels, OUTSIDE)
    legal_EE = np.array([[_order(tag, following) in orders for following in tags] for tag in tags])
    return None if not orders or legal_EE.all() else legal_EE


def best_tags(scores_WC: np.ndarray, labels: tuple[str, ...], orders: tuple[str, ...]) -> np.ndarray:
    """The tags of the highest sum of scores among those in a legal order, int64 [W] (Viterbi's algorithm).

    Scores of each word may have a number of its own added: logits do as well as log-probabilities.
    """
    likeliest_W = scores_WC.argmax(-1)
    legal_EE = legal_orders(labels, orders)
    if legal_EE is None or not len(likeliest_W):
        return likeliest_W
    legal_CC, first_C, last_C = legal_EE[:-1, :-1], legal_EE[-1, :-1], legal_EE[:-1, -1]
    # What each word wants is nearly always legal, and then nothing is better.
    legal = legal_CC[likeliest_W[:-1], likeliest_W[1:]].all()
    if legal and first_C[likeliest_W[0]] and last_C[likeliest_W[-1]]:
        return likeliest_W
    cost_CC = np.where(legal_CC, 0.0, IMPOSSIBLE)
    best_C, before = scores_WC[0] + np.where(first_C, 0.0, IMPOSSIBLE), []
    for score_C in scores_WC[1:]:
        sums_CC = best_C[:, None] + cost_CC
        before.append(sums_CC.argmax(0))
        best_C = sums_CC.max(0) + score_C
    tags = [int((best_C + np.where(last_C, 0.0, IMPOSSIBLE)).argmax())]
    for before_C in reversed(before):
        tags.append(int(before_C[tags[-1]]))
    return np.array(tags[::-1])


# --- thresholds -----------------------------------------------------------------------------------------


def direction(kind: str, labels: tuple[str, ...]) -> np.ndarray | None:
    """What a threshold moves, [C]: label 1 of two, each of several labels, every tag but O; None: nothing."""
    if kind == "several":
        return np.ones(len(labels))
    if kind == "sequence" and len(labels) == 2:
        return np.array([0.0, 1.0])
    if kind == "tokens" and OUTSIDE in labels:
        return np.array([float(label != OUTSIDE) for label in labels])
    return None


def best_shift(metric_at: Callable[[float], float]) -> float:
    """The shift of SHIFTS at which a metric of dev rows is best, of several the one nearest 0.

    By the mean of each with its neighbours: of few rows a single one stands out by chance.
    """
    value_N = np.array([metric_at(shift) for shift in SHIFTS.tolist()])
    mean_N = np.convolve(value_N, np.ones(3), "same") / np.convolve(np.ones(len(value_N)), np.ones(3), "same")
    # Rounded, or the last digit of a mean would decide.
    return min(zip(-mean_N.round(9), abs(SHIFTS), SHIFTS, strict=True))[-1].item()
