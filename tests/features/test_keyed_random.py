"""The keyed random numbers are splitmix64's, for ever.

Run: pytest tests/features/test_keyed_random.py
"""

import numpy as np

from span_electra.features.keyed_random import random_below, random_bits


def test_the_numbers_are_splitmix64_s():
    """The reference's first outputs from seed 0. If these move, every mask ever drawn moves."""
    drawn = [int(random_bits(np.uint64(0), counter)) for counter in (1, 2, 3)]
    assert drawn == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_picks_are_below_the_limit_and_even():
    bits = [np.uint64(random_bits(np.uint64(9), counter)) for counter in range(20_000)]
    counts = np.bincount([random_below(number, 5) for number in bits])
    assert len(counts) == 5 and abs(counts - 4000).max() < 250
    assert random_below(np.uint64(2**64 - 1), 2**32 - 1) == 2**32 - 2
