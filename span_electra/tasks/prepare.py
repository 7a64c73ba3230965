"""A task file -> prepared data: every split of every task as rows of token ids, with the label maps.

    <encoder>_prepared_data/
      prepared.json          vocabulary's hash, settings, and of each task its labels and counts
      <task>/train.jsonl     one row an example, in the order of the files; see encoding.py

Each task carries a key made of all that decides its rows, and is made anew when that changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path

from span_electra.data.inputs import find_inputs, hash_file
from span_electra.data.vocabulary import Vocabulary
from span_electra.data.workers import cap_workers
from span_electra.errors import InputError
from span_electra.tasks.encoding import Recipe, encode_examples
from span_electra.tasks.readers import Example, label_map, read_examples
from span_electra.tasks.taskfile import Task, TaskFile, needs_label, split_files
from span_electra.training.runfolder import replace_text

MARK = "prepared.json"
FORMAT = 1
CHUNK = 2000  # examples handed to one process at a time
WORTH_PROCESSES = 8  # chunks; starting processes takes as long as encoding these


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared data, as its mark describes it."""

    folder: Path
    vocabulary_sha256: str
    max_seq_len: int
    lowercase: bool
    labels: dict[str, tuple[str, ...]]  # by task
    rows: dict[str, dict[str, int]]  # by task and split
    keys: dict[str, str]  # by task

    def path(self, task: str, split: str) -> Path | None:
        """The rows of a split; None where the task has none."""
        return self.folder / task / f"{split}.jsonl" if split in self.rows[task] else None


def prepare_tasks(
    task_file: TaskFile,
    data_dir: str | Path,
    folder: str | Path,
    vocabulary: Vocabulary,
    max_seq_len: int = 128,
    lowercase: bool = False,
    workers: int = 1,
) -> Prepared:
    """Encode all files of all tasks; a task that stands prepared in `folder` already is left as it is.

    Raises InputError for bad data, and for a folder that holds something else.
    """
    folder = Path(folder)
    before = open_prepared(folder) if (folder / MARK).is_file() else None
    if before is None and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty and holds no prepared data; choose another folder")
    same = before is not None and before.vocabulary_sha256 == vocabulary.sha256
    same = same and (before.max_seq_len, before.lowercase) == (max_seq_len, lowercase)
    others = (before.labels, before.rows, before.keys) if same else ({}, {}, {})  # of other task files
    prepared = Prepared(folder, vocabulary.sha256, max_seq_len, lowercase, *map(dict, others))
    for task in task_file.tasks:
        key = recipe_key(task, data_dir, vocabulary, max_seq_len, lowercase)
        if same and before.keys.get(task.name) == key:
            kept = before
        else:
            kept = _prepare(task, data_dir, prepared, vocabulary, key, workers)
        for name in ("labels", "rows", "keys"):
            getattr(prepared, name)[task.name] = getattr(kept, name)[task.name]
    described = {name: value for name, value in asdict(prepared).items() if name != "folder"}
    replace_text(folder / MARK, json.dumps({"span_electra_prepared": FORMAT, **described}, indent=1) + "\n")
    return prepared


def open_prepared(folder: str | Path) -> Prepared:
    """Read a folder's mark. Raises InputError when it is none of ours."""
    path = Path(folder) / MARK
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        if described.pop("span_electra_prepared") != FORMAT:
            raise ValueError("another format")
        described["labels"] = {name: tuple(labels) for name, labels in described["labels"].items()}
        return Prepared(Path(folder), **described)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: no prepared data of ours ({error}); run prepare_tasks_SE.py again"
        ) from None


