"""Random numbers by key, for compiled loops.

Counter-based (splitmix64, Steele, Lea and Flood 2014): the n-th number of a key depends on the key and on n
alone.
"""

from __future__ import annotations

import numpy as np

from span_electra.text.compiled import compiled

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's step: 2^64 divided by the golden ratio, made odd
FACTOR_1, FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
HALF, HALF_MASK = np.uint64(32), np.uint64(0xFFFFFFFF)


@compiled
def finalize(state: np.uint64) -> np.uint64:
    """splitmix64's finalizer: uint64, or an array of them; each input bit flips half of the output bits."""
    state = (state ^ (state >> np.uint64(30))) * FACTOR_1
    state = (state ^ (state >> np.uint64(27))) * FACTOR_2
    return state ^ (state >> np.uint64(31))


@compiled
def random_bits(key: np.uint64, counter: int) -> np.uint64:
    """Return the `counter`-th 64 random bits of `key`."""
    return finalize(key + np.uint64(counter) * GAMMA)


@compiled
def random_below(bits: np.uint64, limit: int) -> int:
    """Turn the upper half of 64 random bits into an integer in [0, limit); limit below 2^32."""
    # A product and a shift in place of a division; none comes out more often than another by above 2^-32.
    return np.int64(((bits >> HALF) * np.uint64(limit)) >> HALF)
