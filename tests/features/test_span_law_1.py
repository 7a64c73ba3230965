"""Law 1 of spans, of features of format 1: whole words, geometric lengths, even places for whole spans.

Run: pytest tests/features/test_span_law_1.py
"""

import numpy as np
import pytest
from scipy import stats
from span_examples import rows_of, spans_of, words_of

from span_electra.config import MaskingConfig
from span_electra.features import masking as M
from span_electra.features.words import LONGEST_WORD, Row


def test_spans_are_whole_words_of_at_most_max_span_len_but_for_one_cut_a_row():
    starts_word_V = np.random.default_rng(1).random(500) < 0.7
    masking = MaskingConfig(mask_ratio=0.2, max_span_len=5, law=1)
    rows, spans = spans_of([300] * 400, words_of(starts_word_V), masking, seed=1)
    for first, (starts, sizes) in zip(rows.starts_R, rows_of(spans), strict=True):
        begins_T = np.append(starts_word_V[rows.ids_T[first + 1 : first + 299]], True)
        begins_T[0] = True
        assert begins_T[starts - 1].all()
        assert (~begins_T[starts - 1 + sizes]).sum() <= 1
        for start, size in zip(starts - 1, sizes, strict=True):
            assert begins_T[start : start + size].sum() <= 5


def spans_within(budget, masking, keys_R, words):
    """The spans of rows of one-token words, one row a key, with a budget of so many tokens."""
    count = len(keys_R)
    rows = M.TokenRows(
        np.zeros(words + 2, np.int64), np.zeros(count, np.int64), np.full(count, words + 2, np.int64)
    )
    spans = M.Spans(*np.empty((2, count * budget), np.int32), np.empty(count, np.int64))
    thresholds_L = M._thresholds(M.length_distribution(masking))
    law = M._Law(1, 1, thresholds_L, joined=0, budgets_R=np.full(count, budget), keys_R=keys_R)
    room = Row(
        np.empty(words + 1, np.int64), np.ones(words + 1, np.uint8), np.zeros(words + 2 + M.PADDING, np.uint8)
    )
    M._sample_rows(rows, words_of(np.ones(1, bool)), law, room, spans)
    return spans


def lengths_drawn(number, masking, keys_R, words):
    """The lengths drawn first, second ... `number`-th: a row has k + 1 spans as soon as its budget exceeds
    the first k lengths together."""
    sums_RK = np.zeros((len(keys_R), number + 1), np.int64)
    for budget in range(1, number * masking.max_span_len + 1):
        counts_R = np.diff(spans_within(budget, masking, keys_R, words).row_ends_R, prepend=0)
        sums_RK += counts_R[:, None] <= np.arange(number + 1)
    return np.diff(sums_RK, axis=1)


@pytest.mark.parametrize("longest", [2, 3, 10, 20])
def test_lengths_follow_the_truncated_geometric_law(longest):
    keys_R = M.row_keys(7, 0, np.arange(40_000), "spans")
    lengths = lengths_drawn(1, MaskingConfig(max_span_len=longest), keys_R, 100)[:, 0]
    probability_L = stats.geom.pmf(np.arange(1, longest + 1), 0.2) / stats.geom.cdf(longest, 0.2)
    counts_L = np.bincount(lengths, minlength=longest + 1)[1:]
    assert stats.chisquare(counts_L, probability_L * counts_L.sum()).pvalue > 1e-4


def test_lengths_keep_the_law_where_places_are_rare():
    """All spans but each row's last, at the densest ratio: rejection must not favour short ones.

    A row stops when its budget is full, so long spans are cut more often; the share of drawn lengths is
    compared over the first half of the budget only, before any row stops.
    """
    masking = MaskingConfig(mask_ratio=0.5, max_span_len=10)
    # Twenty spans of at most ten words fill half of the row.
    lengths_RK = lengths_drawn(20, masking, M.row_keys(3, 0, np.arange(3000), "spans"), 400)
    counts_L = np.bincount(lengths_RK.ravel(), minlength=11)
    assert counts_L.sum() == 3000 * 20
    probability_L = M.length_distribution(masking)
    assert stats.chisquare(counts_L[1:], probability_L * counts_L.sum()).pvalue > 1e-4


def test_places_are_even():
    masking, keys_R = MaskingConfig(max_span_len=4), M.row_keys(7, 0, np.arange(60_000), "spans")
    lengths_R = lengths_drawn(1, masking, keys_R, 40)[:, 0]
    for length in range(1, 5):
        starts = spans_within(length, masking, keys_R[lengths_R == length], 40).starts_S - 1
        counts = np.bincount(starts[: (lengths_R == length).sum()], minlength=41 - length)
        assert len(counts) == 41 - length
        assert stats.chisquare(counts).pvalue > 1e-4


def test_text_without_word_starts_is_still_hidden_all_over():
    _, spans = spans_of([512] * 300, words_of(np.zeros(100, dtype=bool)), MaskingConfig(law=1))
    assert set(np.unique(spans.starts_S)) >= set(range(1, 400, LONGEST_WORD))
