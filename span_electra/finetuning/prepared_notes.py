"""What a person should hear of prepared data: rows, labels, and what may be wrong without being an error."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.finetuning.encoding import CHARACTERS, LOST, TOKENLESS
from span_electra.finetuning.metrics import OF_DIFFERENT
from span_electra.finetuning.prepare import ALIKE, HEADER, files_of, sha256_of_file
from span_electra.finetuning.prepared import Prepared
from span_electra.finetuning.readers import NUMBERS, QUOTES
from span_electra.finetuning.task import Task, split_files
from span_electra.text.unknown import WORTH_A_NOTE

# What pandas writes, what JSON and .parquet hold, and what people put, where a label is missing.
MISSING = ("nan", "<na>", "na", "n/a", "null", "none", "-", "?")
OTHER_COMMAS = re.compile("[，、،؛；;|]")  # what people part labels by as well, in other scripts too


def summary_lines(prepared: Prepared, tasks: Iterable[Task]) -> list[str]:
    """A line for each task. Example: "mood: train 26, dev 26; 2 labels; f1 is of 'yes' (label 1)" """
    lines = []
    for task in tasks:
        counts = ", ".join(f"{split} {rows:,}" for split, rows in prepared.tasks[task.name].rows.items())
        labels = prepared.tasks[task.name].labels
        line = f"{task.name}: {counts}" + (f"; {counted(len(labels), 'label')}" if labels else "")
        lines.append(line + _label_1(task, labels))
    return lines


def _label_1(task: Task, labels: tuple[str, ...]) -> str:
    """Which of two labels f1 and a threshold are of: sorted, the one that is looked for may come first."""
    if task.type.head != "sequence" or len(labels) != 2:
        return ""
    of_it = (["f1"] if "f1" in task.metrics else []) + (["the threshold"] if task.tuned_threshold else [])
    if not of_it:
        return ""
    said = f"; {' and '.join(of_it)} {'is' if len(of_it) == 1 else 'are'} of {labels[1]!r} (label 1)"
    return said + ("; label_map_or_file gives another order" if task.type.named_labels else "")


def notes(
    prepared: Prepared, tasks: Iterable[Task], room: str = "--max_seq_len gives them room"
) -> list[str]:
    """Rows that lost text, have quotes or are there twice; labels alike, missing, one alone, or numbers.

    room: what a person can do about rows that are too long.
    """
    found = []
    for task in tasks:
        found += _cut_rows(task, prepared, room)
        found += _strange_labels(task, prepared.tasks[task.name].labels)
        found += _noted_rows(task, prepared)
        found += _one_label(task, prepared.tasks[task.name].noted)
        found += _same_files(task, prepared)
    return found


def check_labels_differ(prepared: Prepared, tasks: Iterable[Task]) -> None:
    """Raises InputError for a task whose train rows all have one label: there is nothing to learn."""
    for task in tasks:
        label = prepared.tasks[task.name].only_label
        if label is not None:
            files = ", ".join(str(file) for file in split_files(task, "train", prepared.data_dir))
            if task.noise:
                raise InputError(
                    f"{files}: no row has an error, and the noise of {task.name} makes none; give it a kind "
                    "(noise: {kind: artificial}), or rows with labels"
                )
            rows = f"each of the first {task.limit:,} rows (limit)" if task.limit else "every row"
            raise InputError(
                f"{files}: {rows} has the label {label!r}; {task.name} needs at least two to learn from"
            )


def check_made_so(prepared: Prepared, asked: Mapping[str, Any]) -> None:
    """Raises InputError for flags, by name, that say of rows what prepared ones are not."""
    made = {"max_seq_len": prepared.max_seq_len, "do_lower_case": prepared.lowercase}
    for name, value in asked.items():
        if value != made[name]:
            raise InputError(
                f"{name}: {value}, but {prepared.folder} was prepared with {made[name]}; leave it out, or "
                "run prepare_tasks_SE.py again"
            )


def _cut_rows(task: Task, prepared: Prepared, room: str) -> list[str]:
    cut = {split: rows for split, rows in prepared.tasks[task.name].cut.items() if rows}
    if not cut:
        return []
    counts = ", ".join(f"{split} {rows:,}" for split, rows in cut.items())
    lost = "the beginning" if task.type.has_candidates else "the end"
    lost = "a turn's beginning" if task.type.is_conversation else lost
    rows = sum(cut.values())
    return [
        f"{task.name}: {counted(rows, 'row is', 'rows are')} longer than {prepared.max_seq_len} tokens and "
        f"lost {lost} ({counts}); {room}"
    ]


def _noted_rows(task: Task, prepared: Prepared) -> list[str]:
    """What was counted: labels by their numbers, fields in quotes, and words without tokens."""
    made, found = prepared.tasks[task.name], []
    noted, labels = made.noted, made.labels
    if count := noted.get(NUMBERS):
        listed = ", ".join(f"{number} is {label!r}" for number, label in enumerate(labels[:3]))
        said = counted(count, "label is a number, taken", "labels are numbers, taken")
        found.append(f"{task.name}: {said} as labels are listed: {listed}{', ...' if labels[3:] else ''}")
    if count := noted.get(QUOTES):
        said = counted(count, "row has a field in quotes", "rows have fields in quotes")
        found.append(
            f"{task.name}: {said}, which are learned as part of it: files with tabs have no quoting; write "
            "them without (csv.QUOTE_NONE), or as .csv or .jsonl"
        )
    if count := noted.get(TOKENLESS):
        said = counted(count, "word has", "words have")
        found.append(
            f"{task.name}: {said} no token in this vocabulary: their labels are neither learned nor told"
        )
    if (lost := noted.get(LOST, 0)) > WORTH_A_NOTE * noted.get(CHARACTERS, 0):
        share = lost / noted[CHARACTERS]
        found.append(
            f"{task.name}: {share:.1%} of the texts' characters are unknown to the vocabulary, which learns "
            "nothing from them; take a model of this language, or one whose vocabulary knows every text "
            "(byte-level BPE)"
        )
    for label in (key.removeprefix(HEADER) for key in noted if key.startswith(HEADER)):
        found.append(
            f"{task.name}: the first row has the label {label!r}, which no other has; if it is a header, "
            "remove it, or say which column is which (columns:)"
        )
    return found


def _one_label(task: Task, noted: Mapping[str, int]) -> list[str]:
    """Splits whose rows all have one label, where a metric of the task compares rows that differ."""
    metrics = [name for name in task.metrics if name in OF_DIFFERENT]
    named = f"{' and '.join(metrics)} {'says' if len(metrics) == 1 else 'say'} nothing"
    alike = [key.removeprefix(ALIKE).split(": ", 1) for key in noted if metrics and key.startswith(ALIKE)]
    return [
        f"{task.name}, {split}: every row has the label {label!r}, of which {named}; are labels missing?"
        for split, label in alike
    ]


def _same_files(task: Task, prepared: Prepared) -> list[str]:
    """Files of one content: of two splits, where what was learnt is tried on itself, or within one."""
    # Files that are gone by now, as those of data that were given prepared may be, say nothing.
    same: dict[tuple[str, ...], list[tuple[str, Path]]] = {}
    for split in task.files:
        for path in split_files(task, split, prepared.data_dir):
            if os.access(path, os.R_OK):
                digests = tuple(map(sha256_of_file, files_of(task, path)))
                same.setdefault(digests, []).append((split, path))
    return [_same_files_said(task, files) for files in same.values() if len(files) > 1]


def _same_files_said(task: Task, files: list[tuple[str, Path]]) -> str:
    splits = {split for split, _ in files}
    listed = " and ".join(f"{path} ({split})" for split, path in files)
    if len(splits) == 1:
        why = f"its rows count {len(files)} times"
    else:
        why = "what was learnt is tried on itself" if "train" in splits else "both give the same numbers"
    return f"{task.name}: {listed} have the same content; {why}"


def _strange_labels(task: Task, labels: tuple[str, ...]) -> list[str]:
    name = task.name
    # Whoever lists `none` means it.
    found = [
        f"{name}: the label {label!r} looks like a missing value; give those rows a label or leave them out"
        for label in (() if task.listed else labels)
        if label.lower() in MISSING or _marks_missing(label, labels, task)
    ]
    if task.type.labels == "classes" and not (task.listed or isinstance(task.columns.get("label"), list)):
        for label in filter(OTHER_COMMAS.search, labels):
            found.append(f"{name}: the label {label!r} is one: labels of a row are parted by ',' alone")
    # A blank too many makes a class of its own, of the rows that have it; so does 1.0 beside 1, which tables
    # with gaps are saved with. Nobody means that.
    same_text = "are one text in two ways to encode its letters (NFC, NFD)"
    keys = ((_without_blanks, "differ in blanks alone"), (_as_number, "are one number"), (_nfc, same_text))
    for key, why in keys:
        alike: dict[str, list[str]] = {}
        for label in labels:
            alike.setdefault(key(label), []).append(label)
        for same in alike.values():
            if len(same) > 1:
                listed = " and ".join(map(repr, same))
                found.append(f"{name}: the labels {listed} {why}, and count as {len(same)}")
    return found


def _marks_missing(label: str, labels: tuple[str, ...], task: Task) -> bool:
    """Whether a label is what data sets of a hub have where none is known: -1, or -100 of words."""
    if label != "-1" and (label != "-100" or not task.type.by_word):
        return False
    # Beside a word, or a -2, it is a name or a value like any other; so is -1 beside 1 alone.
    others = [other for other in labels if other != label]
    return "0" in others and all(other.isascii() and other.isdigit() for other in others)


def _without_blanks(label: str) -> str:
    return " ".join(label.split())


def _nfc(label: str) -> str:
    return unicodedata.normalize("NFC", label)


def _as_number(label: str) -> str:
    """`1.0` -> `1`; words, and what differs in blanks besides, stay as they are."""
    number = re.fullmatch(r"([+-]?\d+)\.0*", label)
    return number[1] if number else label
