"""The keys of a task file's entry, each read and checked -> a Task; what is wrong is noted in the entry."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from span_electra.errors import InputError, not_among, unknown_key
from span_electra.finetuning.decoding import TUNABLE
from span_electra.finetuning.label_file import labels_from_file, labels_from_value
from span_electra.finetuning.metrics import METRICS
from span_electra.finetuning.readers import packed_file
from span_electra.finetuning.task import POOLINGS, ROLES, SPLITS, Task, needs_label, numbered_columns
from span_electra.finetuning.task_entry import TaskEntry
from span_electra.finetuning.task_types import TASK_TYPES, TaskType
from span_electra.text.default_files import SPLIT_NAMES
from span_electra.text.noise import NoiseConfig

# What a task may say: its own fields, under the names that users write.
_RENAMED = {"name": "", "files": "file_names", "labels": "label_map_or_file", "listed": "", "paired": ""}
TASK_KEYS = tuple(key for entry in fields(Task) if (key := _RENAMED.get(entry.name, entry.name)))
TASK_KEYS += ("sampling",)

# What the task files of multi-task-NLP say besides, and what it is here.
ENCODER_KEYS = ("model_type", "config_name")  # here --encoder names what is fine-tuned
OTHER_METRICS = {
    "classification_accuracy": "accuracy",
    "classification_f1_score": "accuracy",  # they average F1 and recall over rows, which gives the accuracy
    "classification_recall_score": "accuracy",
    "seqeval_f1_score": "chunk_f1",
    "seqeval_precision": "chunk_precision",
    "seqeval_recall": "chunk_recall",
    "snips_f1_score": "chunk_f1",
    "snips_precision": "chunk_precision",
    "snips_recall": "chunk_recall",
}
# Which kinds of noise read a key: a number that nothing reads would look like one that was tried.
NOISE_READ_BY = {
    "word_share": ("artificial", "realistic", "mixed"),
    "geometric_p": ("artificial", "mixed"),
    "edits": ("artificial", "mixed"),
    "misspellings": ("realistic", "mixed"),
    "realistic_share": ("mixed",),
}
LOSS_HEADS = {"CrossEntropyLoss": "sequence", "NERLoss": "tokens"}  # `loss_type`; the head that learns by it


def task_of(entry: TaskEntry) -> Task | None:
    """The task that an entry describes; None where something is wrong, which the entry then tells."""
    for key in entry.values:
        if key not in (*TASK_KEYS, *ENCODER_KEYS, "loss_type"):
            entry.problems.append(f"{entry.name}: {unknown_key(key, TASK_KEYS)}")
    # All that is missing is named, not the first alone: a person mends a file once.
    for key in ("task_type", "file_names"):
        if entry.values.get(key) is None:
            entry.problem(key, f"missing; known keys are {', '.join(TASK_KEYS)}")
    task_type = _task_type(entry)
    # All other keys depend on it, and what they were told would be wrong with them might not be.
    if task_type is None:
        return None
    _check_loss(entry, task_type)
    task = Task(
        name=entry.name,
        task_type=task_type.name,
        files=_files(entry, task_type),
        class_num=_class_num(entry, task_type),
        labels=_labels(entry, task_type),
        columns=_columns(entry, task_type),
        metrics=_metrics(entry, task_type),
        dropout_prob=_dropout(entry, task_type),
        loss_weight=entry.number("loss_weight"),
        limit=int(entry.number("limit", integer=True)),
        val_split=entry.number("val_split"),
        noise=_noise(entry, task_type),
        pooling=_pooling(entry, task_type),
        tuned_threshold=_tuned_threshold(entry, task_type),
        listed=entry.values.get("label_map_or_file") is not None,
    )
    _check_together(entry, task)
    return None if entry.problems else task


def _check_together(entry: TaskEntry, task: Task) -> None:
    """What single keys cannot tell."""
    if task.loss_weight == 0:
        entry.problem("loss_weight", "0 teaches nothing; leave the task out instead")
    if task.val_split >= 1 and task.val_split != int(task.val_split):
        entry.problem("val_split", f"{task.val_split} is no share below 1 and no whole number of rows")
    if task.tuned_threshold and not (task.val_split or "dev" in task.files):
        entry.problem("tuned_threshold", "needs dev rows; name a dev file, or give val_split")
    if task.val_split and "dev" in task.files:
        entry.problem("val_split", "there is a dev file; leave one of the two out")
    # A list of columns names the labels too, where nothing else does.
    marked = task.columns.get("label") if isinstance(task.columns.get("label"), list) else None
    labels = marked if task.labels is None else task.labels
    if labels is not None and task.class_num not in (None, len(labels)):
        entry.problem("class_num", f"{task.class_num}, but there are {len(labels)} labels; drop it")
    for column in marked or ():
        if column not in labels:
            entry.problem("columns.label", not_among(column, labels))
    unlabelled = task.columns and "label" not in task.columns and needs_label(task)
    if unlabelled and set(task.columns) <= set(ROLES):  # else a role misspelt has been told
        entry.problem("columns", "names no label; write label: and the column's name")


# --- what is learned ------------------------------------------------------------------------------------


def _task_type(entry: TaskEntry) -> TaskType | None:
    name = entry.values.get("task_type")
    if name is None:
        return None  # told already
    if not isinstance(name, str) or name not in TASK_TYPES:
        return entry.problem("task_type", not_among(name, TASK_TYPES))
    return TASK_TYPES[name]


def _check_loss(entry: TaskEntry, task_type: TaskType) -> None:
    """`loss_type` says again what the type says; it must not say something else."""
    loss = entry.values.get("loss_type")
    if loss is not None and LOSS_HEADS.get(str(loss)) != task_type.head:
        fitting = next((name for name, head in LOSS_HEADS.items() if head == task_type.head), None)
        way_out = f"write {fitting}, or leave it out" if fitting else "leave it out"
        entry.problem("loss_type", f"{loss!r} is not what {task_type.name} learns by; {way_out}")


def _class_num(entry: TaskEntry, task_type: TaskType) -> int | None:
    value = entry.values.get("class_num")
    if value is None:
        return None
    if task_type.class_range is None:
        return entry.problem("class_num", f"{task_type.name} has no classes; leave it out")
    least, most = task_type.class_range
    # True is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        allowed = str(least) if least == most else f"a whole number from {least} to {most}"
        return entry.problem("class_num", f"{value!r}; for {task_type.name} it is {allowed}")
    return value


def _metrics(entry: TaskEntry, task_type: TaskType) -> tuple[str, ...]:
    value = entry.values.get("metrics")
    metrics = [value] if isinstance(value, str) else value
    default = task_type.metrics[:1]
    if metrics is None:
        return default
    if not isinstance(metrics, list) or not metrics:
        entry.problem("metrics", f"{value!r} is no list of metrics; known are {', '.join(task_type.metrics)}")
        return default
    # Names that multi-task-NLP's files have; what is kept is ours, so that a checkpoint knows no other.
    ours = [OTHER_METRICS.get(str(metric).lower(), metric) for metric in metrics]
    for metric in ours:
        # `- accuracy:` with a colon is a mapping to YAML.
        if not isinstance(metric, str) or metric not in METRICS:
            entry.problem("metrics", not_among(metric, METRICS))
        elif metric not in task_type.metrics:
            known = ", ".join(task_type.metrics)
            entry.problem("metrics", f"{metric} is none of {task_type.name}; it has {known}")
    return tuple(dict.fromkeys(map(str, ours)))


def _labels(entry: TaskEntry, task_type: TaskType) -> tuple[str, ...] | None:
    value = entry.values.get("label_map_or_file")
    if value is None:
        return None
    if not task_type.named_labels:
        return entry.problem("label_map_or_file", f"{task_type.name} has no labels to name; leave it out")
    try:
        if isinstance(value, str):
            path = entry.file_below("label_map_or_file", value)
            if path and entry.prepared_labels and not path.exists():
                return entry.prepared_labels
            return labels_from_file(path) if path else None
        return labels_from_value(value)
    except ValueError as error:
        return entry.problem("label_map_or_file", str(error))


def _dropout(entry: TaskEntry, task_type: TaskType) -> float:
    if "dropout_prob" in entry.values and not task_type.has_dropout:
        entry.problem(
            "dropout_prob",
            f"{task_type.name} has no dropout of its own; leave it out (--dropout is the encoder's)",
        )
    return entry.number("dropout_prob", below=1)


def _pooling(entry: TaskEntry, task_type: TaskType) -> str:
    pooling = entry.values.get("pooling", Task.pooling)
    if "pooling" in entry.values and task_type.stock_head != "sequence":
        entry.problem("pooling", f"{task_type.name} has no head on whole rows; leave it out")
    if pooling not in POOLINGS:
        entry.problem("pooling", not_among(pooling, POOLINGS))
    return pooling


def _tuned_threshold(entry: TaskEntry, task_type: TaskType) -> bool:
    tuned = entry.values.get("tuned_threshold", Task.tuned_threshold)
    if not isinstance(tuned, bool):
        return entry.problem("tuned_threshold", f"{tuned!r} is neither true nor false")
    if tuned and task_type.head not in TUNABLE:
        return entry.problem("tuned_threshold", f"{task_type.name} decides by no threshold; leave it out")
    return tuned


def _noise(entry: TaskEntry, task_type: TaskType) -> dict[str, Any]:
    value = entry.values.get("noise")
    if value is None:
        return {}
    if not isinstance(value, dict):
        entry.problem("noise", f"{value!r} is no mapping; give it keys of its own")
        return {}
    if task_type.labels != "misspelt":
        able = " and ".join(name for name, known in TASK_TYPES.items() if known.labels == "misspelt")
        entry.problem("noise", f"only {able} are made from clean text; leave it out")
    # Unknown keys are left out of the try, so that what is wrong with the others is still heard.
    known = [setting.name for setting in fields(NoiseConfig)]
    unknown = [key for key in value if key not in known]
    for key in unknown:
        entry.problem("noise", unknown_key(key, known))
    try:
        config = NoiseConfig(**{key: given for key, given in value.items() if key not in unknown})
    except (InputError, TypeError) as error:
        entry.problem("noise", str(error))
    else:
        for key, kinds in NOISE_READ_BY.items():
            if value.get(key) is not None and config.kind not in kinds:
                way_out = f"leave it out, or write kind: {' or '.join(kinds)}"
                entry.problem(f"noise.{key}", f"kind {config.kind} does not read it; {way_out}")
    if value.get("misspellings") is not None:
        path = entry.file_below("noise.misspellings", value["misspellings"])
        if path and not entry.is_prepared and not path.is_file():
            entry.problem("noise.misspellings", f"{path}: no such file; it is looked for below --data_dir")
        value = value | {"misspellings": str(path)}
    return value


# --- columns --------------------------------------------------------------------------------------------


def _columns(entry: TaskEntry, task_type: TaskType) -> dict[str, str | int | list[str]]:
    columns = entry.values.get("columns")
    if columns is None:
        return {}
    if not isinstance(columns, dict):
        entry.problem("columns", f"{columns!r} is no mapping of {', '.join(ROLES)} to column names")
        return {}
    for role, names in columns.items():
        _check_role(entry, task_type, role, names)
    if "text" not in columns:
        entry.problem("columns", "names no text; write text: and the column's name")
        return {}
    if task_type.reader == "tagged_words" and numbered_columns(columns):
        numbers = all(type(names) is int for names in columns.values())
        if not numbers or not set(columns) <= {"text", "label"}:
            entry.problem(
                "columns", "in CoNLL files give both text and label as column numbers, and no other role"
            )
    read = [name for role in ("text", "pair", "label") for name in _listed(columns.get(role, []))]
    for name in dict.fromkeys(name for name in read if isinstance(name, str | int) and read.count(name) > 1):
        entry.problem("columns", f"{name!r} is named more than once; name each column once")
    # Both ways of naming two texts: a list, or one column each.
    two = "pair" in columns or isinstance(columns["text"], list)
    if task_type.inputs == "pair" and not two:
        entry.problem("columns", "names no pair; write pair: and the second sentence's column")
    if "pair" in columns and (not task_type.takes_pairs or isinstance(columns["text"], list)):
        entry.problem("columns.pair", f"{task_type.name} has no place for it here; leave it out")
    return columns


def _check_role(entry: TaskEntry, task_type: TaskType, role: str, names: Any) -> None:
    if role not in ROLES:
        return entry.problem("columns", unknown_key(role, ROLES))
    for name in _listed(names) or [names]:
        if task_type.reader == "tagged_words" and type(name) is int and name > 0:
            continue  # the number of a column in a file with a token a line
        if task_type.reader == "tagged_words" and type(name) is int:
            entry.problem(f"columns.{role}", f"{name} is no column's number; the first column is 1")
        elif not isinstance(name, str) or not name:
            entry.problem(f"columns.{role}", f"{name!r} is no column's name; quote it")
    if isinstance(names, list) and not _takes_list(role, len(names), task_type):
        entry.problem(f"columns.{role}", f"{task_type.name} takes one column here; name one")


def _listed(names: Any) -> list[Any]:
    return names if isinstance(names, list) else [names]


def _takes_list(role: str, count: int, task_type: TaskType) -> bool:
    if role == "text":  # the turns of a conversation, or both sentences of a pair
        return task_type.in_turns or (task_type.takes_pairs and count == 2)
    return role == "label" and task_type.labels == "classes"


# --- files ----------------------------------------------------------------------------------------------


def _files(entry: TaskEntry, task_type: TaskType) -> dict[str, tuple[str, ...]]:
    """The files of each split, all of them there and below the data folder."""
    named = entry.values.get("file_names")
    if named is None:
        return {}  # told already
    if isinstance(named, list):  # as multi-task-NLP writes it: train, dev, test
        if not 1 <= len(named) <= len(SPLITS):
            entry.problem("file_names", f"{len(named)} entries; list train, dev and test in this order")
            return {}
        named = dict(zip(SPLITS, named, strict=False))
    if not isinstance(named, dict):
        entry.problem("file_names", f"{named!r} is no mapping of {', '.join(SPLITS)} to files")
        return {}
    files = {}
    for split, names in named.items():
        if split not in SPLITS:
            # Names that splits have elsewhere say which is meant; by its letters `val` is nearest to train.
            meant = SPLIT_NAMES.get(str(split).lower(), "").replace("valid", "dev")
            near = f"unknown key {split!r}; did you mean {meant!r}?"
            entry.problem("file_names", near if meant else unknown_key(split, SPLITS))
        files[split] = tuple(names) if isinstance(names, list) else (names,)
        if not files[split]:
            entry.problem(f"file_names.{split}", "an empty list; name a file or leave it out")
        for name in files[split]:
            _check_file(entry, f"file_names.{split}", name, task_type)
    if "train" not in files:
        entry.problem("file_names.train", "missing; name the file to learn from")
    return {split: files[split] for split in SPLITS if split in files}


def _check_file(entry: TaskEntry, key: str, name: Any, task_type: TaskType) -> None:
    path = entry.file_below(key, name)
    if path is None or entry.is_prepared:
        return
    if not path.exists():
        entry.problem(key, f"{path}: no such file; files are looked for below --data_dir")
    elif path.is_dir() and task_type.reader != "spelling":
        entry.problem(key, f"{path}: a folder; name a file")
    elif path.is_dir() and packed_file(path, "corrupt.txt") is None:
        entry.problem(key, f"{path}: a folder without corrupt.txt; name one that has it, or a file")
