"""A task's settings as written. Run: pytest tests/finetuning/test_section.py"""

from pathlib import Path

import pytest

from span_electra.errors import InputError
from span_electra.finetuning.section import Section, not_among


def section(**values) -> Section:
    return Section("tasks.yaml", "cola", values, Path("data"))


def test_numbers_are_taken_within_their_limits():
    assert section().number("limit", 7) == 7
    assert section(limit=0).number("limit", 7, whole=True) == 0
    assert section(dropout_prob=0.5).number("dropout_prob", 0.1, below=1) == 0.5


@pytest.mark.parametrize("value", [-1, True, "3", None, [1], float("nan"), float("inf"), 1.5, 10**30])
def test_what_is_no_whole_number_is_refused_by_file_and_key(value):
    with pytest.raises(InputError, match="^tasks.yaml: cola.limit: .* is no whole number of at least 0"):
        section(limit=value).number("limit", 0, whole=True)


def test_a_number_that_reaches_its_limit_is_refused():
    with pytest.raises(InputError, match="1 is no number of at least 0 and below 1"):
        section(dropout_prob=1).number("dropout_prob", 0.1, below=1)


def test_files_lie_below_the_data_folder():
    assert section().below("file_names", "glue/a.tsv") == Path("data/glue/a.tsv")
    assert section().below("file_names", "glue/../a.tsv") == Path("data/glue/../a.tsv")
    assert section().below("file_names", "..a.tsv") == Path("data/..a.tsv")


@pytest.mark.parametrize("name", ["../a.tsv", "glue/../../a.tsv", "..", "/etc/passwd"])
def test_a_name_that_leaves_the_data_folder_is_refused(name):
    with pytest.raises(InputError, match=r"cola.file_names: .* leads out of the data folder"):
        section().below("file_names", name)


@pytest.mark.parametrize("name", ["", " ", "a\0b", None, 3, ["a"]])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InputError, match="is no file's name"):
        section().below("file_names", name)


def test_the_nearest_known_value_is_named():
    assert not_among("acuracy", ["accuracy", "f1"]) == "'acuracy' is not known; did you mean 'accuracy'?"
    assert not_among("x", ["a", "b", "c"], most_shown=2) == "'x' is not known; known are a, b, ..."
