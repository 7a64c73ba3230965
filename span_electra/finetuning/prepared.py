"""Prepared data as a folder: what is known of each task's rows, and the mark that says it.

prepare.py makes the rows; whoever reads them opens the folder here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from span_electra.errors import InputError, reason_of
from span_electra.storage import write_text

MARK = "prepared.json"
FORMAT = 1
# The mark has a table for each thing that is known of tasks, by their names; its names and ours.
TABLES = {
    "labels": "labels",
    "rows": "rows",
    "keys": "key",
    "cut": "cut",
    "only_label": "only_label",
    "settings": "settings",
    "noted": "noted",
    "paired": "paired",
}


@dataclass(frozen=True)
class PreparedTask:
    """What is known of one task's rows."""

    labels: tuple[str, ...]
    rows: dict[str, int]  # by split
    cut: dict[str, int]  # rows too long, by split
    settings: dict[str, Any]  # see `deciding`
    noted: dict[str, int]  # see `read_examples`
    key: str | None = None  # see `rows_key`; none: the rows are being made anew, or were when it was killed
    only_label: str | None = None  # where all train rows have the same
    paired: bool | None = None  # as a `Task` has it


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared data, as its mark describes it."""

    folder: Path
    data_dir: str  # of the task files that were prepared last
    vocabulary_sha256: str
    max_seq_len: int
    lowercase: bool
    tasks: dict[str, PreparedTask]  # by name

    def path(self, task: str, split: str) -> Path | None:
        """The rows of a split; None where the task has none."""
        return self.folder / task / f"{split}.jsonl" if split in self.tasks[task].rows else None

    def key(self, task: str) -> str | None:
        """The key of a task's rows; None where it has none, or not all of them."""
        return self.tasks[task].key if task in self.tasks else None

    def holds(self, task: str, key: str) -> bool:
        """Whether a task stands there as it would be made by this key."""
        return self.key(task) == key and all(
            self.path(task, split).is_file() for split in self.tasks[task].rows
        )


def is_prepared(folder: str | Path) -> bool:
    """Whether a folder holds prepared data, sound or not."""
    return (Path(folder) / MARK).is_file()


def open_prepared(folder: str | Path) -> Prepared:
    """Read a folder's mark. Raises InputError when it is none of ours."""
    path = Path(folder) / MARK
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        if described.pop("span_electra_prepared") != FORMAT:
            raise ValueError("another format")
        tables = {ours: described.pop(table, {}) for table, ours in TABLES.items()}
        tasks = {}
        for name in tables["labels"] | tables["key"]:
            of_task = {ours: values[name] for ours, values in tables.items() if name in values}
            # JSON knows lists alone; specs are compared as tuples.
            tasks[name] = PreparedTask(**of_task | {"labels": tuple(of_task["labels"])})
            if not tasks[name].rows.keys():
                raise ValueError("a task without rows")
        return Prepared(Path(folder), **described, tasks=tasks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = reason_of(error)
        raise InputError(
            f"{path}: no prepared data of ours ({reason}); remove the folder, then run prepare_tasks_SE.py"
        ) from None


def write_mark(prepared: Prepared) -> None:
    """Write the folder's mark, whole or not at all."""
    described = asdict(prepared)
    del described["folder"]
    tasks = described.pop("tasks")
    for table, ours in TABLES.items():
        values = {name: task[ours] for name, task in tasks.items()}
        described[table] = {name: value for name, value in values.items() if value is not None}
    text = json.dumps({"span_electra_prepared": FORMAT, **described}, indent=1)
    write_text(prepared.folder / MARK, text + "\n")
