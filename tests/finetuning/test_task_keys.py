"""The keys of an entry (errors: test_task_file.py). Run: pytest tests/finetuning/test_task_keys.py"""

from dataclasses import fields

from task_examples import write

from span_electra.finetuning.metrics import METRICS
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_entry import TaskEntry
from span_electra.finetuning.task_keys import LOSS_HEADS, OTHER_METRICS, TASK_KEYS, task_of
from span_electra.finetuning.task_types import TASK_TYPES


def test_every_field_of_a_task_has_its_key():
    found = ("listed", "paired")  # from the entry, and from the train file
    # The name is the entry's, and sampling the file's.
    assert len(TASK_KEYS) == len(fields(Task)) - len(found) and not set(found) & set(TASK_KEYS)
    assert {"file_names", "label_map_or_file", "sampling"} <= set(TASK_KEYS) and "files" not in TASK_KEYS


def test_names_of_another_system_are_names_of_ours():
    assert set(OTHER_METRICS.values()) <= set(METRICS) and not set(OTHER_METRICS) & set(METRICS)
    assert set(LOSS_HEADS.values()) <= {record.head for record in TASK_TYPES.values()}


def test_an_entry_with_problems_is_no_task(tmp_path):
    write(tmp_path, "a.tsv", "1\tx\ta\n")
    values = {"task_type": "NER", "file_names": {"train": "a.tsv"}}
    assert task_of(TaskEntry("t", values, tmp_path)) == Task(
        "t", "NER", {"train": ("a.tsv",)}, metrics=("chunk_f1",)
    )
    wrong = TaskEntry("t", values | {"limit": -1, "dropout_prob": 2}, tmp_path)
    assert task_of(wrong) is None
    assert [problem.split(":")[0] for problem in wrong.problems] == ["t.dropout_prob", "t.limit"]
