"""A task file -> prepared data: every split of every task as rows of token ids, with the label maps.

    <encoder>_prepared_data/
      prepared.json          vocabulary's hash, settings, and of each task its labels and counts
      <task>/train.jsonl     one row an example, in the order of the files; see encoding.py
      <task>/misspellings.json   of noise that takes people's, as the file had them

Each task carries a key made of all that decides its rows, and is made anew when that changes. Rows are made
in a folder beside and put in place together, once every task is done: what fails changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain, count, islice
from pathlib import Path
from shutil import copyfile
from typing import Any

from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.features.split import train_valid_split
from span_electra.finetuning.encoding import CHARACTERS, LOST, MISSPELLINGS, TaskSpec, line_encoder
from span_electra.finetuning.prepared import (
    FORMAT,
    MARK,
    Prepared,
    PreparedTask,
    open_prepared,
    write_mark,
)
from span_electra.finetuning.readers import Example, label_map, read_examples
from span_electra.finetuning.task import Task, needs_label, numbered_columns, split_files
from span_electra.finetuning.task_file import TaskFile
from span_electra.finetuning.task_types import MISSPELT
from span_electra.locks import locked
from span_electra.storage import empty_parents_go, replace_folder, sha256_of, told_by_name
from span_electra.text.noise import NoiseConfig, load_misspellings
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.workers import cap_workers, run_in_order

LOCK = ".making-lock"
MAKING = ".making-"  # leads the name of the folder in which rows are made; one that a kill left is no harm
CHUNK = 2000  # examples handed to one process at a time
WORTH_PROCESSES = 8  # chunks; starting processes takes as long as encoding these
HEADER = "header: "  # leads what is noted of a label that the first rows of files alone have
ALIKE = "alike: "  # leads what is noted of dev or test where all rows have one label: the split, and that
ROWS_A_LABEL = 5  # at least, on average, for that to be strange
# What a task says that decides nothing of its rows.
# (`listed` and `paired` follow from labels and files, which do.)
NO_MATTER = ("metrics", "dropout_prob", "loss_weight", "pooling", "tuned_threshold", "listed", "paired")


def prepare_tasks(
    task_file: TaskFile,
    data_dir: str | Path,
    folder: str | Path,
    vocabulary: Vocabulary,
    max_seq_len: int = 128,
    lowercase: bool = False,
    workers: int = 1,
    check: Callable[[Prepared], None] = lambda made: None,
) -> Prepared:
    """Encode all files of all tasks; a task that stands prepared in `folder` already is left as it is.

    check: asked of all tasks' rows before any is put in place; what it raises is raised.
    Raises InputError for bad data, and for a folder that holds something else; then nothing has changed.
    """
    folder = Path(folder)
    fresh = Prepared(
        folder,
        str(Path(data_dir).absolute()),
        vocabulary_sha256=vocabulary.sha256,
        max_seq_len=max_seq_len,
        lowercase=lowercase,
        tasks={},
    )
    # Asked once before hours of encoding and once more, locked, when rows are put in place.
    before = _standing(fresh)
    made: dict[str, PreparedTask] = {}
    with empty_parents_go(folder / MARK):
        folder.mkdir(parents=True, exist_ok=True)
        # Inside it, so that putting rows in place is a rename within one file system.
        with tempfile.TemporaryDirectory(prefix=MAKING, dir=folder) as beside:
            for task in task_file.tasks:
                if task.name == MARK or task.name.startswith(MAKING):
                    raise InputError(f"{task.name}: this name is taken in prepared data; rename the task")
                key = rows_key(task, data_dir, fresh)
                if not before.holds(task.name, key):
                    target = Path(beside, task.name)
                    made[task.name] = _prepare(
                        task, data_dir, target, key, fresh, vocabulary=vocabulary, workers=workers
                    )
            check(replace(before, tasks=before.tasks | made))
            prepared = _put_in_place(made, Path(beside), fresh)
    for task in task_file.tasks:
        if prepared.key(task.name) is None:  # it stood there when this command began
            raise InputError(f"{folder}: another command removed {task.name} meanwhile; run this one again")
    return prepared


def _standing(fresh: Prepared) -> Prepared:
    """What `fresh.folder` holds that was made with the same vocabulary and settings; else `fresh`."""
    if not (fresh.folder / MARK).exists():
        if fresh.folder.exists() and any(not name.startswith(MAKING) for name in os.listdir(fresh.folder)):
            raise InputError(
                f"{fresh.folder}: is not empty and holds no prepared data; choose another folder"
            )
        return fresh
    before = open_prepared(fresh.folder)
    settings = ("vocabulary_sha256", "max_seq_len", "lowercase")
    same = all(getattr(before, name) == getattr(fresh, name) for name in settings)
    return replace(before, data_dir=fresh.data_dir) if same else fresh


def _put_in_place(made: dict[str, PreparedTask], beside: Path, fresh: Prepared) -> Prepared:
    """Move what was made to where it belongs; another process may have put its own tasks there meanwhile."""
    with locked(fresh.folder / LOCK, fresh.folder, "another command puts rows there", wait=True):
        prepared = _standing(fresh)
        for name in made.keys() & prepared.tasks.keys():
            prepared.tasks[name] = replace(prepared.tasks[name], key=None)
        if made:
            write_mark(prepared)  # so that a kill from here on leaves them unprepared, not half another's
        for name, task in made.items():
            replace_folder(beside / name, prepared.folder / name)
            prepared.tasks[name] = task
        write_mark(prepared)
        return prepared


def rows_key(task: Task, data_dir: str | Path, fresh: Prepared) -> str:
    """A hash of all that decides a task's rows: its settings, the files' contents, the vocabulary."""
    files = [
        (split, file)
        for split in task.files
        for path in split_files(task, split, data_dir)
        for file in files_of(task, path)
    ]
    if task.noise.get("misspellings"):
        files.append(("noise", Path(task.noise["misspellings"])))
    # Names without their folders: data that were moved are the same data.
    contents = [(split, file.name, sha256_of_file(file)) for split, file in files]
    parts = [FORMAT, deciding(task), contents, fresh.vocabulary_sha256, fresh.max_seq_len, fresh.lowercase]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def deciding(task: Task) -> dict[str, Any]:
    """The settings of a task that decide its rows, as JSON gives them back."""
    # All but what is known not to matter: a setting that is added later makes rows anew rather than stale.
    settings = {name: value for name, value in asdict(task).items() if name not in NO_MATTER}
    settings["noise"] = settings["noise"] | {"misspellings": None}  # what the file says is in contents
    return json.loads(json.dumps(settings))


def check_settings(prepared: Prepared, tasks: Sequence[Task]) -> None:
    """Refuse rows that the tasks' settings would not make now: labels and types would be read wrongly.

    What the tasks' files hold by now is not asked: prepared data that are given are taken as they were made.
    """
    for task in tasks:
        made = prepared.tasks.get(task.name)  # one that is absent is told elsewhere
        for name, now in deciding(task).items() if made else ():
            if made.settings.get(name) != now:
                told = f"{name} {str(made.settings.get(name))[:80]}, the task file has {str(now)[:80]}"
                raise InputError(
                    f"{prepared.folder}: {task.name} was prepared with {told}; run prepare_tasks_SE.py again"
                )


def files_of(task: Task, path: Path) -> list[Path]:
    """The files that are read for one that is named: of spelling also correct.txt beside corrupt.txt."""
    # What is read must be in the key, or a changed label would leave the old rows standing.
    if task.type.reader != "spelling":
        return [path]
    beside = path.iterdir() if path.is_dir() else [path, *path.parent.glob("correct.txt*")]
    return sorted(file for file in beside if file.is_file())


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises InputError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return sha256_of(file)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a file that can be read") from None


# --- one task -------------------------------------------------------------------------------------------


def _prepare(
    task: Task,
    data_dir: str | Path,
    target: Path,
    key: str,
    fresh: Prepared,
    *,
    vocabulary: Vocabulary,
    workers: int,
) -> PreparedTask:
    """Write the rows of one task into `target`."""
    settings = deciding(task)
    check_val_split(task, data_dir)
    # Of the whole file, whatever the limit: the rows left out may have labels that dev has too.
    alone: dict[str, bool] = {}
    labels = label_map(task, _examples(replace(task, limit=0), "train", data_dir, alone=alone))
    task = replace(task, labels=labels or None)
    spec = TaskSpec(task, labels, fresh.max_seq_len, fresh.lowercase)
    target.mkdir()
    if misspellings := task.noise.get("misspellings"):
        load_misspellings(misspellings)  # what is wrong with it is told before hours of encoding
        copyfile(misspellings, target / MISSPELLINGS)
    counts, cut, noted = {}, {}, Counter()
    seen: dict[str, set] = {split: set() for split in task.files}
    # Noise that makes no errors leaves clean rows right, each like the other.
    unsaid = MISSPELT[0] if task.noise and not makes_errors(task) else None
    for split in task.files:
        examples = _examples(task, split, data_dir, noted, alone or None)  # {}: labels are no question
        examples = _noting_labels(examples, seen[split], unsaid)
        path = target / f"{split}.jsonl"
        counts[split], cut[split] = _write(path, vocabulary, spec, examples, workers=workers, noted=noted)
        if split != "train" and len(seen[split]) == 1:
            noted[f"{ALIKE}{split}: {next(iter(seen[split]))}"] = counts[split]
    # Of labels that are all rare one says nothing.
    if sum(counts.values()) >= ROWS_A_LABEL * len(labels):
        noted.update(f"{HEADER}{label}" for label in alone if alone[label])
    if task.val_split:
        counts |= _hold_out(target, task, counts["train"], data_dir)
        cut["train and dev"] = cut.pop("train")
    if not noted[LOST]:
        del noted[CHARACTERS]
    return PreparedTask(
        labels=labels,
        rows=counts,
        key=key,
        cut=cut,
        only_label=str(*seen["train"]) if (needs_label(task) or unsaid) and len(seen["train"]) < 2 else None,
        settings=settings,
        noted=dict(+noted),  # without what was not found
        paired=task.paired,
    )


def check_val_split(task: Task, data_dir: str | Path) -> None:
    """Raise InputError where there are no more rows than `val_split` counts, before any is encoded."""
    # Of a share only a handful of rows, or one row, leaves none; that is told once they are counted.
    most = int(task.val_split)
    if most and (rows := sum(1 for _ in islice(_examples(task, "train", data_dir), most + 1))) <= most:
        raise _none_left(task, rows, data_dir)


def _none_left(task: Task, rows: int, data_dir: str | Path) -> InputError:
    files = ", ".join(str(file) for file in split_files(task, "train", data_dir))
    there = f"only {counted(rows, 'row is', 'rows are')} read (limit)" if task.limit else counted(rows, "row")
    return InputError(
        f"{files}: {there}, and val_split {task.val_split:g} of {task.name} leaves none to learn from; lower "
        "val_split, or name a dev file"
    )


def _noting_labels(
    examples: Iterator[Example], seen: set[str | tuple[str, ...]], unsaid: str | None
) -> Iterator[Example]:
    """The examples; `seen` has two of their labels in the end, or the only one. unsaid: of rows without."""
    for example in examples:
        if len(seen) < 2 and example.label is not None:
            seen |= set(example.label) if example.words is not None else {example.label}
        elif len(seen) < 2 and unsaid is not None:
            seen.add(unsaid)
        yield example


def _noting_first(examples: Iterable[Example], alone: dict[str, bool]) -> Iterator[Example]:
    """The examples of a file; `alone` has of each label whether none but files' first rows have it.

    So has what a header says in the column of labels, in whatever language.
    """
    for row, example in enumerate(examples):
        labels = (example.label,) if isinstance(example.label, str) else example.label or ()
        for place, label in enumerate(labels):
            alone[label] = alone.get(label, True) and row == place == 0
        yield example


def makes_errors(task: Task) -> bool:
    """Whether the task's noise can make any."""
    noise = NoiseConfig(**task.noise)
    return noise.white_space > 0 or (noise.kind not in ("none", "white_space") and noise.word_share > 0)


