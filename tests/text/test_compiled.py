"""Laws of compiled loops: what comes in and goes out, and which machine code is taken for which loop.

Run: pytest tests/text/test_compiled.py
"""

import os
import subprocess
import sys
import textwrap
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

from span_electra.text import compiled as C
from span_electra.text.compiled import compiled

FACTOR = 3


class Pair(NamedTuple):
    values: np.ndarray
    weight: int


@compiled
def times_factor(value):
    return value * FACTOR


@compiled
def weigh(pair, ids_RC, doubled):
    total = 0
    for row in range(ids_RC.shape[0]):
        for column in range(ids_RC.shape[1]):
            total += times_factor(np.int64(ids_RC[row, column])) * pair.values[row] * pair.weight
    return 2 * total if doubled else total


def run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty folder of machine code."""
    monkeypatch.setattr(C, "_folders", lambda: [tmp_path])
    return tmp_path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("doubled", [False, True])
def test_arguments_of_every_kind_arrive(dtype, doubled):
    ids_RC = np.arange(6).astype(dtype).reshape(2, 3)
    pair = Pair(np.array([2, -5]), 7)
    expected = int((ids_RC.astype(np.int64).sum(1) * pair.values).sum()) * 7 * FACTOR * (1 + doubled)
    assert weigh(pair, ids_RC, doubled) == expected
    assert weigh(pair, np.asfortranarray(ids_RC), doubled) == expected  # by its strides
    assert weigh(pair, np.repeat(ids_RC, 2, axis=1)[:, ::2], doubled) == expected
    frozen = ids_RC.copy()
    frozen.flags.writeable = False
    assert weigh(pair, frozen, doubled) == expected


def test_a_record_s_arrays_are_read_anew_when_the_record_is_another():
    ids_RC = np.ones((1, 1), np.int64)
    for weight in (1, 1, 2, 2, 3):
        pair = Pair(np.array([weight]), 1)
        for _ in range(3):
            assert weigh(pair, ids_RC, False) == FACTOR * weight
        pair.values[0] = 10
        assert weigh(pair, ids_RC, False) == FACTOR * 10
        del pair  # the next may come to lie at its address
    for weight in range(20):
        assert weigh(Pair(np.array([weight]), 1), ids_RC, False) == FACTOR * weight


def test_a_record_that_comes_once_is_not_kept_alive():
    pair = Pair(np.ones(1000, np.int64), 1)
    values = weakref.ref(pair.values)
    weigh(pair, np.ones((1, 1), np.int64), False)
    del pair
    assert values() is None


def test_what_a_loop_cannot_take_or_give_is_refused():
    @compiled
    def both(value):
        return value, value

    scope = {"__name__": "somewhere", "compiled": compiled, "names": ["a"]}
    exec("@compiled\ndef first(value):\n    return names[value]", scope)
    for value in ("a", (1, 2), 1.5, None):
        with pytest.raises(TypeError, match=f"takes no {type(value).__name__}"):
            times_factor(value)
    with pytest.raises(TypeError, match="only loops may call it"):
        both(1)
    with pytest.raises(TypeError, match="refers to names"):
        scope["first"](0)


def loops_with(factor: int, inner: str) -> C.Loop:
    scope = {"__name__": "somewhere", "compiled": compiled, "FACTOR": factor}
    exec(f"@compiled\ndef inner(v):\n    return {inner}", scope)
    exec("@compiled\ndef outer(v):\n    return inner(v) * FACTOR", scope)
    return scope["outer"]


def test_machine_code_is_made_again_when_the_loop_or_what_it_refers_to_changed(shelf, monkeypatch):
    assert loops_with(2, "v + 1")(5) == 12
    assert loops_with(3, "v + 1")(5) == 18
    assert loops_with(3, "v + 2")(5) == 21
    kept = sorted(path.name for path in shelf.iterdir())
    assert len(kept) == 3
    assert loops_with(2, "v + 1")(5) == 12 and sorted(path.name for path in shelf.iterdir()) == kept
    monkeypatch.setattr(C, "_machine", lambda: "another processor")
    assert loops_with(2, "v + 1")(5) == 12 and len(list(shelf.iterdir())) == 4


def test_damaged_machine_code_is_made_again(shelf):
    assert loops_with(2, "v + 1")(5) == 12
    (kept,) = shelf.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", b"{}\n", whole[:-9], whole[:200] + b"\0" + whole[201:], b"[]\n" + whole):
        kept.write_bytes(damaged)
        assert loops_with(2, "v + 1")(5) == 12
        assert C._read(kept.name).code


def test_threads_that_come_at_once_get_their_own_loops(shelf):
    factors = [2, 3] * 50
    assert [loops_with(factor, "v + 1")(5) for factor in factors[:2]] == [12, 18]  # made; now to be linked
    with ThreadPoolExecutor(8) as pool:
        loops = [loops_with(factor, "v + 1") for factor in factors]
        assert list(pool.map(lambda loop: loop(5), loops)) == [6 * factor for factor in factors]


def test_loops_run_where_nothing_can_be_kept(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(C, "_folders", lambda: [tmp_path / "file" / "folder"])
    assert loops_with(2, "v + 1")(5) == 12


def test_loops_with_machine_code_run_without_numba(tmp_path):
    script = """
        import sys
        import numpy as np
        from span_electra.features.keyed_random import mix
        print(mix(np.uint64(5)), "numba" in sys.modules)
    """
    run(script)  # there is machine code now, whether or not there was
    first, second = run(script).split()
    assert int(first) == int(np.uint64(first)) and second == "False"
