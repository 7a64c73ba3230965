"""Laws of span masking: exact budget, geometric lengths, whole words, no touching, keyed randomness.

Run: pytest tests/features/test_masking.py
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from span_examples import rows_of, spans_of, words_of

from span_electra.data_config import MaskingConfig
from span_electra.errors import InputError
from span_electra.features import masking as M
from span_electra.text.word_starts import SPECIAL

EVERY_TOKEN_A_WORD = words_of(np.ones(100, dtype=bool))
FORMATS = pytest.mark.parametrize("format", [1, 2])


@FORMATS
def test_single_tokens_are_hidden_wherever_words_end(format):
    tokens = words_of(np.zeros(100, dtype=bool))  # in whole words these rows are one word each
    masking = MaskingConfig(mask_ratio=0.3, max_span_len=1, whole_words=False, format=format)
    _, spans = spans_of([66] * 500, tokens, masking)
    assert (spans.lengths_S == 1).all() and len(spans.starts_S) == 500 * round(0.3 * 64)
    assert set(np.unique(spans.starts_S)) == set(range(1, 65))


@FORMATS
def test_with_p_of_one_spans_are_single_words(format):
    _, spans = spans_of([66] * 50, EVERY_TOKEN_A_WORD, MaskingConfig(geometric_p=1.0, format=format))
    assert (spans.lengths_S == 1).all() and len(spans.starts_S) == 50 * round(0.2 * 64)


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 200), max_size=12),
    ratio=st.one_of(st.sampled_from([0.0, 0.15, 0.2, 0.5]), st.floats(0.0, 0.5)),
    longest=st.integers(1, 40),
    p=st.floats(0.01, 1.0),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**40),
    format=st.sampled_from([1, 2]),
)
def test_budget_is_exact_and_spans_stay_apart_inside_the_content(
    lengths, ratio, longest, p, share, seed, format
):
    tokens = words_of(np.random.default_rng(seed).random(50) < share)
    masking = MaskingConfig(mask_ratio=ratio, max_span_len=longest, geometric_p=p, format=format)
    _, spans = spans_of(lengths, tokens, masking, seed)
    for length, (starts, sizes) in zip(lengths, rows_of(spans), strict=True):
        assert sizes.sum() == round(ratio * (length - 2))
        assert (sizes > 0).all()
        assert (starts >= 1).all() and (starts + sizes <= length - 1).all()
        assert (starts[1:] > starts[:-1] + sizes[:-1]).all()


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 200), max_size=12),
    ratio=st.sampled_from([0.15, 0.2, 0.5]),
    special=st.sampled_from([0.02, 0.2, 0.5, 1.0]),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    whole_words=st.booleans(),
    seed=st.integers(0, 2**40),
)
def test_special_tokens_inside_a_row_are_not_hidden_and_the_budget_stays(
    lengths, ratio, special, share, whole_words, seed
):
    rng = np.random.default_rng(seed)
    tokens, is_special_V = words_of(rng.random(50) < share), rng.random(50) < special
    tokens.flags_V[is_special_V] |= SPECIAL
    rows, spans = spans_of(lengths, tokens, MaskingConfig(mask_ratio=ratio, whole_words=whole_words), seed)
    for first, length, (starts, sizes) in zip(rows.starts_R, lengths, rows_of(spans), strict=True):
        assert sizes.sum() == round(ratio * (length - 2))
        assert (sizes > 0).all() and (starts[1:] > starts[:-1] + sizes[:-1]).all()
        assert (starts >= 1).all() and (starts + sizes <= length - 1).all()
        content_T = rows.ids_T[first + 1 : first + length - 1]
        hidden_T = [
            content_T[start - 1 : start - 1 + size] for start, size in zip(starts, sizes, strict=True)
        ]
        if (~is_special_V[content_T]).sum() >= 2 * sizes.sum() - 1:  # else there is no room beside them
            assert not is_special_V[np.concatenate([content_T[:0], *hidden_T])].any()


def test_special_tokens_end_words_and_leave_the_rest_as_it_is():
    """What lies round them is hidden as if they were not there, but that a word never goes on over one."""
    tokens = words_of(np.array([False, False, True]))
    tokens.flags_V[1] |= SPECIAL
    ids_T = np.array([2, 0, 0, 1, 0, 0, 2, 0, 1, 1, 2, 0, 0, 0, 2, 0, 2, 0], np.uint16)
    row = np.concatenate([[1], ids_T, [1]]).astype(np.uint16)
    rows = M.TokenRows(np.tile(row, 300), np.arange(300) * len(row), np.full(300, len(row)))
    spans = M.sample_spans(rows, tokens, M.row_keys(0, 0, np.arange(300), "spans"), MaskingConfig(0.3, 1))
    begins = {1, 5, 7, 11, 15, 17}  # words begin here, counted from the row's first token
    cut = sum(int(start) not in begins for starts, _ in rows_of(spans) for start in starts)
    assert set(spans.starts_S.tolist()) >= begins and cut < 0.4 * len(spans.starts_S)


def test_the_geometric_law_is_spanbert_s():
    probability_L = M.length_distribution(MaskingConfig(max_span_len=10))
    printed = [0.2241, 0.1792, 0.1434, 0.1147, 0.0918, 0.0734, 0.0587, 0.0470, 0.0376, 0.0301]
    assert np.allclose(probability_L, printed, atol=5e-5) and np.isclose(probability_L.sum(), 1)


@FORMATS
def test_spans_depend_on_the_key_alone(format):
    masking, tokens = MaskingConfig(format=format), words_of(np.random.default_rng(0).random(100) < 0.6)
    rows, whole = spans_of([128, 40, 512, 7], tokens, masking, seed=5)
    order = np.array([2, 0, 3, 1])
    others = M.TokenRows(rows.ids_T.astype(np.uint32), rows.starts_R[order], rows.lengths_R[order])
    shuffled = M.sample_spans(others, tokens, M.row_keys(5, 0, order, "spans"), masking)
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
    rows = M.TokenRows(*[np.empty(0, np.int64)] * 3)
    spans = M.sample_spans(rows, EVERY_TOKEN_A_WORD, np.empty(0), MaskingConfig())
    assert len(spans.starts_S) == 0 and len(spans.row_ends_R) == 0


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"mask_ratio": 0.6}, "mask_ratio: 0.6 is too large; the most is 0.5"),
        ({"geometric_p": 0.0}, "geometric_p: 0.0 must be above 0"),
        ({"geometric_p": 1.5}, "geometric_p: 1.5 is too large; the most is 1"),
    ],
)
def test_what_no_masking_allows_is_refused_in_round_numbers(settings, words):
    with pytest.raises(InputError, match=words):
        MaskingConfig(**settings)
