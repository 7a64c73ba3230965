"""Small task files and data folders for the tests of tasks."""

import json
from pathlib import Path
from typing import Any

from span_electra.finetuning.readers import Example, read_examples
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_file import TaskFile, load_task_file


def write(folder: Path, name: str, text: str) -> Path:
    """Put a text into a file below `folder`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def task_file(folder: Path, tasks: dict[str, Any], **top: Any) -> TaskFile:
    """Write `tasks` as a task file, and data/a.tsv for them, and load it."""
    (folder / "data").mkdir(exist_ok=True)
    write(folder / "data", "a.tsv", "1\tx\tA text.\n")
    return load_task_file(write(folder, "tasks.yaml", json.dumps(top | tasks)), folder / "data")


def one_task(folder: Path, task_type: str = "SingleSenClassification", **settings: Any) -> Task:
    """The task `t` of a file that has no other; it trains on a.tsv if nothing else is said."""
    section = {"task_type": task_type, "file_names": {"train": "a.tsv"}} | settings
    return task_file(folder, {"t": section}).tasks[0]


def read(path: Path, task_type: str, **settings: Any) -> list[Example]:
    """The examples of a file, of a task of this type."""
    return list(read_examples(Task("t", task_type, {}, **settings), path))
