"""Keys of parts differ from each other and from the whole's. Run: pytest tests/test_random_keys.py"""

from span_electra.random_keys import scramble, subkey


def test_subkeys_differ_and_none_stays_none():
    assert subkey(None, 3) is None
    keys = {subkey(seed, step, part) for seed in range(10) for step in range(10) for part in range(10)}
    assert len(keys) == 1000
    assert all(0 <= key < 2**64 for key in keys)


def test_the_order_of_the_numbers_counts():
    assert len({subkey(1, 2, 3), subkey(1, 3, 2), subkey(2, 1, 3)}) == 3


def test_scrambled_numbers_are_those_of_splitmix64():
    # The first output of splitmix64 for seed 0, as its authors print it.
    assert scramble(0) == 0xE220A8397B1DCDAF
