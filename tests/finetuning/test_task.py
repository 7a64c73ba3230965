"""A task as the package knows it. Run: pytest tests/finetuning/test_task.py"""

from dataclasses import replace

from span_electra.finetuning.task import Task, needs_label, numbered_columns, split_files
from span_electra.finetuning.task_types import TASK_TYPES


def test_a_task_knows_its_type_and_files(tmp_path):
    task = Task("t", "NER", {"train": ("a.tsv", "b.tsv")})
    assert task.type is TASK_TYPES["NER"]
    assert split_files(task, "train", tmp_path) == (tmp_path / "a.tsv", tmp_path / "b.tsv")
    assert split_files(task, "dev", tmp_path) == ()


def test_which_rows_need_a_label():
    needing = {name: needs_label(Task("t", name, {})) for name in TASK_TYPES}
    assert [name for name, needed in needing.items() if not needed] == [
        "ResponseSelection",
        "ResponseRetrieval",
        "Conversation",
    ]
    assert not needs_label(Task("t", "SpellingWords", {}, noise={"kind": "artificial"}))


def test_numbers_are_columns_of_conll():
    assert numbered_columns({"text": 1, "label": 2}) and not numbered_columns({"text": "1"})
    assert not numbered_columns({})


def test_the_train_files_labels_are_those_that_nobody_listed_or_counted():
    of_train = Task("t", "NER", {}, labels=("O", "B-X"))
    assert of_train.labels_of_train
    for told in ({"listed": True}, {"class_num": 2}, {"columns": {"text": "a", "label": ["x", "y"]}}):
        assert not replace(of_train, **told).labels_of_train
    assert not Task("t", "SpellingWords", {}, labels=("0", "1")).labels_of_train
