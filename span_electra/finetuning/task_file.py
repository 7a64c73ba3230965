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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from span_electra.compose import config_file
from span_electra.errors import InputError
from span_electra.finetuning.label_file import labels_from_file, labels_from_value
from span_electra.finetuning.metrics import METRICS
from span_electra.finetuning.noise import NoiseConfig
from span_electra.finetuning.section import Section, not_among
from span_electra.finetuning.task_types import TASK_TYPES, TaskType
from span_electra.text.inputs import PACKINGS

SAMPLINGS = ("proportional", "square_root", "annealed")
SPLITS = ("train", "dev", "test")
ROLES = ("text", "pair", "label", "uid")
LONGEST_NAME = 200  # bytes; file systems take 255, and what is written for a task has a suffix


@dataclass(frozen=True)
class Task:
    """One task, checked. `files` are relative to the data folder, as the task file has them."""

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

    @property
    def type(self) -> TaskType:
        return TASK_TYPES[self.task_type]


@dataclass(frozen=True)
class TaskFile:
    """All tasks of a task file, in its order."""

    tasks: tuple[Task, ...]
    sampling: str = "proportional"


# What a task may say: its own fields, under the names that users write.
_RENAMED = {"name": "", "files": "file_names", "labels": "label_map_or_file"}
TASK_KEYS = tuple(key for entry in fields(Task) if (key := _RENAMED.get(entry.name, entry.name)))
TASK_KEYS += ("sampling",)


def load_task_file(path: str | Path, data_dir: str | Path) -> TaskFile:
    """Read and check a task file.

    Raises InputError naming the file and the key: unknown or missing keys, values that cannot be, files that
    are absent, and names that leave the data folder.
    """
    path, data_dir = Path(path), Path(data_dir)
    if not path.exists():
        raise InputError(f"{path}: no such task file; --task_file names a YAML file of tasks")
    if path.is_file() and not path.stat().st_size:
        raise InputError(f"{path}: empty; write at least one task: its name, task_type and file_names")
    values = _resolved(config_file(path).values, path)
    _refuse_duplicates(path)
    sampling = values.pop("sampling") if not isinstance(values.get("sampling", {}), dict) else None
    if not values:
        raise InputError(f"{path}: no tasks; write at least one: its name, task_type and file_names")
    sections = []
    for name, section in values.items():
        _check_name(str(name), path)
        if not isinstance(section, dict):
            raise InputError(f"{path}: {name}: a task is a mapping with task_type and file_names")
        sections.append(Section(str(path), str(name), section, data_dir))
    tasks = tuple(_task(section) for section in sections)
    return TaskFile(tasks, _agreed_sampling(sampling, sections, path))


def split_files(task: Task, split: str, data_dir: str | Path) -> tuple[Path, ...]:
    """Where a split's files lie; empty where the task has none for it."""
    return tuple(Path(data_dir, name) for name in task.files.get(split, ()))


# --- the file as a whole --------------------------------------------------------------------------------


def _resolved(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same values with ${oc.env:...} and references to other keys in place."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    except OmegaConfBaseException as error:
        place = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        raise InputError(f"{path}: {place}{str(error).splitlines()[0]}; mend it there") from None


def _refuse_duplicates(path: Path) -> None:
    """Refuse a task or a key that is written twice, of which YAML would silently keep the last."""
    import yaml

    text = path.read_bytes().decode("utf-8-sig")
    try:
        root = yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)  # JSON may hold tabs, YAML not
    except yaml.YAMLError:
        return  # JSON that is no YAML
    tasks = [("", root)] + [(f"{key.value}.", value) for key, value in getattr(root, "value", [])]
    for prefix, node in tasks:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
            if str(key.value) in seen:
                raise InputError(f"{path}: {prefix}{key.value} stands there twice; leave one of them out")
            seen.add(str(key.value))


def _check_name(name: str, path: Path) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    # Backslashes and line ends would be taken by some file systems, to nobody's joy.
    forbidden = any(letter in name for letter in "/\\\0\n\r") or name in (".", "..")
    if not size or forbidden or name.strip() != name:
        raise InputError(f"{path}: {name!r} is no task's name, as no file could have it; choose another")
    if size > LONGEST_NAME:
        raise InputError(f"{path}: {name[:20]!r}...: a task's name takes at most {LONGEST_NAME} bytes")


