"""Spelling errors found word by word by a discriminator that was never taught to: is this token replaced?

A set is a folder with corrupt.txt, a sentence a line, and correct.txt, a 0 or 1 (wrong) for each of its
words, cut at white space. A folder of sets has dev/ and test/ with the same sets below them: how the tokens'
probabilities become one for the word, and the threshold above which it is called wrong, are chosen on dev.

W words of a set
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from span_electra.errors import InputError
from span_electra.evaluation.metrics import area_under_curve, best_threshold, detection, sequence_detection_f1
from span_electra.finetuning.readers import marks_of
from span_electra.finetuning.rows import paired_lines
from span_electra.finetuning.rows import read_lines as numbered_lines
from span_electra.finetuning.task_types import MISSPELT
from span_electra.hub.networks import Networks
from span_electra.inference.detection import token_probabilities
from span_electra.text.token_spans import pool_words, read_lines

POOLINGS = ("max", "mean", "any")


@dataclass(frozen=True)
class SpellingSet:
    """Lines and, for each of their words, whether it is misspelt."""

    lines: list[str]
    wrong_W: np.ndarray  # bool, the words of all lines in order


def find_sets(folder: str | Path) -> dict[str, tuple[Path, Path]]:
    """Return (dev, test) folders of every set, by name. Raises InputError where there are none.

    A test set without one of the same name in dev takes the first there.
    """
    folder = Path(folder)
    found = {split: sets_below(folder / split, labelled=True) for split in ("dev", "test")}
    for split, sets in found.items():
        if not sets:
            raise InputError(
                f"{folder / split}: no set there (corrupt.txt, and correct.txt of 0 and 1); the folder needs "
                "dev/ to choose the threshold on and test/"
            )
    first = next(iter(found["dev"].values()))
    return {
        "all" if name == "." else name: (found["dev"].get(name, first), test)
        for name, test in found["test"].items()
    }


def sets_below(folder: Path, *, labelled: bool) -> dict[str, Path]:
    """The sets in a folder or below it, by their path in it: those of labels, or those of clean text."""
    sets = {}
    for correct in sorted(folder.rglob("correct.txt")):
        if (correct.parent / "corrupt.txt").is_file():
            # Told apart by the first line with words: clean text is for correction, not for detection.
            first = next((line.split() for _, line in numbered_lines(correct) if line.strip()), [])
            if (set(first) <= set(MISSPELT)) == labelled:
                sets[str(correct.parent.relative_to(folder))] = correct.parent
    return sets


def read_pair(folder: Path) -> tuple[list[str], list[str]]:
    """The lines of corrupt.txt and correct.txt. Raises InputError where one has no other."""
    pairs = [*paired_lines(folder / "corrupt.txt", folder / "correct.txt")]
    return [corrupt for _, corrupt, _ in pairs], [correct for _, _, correct in pairs]


def read_set(folder: Path) -> SpellingSet:
    """Read a set. Raises InputError naming the line whose words and labels do not fit."""
    lines, labels = read_pair(folder)
    wrong: list[bool] = []
    for number, (line, marks) in enumerate(zip(lines, labels, strict=True), start=1):
        marks_W = marks_of(line, marks, f"{folder / 'correct.txt'}: line {number}")
        wrong += [mark == MISSPELT[1] for mark in marks_W]
    return SpellingSet(lines, np.array(wrong, dtype=bool))


def word_probabilities(networks: Networks, lines: list[str]) -> dict[str, np.ndarray]:
    """Return each word's probability of being wrong under every pooling, float64 [W]."""
    read = read_lines(networks.vocabulary, lines, blanks_alone=True)  # as the set's labels have them
    probability = token_probabilities(networks, read)
    return {
        pooling: np.concatenate(
            [np.zeros(0)]
            + [
                pool_words(probability_T, line.word_T, len(line.word_spans), pooling)
                for line, probability_T in zip(read, probability, strict=True)
            ]
        )
        for pooling in POOLINGS
    }


def score_spelling(networks: Networks, folder: str | Path) -> dict[str, Any]:
    """Return F1, precision, recall and area under the curve of every test set by words, and F1 by lines."""
    rows, chosen = {}, {}
    for name, (dev, test) in find_sets(folder).items():
        if dev not in chosen:  # several test sets may share one dev
            chosen[dev] = select_threshold(networks, read_set(dev))
        pooling, threshold = chosen[dev]
        test_set = read_set(test)
        probability_W = word_probabilities(networks, test_set.lines)[pooling]
        found_W = probability_W >= threshold
        found = detection(test_set.wrong_W, found_W)
        rows[name] = {
            "F1": found.f1,
            "precision": found.precision,
            "recall": found.recall,
            "area under curve": area_under_curve(test_set.wrong_W, probability_W),
            "words": len(test_set.wrong_W),
            "wrong": float(test_set.wrong_W.mean()),
            # What calling every word wrong would score: a figure below it has learned nothing.
            "F1 of calling all wrong": detection(test_set.wrong_W, np.ones_like(found_W)).f1,
            "pooling": pooling,
            "threshold": threshold,
            **sequence_scores(test_set, found_W),
        }
    return rows


def sequence_scores(test_set: SpellingSet, found_W: np.ndarray) -> dict[str, Any]:
    """Lines with an error, found by any word called wrong."""
    ends = np.cumsum([len(line.split()) for line in test_set.lines])[:-1]
    wrong, found = np.split(test_set.wrong_W, ends), np.split(found_W, ends)
    return {
        "sequence F1": sequence_detection_f1(found, wrong),
        "sequences": len(wrong),
        "sequence F1 of calling all wrong": sequence_detection_f1([[True]] * len(wrong), wrong),
    }


def select_threshold(networks: Networks, dev: SpellingSet) -> tuple[str, float]:
    """Return the pooling and the threshold of the highest F1 on a development set."""
    # On dev alone: a threshold picked on the test set would be read off the answers.
    found = {}
    for pooling, probability_W in word_probabilities(networks, dev.lines).items():
        threshold = best_threshold(dev.wrong_W, probability_W)
        found[pooling] = detection(dev.wrong_W, probability_W >= threshold).f1, threshold
    best = max(found, key=lambda pooling: found[pooling][0])
    return best, found[best][1]
