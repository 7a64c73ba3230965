"""The decorator of compiled loops that make arrays; `compiled.py` has the one for loops that do not."""

from __future__ import annotations

from collections.abc import Callable

import numba


def kernel(function: Callable) -> Callable:
    """numba.njit without the interpreter's lock, cached on disk where the disk may be written.

    The cache does not notice a change in a function called from another file, so kernels call only their own
    file's.
    """
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside the source nor in the home folder may be written
        return numba.njit(nogil=True)(function)
