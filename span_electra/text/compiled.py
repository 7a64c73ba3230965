"""Loops over arrays as machine code: numba compiles them once, and later commands run them without numba.

numba takes as long to start as fifty megabytes of text take to encode. So the machine code of a loop is kept
in a file, beside the source or in the user's cache folder, and linked from there. The file's name is a hash
of all that the code depends on: the loop's own code, every loop and number that it refers to, the types of
its arguments, the processor, the versions. What changed is compiled again, and nothing else is.

    @compiled
    def double(values_N, doubled_N):
        for i in range(len(values_N)):
            doubled_N[i] = 2 * values_N[i]

A loop takes arrays, integers, booleans and named tuples of these, makes no arrays, and returns a number or
nothing; one that is called by loops alone may return a tuple. It runs without the interpreter's lock. It may
refer to other loops, to numbers, to arrays that never change, and to `np`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import threading
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, update_wrapper
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numpy as np

ENTRY = "entry"  # name of the function that machine code begins with: int32 (address of words)
RESULT_WORDS = 2  # the first words: room for the result, and for what numba says of a failure
RESULTS: dict[str, Callable[[int], Any]] = {
    "int64": int,
    "uint64": lambda word: word & 0xFFFFFFFFFFFFFFFF,
    "bool": bool,
    "none": lambda word: None,
}
_LAYOUT = 0x1 | 0x2 | 0x100 | 0x400  # of numpy flags: in order for C, for Fortran, aligned, writeable
_HERE = Path(__file__).parent


class Intrinsic(NamedTuple):
    """A function of machine_code.py, for use in loops alone."""

    name: str


load8 = Intrinsic("load8")
store8 = Intrinsic("store8")
trailing_zeros = Intrinsic("trailing_zeros")


class MachineCode(NamedTuple):
    """A compiled loop as it is kept."""

    result: str  # a key of RESULTS
    code: bytes  # an object file with the function ENTRY


class Flat(NamedTuple):
    """Arguments as machine code takes them."""

    kinds: list  # of each, all that decides its numba type
    words: list[int]  # what numba's calling convention passes for them, 64 bits each


class Loop:
    """A function as machine code, made for the types of its arguments when they first come."""

    def __init__(self, function: Callable) -> None:
        update_wrapper(self, function)
        self.function = function
        self._linked: dict[tuple, Callable[[list[int]], Any]] = {}
        self._records: dict[int, _Seen] = {}

    def __call__(self, *values: Any) -> Any:
        """Run it. Raises TypeError for arguments it cannot take; RuntimeError if the function raised."""
        flat = Flat([], [0] * RESULT_WORDS)
        for place, value in enumerate(values):
            if isinstance(value, tuple):
                kinds, words = self._flatten_record(place, value)
                flat.kinds.extend(kinds)
                flat.words.extend(words)
            else:
                _flatten(value, flat)
        key = tuple(flat.kinds)
        run = self._linked.get(key)
        if run is None:
            run = self._linked[key] = _link(self, key, values)
        return run(flat.words)

    def _flatten_record(self, place: int, record: tuple) -> Flat:
        """A record that comes a second time at its place is remembered, since it comes again and again."""
        seen = self._records.get(place)
        if seen is not None and seen.record is record:
            return seen.flat
        flat = Flat([], [])
        _flatten(record, flat)
        again = seen is not None and seen.flat == flat
        self._records[place] = _Seen(record if again else None, flat)
        return flat


class _Seen(NamedTuple):
    record: tuple | None  # kept alive only from the second time on: most are large, and many come once
    flat: Flat


def compiled(function: Callable) -> Loop:
    """Make a loop of a function."""
    return Loop(function)


def references(loop: Loop) -> Iterator[tuple[str, Any]]:
    """Names of its module that a loop refers to, and what they stand for."""
    scope = loop.function.__globals__
    for name in loop.function.__code__.co_names:
        if name in scope:
            yield name, scope[name]


def _flatten(value: Any, flat: Flat) -> None:
    if isinstance(value, np.ndarray):
        flat.kinds.append((value.dtype.str, value.ndim, value.flags.num & _LAYOUT))
        flat.words.extend((0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        flat.kinds.append((type(value).__name__, *value._fields))
        for field in value:
            _flatten(field, flat)
    elif isinstance(value, (bool, np.bool_)):
        flat.kinds.append("bool")
        flat.words.append(int(value))
    elif isinstance(value, np.uint64):
        flat.kinds.append("uint64")
        flat.words.append(int(value.astype(np.int64)))  # the same bits
    elif isinstance(value, (int, np.int64)):
        flat.kinds.append("int64")
        flat.words.append(int(value))
    else:
        raise TypeError(f"a loop takes no {type(value).__name__}")


# --- from the file to a function -----------------------------------------------------------------------


def _link(loop: Loop, kinds: tuple, values: tuple) -> Callable[[list], Any]:
    digest = hashlib.sha256(repr((_machine(), _recipe(loop), kinds)).encode()).hexdigest()[:24]
    name = f"{loop.__module__}.{loop.__qualname__}-{digest}.loop"
    kept = _read(name)
    if kept is None:
        from span_electra.text.machine_code import compile_loop

        kept = compile_loop(loop, values)
        _write(name, kept)
    with _linking:
        address = _linker().address(name, kept.code)
    enter = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(address)
    result = RESULTS[kept.result]

    def run(words: list[int]) -> Any:
        room = array("q", words)
        if enter(room.buffer_info()[0]):
            raise RuntimeError(f"{loop.__qualname__} failed")
        return result(room[0])

    return run


def _recipe(loop: Loop) -> tuple:
    """All that a loop's machine code is made from, but for the types of its arguments."""
    code = loop.function.__code__
    parts: list = [code.co_code, code.co_consts, code.co_varnames]
    for name, value in references(loop):
        if isinstance(value, Loop):
            parts.append((name, _recipe(value)))
        elif isinstance(value, np.ndarray):
            parts.append((name, value.dtype.str, value.tobytes()))
        elif isinstance(value, (int, float, np.number, Intrinsic)):
            parts.append((name, repr(value)))
        elif value is not np:
            raise TypeError(f"{loop.__qualname__} refers to {name}, which is neither loop nor number")
    return tuple(parts)


