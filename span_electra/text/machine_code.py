"""Loops -> machine code, by numba; imported only where a loop has none yet.

Also the intrinsics that numba lacks: eight bytes at any place at once, counting zeros.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core import cgutils
from numba.extending import intrinsic

from span_electra.text.compiled import ENTRY, RESULT_WORDS, RESULTS, Intrinsic, Loop, MachineCode, references


def compile_loop(loop: Loop, values: tuple) -> MachineCode:
    """Compile a loop for the types of `values`.

    Raises numba's errors for what it cannot compile, and TypeError when the result is no number.
    """
    dispatcher = _dispatcher(loop)
    signature = tuple(numba.typeof(value) for value in values)
    dispatcher.compile(signature)
    made = dispatcher.overloads[signature]
    result = str(made.signature.return_type)
    if result not in RESULTS:
        raise TypeError(f"{loop.__qualname__} returns {result}; only loops may call it")
    text = made.library.get_llvm_str()
    inner = llvm.parse_assembly(text).get_function(made.fndesc.llvm_func_name)
    module = llvm.parse_assembly(text + _entry(inner))
    return MachineCode(result, _target_machine().emit_object(module))


def _entry(inner: Any) -> str:
    """LLVM's text of the function that takes all words by one address, and calls numba's with them.

    numba's takes where to put the result and what it says of a failure, then the words one by one.
    """
    lines, given = [], []
    for number, argument in enumerate(inner.arguments):
        kind, at = str(argument.type), f"%at{number}"
        lines.append(f"{at} = getelementptr i64, ptr %words, i64 {number}")
        if number >= RESULT_WORDS:
            lines.append(f"%given{number} = load {kind}, ptr {at}")
            at = f"%given{number}"
        given.append(f"{kind} {at}")
    lines.append(f"%status = call i32 @{inner.name}({', '.join(given)})")
    lines.append("ret i32 %status")
    return f"\ndefine i32 @{ENTRY}(ptr %words) {{\n" + "\n".join(lines) + "\n}\n"


@cache
def _target_machine() -> llvm.TargetMachine:
    target = llvm.Target.from_triple(llvm.get_process_triple())
    features = llvm.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)


@cache
def _dispatcher(loop: Loop) -> Any:
    """numba's form of a loop, of the loops that it calls, and of intrinsics.

    Without reference counting (`_nrt`), which costs more than looking a word up does, and without the ways in
    for the interpreter, which need numba to run.
    """
    scope = dict(loop.function.__globals__)
    for name, value in references(loop):
        if isinstance(value, Loop):
            scope[name] = _dispatcher(value)
        elif isinstance(value, Intrinsic):
            scope[name] = globals()[value.name]
    function = types.FunctionType(loop.function.__code__, scope, loop.__name__)
    return numba.njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


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

    return numba.types.uint64(array, numba.types.intp), generate


@intrinsic
def store8(typing_context: Any, array: Any, offset: Any, value: Any) -> tuple:
    """Eight bytes to any byte offset of an array. Bounds are the caller's."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _address(context, builder, signature, arguments), align=1)
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.intp, numba.types.uint64), generate


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> tuple:
    """Number of zero bits below the lowest one bit of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], cgutils.true_bit)

    return numba.types.uint64(numba.types.uint64), generate