def recipe_key(
    task: Task, data_dir: str | Path, vocabulary: Vocabulary, max_seq_len: int, lowercase: bool
) -> str:
    """A hash of all that decides a task's rows: its settings, the files' contents, the vocabulary."""
    contents = []
    for split in task.files:
        for path in split_files(task, split, data_dir):
            beside = sorted(path.iterdir()) if path.is_dir() else sorted(path.parent.glob("correct*"))
            for file in [path, *beside] if path.is_file() else beside:
                if file.is_file():
                    contents.append((split, file.name, hash_file(find_inputs(file).files[0])))
    settings = {
        name: value for name, value in asdict(task).items() if name not in ("dropout_prob", "loss_weight")
    }
    told = json.dumps([FORMAT, settings, contents, vocabulary.sha256, max_seq_len, lowercase], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _prepare(
    task: Task, data_dir: str | Path, prepared: Prepared, vocabulary: Vocabulary, key: str, workers: int
) -> Prepared:
    """Write the rows of one task; returns a record that describes it alone."""
    labelled = needs_label(task)
    labels = ()
    if "train" in task.files:
        # Of the whole file, whatever the limit: the rows left out may have labels that dev has too.
        every = _examples(replace(task, limit=0), "train", data_dir, labelled) if labelled else []
        labels = label_map(task, every)
    task = replace(task, labels=labels) if labels and task.labels is None else task
    recipe = Recipe(task, labels, prepared.max_seq_len, prepared.lowercase)
    place = prepared.folder / task.name
    place.mkdir(parents=True, exist_ok=True)
    counts = {}
    for split in task.files:
        examples = _examples(task, split, data_dir, labelled)
        counts[split] = _write(place / f"{split}.jsonl", vocabulary, recipe, examples, workers)
    if task.val_split and "train" in counts:
        _hold_out(place, task, counts)
    return replace(prepared, labels={task.name: labels}, rows={task.name: counts}, keys={task.name: key})


def _examples(task: Task, split: str, data_dir: str | Path, labelled: bool) -> Iterator[Example]:
    """The examples of a split; of train no more than the task's limit."""
    files = split_files(task, split, data_dir)
    examples = chain.from_iterable(read_examples(task, path, labelled) for path in files)
    return islice(examples, task.limit) if split == "train" and task.limit else examples


def _write(
    path: Path, vocabulary: Vocabulary, recipe: Recipe, examples: Iterable[Example], workers: int
) -> int:
    """Encode, in several processes where that pays, and write in order and whole; returns the rows."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    rows = 0
    try:
        with beside.open("w", encoding="utf-8") as file:
            for lines in _encoded(_chunks(examples), vocabulary.to_json(), recipe, cap_workers(workers)[0]):
                file.write("".join(lines))
                rows += len(lines)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return rows


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    source = iter(examples)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def _encoded(
    chunks: Iterator[list[Example]], tokenizer_json: str, recipe: Recipe, workers: int
) -> Iterator[list[str]]:
    """The lines of each chunk, in order. Raises InputError when a process was killed."""
    encode = partial(_lines, tokenizer_json, recipe)
    first = list(islice(chunks, WORTH_PROCESSES))
    if workers == 1 or len(first) < WORTH_PROCESSES:
        yield from map(encode, chain(first, chunks))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[list[str]]] = deque()
        try:
            for chunk in chain(first, chunks):
                waiting.append(pool.submit(encode, chunk))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise InputError("a process that prepared data was killed; use fewer --workers") from None


def _lines(tokenizer_json: str, recipe: Recipe, chunk: list[Example]) -> list[str]:
    rows = encode_examples(_vocabulary(tokenizer_json), recipe, chunk)
    return [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]


@lru_cache(maxsize=1)
def _vocabulary(tokenizer_json: str) -> Vocabulary:
    return Vocabulary.from_json(tokenizer_json)


def _hold_out(place: Path, task: Task, counts: dict[str, int]) -> None:
    """Move the rows of `val_split` from train to dev."""
    from span_electra.data.loader import choose_rows

    _, held_R = choose_rows(counts["train"], valid=task.val_split)
    held = set(held_R.tolist())
    parts: dict[str, list[str]] = {"train": [], "dev": []}
    with (place / "train.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            parts["dev" if number in held else "train"].append(line)
    for split, lines in parts.items():
        replace_text(place / f"{split}.jsonl", "".join(lines))
        counts[split] = len(lines)
