"""Tags of the highest score in a legal order; thresholds where a metric is best.

Run: pytest tests/finetuning/test_decoding.py
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from span_electra.finetuning.decoding import (
    SHIFTS,
    best_shift,
    best_tags,
    direction,
    orders_of,
)

BIO = ("B-L", "B-P", "I-L", "I-P", "O")
BMES = ("B", "E", "M", "S")  # of word segmentation: every character is in a word
ROWS = {
    "BIO": ["O B-P I-P I-P O", "B-P B-L I-L", "I-", "O O B-P O"],
    "IOB1": ["O I-P I-P O", "I-P B-P I-P I-L", "O I-L O"],
    "BIOES": ["O S-P B-P E-P", "B-P I-P I-P E-P S-L O", "S-P O O"],
}


@pytest.mark.parametrize("labels", [BIO, BMES])
@given(words=st.integers(0, 5), seed=st.integers(0, 10_000), seen_rows=st.integers(0, 6))
def test_no_legal_row_has_a_higher_score(labels, words, seed, seen_rows):
    dice = np.random.default_rng(seed)
    # A tag alone that may follow itself, so that a row of any length has a legal order.
    rows = [dice.choice(labels, dice.integers(1, 5)).tolist() for _ in range(seen_rows)] + [2 * labels[-1:]]
    orders, scores_WC = orders_of(rows), dice.normal(size=(words, len(labels)))

    def is_legal(tags):
        return set(orders_of([[labels[tag] for tag in tags]])) <= {"O O", *orders}

    def score(tags):
        return sum(scores_WC[word, tag] for word, tag in enumerate(tags))

    found = tuple(best_tags(scores_WC, labels, orders).tolist())
    assert is_legal(found)
    assert score(found) >= max(map(score, filter(is_legal, product(range(len(labels)), repeat=words))))


def test_every_row_that_was_seen_is_legal_whatever_its_types():
    rows = [["O", "B-P", "I-P", "B-L", "O"], ["B-L"]]
    orders = orders_of(rows)
    assert orders == ("B I same", "B O", "I B other", "O B", "O O")
    other = ["B-L", "I-L", "B-P"]  # of types that were not seen so
    numbers = [BIO.index(tag) for tag in other]
    scores_WC = np.zeros((3, len(BIO)))
    scores_WC[range(3), numbers] = 1.0
    assert best_tags(scores_WC, BIO, orders).tolist() == numbers


def test_a_name_that_begins_inside_is_mended_by_what_its_words_want_most():
    orders = orders_of([["O", "B-P", "I-P", "O", "O"], ["B-P", "O"]])
    scores_WC = np.array([[0.0, 1.5, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 3.0, 0.0]])
    assert [BIO[tag] for tag in scores_WC.argmax(-1)] == ["I-P", "I-P"]
    assert [BIO[tag] for tag in best_tags(scores_WC, BIO, orders)] == ["B-P", "I-P"]


@pytest.mark.parametrize("scheme", ROWS)
def test_each_scheme_is_known_by_its_rows(scheme):
    rows = [row.split() for row in ROWS[scheme] if row != "I-"]
    orders = orders_of(rows)
    assert ("O I" in orders) == (scheme == "IOB1")
    assert not any(order.startswith("B I other") for order in orders)
    # BIOES ends what it begins, and IOB1 begins a name only behind another of its type.
    assert ("B O" in orders) == (scheme == "BIO")


def test_without_orders_the_likeliest_tags_are_the_best():
    scores_WC = np.random.default_rng(0).normal(size=(9, len(BIO)))
    assert (best_tags(scores_WC, BIO, ()) == scores_WC.argmax(-1)).all()
    assert best_tags(scores_WC[:0], BIO, ("O O",)).tolist() == []


def test_a_shift_is_where_the_metric_and_its_neighbours_are_best():
    assert best_shift(lambda shift: -abs(shift - 1.0)) == 1.0
    assert best_shift(lambda shift: 0.5) == 0.0, "of equals that which changes least"
    peak = {-2.0: 0.9, 0.5: 0.7, 1.0: 0.8, 1.5: 0.7}  # one lucky value among bad ones, and a hill
    assert best_shift(lambda shift: peak.get(shift, 0.1)) == 1.0
    assert best_shift(lambda shift: shift) == SHIFTS.max()


def test_what_a_threshold_moves():
    assert direction("sequence", ("no", "yes")).tolist() == [0, 1]
    assert direction("several", ("a", "b", "c")).tolist() == [1, 1, 1]
    assert direction("tokens", ("B-P", "O", "I-P")).tolist() == [1, 0, 1]
    assert direction("sequence", ("a", "b", "c")) is direction("tokens", ("NN", "VB")) is None
    assert direction("number", ("score",)) is None
