"""One task, checked: what the rest of the package knows of an entry of a task file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from span_electra.errors import InputError
from span_electra.finetuning.task_types import TASK_TYPES, TaskType

SPLITS = ("train", "dev", "test")
ROLES = ("text", "pair", "label", "uid")
POOLINGS = ("cls", "mean")


@dataclass(frozen=True)
class Task:
    """One task. `files` are relative to the data folder, as the task file has them."""

    name: str
    task_type: str
    files: dict[str, tuple[str, ...]]  # by split: train, dev, test
    class_num: int | None = None
    labels: tuple[str, ...] | None = None  # None: made from the train file
    # text, pair, label, uid -> the names of the header, or the numbers of CoNLL's columns, from 1
    columns: dict[str, str | int | list[str]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()  # the first says which model is best
    dropout_prob: float = 0.1  # of the task's head
    loss_weight: float = 1.0
    limit: int = 0  # rows of the train file that are used; 0: all
    val_split: float = 0.0  # train rows held out where there is no dev file: a share below 1, else a count
    noise: dict[str, Any] = field(default_factory=dict)  # how clean text is misspelt, for spelling tasks
    pooling: str = "cls"  # what a head on whole rows reads: [CLS], or the mean of all tokens
    tuned_threshold: bool = False  # when a label is given is decided by the first metric on dev
    listed: bool = False  # whether `labels` are those that a person listed
    paired: bool | None = None  # of rows that may hold two texts and name no columns: whether they do

    @property
    def type(self) -> TaskType:
        return TASK_TYPES[self.task_type]

    @property
    def in_two_types(self) -> bool:
        """Whether its rows have token types 0 and 1."""
        return self.type.in_turns or bool(self.pairs)

    @property
    def pairs(self) -> bool | None:
        """Whether a row holds two texts; None: each file may have either (as an earlier version left it)."""
        if self.type.inputs != "text or pair":
            return self.type.inputs == "pair"
        if self.columns:
            return "pair" in self.columns or isinstance(self.columns.get("text"), list)
        return self.paired

    @property
    def labels_of_train(self) -> bool:
        """Whether the labels are those that the train file has, as nobody listed or counted them."""
        in_columns = isinstance(self.columns.get("label"), list)
        return self.type.named_labels and not (self.listed or in_columns) and self.class_num is None


class UnknownLabel(InputError):
    """A label that is none of its task's; who has these from elsewhere than its files says it otherwise."""

    def __init__(self, said: str, where: str, label: str, known: Iterable[str]) -> None:
        super().__init__(f"{where}: {said}")
        self.where, self.label, self.known = where, label, list(known)


def split_files(task: Task, split: str, data_dir: str | Path) -> tuple[Path, ...]:
    """Where a split's files lie; empty where the task has none for it."""
    return tuple(Path(data_dir, name) for name in task.files.get(split, ()))


def needs_label(task: Task) -> bool:
    """Whether rows to learn from must say a label; turns and misspelt clean text bring their own."""
    return task.type.labels != "none" and not task.noise


def numbered_columns(columns: Mapping[str, Any]) -> bool:
    """Whether the columns are those of a file with a token a line, which have no names."""
    return any(type(names) is int for names in columns.values())
