"""Laws of compiled loops: an edit never runs old machine code, and nothing need be writable.

Run: pytest tests/test_machine_code.py
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from span_electra import machine_code as C
from span_electra.machine_code import PACKAGE

LOOPS = """
from typing import NamedTuple
import numpy as np
from span_electra.machine_code import cached_njit
from span_electra.text.numbers import FACTOR, add

class Pair(NamedTuple):
    first: np.ndarray
    second: np.ndarray

@cached_njit()
def outer(pair):
    return add(pair.first[0]) * FACTOR
"""
NUMBERS = """
from span_electra.machine_code import cached_njit

FACTOR = 2

@cached_njit()
def add(value):
    return value + 1
"""
RUN = """
import numpy as np
from span_electra.text.loops import Pair, outer
print(outer(Pair(np.array([5]), np.array([50]))), sum(outer.stats.cache_hits.values()))
"""
# All tokens stay: nine ones add up to 9.
DROP = """
import numpy as np
from span_electra.model.kernels import Mask, drop
ones, out = np.ones(9, np.float32), np.empty(9, np.float32)
drop(ones, Mask(*map(np.uint32, (1, 2, 0)), np.float32(1)), np.uint32(0), out)
print(int(out.sum()), sum(drop.stats.cache_hits.values()))
"""


class Package:
    """A package of two files with loops beside a copy of machine_code.py, run in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.text = folder, folder / "span_electra" / "text"
        self.text.mkdir(parents=True)
        shutil.copy(C.__file__, self.text.parent)
        (self.text / "loops.py").write_text(LOOPS)
        (self.text / "numbers.py").write_text(NUMBERS)

    def edit(self, name: str, old: str, new: str) -> None:
        source = (self.text / name).read_text()
        assert old in source
        (self.text / name).write_text(source.replace(old, new))

    def run(self, program: str = RUN, **environment: str) -> tuple[int, int]:
        """The loop's value, and how often its machine code was found."""
        variables = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), **environment}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=self.folder, env=variables
        )
        assert not done.returncode, done.stderr
        value, hits = done.stdout.split()
        return int(value), int(hits)


@pytest.fixture
def package(tmp_path):
    return Package(tmp_path)


def test_machine_code_is_kept_and_an_edit_runs_its_new_code(package):
    """The loop itself, one that it calls, a number and the fields of a record, in its file and in another."""
    assert package.run() == (12, 0)
    assert package.run() == (12, 1)
    package.edit("loops.py", "pair.first[0]", "pair.second[0]")
    assert package.run()[0] == 102
    package.edit("numbers.py", "FACTOR = 2", "FACTOR = 3")
    assert package.run()[0] == 153
    package.edit("numbers.py", "value + 1", "value + 2")
    assert package.run()[0] == 156
    package.edit(
        "loops.py",
        "    first: np.ndarray\n    second: np.ndarray",
        "    second: np.ndarray\n    first: np.ndarray",
    )
    assert package.run()[0] == 21


def test_machine_code_is_kept_where_the_user_may_write_and_loops_run_where_nothing_can(package):
    (package.folder / "span_electra" / "__pycache__").touch()  # a file, so that no folder can be made there
    assert package.run() == (12, 0) and package.run() == (12, 1)
    (package.folder / "file").touch()
    assert package.run(XDG_CACHE_HOME=str(package.folder / "file")) == (12, 0)


def test_loops_of_dropout_run_where_nothing_can_be_written_too(package):
    model = package.folder / "span_electra" / "model"
    model.mkdir()
    shutil.copy(PACKAGE / "model" / "kernels.py", model)
    for folder in (model, model.parent):  # numba by itself would try the first
        (folder / "__pycache__").touch()
    (package.folder / "file").touch()
    assert package.run(DROP, XDG_CACHE_HOME=str(package.folder / "file")) == (9, 0)


def test_new_machine_code_takes_the_place_of_what_was_not_used_for_a_month(tmp_path, monkeypatch):
    monkeypatch.setattr(C.config, "CACHE_DIR", str(tmp_path))
    find = C.cache_folder.__wrapped__

    def make(name: str, days: float) -> None:
        (tmp_path / name / "inner").mkdir(parents=True)
        os.utime(tmp_path / name, (0, time.time() - days * 24 * 3600))

    make("loops-old", 31)
    make("loops-young", 29)
    make("other", 99)
    folder = find()
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "loops-young", "other"}
    make("loops-old", 31)
    os.utime(folder, (0, 0))
    assert find() == folder and (tmp_path / "loops-old").is_dir(), "looked for where one is newly made"
    assert time.time() - folder.stat().st_mtime < 60, "a start is a use"


def test_every_file_with_a_loop_is_hashed_and_keeps_none_by_itself():
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        if "text.compiled import" in source or "machine_code import" in source:
            hashed = any(path in PACKAGE.glob(pattern) for pattern in C.SOURCES)
            assert hashed, f"{path}: an edit of it would run old machine code"
        assert "cache=True" not in source or path == Path(C.__file__), f"{path}: use cached_njit"
