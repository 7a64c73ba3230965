"""How well spelling is corrected and misspelt text is found: the figures of nsc's spelling benchmark.

The benchmark (bastiscode/spell_check) has corrupted lines and the lines they were made of. Its figures are
of a whole set: hits and misses are summed over its lines, then divided.

  N  lines or words of a set
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from span_electra.evaluation.metrics import Scores, detection, scores_of


@dataclass(frozen=True)
class Counts:
    """Words of a line: misspelt and mended, changed for the worse or in vain, misspelt and still so."""

    mended: int = 0  # true positives
    spoilt: int = 0  # false positives
    missed: int = 0  # false negatives


# --- correction ---------------------------------------------------------------------------------------


def correction_f1(corrupted: Sequence[str], corrected: Sequence[str], targets: Sequence[str]) -> Scores:
    """Return F1, precision and recall of corrections, over the words of all lines.

    With a word c as it came, o as it was left and t as it should be:
    TP: c != t and o == t    FP: o != c and o != t    FN: c != t and o != t
    so that a misspelt word that became another wrong one is both false positive and false negative.

    Example: "teh cta sat" -> "the car sat" of "the cat sat": TP 1 (the), FP 1 and FN 1 (car), F1 .5
    """
    assert len(corrupted) == len(corrected) == len(targets), "a line for each line"
    rows = [count(*row) for row in zip(corrupted, corrected, targets, strict=True)]
    mended = sum(row.mended for row in rows)
    called = mended + sum(row.spoilt for row in rows)
    return scores_of(mended, called, wrong=mended + sum(row.missed for row in rows))


def count(corrupted: str, corrected: str, target: str) -> Counts:
    """Count the words of one line, each against the word in its place.

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
    return Counts(*counts.tolist())


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


# --- detection ----------------------------------------------------------------------------------------


def sequence_detection_f1(found: Sequence[Sequence[int]], wrong: Sequence[Sequence[int]]) -> float:
    """Return the F1 of lines, a line being wrong, or called so, if any of its words is.

    Example: found 0 1 | 0 0 of 1 0 | 0 0 -> 1.0  (the line was found, though by another word)
    """
    assert len(found) == len(wrong), "a line for each line"
    called, are = (np.array([any(row) for row in rows], dtype=bool) for rows in (found, wrong))
    return detection(are, called).f1
