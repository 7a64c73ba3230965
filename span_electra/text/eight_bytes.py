"""Eight bytes of an array at once, for compiled loops.

Written out byte by byte, because numba has no unaligned access; LLVM makes one load or store of it. Indices
are unsigned, or numba would look for negative ones at each byte. Bounds are the caller's.
"""

import numpy as np

from span_electra.text.compiled import inlined

ONES = np.uint64(0x0101010101010101)  # the lowest bit of each of eight bytes
MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd number with well spread bits


@inlined
def load8(array_B, offset):
    """The eight bytes from any offset of a uint8 array, as uint64, first byte lowest."""
    at, eight = np.uint64(offset), np.uint64(0)
    for i in range(8):
        place = np.uint64(i)
        eight |= np.uint64(array_B[at + place]) << (np.uint64(8) * place)
    return eight


@inlined
def store8(array_B, offset, eight):
    """Write a uint64 as eight bytes to any offset of a uint8 array, first byte lowest."""
    at = np.uint64(offset)
    for i in range(8):
        place = np.uint64(i)
        array_B[at + place] = np.uint8(eight >> (np.uint64(8) * place))


@inlined
def first_byte(bits):
    """Which of eight bytes (0 is the lowest) is the first with its lowest bit set; no other bit may be.

    bits: uint64 other than 0. All below the lowest set bit become ones, and one of each byte is added up.
    """
    lowest = bits & (~bits + np.uint64(1))
    return np.int64(((lowest - np.uint64(1)) & ONES) * ONES >> np.uint64(56))


@inlined
def mixed(bits):
    """A uint64 whose lowest bits depend on all of another's, for its place in a hash."""
    product = bits * MIX
    return product ^ product >> np.uint64(32)
