"""Loops over arrays as machine code, which is kept (see machine_code.py).

    @compiled
    def double(values_N, doubled_N):
        for i in range(len(values_N)):
            doubled_N[i] = 2 * values_N[i]

Loops run without the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

from span_electra.machine_code import cached_njit


def compiled(function: Callable) -> Callable:
    """Make a loop of a function; it is compiled for the types of its arguments when they first come."""
    return cached_njit(nogil=True)(function)


def inlined(function: Callable) -> Callable:
    """A part of loops, put whole into each place of theirs that calls it.

    What is called may fail as far as numba knows, and then it counts references to arrays on the way, which
    takes longer than to look a word up. It does too where an array's last use lies in one of several branches
    that join again.
    """
    return njit(nogil=True, forceinline=True)(function)
