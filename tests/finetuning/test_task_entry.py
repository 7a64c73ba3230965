"""A task's settings as written. Run: pytest tests/finetuning/test_task_entry.py"""

from pathlib import Path

import pytest

from span_electra.finetuning.task import Task
from span_electra.finetuning.task_entry import TaskEntry


def entry(**values) -> TaskEntry:
    return TaskEntry("cola", values, Path("data"))


def test_numbers_are_taken_within_their_limits():
    assert entry().number("loss_weight") == Task.loss_weight == 1
    assert entry(loss_weight=0).number("loss_weight", integer=True) == 0
    assert entry(dropout_prob=0.5).number("dropout_prob", below=1) == 0.5


@pytest.mark.parametrize("value", [-1, True, "3", None, [1], float("nan"), float("inf"), 1.5, 10**30])
def test_what_is_no_whole_number_is_told_by_key(value):
    wrong = entry(limit=value)
    assert wrong.number("limit", integer=True) == 0
    assert (
        wrong.problems[0].startswith("cola.limit: ")
        and "is no whole number of at least 0" in wrong.problems[0]
    )


def test_a_number_that_reaches_its_limit_is_told():
    wrong = entry(dropout_prob=1)
    assert wrong.number("dropout_prob", below=1) == 0.1
    assert "1 is no number of at least 0 and below 1" in wrong.problems[0]


def test_files_lie_below_the_data_folder():
    assert entry().file_below("file_names", "glue/a.tsv") == Path("data/glue/a.tsv")
    assert entry().file_below("file_names", "glue/../a.tsv") == Path("data/glue/../a.tsv")
    assert entry().file_below("file_names", "..a.tsv") == Path("data/..a.tsv")


@pytest.mark.parametrize("name", ["../a.tsv", "glue/../../a.tsv", "..", "/etc/passwd"])
def test_a_name_that_leaves_the_data_folder_is_told(name):
    wrong = entry()
    assert wrong.file_below("file_names", name) is None
    assert "leads out of the data folder" in wrong.problems[0]


@pytest.mark.parametrize("name", ["", " ", "a\0b", None, 3, ["a"]])
def test_what_is_no_name_is_told(name):
    wrong = entry()
    assert wrong.file_below("file_names", name) is None and "is no file's name" in wrong.problems[0]
