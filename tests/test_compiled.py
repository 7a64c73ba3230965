"""What the compiled loops stand on. Run: pytest tests/test_compiled.py"""

import subprocess
import sys
import textwrap

import numba
import numpy as np

from span_electra.data import compiled
from span_electra.data.compiled import load8, njit, store8, trailing_zeros


@njit
def swap_at(array_B, a, b):
    first, second = load8(array_B, a), load8(array_B, b)
    store8(array_B, a, second)
    store8(array_B, b, first)


@njit
def zeros_below(value):
    return trailing_zeros(value)


def test_eight_bytes_move_from_and_to_any_place():
    array_B = np.arange(30, dtype=np.uint8)
    swap_at(array_B, 3, 17)
    assert array_B.tolist() == [*range(3), *range(17, 25), *range(11, 17), *range(3, 11), *range(25, 30)]


def test_trailing_zeros():
    assert [zeros_below(np.uint64(1 << n)) for n in (0, 7, 63)] == [0, 7, 63]


def test_loops_compile_where_no_cache_can_be_written(monkeypatch):
    original = numba.njit

    def unwritable(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(**options)

    monkeypatch.setattr(compiled.numba, "njit", unwritable)
    assert compiled.njit(lambda x: x + 1)(1) == 2


def test_loops_run_without_linear_algebra():
    script = """
        import sys
        from span_electra.data.compiled import njit, spare_linear_algebra
        spare_linear_algebra()
        print(njit(lambda value: value + 1)(4), sys.modules["scipy.linalg"])
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert run.stdout == "5 None\n", run.stderr