def _examples(
    task: Task,
    split: str,
    data_dir: str | Path,
    noted: Counter[str] | None = None,
    alone: dict[str, bool] | None = None,
) -> Iterator[Example]:
    """The examples of a split; of train no more than the task's limit. alone: see `_noting_first`."""
    files, numbers = split_files(task, split, data_dir), count(1)  # a number stands for one row of all files
    of_files = (read_examples(task, path, noted, numbers) for path in files)
    if alone is not None and (not task.columns or numbered_columns(task.columns)):
        of_files = (_noting_first(examples, alone) for examples in of_files)
    examples = chain.from_iterable(of_files)
    return islice(examples, task.limit) if split == "train" and task.limit else examples


def _write(
    path: Path,
    vocabulary: Vocabulary,
    spec: TaskSpec,
    examples: Iterable[Example],
    *,
    workers: int,
    noted: Counter[str],
) -> tuple[int, int]:
    """Encode, in several processes where that pays, and write in order; returns all rows and those cut.

    `noted` counts what is unknown to the vocabulary. Raises InputError when a process was killed.
    """
    chunks = _chunks(examples)
    first = list(islice(chunks, WORTH_PROCESSES))
    workers = cap_workers(workers)[0] if len(first) == WORTH_PROCESSES else 1
    rows = cut = 0
    with told_by_name(path), path.open("w", encoding="utf-8") as file:
        for chunk in run_in_order(line_encoder, (vocabulary, spec), chain(first, chunks), workers):
            file.writelines(chunk.lines)
            rows, cut = rows + len(chunk.lines), cut + chunk.cut
            noted.update(chunk.noted)
    return rows, cut


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    source = iter(examples)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def _hold_out(target: Path, task: Task, rows: int, data_dir: str | Path) -> dict[str, int]:
    """Move the rows of `val_split` from train to dev; returns how many each has then."""
    try:
        kept_R, held_R = train_valid_split(rows, valid=task.val_split)
    except InputError:  # in the words of pretraining
        raise _none_left(task, rows, data_dir) from None
    held = set(held_R.tolist())
    # After encoding, line by line: which rows are held out depends on how many there are, labels on all.
    every_row = (target / "train.jsonl").replace(target / "every_row.jsonl")
    with (
        every_row.open(encoding="utf-8") as lines,
        (target / "train.jsonl").open("w", encoding="utf-8") as train,
        (target / "dev.jsonl").open("w", encoding="utf-8") as dev,
    ):
        for number, line in enumerate(lines):
            (dev if number in held else train).write(line)
    every_row.unlink()
    return {"train": len(kept_R), "dev": len(held_R)}
