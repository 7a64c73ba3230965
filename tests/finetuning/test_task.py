"""A task as the package knows it. Run: pytest tests/finetuning/test_task.py"""

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
