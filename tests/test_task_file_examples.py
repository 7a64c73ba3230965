"""The task files of examples/: each loads, its files read, and the documents name it.

Run: pytest tests/test_task_file_examples.py
"""

from dataclasses import replace
from pathlib import Path

import pytest

from span_electra.finetuning.readers import label_map, read_examples
from span_electra.finetuning.task import split_files
from span_electra.finetuning.task_file import load_task_file
from span_electra.finetuning.task_keys import TASK_KEYS
from span_electra.finetuning.task_types import TASK_TYPES
from span_electra.text.noise import NoiseConfig, load_misspellings

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "examples/data"
FILES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_example_loads_and_its_rows_read(path):
    for task in load_task_file(path, DATA).tasks:
        for split in task.files:
            for file in split_files(task, split, DATA):
                examples = list(read_examples(task, file))
                if split == "train":
                    task = replace(task, labels=label_map(task, examples) or None)
                assert len(examples) >= 4, file


def test_there_is_an_example_of_every_type_and_one_of_two_tasks():
    files = [load_task_file(path, DATA).tasks for path in FILES]
    assert {task.task_type for tasks in files for task in tasks} == set(TASK_TYPES)
    assert [len(tasks) for tasks in files if len(tasks) > 1] == [2]


def test_the_noise_of_an_example_is_settings_of_ours():
    [task] = load_task_file(ROOT / "examples/noisy_spelling.yaml", DATA).tasks
    words = load_misspellings(NoiseConfig(**task.noise).misspellings)
    assert words["their"] == ["thier", "there"]


def test_a_reply_has_nine_others_to_be_told_from():
    [task] = load_task_file(ROOT / "examples/replies.yaml", DATA).tasks
    [file] = split_files(task, "dev", DATA)
    assert len({example.texts[-1] for example in read_examples(task, file)}) >= 10


def test_the_reference_names_every_example():
    reference = (ROOT / "docs/tasks.md").read_text()
    for path in FILES:
        assert f"{path.stem}.yaml" in reference, f"docs/tasks.md does not mention examples/{path.name}"


def test_the_reference_has_every_key_and_type():
    reference = (ROOT / "docs/tasks.md").read_text()
    for name in (*TASK_KEYS, *TASK_TYPES, *NoiseConfig.__dataclass_fields__):
        assert f"`{name}`" in reference, f"docs/tasks.md does not explain {name}"
