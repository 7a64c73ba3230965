"""The CPU's own loops: dropout whose masks are a function of a key, and what can be done in the same pass.

torch draws its CPU dropout masks on one thread (a fifth of a training step); these loops compute each mask
bit from the key and the element's number instead, so that nothing is stored, the backward pass computes the
same bits again, and all threads share the work. Compiled by numba at first use; machine_code.py keeps them.

Shapes are in the names:
  N  elements   R  rows   D  width of a row   P  parts whose sums are added in a fixed order
A mask bit is 1 (kept) where a 32-bit hash of key and element number is at least `threshold`, rate * 2**32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import config, njit, prange, set_num_threads

from span_electra.machine_code import cached_njit

SPAN = 4096  # elements of one piece of work; small enough to share out, large enough to vectorise
PARTS = 64  # partial sums over rows; fixed, so that results do not depend on the number of threads
_u32 = np.uint32


class Mask(NamedTuple):
    """Which elements stay, and what they are multiplied by; the halves of the key are `low` and `high`."""

    low: np.uint32
    high: np.uint32
    threshold: np.uint32
    scale: np.float32


def use_threads(count: int) -> None:
    """Share the work among so many threads, or as many as numba has."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))


@njit(inline="always")
def _scramble(word):
    """A 32-bit permutation with low bias (the constants of C. Wellons' hash prospector)."""
    word = _u32(word ^ (word >> _u32(16)))
    word = _u32(word * _u32(0x21F0AAAD))
    word = _u32(word ^ (word >> _u32(15)))
    word = _u32(word * _u32(0xD35A2D97))
    return _u32(word ^ (word >> _u32(15)))


@njit(inline="always")
def _kept(number, mask):
    """True where element `number` stays."""
    return _scramble(_u32(_scramble(_u32(number + mask.low)) ^ mask.high)) >= mask.threshold


@cached_njit(parallel=True, fastmath=True)
def drop(x_N, mask, first, out_N):
    """out = x * scale where kept, else 0; `first` is the number of x's first element."""
    pieces = (x_N.size + SPAN - 1) // SPAN
    for piece in prange(pieces):
        for i in range(piece * SPAN, min((piece + 1) * SPAN, x_N.size)):
            kept = _kept(_u32(i) + first, mask)
            out_N[i] = x_N[i] * mask.scale if kept else np.float32(0)


@cached_njit(parallel=True, fastmath=True)
def drop_add_norm(x_RD, residual_RD, weight_D, bias_D, epsilon, mask, out_RD, inverse_R):
    """out = LayerNorm(residual + dropout(x)); x becomes the normalised sum, which backward needs."""
    rows, width = x_RD.shape
    for r in prange(rows):
        first, total, squares = _u32(r * width), np.float32(0), np.float32(0)
        for d in range(width):
            kept = _kept(_u32(first + _u32(d)), mask)
            x_RD[r, d] = residual_RD[r, d] + (x_RD[r, d] * mask.scale if kept else np.float32(0))
            total += x_RD[r, d]
        mean = total / np.float32(width)
        for d in range(width):
            squares += (x_RD[r, d] - mean) * (x_RD[r, d] - mean)
        inverse = np.float32(1) / np.sqrt(squares / np.float32(width) + epsilon)
        inverse_R[r] = inverse
        for d in range(width):
            normal = (x_RD[r, d] - mean) * inverse
            x_RD[r, d] = normal
            out_RD[r, d] = normal * weight_D[d] + bias_D[d]


@cached_njit(parallel=True, fastmath=True)
def drop_add_norm_backward(
    grad_RD, normal_RD, weight_D, inverse_R, mask, grad_x_RD, grad_residual_RD, sums_P2D
):
    """Gradients of x and of the residual, and per part the sums that give those of weight and bias."""
    rows, width = grad_RD.shape
    for p in prange(PARTS):
        sums_P2D[p] = np.float32(0)
        for r in range(rows * p // PARTS, rows * (p + 1) // PARTS):
            first, along, mean = _u32(r * width), np.float32(0), np.float32(0)
            for d in range(width):
                grad = grad_RD[r, d]
                sums_P2D[p, 0, d] += grad * normal_RD[r, d]
                sums_P2D[p, 1, d] += grad
                mean += grad * weight_D[d]
                along += grad * weight_D[d] * normal_RD[r, d]
            mean /= np.float32(width)
            along /= np.float32(width)
            for d in range(width):
                grad = (grad_RD[r, d] * weight_D[d] - mean - normal_RD[r, d] * along) * inverse_R[r]
                grad_residual_RD[r, d] = grad
                kept = _kept(_u32(first + _u32(d)), mask)
                grad_x_RD[r, d] = grad * mask.scale if kept else np.float32(0)


@cached_njit(parallel=True, fastmath=True)
def softmax_drop_backward(probability_RD, grad_RD, mask, first):
    """In place: probabilities become the dropped-out ones, and the gradients of those those of the scores."""
    rows, width = probability_RD.shape
    for r in prange(rows):
        start, along = _u32(r * width) + first, np.float32(0)
        for d in range(width):
            probability = probability_RD[r, d]
            factor = mask.scale if _kept(_u32(start + _u32(d)), mask) else np.float32(0)
            grad_RD[r, d] *= factor
            along += grad_RD[r, d] * probability
        for d in range(width):
            probability = probability_RD[r, d]
            grad_RD[r, d] = (grad_RD[r, d] - along) * probability
            factor = mask.scale if _kept(_u32(start + _u32(d)), mask) else np.float32(0)
            probability_RD[r, d] = probability * factor
