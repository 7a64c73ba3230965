"""Metrics of tasks, by hand and against the libraries. Run: pytest tests/finetuning/test_metrics.py"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import f1_score

from span_electra.finetuning.metrics import METRICS, compute_metric
from span_electra.training.checkpoint import more_is_better

FOUND, WANTED = np.array([1, 1, 0, 0, 1, 0]), np.array([1, 0, 0, 1, 1, 0])
pairs_of_classes = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)
tags = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
tagged_rows = st.lists(st.lists(st.tuples(tags, tags), max_size=6), min_size=1, max_size=4)


def test_less_is_better_of_perplexity_alone():
    assert [name for name in METRICS if not more_is_better(name, "auto")] == ["perplexity"]


def test_classes_by_hand():
    # 2 found of 3 called and 3 wanted; 2 of the other class likewise
    assert compute_metric("accuracy", FOUND, WANTED) == pytest.approx(4 / 6)
    assert compute_metric("f1", FOUND, WANTED) == pytest.approx(2 / 3)
    assert compute_metric("macro_f1", FOUND, WANTED) == pytest.approx(2 / 3)
    assert compute_metric("matthews", FOUND, WANTED) == pytest.approx((2 * 2 - 1 * 1) / 9)
    # The third class is named by nobody, and does not count.
    assert compute_metric("macro_f1", [0, 1, 1], [0, 1, 0]) == pytest.approx(2 / 3)
    assert compute_metric("f1", [2, 1, 0], [2, 1, 1]) == pytest.approx(2 / 3), "label 1 alone is positive"


def test_several_labels_a_row_by_hand():
    found_RC, wanted_RC = np.array([[1, 0, 1], [0, 0, 1]]), np.array([[1, 0, 0], [0, 0, 1]])
    assert compute_metric("f1", found_RC, wanted_RC) == pytest.approx(4 / 5)
    assert compute_metric("macro_f1", found_RC, wanted_RC) == pytest.approx((1 + 2 / 3) / 2), (
        "no row has the second"
    )
    assert compute_metric("macro_f1", found_RC * 0, wanted_RC * 0) == 0.0
    assert compute_metric("accuracy", found_RC, wanted_RC) == 0.5
    assert compute_metric("matthews", found_RC, wanted_RC) == pytest.approx(
        (2 * 3 - 1 * 0) / math.sqrt(3 * 2 * 4 * 3)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 8), st.randoms(use_true_random=False))
def test_macro_f1_of_several_labels_is_the_mean_of_each_ones_own(labels, rows, random):
    found_RC, wanted_RC = (
        np.array([[random.randint(0, 1) for _ in range(labels)] for _ in range(rows)]) for _ in range(2)
    )
    there = [label for label in range(labels) if (found_RC | wanted_RC)[:, label].any()]
    each = [compute_metric("f1", found_RC[:, label], wanted_RC[:, label]) for label in there]
    macro = compute_metric("macro_f1", found_RC, wanted_RC)
    assert macro == pytest.approx(sum(each) / len(each) if each else 0.0)
    if labels > 1 and there:  # a single column is two classes to sklearn
        of_sklearn = f1_score(wanted_RC, found_RC, labels=there, average="macro", zero_division=0.0)
        assert macro == pytest.approx(of_sklearn)


def test_constant_predictions_earn_nothing_and_warn_nobody():
    assert compute_metric("matthews", [1, 1, 1], [0, 1, 1]) == 0.0
    assert compute_metric("f1", [0, 0], [0, 0]) == 0.0
    for name in ("pearson", "spearman"):
        assert compute_metric(name, [0.3, 0.3, 0.3], [1, 2, 3]) == 0.0
        assert compute_metric(name, [1, 2, 3], [2, 2, 2]) == 0.0
        assert compute_metric(name, [1.0], [2.0]) == 0.0
        assert -1 <= compute_metric(name, [1.0, 1.0 + 1e-15, 1.0], [1, 2, 3]) <= 1  # nearly constant


def test_numbers_by_hand():
    numbers, squares = [1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 9.0, 16.0]
    assert compute_metric("spearman", numbers, squares) == pytest.approx(1.0)
    assert compute_metric("spearman", numbers, squares[::-1]) == pytest.approx(-1.0)
    assert compute_metric("pearson", numbers, squares) == pytest.approx(pearsonr(numbers, squares).statistic)
    assert compute_metric("pearson", numbers, squares) < 1.0


def test_words_by_hand():
    found, wanted = [[1, 0, 1], [], [0]], [[1, 1, 0], [], [0]]
    assert compute_metric("word_f1", found, wanted) == 0.5
    assert compute_metric("accuracy", found, wanted) == 0.5
    assert compute_metric("accuracy", [["NOUN"], ["VERB", "X"]], [["NOUN"], ["NOUN", "X"]]) == pytest.approx(
        2 / 3
    )
    assert compute_metric("macro_f1", [["X"], ["Y", "X"]], [["X"], ["X", "X"]]) == pytest.approx(
        (0.8 + 0) / 2
    )
    with pytest.raises(AssertionError, match="another number of words"):
        compute_metric("word_f1", [[1, 0], [1]], [[1], [0, 1]])


def test_chunks_by_hand():
    wanted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    assert compute_metric("chunk_f1", wanted, wanted) == 1.0
    # The person ends too early; one place is found, the other not: 1 of 2 found, 1 of 3 wanted.
    found = [["B-PER", "O", "O", "B-LOC"], ["O", "O"]]
    assert compute_metric("chunk_f1", found, wanted) == pytest.approx(2 * 1 / (2 + 3))
    # As conlleval reads it: an I- that nothing leads to begins a chunk, a B- always does, a new type too.
    assert compute_metric("chunk_f1", [["I-PER", "I-PER", "O"]], [["B-PER", "I-PER", "O"]]) == 1.0
    assert compute_metric("chunk_f1", [["B-PER", "B-PER"]], [["B-PER", "I-PER"]]) == 0.0
    assert compute_metric("chunk_f1", [["B-PER", "I-LOC"]], [["B-PER", "B-LOC"]]) == 1.0
    assert compute_metric("chunk_f1", [["O", "O"]], [["O", "O"]]) == 0.0, "nothing to be found"


# The same two sentences in each way of tagging: a person of two words, a place of one beside another.
SCHEMES = {
    "BIO": [["B-PER", "I-PER", "O", "B-LOC", "B-LOC"], ["O", "B-LOC"]],
    "IOB1": [["I-PER", "I-PER", "O", "I-LOC", "B-LOC"], ["O", "I-LOC"]],
    "BIOES": [["B-PER", "E-PER", "O", "S-LOC", "S-LOC"], ["O", "S-LOC"]],
    "BILOU": [["B-PER", "L-PER", "O", "U-LOC", "U-LOC"], ["O", "U-LOC"]],
    "BMES": [["B-PER", "E-PER", "O", "S-LOC", "S-LOC"], ["O", "S-LOC"]],
    "BMEWO": [["B-PER", "E-PER", "O", "W-LOC", "W-LOC"], ["O", "W-LOC"]],
}


@pytest.mark.parametrize("name", SCHEMES)
def test_every_way_of_tagging_gives_the_same_chunks(name):
    wanted = SCHEMES[name]
    found = [[*wanted[0][:3], "O", wanted[0][4]], ["O", "O"]]  # the person, and one place of three
    if name == "IOB1":
        found[0][4] = "I-LOC"
    assert compute_metric("chunk_f1", wanted, wanted) == 1.0
    assert compute_metric("chunk_f1", found, wanted) == pytest.approx(2 * 2 / (2 + 4))
    assert compute_metric("chunk_precision", found, wanted) == 1.0
    assert compute_metric("chunk_recall", found, wanted) == 0.5


letters = st.sampled_from(["O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.tuples(letters, letters), min_size=1, max_size=6), min_size=1, max_size=3))
def test_chunks_are_seqevals_in_bioes_and_what_has_other_letters_for_it(rows):
    from seqeval.metrics import f1_score

    found, wanted = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    expected = f1_score(wanted, found, zero_division=0)
    assert compute_metric("chunk_f1", found, wanted) == pytest.approx(expected)
    for others in ("BILU", "BMES", "BMEW"):
        letters_of = str.maketrans("BIES", others)
        renamed = (
            [[tag[0].translate(letters_of) + tag[1:] for tag in row] for row in side]
            for side in (found, wanted)
        )
        assert compute_metric("chunk_f1", *renamed) == pytest.approx(expected)


def test_tags_may_come_as_ids():
    labels = ("O", "B-PER", "I-PER")
    assert compute_metric("chunk_f1", [[1, 2, 0]], [[1, 2, 0]], labels) == 1.0
    assert compute_metric("chunk_f1", np.array([[1, 0]]), np.array([[1, 2]]), labels) == 0.0


def test_the_true_candidate_must_be_above_all_others():
    scores_RC = np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 0.0], [2.0, 2.0, 1.0], [0.1, 0.0, -5.0]])
    assert compute_metric("recall_at_1", scores_RC, None) == 0.5
    assert compute_metric("recall_at_1", np.zeros((5, 10)), None) == 0.0, "a constant scorer"
    assert compute_metric("recall_at_1", np.full((5, 10), np.nan), None) == 0.0


def test_perplexity_by_hand():
    assert compute_metric("perplexity", 10 * math.log(50), 10) == pytest.approx(50)
    assert compute_metric("perplexity", 1e6, 1) == math.inf


@pytest.mark.parametrize("name", ["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman"])
@settings(max_examples=20, deadline=None)  # the libraries take 10 ms a call
@given(pairs_of_classes, st.randoms())
def test_the_order_of_rows_does_not_matter_and_the_scale_holds(name, pairs, dice):
    found, wanted = zip(*pairs, strict=True)
    value = compute_metric(name, found, wanted)
    assert -1 - 1e-9 <= value <= 1 + 1e-9
    dice.shuffle(pairs)
    assert compute_metric(name, *zip(*pairs, strict=True)) == pytest.approx(value)


@settings(max_examples=50, deadline=None)
@given(tagged_rows)
def test_chunks_are_conllevals(rows):
    found, wanted = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    hits = sum(len(chunks(a) & chunks(b)) for a, b in zip(found, wanted, strict=True))
    total = sum(len(chunks(row)) for row in found + wanted)
    assert compute_metric("chunk_f1", found, wanted) == pytest.approx(2 * hits / total if total else 0.0)


def chunks(row):
    """(type, start, end) of each chunk, written out."""
    found, start = set(), None
    for place, tag in enumerate([*row, "O"]):
        before = row[place - 1] if place else "O"
        goes_on = tag[0] == "I" and before[2:] == tag[2:]
        if start is not None and not goes_on:
            found.add((before[2:], start, place))
            start = None
        if tag != "O" and start is None:
            start = place
    return found