def _agreed_sampling(sampling: Any, sections: list[Section], path: Path) -> str:
    said = {"sampling": sampling} if sampling is not None else {}
    said |= {
        f"{part.name}.sampling": part.values["sampling"] for part in sections if "sampling" in part.values
    }
    for key, value in said.items():
        if value not in SAMPLINGS:
            raise InputError(f"{path}: {key}: {not_among(value, SAMPLINGS)}")
    if len(set(said.values())) > 1:
        pairs = ", ".join(f"{key}: {value}" for key, value in said.items())
        raise InputError(f"{path}: {pairs}: one sampling holds for all tasks; say it once, at the top")
    return next(iter(said.values()), SAMPLINGS[0])


# --- one task -------------------------------------------------------------------------------------------


def _task(section: Section) -> Task:
    values = section.values
    for key in values:
        if key not in TASK_KEYS:
            raise InputError(f"{section.source}: {section.name}: unknown key {not_among(key, TASK_KEYS)}")
    for key in ("task_type", "file_names"):
        if values.get(key) is None:
            raise section.wrong(key, f"missing; known keys are {', '.join(TASK_KEYS)}")
    name = values["task_type"]
    if not isinstance(name, str) or name not in TASK_TYPES:
        raise section.wrong("task_type", not_among(name, TASK_TYPES))
    task_type = TASK_TYPES[name]
    files = _files(section, task_type)
    labels, columns = _labels(section, task_type), _columns(section, task_type)
    task = Task(
        section.name,
        name,
        files,
        _class_num(section, task_type),
        labels,
        columns,
        _metrics(section, task_type),
        dropout_prob=section.number("dropout_prob", 0.1, below=1),
        loss_weight=section.number("loss_weight", 1.0),
        limit=int(section.number("limit", 0, whole=True)),
        val_split=section.number("val_split", 0.0),
        noise=_noise(section, task_type),
    )
    _check_together(section, task)
    return task


def _check_together(section: Section, task: Task) -> None:
    """What single keys cannot tell."""
    if task.loss_weight == 0:
        raise section.wrong("loss_weight", "0 teaches nothing; leave the task out instead")
    if task.val_split >= 1 and task.val_split != int(task.val_split):
        raise section.wrong("val_split", f"{task.val_split} is no share below 1 and no whole number of rows")
    if task.val_split and "dev" in task.files:
        raise section.wrong("val_split", "there is a dev file; leave one of the two out")
    if task.labels is not None and task.class_num not in (None, len(task.labels)):
        raise section.wrong(
            "class_num", f"{task.class_num}, but there are {len(task.labels)} labels; drop it"
        )
    if task.columns and "label" not in task.columns and needs_label(task):
        raise section.wrong("columns", "names no label; write label: and the column's name")


def needs_label(task: Task) -> bool:
    """Whether rows to learn from must say a label; turns and misspelt clean text bring their own."""
    return task.type.labels != "none" and not task.noise


def _class_num(section: Section, task_type: TaskType) -> int | None:
    value = section.values.get("class_num")
    if value is None:
        return None
    if task_type.class_range is None:
        raise section.wrong("class_num", f"{task_type.name} has no classes; leave it out")
    least, most = task_type.class_range
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        allowed = str(least) if least == most else f"a whole number from {least} to {most}"
        raise section.wrong("class_num", f"{value!r}; for {task_type.name} it is {allowed}")
    return value


def _metrics(section: Section, task_type: TaskType) -> tuple[str, ...]:
    value = section.values.get("metrics")
    metrics = [value] if isinstance(value, str) else value
    if metrics is None:
        return task_type.metrics[:1]
    if not isinstance(metrics, list) or not metrics:
        raise section.wrong("metrics", f"{value!r} is no list of metrics; known are {', '.join(METRICS)}")
    for metric in metrics:
        if metric not in METRICS:
            raise section.wrong("metrics", not_among(metric, METRICS))
    return tuple(dict.fromkeys(metrics))


def _noise(section: Section, task_type: TaskType) -> dict[str, Any]:
    value = section.values.get("noise")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise section.wrong("noise", f"{value!r} is no mapping; give it keys of its own")
    known = [entry.name for entry in fields(NoiseConfig)]
    for key in value:
        if key not in known:
            raise section.wrong("noise", f"unknown key {not_among(key, known)}")
    try:
        NoiseConfig(**value)
    except (InputError, TypeError) as error:
        raise section.wrong("noise", str(error)) from None
    if "misspellings" in value and value["misspellings"] is not None:
        path = section.below("noise.misspellings", value["misspellings"])
        if not path.is_file():
            raise section.wrong(
                "noise.misspellings", f"{path}: no such file; it is looked for below --data_dir"
            )
        value = value | {"misspellings": str(path)}
    if task_type.labels != "misspelt":
        able = " and ".join(name for name, known in TASK_TYPES.items() if known.labels == "misspelt")
        raise section.wrong("noise", f"only {able} are made from clean text; leave it out")
    return value


