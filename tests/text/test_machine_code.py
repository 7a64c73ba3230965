"""What machine code does: intrinsics, results, failures. Run: pytest tests/text/test_machine_code.py"""

import numpy as np
import pytest

from span_electra.text.compiled import compiled, load8, store8, trailing_zeros


@compiled
def swap_at(array_B, a, b):
    first, second = load8(array_B, a), load8(array_B, b)
    store8(array_B, a, second)
    store8(array_B, b, first)


@compiled
def zeros_below(value):
    return trailing_zeros(value)


def test_eight_bytes_move_from_and_to_any_place():
    array_B = np.arange(30, dtype=np.uint8)
    swap_at(array_B, 3, 17)
    assert array_B.tolist() == [*range(3), *range(17, 25), *range(11, 17), *range(3, 11), *range(25, 30)]


def test_trailing_zeros():
    assert [zeros_below(np.uint64(1 << n)) for n in (0, 7, 63)] == [0, 7, 63]


def test_results_keep_their_type():
    @compiled
    def same(value):
        return value

    @compiled
    def positive(value):
        return value > 0

    @compiled
    def nothing(value):
        pass

    assert same(np.uint64(2**64 - 1)) == 2**64 - 1 and same(-3) == -3
    assert positive(2) is True and positive(-2) is False and nothing(1) is None


def test_a_function_that_raises_says_so():
    @compiled
    def divide(value, by):
        return value // by

    assert divide(7, 2) == 3
    with pytest.raises(RuntimeError, match="divide failed"):
        divide(1, 0)
