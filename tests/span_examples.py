"""Rows of made-up tokens and their spans, for the tests of spans; holds no tests."""

import numpy as np

from span_electra.features import masking as M
from span_electra.text.word_starts import TokenWords, token_words


def words_of(starts_word_V) -> TokenWords:
    """Tokens of one ASCII letter each, of which some start words."""
    starts_word_V = np.asarray(starts_word_V, dtype=bool)
    return token_words([b"a"] * len(starts_word_V), ~starts_word_V, starts_word_V)


def spans_of(lengths_R, tokens, masking, seed=0, dtype=np.uint16, epoch=0):
    """Random rows of the given lengths ([CLS] and [SEP] included) -> rows, spans."""
    lengths_R = np.asarray(lengths_R, dtype=np.int64)
    rng = np.random.default_rng(seed)
    ids_T = rng.integers(0, len(tokens.starts_V), int(lengths_R.sum())).astype(dtype)
    rows = M.TokenRows(ids_T, np.cumsum(lengths_R) - lengths_R, lengths_R)
    keys_R = M.row_keys(seed, epoch, np.arange(len(lengths_R)), "spans")
    return rows, M.sample_spans(rows, tokens, keys_R, masking)


def rows_of(spans):
    """Yield (starts, lengths) of each row."""
    begin = 0
    for end in spans.row_ends_R:
        yield spans.starts_S[begin:end], spans.lengths_S[begin:end]
        begin = end


def hidden_shares(spans, content):
    """How often each content token is hidden, in rows of one length."""
    changes = np.zeros(content + 1)
    np.add.at(changes, spans.starts_S - 1, 1)
    np.add.at(changes, spans.starts_S - 1 + spans.lengths_S, -1)
    return np.cumsum(changes)[:-1] / len(spans.row_ends_R)
