"""Where spans lie: each token equally likely, lengths by the law, whole words, no character cut.

Run: pytest tests/features/test_span_placement.py
"""

import numpy as np
import pytest
from scipy import stats
from span_examples import hidden_shares, rows_of, spans_of, words_of

from span_electra.data_config import MaskingConfig
from span_electra.features import masking as M
from span_electra.features import span_placement
from span_electra.features.keyed_random import random_below
from span_electra.features.words import LONGEST_WORD, Row
from span_electra.text.word_starts import token_words

ONE_TOKEN_WORDS = words_of(np.ones(100, dtype=bool))


@pytest.mark.parametrize("content", [14, 30, 62, 126])
@pytest.mark.parametrize("ratio", [0.15, 0.2, 0.3])
def test_each_place_of_a_row_is_hidden_as_often_as_any_other(content, ratio):
    """Within 10% of the mean over 20,000 rows; format 1 hid the first a quarter as often."""
    _, spans = spans_of([content + 2] * 20_000, ONE_TOKEN_WORDS, MaskingConfig(ratio))
    shares = hidden_shares(spans, content)
    assert np.abs(shares / shares.mean() - 1).max() < 0.1
    _, earlier = spans_of([content + 2] * 20_000, ONE_TOKEN_WORDS, MaskingConfig(ratio, format=1))
    assert hidden_shares(earlier, content)[0] < 0.7 * shares[0]


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_so_it_is_in_rows_of_longer_words(share):
    tokens = words_of(np.random.default_rng(0).random(200) < share)
    _, spans = spans_of([128] * 20_000, tokens, MaskingConfig())
    shares = hidden_shares(spans, 126)
    assert np.abs(shares / shares.mean() - 1).max() < 0.1


@pytest.mark.parametrize("longest, p", [(20, 0.2), (10, 0.2), (5, 0.4), (3, 0.4)])
def test_lengths_of_spans_off_the_edges_follow_the_law(longest, p):
    """In rows so long that the one cut span of each and the clipped ones at its edges do not count."""
    masking = MaskingConfig(max_span_len=longest, geometric_p=p)
    content = 20_000
    _, spans = spans_of([content + 2] * 8, ONE_TOKEN_WORDS, masking, seed=1)
    inside = (spans.starts_S > 1) & (spans.starts_S + spans.lengths_S <= content)
    counts_L = np.bincount(spans.lengths_S[inside], minlength=longest + 1)[1:]
    assert len(counts_L) == longest
    law_L = stats.geom.pmf(np.arange(1, longest + 1), p) / stats.geom.cdf(longest, p)
    assert counts_L.sum() > 6000
    assert stats.chisquare(counts_L, law_L * counts_L.sum()).pvalue > 1e-4


@pytest.mark.parametrize("format", [1, 2])
def test_spans_are_whole_words_of_at_most_max_span_len_but_for_one_cut_a_row(format):
    starts_word_V = np.random.default_rng(1).random(500) < 0.7
    masking = MaskingConfig(max_span_len=5, format=format)
    rows, spans = spans_of([300] * 400, words_of(starts_word_V), masking, seed=1)
    for first, (starts, sizes) in zip(rows.starts_R, rows_of(spans), strict=True):
        begins_T = np.append(starts_word_V[rows.ids_T[first + 1 : first + 299]], True)
        begins_T[0] = True
        cut_at_start = (~begins_T[starts - 1]).sum()
        assert cut_at_start + (~begins_T[starts - 1 + sizes]).sum() <= 1
        assert format == 2 or not cut_at_start
        for start, size in zip(starts - 1, sizes, strict=True):
            assert begins_T[start : start + size].sum() <= 5


def characters(sizes, seed, count=400):
    """Tokens of which each is a part of a character of `sizes` tokens: one vocabulary entry a part."""
    spelt = ["啊".encode()[begin:end] for size in (1, 2, 3) for begin, end in PARTS[size]]
    tokens = token_words(spelt, np.ones(len(spelt), bool), np.zeros(len(spelt), bool))
    rng, rows = np.random.default_rng(seed), []
    first = {1: 0, 2: 1, 3: 3}
    for _ in range(count):
        row: list[int] = []
        while len(row) < 128:
            size = int(rng.choice(sizes))
            row += range(first[size], first[size] + size)
        rows.append(row[:128])
    ids_T = np.array(rows, np.uint16).ravel()
    starts_R = np.arange(count) * 128
    return M.TokenRows(ids_T, starts_R, np.full(count, 128)), tokens


PARTS = {1: [(0, 3)], 2: [(0, 2), (2, 3)], 3: [(0, 1), (1, 2), (2, 3)]}


@pytest.mark.parametrize("sizes", [(1, 2), (1, 3), (2, 3), (1, 2, 3), (3,)])
def test_no_span_begins_or_ends_inside_a_character_where_any_other_way_is(sizes):
    rows, tokens = characters(sizes, seed=len(sizes))
    spans = M.sample_spans(rows, tokens, M.row_keys(0, 0, np.arange(400), "spans"), MaskingConfig())
    continues = tokens.flags_V & 16 != 0
    cut = 0
    for first, (starts, lengths) in zip(rows.starts_R, rows_of(spans), strict=True):
        assert lengths.sum() == 25
        ends = starts + lengths
        # A row's own edges cut characters, and a span may lie there.
        cut += continues[rows.ids_T[first + starts[starts > 1]]].sum()
        cut += continues[rows.ids_T[first + ends[ends < 127]]].sum()
    # Of characters of three tokens no 25 are whole: one span a row must be cut, and no more than one is.
    assert cut == 0 if sizes != (3,) else 0 < cut <= 400


@pytest.mark.parametrize("characters", [True, False])
def test_the_longest_run_that_fits_is_that_of_a_search_through_all_sizes(characters):
    rng, drawn = np.random.default_rng(0), 0
    for _ in range(400):
        content, bits = int(rng.integers(1, 40)), rng.integers(0, 1 << 64, dtype=np.uint64)
        taken = np.zeros(content + 1, np.uint8)
        taken[1:] = rng.random(content) < rng.choice([0, 0.03, 0.1, 0.5])
        row = Row(np.zeros(1, np.int64), (rng.random(content) < 0.7).astype(np.uint8), taken)
        left = int(rng.integers(1, content + 1))
        found = span_placement._search_run(row, content, left, bits, characters)
        assert found == search_all_sizes(row, content, left, bits, characters)
        drawn += found[1] > 0
    assert 200 < drawn < 400


def search_all_sizes(row, content, left, bits, characters):
    """As `_search_run` was when the features were drawn that exist."""
    for size in range(left, 0, -1):
        for ends in (2,) if characters else (1, 0):
            fits = [
                start for start in range(content) if span_placement._run_fits(row, content, start, size, ends)
            ]
            if fits:
                return fits[random_below(bits, len(fits))], size
    return 0, 0


def test_what_is_left_of_a_budget_goes_to_the_span_before_if_it_is_short():
    """So a row of 128 with words of one token has about 5.7 spans, not 6.2 with many of one token."""
    _, spans = spans_of([128] * 5000, ONE_TOKEN_WORDS, MaskingConfig())
    assert 5.5 < len(spans.starts_S) / 5000 < 5.9
    ones = (spans.lengths_S == 1).mean()
    assert abs(ones - M.length_distribution(MaskingConfig())[0]) < 0.02


def test_text_without_word_starts_is_still_hidden_all_over():
    _, spans = spans_of([512] * 300, words_of(np.zeros(100, dtype=bool)), MaskingConfig(format=1))
    assert set(np.unique(spans.starts_S)) >= set(range(1, 400, LONGEST_WORD))