def _labels(section: Section, task_type: TaskType) -> tuple[str, ...] | None:
    value = section.values.get("label_map_or_file")
    if value is None:
        return None
    if not task_type.named_labels:
        raise section.wrong("label_map_or_file", f"{task_type.name} has no labels to name; leave it out")
    try:
        if isinstance(value, str):
            return labels_from_file(section.below("label_map_or_file", value))
        return labels_from_value(value)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise section.wrong("label_map_or_file", str(error)) from None


def _columns(section: Section, task_type: TaskType) -> dict[str, str | list[str]]:
    columns = section.values.get("columns")
    if columns is None:
        return {}
    if not isinstance(columns, dict):
        raise section.wrong("columns", f"{columns!r} is no mapping of {', '.join(ROLES)} to column names")
    for role, names in columns.items():
        if role not in ROLES:
            raise section.wrong("columns", f"unknown key {not_among(role, ROLES)}")
        for name in names if isinstance(names, list) and names else [names]:
            if task_type.reader == "tagged_words" and type(name) is int and name > 0:
                continue  # of a file with a token a line
            if not isinstance(name, str) or not name:
                raise section.wrong(f"columns.{role}", f"{name!r} is no column's name; quote it")
        if isinstance(names, list) and not _takes_list(role, len(names), task_type):
            raise section.wrong(f"columns.{role}", f"{task_type.name} takes one column here; name one")
    if "text" not in columns:
        raise section.wrong("columns", "names no text; write text: and the column's name")
    if len({type(names) is int for names in columns.values()}) > 1 or (
        numbered_columns(columns) and not set(columns) <= {"text", "label"}
    ):
        raise section.wrong("columns", "numbers are those of text and label in CoNLL files; name both so")
    two = "pair" in columns or isinstance(columns["text"], list)
    if task_type.inputs == "pair" and not two:
        raise section.wrong("columns", "names no pair; write pair: and the second sentence's column")
    if "pair" in columns and (not task_type.takes_pairs or isinstance(columns["text"], list)):
        raise section.wrong("columns.pair", f"{task_type.name} has no place for it here; leave it out")
    return columns


def numbered_columns(columns: Mapping[str, Any]) -> bool:
    """Whether the columns are those of a file with a token a line, which have no names."""
    return any(type(names) is int for names in columns.values())


def _takes_list(role: str, count: int, task_type: TaskType) -> bool:
    if role == "text":  # the turns of a conversation, or both sentences of a pair
        return task_type.in_turns or (task_type.takes_pairs and count == 2)
    return role == "label" and task_type.labels == "classes"


# --- files ----------------------------------------------------------------------------------------------


def _files(section: Section, task_type: TaskType) -> dict[str, tuple[str, ...]]:
    """The files of each split, all of them there and below the data folder."""
    named = section.values["file_names"]
    if isinstance(named, list):  # as multi-task-NLP writes it: train, dev, test
        if not 1 <= len(named) <= len(SPLITS):
            raise section.wrong("file_names", f"{len(named)} entries; list train, dev and test in this order")
        named = dict(zip(SPLITS, named, strict=False))
    if not isinstance(named, dict):
        raise section.wrong("file_names", f"{named!r} is no mapping of {', '.join(SPLITS)} to files")
    files = {}
    for split, names in named.items():
        if split not in SPLITS:
            raise section.wrong("file_names", f"unknown key {not_among(split, SPLITS)}")
        files[split] = tuple(names) if isinstance(names, list) else (names,)
        if not files[split]:
            raise section.wrong(f"file_names.{split}", "an empty list; name a file or leave it out")
        for name in files[split]:
            _check_file(section, f"file_names.{split}", name, task_type)
    if "train" not in files:
        raise section.wrong("file_names.train", "missing; name the file to learn from")
    return {split: files[split] for split in SPLITS if split in files}


def _check_file(section: Section, key: str, name: Any, task_type: TaskType) -> None:
    path = section.below(key, name)
    if not path.exists():
        raise section.wrong(key, f"{path}: no such file; files are looked for below --data_dir")
    if path.is_dir():
        if task_type.reader != "spelling":
            raise section.wrong(key, f"{path}: a folder; name a file")
        if not any(Path(path, f"corrupt.txt{packing}").is_file() for packing in ("", *PACKINGS)):
            raise section.wrong(key, f"{path}: a folder without corrupt.txt; name one that has it, or a file")
