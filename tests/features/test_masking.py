"""Laws of span masking: exact budget, geometric lengths, whole words, no touching, keyed randomness.

Run: pytest tests/features/test_masking.py
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from span_electra.config import MaskingConfig
from span_electra.errors import InputError
from span_electra.features import masking as M

EVERY_TOKEN_A_WORD = np.ones(100, dtype=bool)


def draw(lengths_R, starts_word_V, masking, seed=0, epoch=0, dtype=np.uint16):
    lengths_R = np.asarray(lengths_R, dtype=np.int64)
    row_starts_R = np.cumsum(lengths_R) - lengths_R
    rng = np.random.default_rng(seed)
    ids_T = rng.integers(0, len(starts_word_V), int(lengths_R.sum())).astype(dtype)
    keys_R = M.row_keys(seed, epoch, np.arange(len(lengths_R)), "spans")
    spans = M.draw_spans(ids_T, row_starts_R, lengths_R, starts_word_V, keys_R, masking)
    return ids_T, row_starts_R, spans


def rows_of(spans):
    begin = 0
    for end in spans.row_ends_R:
        yield spans.starts_S[begin:end], spans.lengths_S[begin:end]
        begin = end


def test_single_tokens_are_hidden_wherever_words_end():
    starts_word_V = np.zeros(100, dtype=bool)  # in whole words these rows are one word each
    masking = MaskingConfig(mask_ratio=0.3, max_span_len=1, whole_words=False)
    _, _, spans = draw([66] * 500, starts_word_V, masking)
    assert (spans.lengths_S == 1).all() and len(spans.starts_S) == 500 * round(0.3 * 64)
    assert set(np.unique(spans.starts_S)) == set(range(1, 65))


def test_with_p_of_one_spans_are_single_words():
    _, _, spans = draw([66] * 50, EVERY_TOKEN_A_WORD, MaskingConfig(geometric_p=1.0))
    assert (spans.lengths_S == 1).all() and len(spans.starts_S) == 50 * round(0.2 * 64)


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 200), max_size=12),
    ratio=st.one_of(st.sampled_from([0.0, 0.15, 0.2, 0.5]), st.floats(0.0, 0.5)),
    longest=st.integers(1, 40),
    p=st.floats(0.01, 0.99),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**40),
)
def test_budget_is_exact_and_spans_stay_apart_inside_the_content(lengths, ratio, longest, p, share, seed):
    starts_word_V = np.random.default_rng(seed).random(50) < share
    masking = MaskingConfig(mask_ratio=ratio, max_span_len=longest, geometric_p=p)
    _, _, spans = draw(lengths, starts_word_V, masking, seed)
    for length, (starts, sizes) in zip(lengths, rows_of(spans), strict=True):
        assert sizes.sum() == round(ratio * (length - 2))
        assert (sizes > 0).all()
        assert (starts >= 1).all() and (starts + sizes <= length - 1).all()
        assert (starts[1:] > starts[:-1] + sizes[:-1]).all()


def test_spans_are_whole_words_of_at_most_max_span_len_but_for_one_cut_a_row():
    starts_word_V = np.random.default_rng(1).random(500) < 0.7
    masking = MaskingConfig(mask_ratio=0.2, max_span_len=5)
    ids_T, row_starts_R, spans = draw([300] * 400, starts_word_V, masking, seed=1)
    for first, (starts, sizes) in zip(row_starts_R, rows_of(spans), strict=True):
        begins_T = np.append(starts_word_V[ids_T[first + 1 : first + 299]], True)
        begins_T[0] = True
        assert begins_T[starts - 1].all()
        assert (~begins_T[starts - 1 + sizes]).sum() <= 1
        for start, size in zip(starts - 1, sizes, strict=True):
            assert begins_T[start : start + size].sum() <= 5


def spans_within(budget, masking, keys_R, words):
    """The spans of rows of one-token words, one row a key, with a budget of so many tokens."""
    rows = len(keys_R)
    starts_S, lengths_S = np.empty((2, rows * budget), np.int32)
    row_ends_R = np.empty(rows, np.int64)
    M._draw_rows(
        *(np.zeros(words + 2, np.int64), np.zeros(rows, np.int64), np.full(rows, words + 2)),
        *(np.full(rows, budget), np.ones(1, bool), keys_R, M._length_thresholds(masking)),
        *(np.empty(words + 1, np.int64), np.zeros(words + 2 + M.PADDING, np.uint8)),
        *(starts_S, lengths_S, row_ends_R),
    )
    return M.Spans(starts_S, lengths_S, row_ends_R)


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
    law_L = stats.geom.pmf(np.arange(1, longest + 1), 0.2) / stats.geom.cdf(longest, 0.2)
    counts_L = np.bincount(lengths, minlength=longest + 1)[1:]
    assert stats.chisquare(counts_L, law_L * counts_L.sum()).pvalue > 1e-4


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
    law_L = M.length_law(masking)
    assert stats.chisquare(counts_L[1:], law_L * counts_L.sum()).pvalue > 1e-4


def test_the_law_is_spanbert_s():
    law_L = M.length_law(MaskingConfig(max_span_len=10))
    printed = [0.2241, 0.1792, 0.1434, 0.1147, 0.0918, 0.0734, 0.0587, 0.0470, 0.0376, 0.0301]
    assert np.allclose(law_L, printed, atol=5e-5) and np.isclose(law_L.sum(), 1)


def test_places_are_even():
    masking, keys_R = MaskingConfig(max_span_len=4), M.row_keys(7, 0, np.arange(60_000), "spans")
    lengths_R = lengths_drawn(1, masking, keys_R, 40)[:, 0]
    for length in range(1, 5):
        starts = spans_within(length, masking, keys_R[lengths_R == length], 40).starts_S - 1
        counts = np.bincount(starts[: (lengths_R == length).sum()], minlength=41 - length)
        assert len(counts) == 41 - length
        assert stats.chisquare(counts).pvalue > 1e-4


def test_text_without_word_starts_is_still_hidden_all_over():
    _, _, spans = draw([512] * 300, np.zeros(100, dtype=bool), MaskingConfig())
    assert set(np.unique(spans.starts_S)) >= set(range(1, 400, M.LONGEST_WORD))


def test_spans_depend_on_the_key_alone():
    masking, starts_word_V = MaskingConfig(), np.random.default_rng(0).random(100) < 0.6
    lengths_R = np.array([128, 40, 512, 7])
    ids_T, row_starts_R, whole = draw(lengths_R, starts_word_V, masking, seed=5)
    order = np.array([2, 0, 3, 1])
    keys_R = M.row_keys(5, 0, order, "spans")
    shuffled = M.draw_spans(
        ids_T.astype(np.uint32), row_starts_R[order], lengths_R[order], starts_word_V, keys_R, masking
    )
    expected, got = list(rows_of(whole)), list(rows_of(shuffled))
    for place, row in enumerate(order):
        assert np.array_equal(got[place][0], expected[row][0])
        assert np.array_equal(got[place][1], expected[row][1])


def test_keys_differ_by_seed_epoch_row_and_purpose():
    rows_R = np.arange(1000)
    streams = [
        M.row_keys(seed, epoch, rows_R, purpose)
        for seed in (0, 1)
        for epoch in (0, 1)
        for purpose in ("spans", "samples")
    ]
    assert len(np.unique(np.concatenate(streams))) == 8000
    assert np.array_equal(M.row_keys(0, 1, rows_R[5:9], "spans"), M.row_keys(0, 1, rows_R, "spans")[5:9])


def test_uniforms_are_even_below_one_and_belong_to_their_row():
    keys_R = M.row_keys(0, 0, np.arange(200), "samples")
    uniforms_S = M.uniforms(keys_R, np.full(200, 500))
    assert uniforms_S.dtype == np.float32
    assert uniforms_S.min() >= 0 and uniforms_S.max() < 1
    assert stats.kstest(uniforms_S, "uniform").pvalue > 1e-4
    assert np.array_equal(M.uniforms(keys_R[3:4], np.array([40])), uniforms_S[1500:1540])


def test_budget_rounds_as_python_does():
    lengths_R = np.arange(2, 3000)
    for ratio in (0.15, 0.2, 0.25, 0.5):
        expected = [round(ratio * (length - 2)) for length in lengths_R.tolist()]
        assert M.span_budget(lengths_R, ratio).tolist() == expected


def test_no_rows_give_no_spans():
    spans = M.draw_spans(*[np.empty(0, np.int64)] * 3, EVERY_TOKEN_A_WORD, np.empty(0), MaskingConfig())
    assert len(spans.starts_S) == 0 and len(spans.row_ends_R) == 0


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"mask_ratio": 0.6}, "mask_ratio: 0.6 is not a share from 0 to 0.5"),
        ({"geometric_p": 0.0}, "geometric_p: 0 must be above 0 and at most 1"),
        ({"geometric_p": 1.5}, "geometric_p: 1.5 must be above 0 and at most 1"),
    ],
)
def test_what_no_law_allows_is_refused_in_round_numbers(settings, words):
    with pytest.raises(InputError, match=words):
        MaskingConfig(**settings)
