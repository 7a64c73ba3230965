"""The files of a task -> examples: one a row, in file order, with the label as the file says it.

Which layout a file has:

  task with columns         .tsv .txt (no quoting), .csv (quoting), .jsonl, .parquet, each with a header
  conversations             JSON lines, each a list of turns
  spelling                  a folder or its corrupt.txt, beside it correct.txt with 0 or 1 a word; any other
                            file is clean text, a sentence a line, whose labels noise makes
  NER                       uid <tab> ['O', 'B-PER'] <tab> ['My', 'name'] if the first line that is not blank
                            has two or three columns, the last one in square brackets, and the file is no
                            .conll; else CoNLL, see conll.py; so is any with `columns` that are numbers
  other tasks               uid <tab> label <tab> sentence, with a fourth column for the second of a pair; of
                            types that take both, the train file's first row says which all files hold

Shapes: W words of a sentence.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from span_electra.counted import counted
from span_electra.errors import InputError, not_among
from span_electra.finetuning.conll import read_conll
from span_electra.finetuning.decoding import OUTSIDE
from span_electra.finetuning.rows import (
    Row,
    first_line,
    paired_lines,
    passing_blank_lines,
    read_headerless,
    read_json_lines,
    read_lines,
    read_table,
    suffix_of,
)
from span_electra.finetuning.task import Task, UnknownLabel, numbered_columns, split_files
from span_electra.finetuning.task_types import MISSPELT, MOST_CLASSES
from span_electra.finetuning.values import list_of, text_of, word_of, words_of
from span_electra.text.unpacking import PACKINGS

NUMBERS, QUOTES = "numbers", "quotes"  # what is noted of rows: labels given by number, fields in quotes
NAMED_COLUMNS = (".csv", ".parquet", ".jsonl")  # of conversations .jsonl needs none
VERY_NEAR = 0.8  # how alike a label is that was meant, of 1
TRUTHS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


@dataclass(frozen=True)
class Example:
    """A row of a task's file."""

    uid: str  # the file's, else the example's number
    texts: tuple[str, ...]  # one text, two of a pair, or the turns of a conversation
    words: tuple[str, ...] | None = None  # of token labelling and SpellingWords
    label: str | tuple[str, ...] | None = None  # several for MultiLabelClassification, one a word for words


@dataclass(frozen=True)
class _Reading:
    """What reading a file goes by."""

    task: Task
    path: Path
    known: dict[str, None] | None  # labels in order; None: any
    noted: Counter[str] = field(default_factory=Counter)  # rows or labels of NUMBERS and QUOTES

    @cached_property
    def by_number(self) -> tuple[str, ...]:
        """The labels that may be given by their numbers: names that a person has put in order."""
        names = tuple(self.known or ()) if self.task.listed else ()
        return () if any(_number_of(name) is not None for name in names) else names

    def check(self, label: str, where: str) -> str:
        """The label, or that of its number; InputError naming `where`, where it is none of the task's."""
        if self.known is None or label in self.known:
            return label
        # Data sets of a hub keep classes as numbers, and their names beside them.
        number = int(label) if label.isascii() and label.isdigit() and len(label) < 10 else MOST_CLASSES
        if number < len(self.by_number):
            self.noted[NUMBERS] += 1
            return self.by_number[number]
        if not self.task.labels_of_train:
            raise UnknownLabel(f"label {not_among(label, self.known)}", where, label, self.known)
        near = difflib.get_close_matches(label, self.known, 1, VERY_NEAR)
        meant = f"did you mean {near[0]!r}? Else list" if near else "list"
        way_out = f"{meant} all labels in label_map_or_file, or mend the row"
        said = f"the train file has no label {label!r}; {way_out}"
        raise UnknownLabel(said, where, label, self.known)


def with_pairs_settled(task: Task, data_dir: str | Path) -> Task:
    """The task, with whether its rows hold two texts where nothing but its train file's first row says so.

    Raises InputError for a file that cannot be read.
    """
    # Once for all files: a head, and an encoder of one token type, read the one or the other.
    path = split_files(task, "train", data_dir)[0]
    if task.pairs is not None or suffix_of(path) in NAMED_COLUMNS:
        return task
    return replace(task, paired=first_line(path).count("\t") == 3)


