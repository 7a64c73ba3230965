"""Laws of chunking: no token lost, none twice, none across a document's end.

Run: pytest tests/features/test_chunks.py
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from span_electra.data_config import ChunkConfig
from span_electra.features.chunks import cut_chunks, document_ends, frame_chunks

KEY = np.uint64(12345)


@settings(max_examples=100, deadline=None)
@given(
    documents=st.lists(st.integers(0, 300), min_size=1, max_size=8),
    max_seq_len=st.integers(3, 80),
    short=st.sampled_from([0.0, 0.05, 1.0]),
    key=st.integers(0, 2**64 - 1),
)
def test_every_token_comes_out_once_in_order(documents, max_seq_len, short, key):
    ends_D = np.cumsum(documents)
    chunking = ChunkConfig(max_seq_len=max_seq_len, short_chunk_prob=short)
    chunk_ends_R = cut_chunks(ends_D, chunking, np.uint64(key))
    lengths_R = np.diff(chunk_ends_R, prepend=0)
    assert lengths_R.sum() == ends_D[-1]
    assert not len(lengths_R) or (lengths_R.min() >= 1 and lengths_R.max() <= max_seq_len - 2)
    assert set(ends_D) <= {0, *chunk_ends_R}

    ids_T = (np.arange(ends_D[-1]) % 60000 + 5).astype(np.uint16)
    framed_T, ends_R = frame_chunks(ids_T, chunk_ends_R, 0, 1)
    assert framed_T.dtype == np.uint16
    assert np.array_equal(framed_T[framed_T > 4], ids_T)
    assert (framed_T[ends_R - 1] == 1).all() and (framed_T[ends_R - lengths_R - 2] == 0).all()
    assert len(framed_T) == len(ids_T) + 2 * len(lengths_R)


def test_rows_are_full_but_for_the_share_that_is_short_and_even():
    lengths_R = np.diff(
        cut_chunks(np.array([30_000_000]), ChunkConfig(max_seq_len=52, short_chunk_prob=0.05), KEY), prepend=0
    )[:-1]
    counts = np.bincount(lengths_R, minlength=51)[1:]
    short = counts[:-1]
    assert stats.chisquare(short).pvalue > 1e-4
    assert abs(short.sum() / len(lengths_R) - 0.05 * 49 / 50) < 0.002
    lengths_R = np.diff(cut_chunks(np.array([10_001]), ChunkConfig(52, 0.0), KEY), prepend=0)
    assert lengths_R.tolist() == [50] * 200 + [1]


def test_a_long_line_loses_nothing():
    """Where others cut line by line: 1,200 tokens became 690, 3,000 became 1,470."""
    for tokens in (1200, 3000):
        assert cut_chunks(np.array([tokens]), ChunkConfig(max_seq_len=128), KEY)[-1] == tokens


def test_the_cut_depends_on_the_key():
    chunking = ChunkConfig(max_seq_len=20, short_chunk_prob=0.5)
    cuts = [cut_chunks(np.array([5000]), chunking, np.uint64(key)) for key in (1, 1, 2)]
    assert np.array_equal(cuts[0], cuts[1]) and not np.array_equal(cuts[0], cuts[2])


def test_blank_lines_end_documents():
    text = b"one two\nthree\n \t\r\n\nfour\n"
    ends_D = document_ends(text, np.array([2, 3, 3, 3, 4]))
    assert ends_D.tolist() == [3, 3, 4]
    assert document_ends(b"one\n\ntwo", np.array([1, 1, 2])).tolist() == [1, 2]
    assert document_ends("a\n\u00a0\u2003b\n".encode(), np.array([1, 2])).tolist() == [2]
