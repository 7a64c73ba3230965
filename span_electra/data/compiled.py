"""What compiled loops need and numba lacks: eight bytes at any place at once, counting zeros, a cache
that may fail.

numba's cache on disk does not notice a change in a function that is called into from another file. So files
of compiled loops call only into this one, and what is here keeps its meaning for ever: change a function by
giving it a new name."""

import sys
from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def njit(function: Callable) -> Callable:
    """numba.njit, cached on disk where a place for that can be written, without the cache elsewhere.

    Without numba's reference counting (`_nrt`), which costs more than looking a word up does. The price:
    such loops make no arrays.
    """
    try:
        return numba.njit(nogil=True, _nrt=False, cache=True)(function)
    except RuntimeError:  # neither beside the source nor in the home folder may be written
        return numba.njit(nogil=True, _nrt=False)(function)


def spare_linear_algebra() -> None:
    """Let numba start in this process without scipy's linear algebra, a third sooner.

    numba imports it only to learn whether it is there, and no loop here needs it. Other code may: call this
    in a process that does nothing else.
    """
    sys.modules.setdefault("scipy.linalg", None)  # an import then fails, which numba takes for an answer


def _address(context, builder, signature, arguments):
    """Pointer to uint64 at byte `arguments[1]` of the array `arguments[0]`."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    byte = builder.gep(builder.bitcast(data, cgutils.voidptr_t), [arguments[1]])
    return builder.bitcast(byte, cgutils.ir.IntType(64).as_pointer())


@intrinsic
def load8(typing_context: Any, array: Any, offset: Any) -> tuple:
    """Eight bytes from any byte offset of an array, as uint64, first byte lowest. Bounds are the caller's."""

    def generate(context, builder, signature, arguments):
        return builder.load(_address(context, builder, signature, arguments), align=1)

    return types.uint64(array, types.intp), generate


@intrinsic
def store8(typing_context: Any, array: Any, offset: Any, value: Any) -> tuple:
    """Eight bytes to any byte offset of an array. Bounds are the caller's."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _address(context, builder, signature, arguments), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), generate


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> tuple:
    """Number of zero bits below the lowest one bit of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.uint64(types.uint64), generate
