"""Rows in lines: each once, none over another, and little room left.

Run: pytest tests/features/test_packing.py
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from span_electra.features.packing import pack_into_lines


def test_the_example():
    line_R, start_R, lines = pack_into_lines(np.array([3, 6, 5, 2]), 8)
    assert (line_R.tolist(), start_R.tolist(), lines) == ([1, 0, 1, 0], [5, 0, 0, 6], 2)


@given(st.lists(st.integers(1, 40), max_size=80), st.integers(40, 50))
def test_every_row_has_a_place_of_its_own(lengths, width):
    line_R, start_R, lines = pack_into_lines(np.array(lengths, np.int64), width)
    taken = np.zeros((lines, width), int)
    for length, line, start in zip(lengths, line_R, start_R, strict=True):
        assert start + length <= width
        taken[line, start : start + length] += 1
    assert taken.max(initial=0) <= 1 and taken.sum() == sum(lengths)
    # No line without a row, and no gap within one: what is left lies at the end.
    assert (taken[:, 0] == 1).all() and (np.diff(taken, axis=1) <= 0).all()
    # Never two lines half empty: their rows would have shared one.
    assert np.sum(2 * taken.sum(1) <= width) <= 1


def test_rows_of_documents_leave_little_empty():
    lengths_R = np.random.default_rng(0).integers(3, 129, 5000)
    _, _, lines = pack_into_lines(lengths_R, 128)
    assert lengths_R.sum() / (lines * 128) > 0.97


def test_a_row_longer_than_a_line_is_refused():
    with pytest.raises(AssertionError, match="fits no line"):
        pack_into_lines(np.array([3, 9]), 8)
