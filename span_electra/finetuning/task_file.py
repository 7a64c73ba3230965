"""The task file: which tasks an encoder learns, from which files, with which labels.

A mapping, in YAML or JSON, from a task's name to its settings; files lie below the data folder.

    sampling: square_root            # how often each task has its turn; proportional where nothing is said
    cola:
      task_type: SingleSenClassification
      file_names: {train: cola/train.tsv, dev: cola/dev.tsv}
      columns: {text: sentence1, label: label}
      metrics: [matthews, accuracy]

Everything is checked before anything is read or trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from span_electra.compose import read_settings
from span_electra.errors import InputError, not_among, reason_of
from span_electra.finetuning.readers import with_pairs_settled
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_entry import TaskEntry
from span_electra.finetuning.task_keys import ENCODER_KEYS, task_of

SAMPLINGS = ("proportional", "square_root", "annealed")
LONGEST_NAME = 200  # bytes; file systems take 255, and what is written for a task has a suffix


@dataclass(frozen=True)
class TaskFile:
    """All tasks of a task file, in its order."""

    tasks: tuple[Task, ...]
    sampling: str = "proportional"
    notes: tuple[str, ...] = ()  # what a person should know who wrote it for another system


def load_task_file(
    path: str | Path, data_dir: str | Path, prepared: Mapping[str, tuple[str, ...]] | None = None
) -> TaskFile:
    """Read and check a task file.

    prepared: the labels of tasks whose rows are prepared, by name; all of the tasks' data files may be gone.
    Raises InputError naming the file and every key that is wrong: unknown or missing ones, values that cannot
    be, metrics that the type has not, files that are absent, and names that leave the data folder.
    """
    path, data_dir = Path(path), Path(data_dir)
    if not path.exists():
        raise InputError(f"{path}: no such task file; --task_file names a YAML file of tasks")
    if path.is_file() and not path.stat().st_size:
        raise InputError(f"{path}: empty; write at least one task: its name, task_type and file_names")
    values, problems = _resolved(read_settings(path), path), []
    sampling = values.pop("sampling") if not isinstance(values.get("sampling", {}), dict) else None
    if not values:
        raise InputError(f"{path}: no tasks; write at least one: its name, task_type and file_names")
    entries = []
    for name, entry in values.items():
        problems += _wrong_name(name)
        if isinstance(entry, dict):
            labels = None if prepared is None else prepared.get(str(name), ())
            entries.append(TaskEntry(str(name), entry, data_dir, labels))
        else:
            problems.append(f"{name}: a task is a mapping with task_type and file_names")
    # Every entry is looked at before anything is refused: a person mends a file once, not once a mistake.
    tasks = tuple(task_of(entry) for entry in entries)
    agreed, disagreements = _agreed_sampling(sampling, entries)
    problems += [problem for entry in entries for problem in entry.problems] + disagreements
    if len(problems) > 1:
        listed = "  ".join(f"({number}) {problem}" for number, problem in enumerate(problems, start=1))
        raise InputError(f"{path}: {len(problems)} problems: {listed}")
    if problems:
        raise InputError(f"{path}: {problems[0]}")
    if prepared is None:
        tasks = tuple(with_pairs_settled(task, data_dir) for task in tasks)
    return TaskFile(tasks, agreed, _notes(entries, path))


def _notes(entries: list[TaskEntry], path: Path) -> tuple[str, ...]:
    keys = [key for key in ENCODER_KEYS if any(key in entry.values for entry in entries)]
    if not keys:
        return ()
    return (f"{path}: {' and '.join(keys)} decide nothing here; --encoder names what is fine-tuned",)


# --- the file as a whole --------------------------------------------------------------------------------


def _resolved(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same values with ${oc.env:...} and references to other keys in place."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    except OmegaConfBaseException as error:
        place = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        raise InputError(f"{path}: {place}{reason_of(error)}; mend it there") from None


def _wrong_name(key: Any) -> list[str]:
    """What is wrong with a task's name: files and folders are called by it."""
    if isinstance(key, bool) or not isinstance(key, str | int):
        kind = "a truth value" if isinstance(key, bool) else f"a {type(key).__name__}"
        return [f"{key}: this task's name is {kind} to YAML; put it in quotes"]
    name = str(key)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    # Backslashes and line ends would be taken by some file systems, to nobody's joy.
    forbidden = any(letter in name for letter in "/\\\0\n\r") or name in (".", "..")
    if not size or forbidden or name.strip() != name:
        return [f"{name!r} is no task's name, as no file could have it; choose another"]
    if size > LONGEST_NAME:
        return [f"{name[:20]!r}...: a task's name takes at most {LONGEST_NAME} bytes"]
    return []


def _agreed_sampling(sampling: Any, entries: list[TaskEntry]) -> tuple[str, list[str]]:
    """The sampling of all tasks, and what is wrong with it."""
    # multi-task-NLP writes it into every task, though it holds for all.
    given = {"sampling": sampling} if sampling is not None else {}
    given |= {
        f"{entry.name}.sampling": entry.values["sampling"] for entry in entries if "sampling" in entry.values
    }
    wrong = [
        f"{key}: {not_among(value, SAMPLINGS)}" for key, value in given.items() if value not in SAMPLINGS
    ]
    if not wrong and len(set(given.values())) > 1:
        pairs = ", ".join(f"{key}: {value}" for key, value in given.items())
        wrong = [f"{pairs}: one sampling holds for all tasks; say it once, at the top"]
    return next(iter(given.values()), SAMPLINGS[0]), wrong