def read_examples(
    task: Task, path: str | Path, noted: Counter[str] | None = None, numbers: Iterator[int] | None = None
) -> Iterator[Example]:
    """Yield the examples of a file, one a row, with its label.

    Labels are checked against the task's: `replace(task, labels=label_map(...))` has dev and test files
    checked against the train file's. Turns and a spelling task's clean text have none.
    noted: counts, under NUMBERS and QUOTES, what a person should hear of.
    numbers: of the rows, for those without a uid; none: from 1.
    Raises InputError naming file and row.
    """
    known = known_labels(task)
    known = None if known is None else dict.fromkeys(known)
    reading = _Reading(task, Path(path), known, Counter() if noted is None else noted)
    numbers, rows, words = numbers or count(1), 0, 0
    for example in _layout(reading):
        rows, words = rows + 1, words + len(example.words or ())
        number = next(numbers)
        yield example if example.uid else replace(example, uid=str(number))
    if not rows:
        raise InputError(f"{path}: no rows; name a file that has some")
    if task.type.by_word and not words:  # nothing could be measured
        raise InputError(f"{path}: no row has a word; name a file whose rows have some")


def _layout(reading: _Reading) -> Iterator[Example]:
    """The examples, read by the layout that task and file have."""
    task, path = reading.task, reading.path
    if numbered_columns(task.columns):
        return _conll(reading)
    if task.columns:
        return _from_table(reading)
    # Formats with names of their own: columns by place would be a guess.
    if suffix_of(path) in NAMED_COLUMNS and not (suffix_of(path) == ".jsonl" and task.type.in_turns):
        raise InputError(f"{path}: has named columns; say in the task file which is what (columns:)")
    return READERS[task.type.reader](reading)


# --- labels ---------------------------------------------------------------------------------------------


def known_labels(task: Task) -> tuple[str, ...] | None:
    """The labels that a task allows; None where the train file decides, or any number or none will do."""
    if task.labels is not None:
        return task.labels
    if task.type.labels == "misspelt":
        return MISSPELT
    if task.type.labels == "classes" and isinstance(task.columns.get("label"), list):
        return tuple(task.columns["label"])
    if not task.type.named_labels or task.class_num is None:
        return None
    return tuple(str(number) for number in range(task.class_num))


def label_map(task: Task, examples: Iterable[Example]) -> tuple[str, ...]:
    """The task's labels in the order of their numbers: as the task says, else those of the train examples.

    Sorted, numbers by size, and O before the other tags. Tasks without classes have none.
    Example: labels B-PER, O, I-PER of NER -> ("O", "B-PER", "I-PER"); labels 10, 2 -> ("2", "10")
    """
    known = known_labels(task)
    if known is not None:
        return known
    if not task.type.named_labels:
        return ()
    found: set[str] = set()
    for example in examples:
        assert example.label is not None, "labels are made from labelled examples"
        found.update((example.label,) if isinstance(example.label, str) else example.label)
    # "10" stands behind "9", as a person would write the list.
    numbers = {label: _number_of(label) for label in found}
    if all(number is not None for number in numbers.values()):
        return tuple(sorted(found, key=lambda label: (numbers[label], label)))
    return tuple(sorted(found, key=lambda label: (task.type.by_word and label != OUTSIDE, label)))


