"""Compiled loops that make arrays, and the keyed random numbers they draw from.

Random numbers are counter-based (splitmix64, Steele, Lea and Flood 2014): the n-th number of a key depends on
the key and on n alone. `compiled.py` is for loops that make no arrays.

numba's cache on disk does not notice a change in a function called from another file. So kernels call only
into their own file and this one, and what is here keeps its meaning for ever.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's step: 2^64 divided by the golden ratio, made odd
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
HALF, HALF_MASK = np.uint64(32), np.uint64(0xFFFFFFFF)


def kernel(function: Callable) -> Callable:
    """numba.njit without the interpreter's lock, cached on disk where the disk may be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside the source nor in the home folder may be written
        return numba.njit(nogil=True)(function)


@kernel
def mix(state: np.uint64) -> np.uint64:
    """splitmix64's finalizer: uint64 -> uint64, each input bit flips half of the output bits."""
    state = (state ^ (state >> np.uint64(30))) * MIX_1
    state = (state ^ (state >> np.uint64(27))) * MIX_2
    return state ^ (state >> np.uint64(31))


@kernel
def random_bits(key: np.uint64, counter: int) -> np.uint64:
    """Return the `counter`-th 64 random bits of `key`."""
    return mix(key + np.uint64(counter) * GAMMA)


@kernel
def pick_below(bits: np.uint64, limit: int) -> int:
    """Turn the upper half of 64 random bits into an integer in [0, limit); limit below 2^32."""
    return np.int64(((bits >> HALF) * np.uint64(limit)) >> HALF)
