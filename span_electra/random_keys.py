"""Keys of random draws: whatever a run draws follows from a key, and every part's key from the whole's."""

from __future__ import annotations

_WORD = (1 << 64) - 1


def scramble(word: int) -> int:
    """Permute the 64-bit numbers (the finaliser of splitmix64, Steele et al. 2014)."""
    word = (word + 0x9E3779B97F4A7C15) & _WORD  # so that 0 does not stay 0
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def subkey(key: int | None, *numbers: int) -> int | None:
    """Derive the key of a part from the key of the whole; None stays None.

    Example: a step of the training loop has `subkey(seed, step, rank)`, its batches `subkey(key, number)`.
    """
    if key is None:
        return None
    for number in numbers:
        # Scrambled before it is mixed in: neighbouring numbers would else flip few bits of the key.
        key = scramble(key ^ scramble(number))
    return key