def _number_of(text: str) -> float | None:
    """The finite number that a text is, if it is one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# --- tables and headerless files ------------------------------------------------------------------------


def _from_table(reading: _Reading) -> Iterator[Example]:
    columns = reading.task.columns
    wanted = [name for names in columns.values() for name in (names if isinstance(names, list) else [names])]
    wanted = list(dict.fromkeys(wanted))
    quotable = suffix_of(reading.path) in (".tsv", ".txt")
    for row in read_table(reading.path, wanted):
        if quotable:
            _note_quotes(reading, [row.values[name] for name in wanted])
        yield _example(reading, row, columns)


def _headerless(reading: _Reading) -> Iterator[Example]:
    names = ("uid", "label", "text")
    paired = reading.task.pairs
    if paired is None:
        # The first row says which the file holds; a row that differs is an error.
        paired = first_line(reading.path).count("\t") == len(names)
    names = (*names, "pair") if paired else names
    columns = {name: name for name in names}
    for row in read_headerless(reading.path, names):
        _note_quotes(reading, row.values.values())
        yield _example(reading, row, columns)


def _note_quotes(reading: _Reading, fields: Iterable[str]) -> None:
    """Count a row of which a field is quoted as in .csv: files with tabs have no quoting, so it is kept.

    Example: "He said ""no""." in quotes; not "No," said he, "no"
    """
    for value in fields:
        quoted = len(value) > 1 and value[0] == value[-1] == '"'
        if quoted and '"' not in value[1:-1].replace('""', ""):
            reading.noted[QUOTES] += 1
            return


def _example(reading: _Reading, row: Row, columns: dict[str, Any]) -> Example:
    """The example of a row whose columns have these roles."""
    task_type = reading.task.type
    uid = word_of(row, row.values[columns["uid"]], "uid") if "uid" in columns else ""
    names = columns["text"] if isinstance(columns["text"], list) else [columns["text"]]
    names = names + [columns["pair"]] if "pair" in columns else names
    words = None
    # One column of turns is a list; several columns are a turn each.
    if task_type.in_turns:
        values = [row.values[name] for name in names]
        texts = _turns(reading, _without_end(values) if len(values) > 1 else values[0], row)
    elif task_type.by_word:
        words = words_of(row, row.values[names[0]], "words", split=bool(reading.task.columns))
        texts = (" ".join(words),)
    else:
        texts = tuple(text_of(row, row.values[name], name) for name in names)
    label = _label(reading, row, columns["label"], words) if "label" in columns else None
    return Example(uid, texts, words, label)


def _label(
    reading: _Reading, row: Row, name: str | list[str], words: tuple[str, ...] | None
) -> str | tuple[str, ...]:
    """What a row says is true of it, checked."""
    task_type = reading.task.type
    if isinstance(name, list):
        return tuple(column for column in name if _truth(row, reading.check(column, row.where)))
    value = row.values[name]
    if task_type.by_word:
        labels = words_of(row, value, "labels", split=bool(reading.task.columns), numbers=True)
        if len(labels) != len(words):
            found = f"{counted(len(labels), 'label')} for {counted(len(words), 'word')}"
            raise InputError(f"{row.where}: {found}; give one a word")
        return tuple(reading.check(label, row.where) for label in labels)
    if task_type.labels == "classes":
        return tuple(reading.check(label, row.where) for label in _several(row, value))
    label = word_of(row, value, "label")
    if task_type.labels == "number" and _number_of(label) is None:
        raise InputError(f"{row.where}: label {label!r} is no number; {task_type.name} needs one")
    return reading.check(label, row.where)


def _several(row: Row, value: Any) -> tuple[str, ...]:
    """Labels of a MultiLabel row: a list, or a text with commas between; an empty one means none."""
    listed = list_of(row, value, "label")
    if listed is None:
        listed = [part.strip() for part in text_of(row, value, "label").split(",")] if value != "" else []
    return tuple(word_of(row, entry, "label") for entry in listed)


def _truth(row: Row, column: str) -> bool:
    text = text_of(row, row.values[column], column).strip().lower()
    if text not in TRUTHS:
        raise InputError(f"{row.where}: {column} is {text!r}; a label's own column holds 0 or 1")
    return TRUTHS[text]


# --- other layouts --------------------------------------------------------------------------------------


def _conversations(reading: _Reading) -> Iterator[Example]:
    for number, value in read_json_lines(reading.path):
        row = Row(reading.path, number, {})
        if isinstance(value, dict):
            there = ", ".join(value)[:200]
            raise InputError(
                f"{row.where}: an object ({there}); name the one that holds the turns (columns: text)"
            )
        yield Example("", _turns(reading, value, row))


def _turns(reading: _Reading, value: Any, row: Row) -> tuple[str, ...]:
    turns = list_of(row, value, "a conversation")
    if turns is None:
        raise InputError(f'{row.where}: no list of turns; write a conversation as ["Hello.", "Hi!"]')
    least = 2 if reading.task.type.has_candidates else 1
    if len(turns) < least:
        found = counted(len(turns), "turn")
        raise InputError(f"{row.where}: {found}; {reading.task.task_type} needs at least {least}")
    texts = tuple(text_of(row, turn, "a turn") for turn in turns)
    for number, text in enumerate(texts, start=1):
        if not text.strip():  # it would be a true reply, or one to be learnt
            raise InputError(f"{row.where}: turn {number} of {len(texts)} is empty; mend the row")
    return texts


def _without_end(turns: list[Any]) -> list[Any]:
    """The turns up to the last that says something: a shorter conversation leaves its last cells empty."""
    while turns and (turns[-1] is None or (isinstance(turns[-1], str) and not turns[-1].strip())):
        turns = turns[:-1]
    return turns


def _tagged_words(reading: _Reading) -> Iterator[Example]:
    return _headerless(reading) if _holds_lists(reading.path) else _conll(reading)


def _holds_lists(path: Path) -> bool:
    """Whether a file for NER has a list a row rather than a token a line: see the top of this file."""
    # Told by the first row alone, as a person would tell it; later rows that differ are errors.
    fields = first_line(path).split("\t")
    last = fields[-1].strip()
    bracketed = last.startswith("[") and last.endswith("]")
    return suffix_of(path) != ".conll" and len(fields) in (2, 3) and bracketed


def _conll(reading: _Reading) -> Iterator[Example]:
    """Sentences of a file with a token a line."""
    chosen = reading.task.columns  # from 1
    columns = (chosen["text"] - 1, chosen["label"] - 1) if chosen else ()
    for sentence in read_conll(reading.path, *columns):
        lines = zip(sentence.lines, sentence.tags, strict=True)
        tags = tuple(reading.check(tag, f"{reading.path}: line {line}") for line, tag in lines)
        yield Example("", (" ".join(sentence.words),), sentence.words, tags)


def _spelling(reading: _Reading) -> Iterator[Example]:
    """Sentences, and where correct.txt lies beside them, which of their words are wrong."""
    path = reading.path
    if path.is_dir():
        path = packed_file(path, "corrupt.txt") or path / "corrupt.txt"
    labels = packed_file(path.parent, "correct.txt") if path.name.lower().startswith("corrupt.txt") else None
    if labels is None and not reading.task.noise:
        raise InputError(f"{path}: no labels; name a corrupt.txt with correct.txt beside it, or give noise")
    if labels is None:
        for _, text in passing_blank_lines(read_lines(path)):
            yield _sentence(reading, text)
        return
    for number, line, marks in paired_lines(path, labels):
        yield _sentence(reading, line, marks_of(line, marks, f"{labels}: line {number}"))


def marks_of(text: str, marks: str, where: str) -> tuple[str, ...]:
    """The label of each word of a line, 0 or 1. Raises InputError that begins with `where`."""
    words, marks_W = text.split(), marks.split()
    if len(words) != len(marks_W) or not set(marks_W) <= set(MISSPELT):
        raise InputError(f"{where} is no 0 or 1 for each of {counted(len(words), 'word')}; mend it")
    return tuple(marks_W)


def packed_file(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, as it is or packed."""
    paths = (folder / f"{name}{packing}" for packing in ("", *PACKINGS))
    return next((path for path in paths if path.is_file()), None)


def _sentence(reading: _Reading, text: str, wrong_W: tuple[str, ...] | None = None) -> Example:
    """A sentence and, where they are known, its words' labels."""
    if reading.task.type.by_word:
        return Example("", (text,), tuple(text.split()), wrong_W)
    return Example("", (text,), None, None if wrong_W is None else str(int(MISSPELT[1] in wrong_W)))


# By the name that a type's record gives.
READERS: dict[str, Callable[[_Reading], Iterator[Example]]] = {
    "rows": _headerless,
    "tagged_words": _tagged_words,
    "conversations": _conversations,
    "spelling": _spelling,
}
