"""Eight bytes at once, from and to any place. Run: pytest tests/text/test_eight_bytes.py"""

import numpy as np

from span_electra.text.compiled import compiled
from span_electra.text.eight_bytes import first_byte, load8, store8


@compiled
def swap_at(array_B, a, b):
    first, second = load8(array_B, a), load8(array_B, b)
    store8(array_B, a, second)
    store8(array_B, b, first)


def test_eight_bytes_move_from_and_to_any_place():
    array_B = np.arange(30, dtype=np.uint8)
    swap_at(array_B, 3, 17)
    assert array_B.tolist() == [*range(3), *range(17, 25), *range(11, 17), *range(3, 11), *range(25, 30)]


def test_the_first_byte_is_found_whatever_comes_after_it():
    for place in range(8):
        for above in (0, 0x0101010101010101):
            bits = (1 << 8 * place) | (above << 8 * (place + 1)) & (2**64 - 1)
            assert first_byte(np.uint64(bits)) == place