@cache
def _machine() -> tuple:
    """The processor, and the versions of what makes machine code."""
    maker = zlib.crc32((_HERE / "machine_code.py").read_bytes())
    processor = llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    return sys.version_info[:2], llvmlite.__version__, maker, processor


class _Linker:
    """Machine code in this process, where it stays."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_triple(llvm.get_process_triple())
        self._builder = llvm.JITLibraryBuilder
        self._jit = llvm.create_lljit_compiler(target.create_target_machine(jit=True))
        self._libraries: list = []

    def address(self, name: str, code: bytes) -> int:
        """Put a loop's code in its place; return where it begins."""
        library = self._builder().add_object_img(code).export_symbol(ENTRY).add_current_process()
        self._libraries.append(library.link(self._jit, f"{name} {len(self._libraries)}"))
        return self._libraries[-1][ENTRY]


_linker, _linking = cache(_Linker), threading.Lock()


# --- files ---------------------------------------------------------------------------------------------


def _folders() -> list[Path]:
    """Where machine code is kept: beside the source, or where that may not be written, with the user."""
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [_HERE / "__pycache__", Path(user, "span_electra")]


def _read(name: str) -> MachineCode | None:
    for folder in _folders():
        try:
            heading, code = (folder / name).read_bytes().split(b"\n", 1)
            said = json.loads(heading)
            if said["crc"] == zlib.crc32(code) and said["result"] in RESULTS:
                return MachineCode(said["result"], code)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _write(name: str, made: MachineCode) -> None:
    """Keep machine code for the next command, where a place for it can be written."""
    said = {"result": made.result, "crc": zlib.crc32(made.code)}
    for folder in _folders():
        beside = folder / f"{name}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(json.dumps(said).encode() + b"\n" + made.code)
            os.replace(beside, folder / name)
            return
        except OSError:
            with suppress(OSError):
                beside.unlink()
