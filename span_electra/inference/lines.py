"""Lines in, answers out, one for each line and in their order: what predict_SE.py does with a model.

Lines come from a file (in blocks), from a pipe (each is answered before the next is waited for) or from a
person. Answers are JSON lines, or text for the eye; corrected lines are plain lines unless JSON is asked for.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np

from span_electra import progress
from span_electra.counted import counted
from span_electra.errors import InputError, nearest
from span_electra.finetuning.header_rows import looks_like_header
from span_electra.hub.weights import PARTS
from span_electra.inference.predictor import Predictor
from span_electra.inference.records import (
    corrected_record,
    detected_record,
    detected_text,
    filled_record,
    filled_text,
    written,
)
from span_electra.storage import atomic_file, empty_parents_go
from span_electra.text.inputs import suffixes_of
from span_electra.utf8 import decode_utf8

TASKS = ("detect", "fill", "correct", "embed")  # the first is done where none is named
ALONE = {"generator": ("fill", "embed"), "discriminator": ("detect", "embed")}  # what one can do by itself
TABLES = (".csv", ".parquet", ".arrow", ".xlsx")  # a line of these is no text
TOKENS = (".conll", ".conllu")  # one of these is a word with its tags
# Lines of a file that are answered together, so that rows of one length find each other; fewer for what takes
# many passes a line, so that answers are seen to come.
BLOCK, SLOW_BLOCK = 1024, 32
BLOCK_CHARACTERS = 200_000  # of a block at most (but one line at least), so that memory is bounded
Answers = TypeVar("Answers")
LineFunction = Callable[[list[str]], list[str]]  # lines -> what is written for each


@dataclass(frozen=True)
class Reads:
    """What a line may be besides a text: what some task that is asked for reads."""

    pairs: bool = False  # a TAB between two texts
    lists: bool = False  # of words or turns, in JSON
    candidates: bool = False  # an object of turns and candidates, in JSON


def predict(
    predictor: Predictor,
    task: str,
    *,
    in_file: str | None = None,
    out_file: str | None = None,
    output: str = "auto",
    threshold: float = 0.5,
    top_k: int = 5,
) -> None:
    """Answer every line of the file, or of standard input, there or on standard output.

    Raises InputError for a file that is not there, is not UTF-8, or is in the way, and for a task that needs
    a network which is not there.
    """
    check_networks(predictor, task)
    check_file(in_file)
    if out_file and out_file.endswith(".npy"):
        if task != "embed":
            raise InputError(
                f"--out_file {out_file}: only --task embed writes .npy; name a .jsonl or .txt file"
            )
        with new_file(out_file) as beside, beside.open("wb") as file:
            # An array's header tells how many rows there are, so all are made before it is written.
            embed = refusing_tables(predictor.embed, in_file, Reads())
            blocks = [embed(block) for block in blocks_of(in_file)]
            np.save(file, np.concatenate([predictor.embed([])[:0], *blocks]))
        return
    # Colours and layout are for eyes; a pipe gets what a program can read.
    to_terminal = not out_file and sys.stdout.isatty()
    as_text = output == "text" or (output == "auto" and (to_terminal or task == "correct"))
    answer = line_function(
        predictor, task, as_text=as_text, threshold=threshold, top_k=top_k, coloured=to_terminal
    )
    mask = predictor.networks.vocabulary.special.mask
    hint = f"a sentence with {mask} in it" if task == "fill" else "a sentence"
    block = SLOW_BLOCK if task == "correct" else BLOCK
    deliver(answer, in_file=in_file, out_file=out_file, hint=hint, block=block)


def one_task(names: list[str]) -> str:
    """The task that is asked for, of TASKS. Raises InputError naming the nearest one."""
    for name in names:
        if name not in TASKS:
            raise InputError(
                f"--task {name}: a pretrained model can {', '.join(TASKS)}; "
                f"did you mean {nearest(name, TASKS, 0.0)!r}?"
            )
    if len(names) > 1:
        raise InputError(f"--task {' '.join(names)}: a pretrained model does one at a time; name one of them")
    return names[0] if names else TASKS[0]


def check_networks(predictor: Predictor, task: str) -> None:
    """Refuse a task of two networks, or of the other one, where there is but one. Raises InputError."""
    there = [part for part in PARTS if getattr(predictor.networks, part)]
    able = ALONE[there[0]]
    if len(there) == 1 and task not in able:
        raise InputError(
            f"--task {task}: {predictor.networks.need(there[0]).source} has a {there[0]} alone; give --task "
            f"{' or '.join(able)}, or name a model with both networks"
        )


def deliver(
    answer: LineFunction,
    *,
    in_file: str | None,
    out_file: str | None,
    hint: str,
    block: int = BLOCK,
    reads: Reads = Reads(),
) -> None:
    """Answer every line of the file, of a pipe, or of a person, who is told by `hint` what to type.

    block: lines of a file that `answer` gets together. reads: see `check_file`.
    """
    answer = refusing_tables(answer, in_file, reads)
    if out_file:
        with new_file(out_file) as beside, beside.open("w", encoding="utf-8") as file:
            write_answers(answer, blocks_of(in_file, block), file, waits=not in_file)
    elif in_file or not sys.stdin.isatty():
        write_answers(answer, blocks_of(in_file, block), sys.stdout, waits=not in_file)
    else:
        converse(answer, hint)


def write_answers(answer: LineFunction, blocks: Iterable[list[str]], file: TextIO, waits: bool) -> None:
    """Write the answers of each block before the next is read; `waits`: for lines that are still to come."""
    written = reported = 0

    def line() -> str:
        nonlocal reported
        # Nothing is said while nothing is done: a pipe that waits for its writer is no sign of trouble.
        new, reported = written - reported, written
        return f"{counted(written, 'line')} answered" if new or not waits else progress.silent()

    with progress.saying(line):
        for block in blocks:
            for text in answer(block):
                file.write(text + "\n")
            file.flush()
            give_back_memory()
            written += len(block)


def give_back_memory() -> None:
    """Have glibc return freed pages to the system.

    Blocks need arrays of ever other sizes, and the holes between them are kept: 800 lines, corrected, held
    1.3 GB of which 0.5 were in use. This takes some milliseconds a block.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass  # another C library: more memory is held, nothing else


def converse(answer: LineFunction, hint: str) -> None:
    """Answer a person line by line; a line that cannot be answered is refused, and the next one may be."""
    for line in typed(f"{hint}, then Enter; an empty line ends"):
        # A person may have mistyped and is still there; a file's line is wrong once and for all.
        try:
            print("\n".join(answer([line])), flush=True)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)


def typed(hint: str) -> Iterator[str]:
    """Yield what a person types, until an empty line or the end of input."""
    print(hint, file=sys.stderr)
    prompt = "> " if sys.stdout.isatty() else ""  # not among answers that go into a file
    while True:
        try:
            line = input(prompt)
            line.encode()  # a byte that is no UTF-8 may come as half a surrogate pair
        except UnicodeError:
            print("error: that line is not UTF-8; set the terminal to it, and try again", file=sys.stderr)
            continue
        except EOFError:
            return
        if not line.strip():
            return
        yield line


# --- lines --------------------------------------------------------------------------------------------


def blocks_of(in_file: str | None, lines: int = BLOCK) -> Iterator[list[str]]:
    """Yield the lines of a file in blocks of `lines`, those of standard input one by one, without line ends.

    A line ends at a newline and nowhere else: other separators of Unicode are part of the text.
    """
    if in_file is None:
        # Bytes: text mode would end lines at a lone \r too, and hide which line is not UTF-8.
        for number, raw in enumerate(sys.stdin.buffer, start=1):
            yield [decoded(raw, "standard input", number)]
        return
    try:
        file = open(in_file, "rb")
    except OSError as error:
        raise InputError(f"{in_file}: {error.strerror}; name a text file") from None
    with file:
        block: list[str] = []
        characters = 0
        # By the file's own iterator: it holds a line at a time, however large the file is.
        for number, raw in enumerate(file, start=1):
            block.append(decoded(raw, in_file, number))
            characters += len(block[-1])
            if len(block) == lines or characters >= BLOCK_CHARACTERS:
                yield block
                block, characters = [], 0
        if block:
            yield block


def check_file(
    in_file: str | None,
    check: Callable[[list[str], int], None] = lambda lines, first: None,
    reads: Reads = Reads(),
) -> None:
    """Read a file to its end before a network does: a bad line there would cost the answers of hours.

    check: is given lines and the number of the first, and raises InputError for one that has no answer.
    reads: what is no table though it looks like one. Raises InputError for a table, a packed file, and what
    is not UTF-8. What can be read but once is left for later: see `refusing_tables`.
    """
    if in_file is None:
        return
    suffix, packing = suffixes_of(in_file)
    if packing:
        raise InputError(f"{in_file}: packed ({packing}); unpack it, or give its text on standard input")
    if suffix in TABLES:
        raise InputError(f"{in_file}: a table, and lines of text are read; cut the column out first")
    if suffix in TOKENS:
        raise InputError(f"{in_file}: a token a line, and lines of text are read; write each sentence as one")
    if comes_once(in_file):
        return
    checked, tabs = 0, set()
    with progress.saying(lambda: f"{counted(checked, 'line')} checked"):
        for block in blocks_of(in_file):
            if not checked:
                _refuse_first(block[0], in_file, suffix, reads)
            check(block, checked + 1)
            checked += len(block)
            tabs |= _tabs_in(block)
    _refuse_columns(tabs, in_file, reads)


def comes_once(in_file: str | None) -> bool:
    """Whether lines cannot be read twice: those of standard input, a pipe or a device."""
    # A device may be a pipe under a file's name.
    return (
        in_file is None
        or in_file.startswith("/dev/")
        or (Path(in_file).exists() and not Path(in_file).is_file())
    )


def refusing_tables(
    answer: Callable[[list[str]], Answers], in_file: str | None, reads: Reads
) -> Callable[[list[str]], Answers]:
    """What answers lines, so that those which come but once are no table's, by all that have come so far."""
    if not comes_once(in_file):  # all lines were seen by `check_file`
        return answer
    seen: set[int] = set()

    def answer_texts(lines: list[str]) -> Answers:
        found = seen | _tabs_in(lines)
        _refuse_columns(found, in_file or "standard input", reads)
        seen.update(found)
        return answer(lines)

    return answer_texts


def _tabs_in(lines: list[str]) -> set[int]:
    """How many TABs lines hold, but for blank ones, which end a sentence of tokens, and for an indent."""
    return {line.lstrip("\t").count("\t") for line in lines if line.strip()}


def _refuse_columns(tabs: set[int], source: str, reads: Reads) -> None:
    """Refuse lines that are all cut into as many columns: a uid or a label would be read as text."""
    if len(tabs) == 1 and max(tabs) > reads.pairs:
        raise InputError(
            f"{source}: all lines have {counted(max(tabs), 'TAB')}, as those of a table, and lines of text "
            "are read; cut the column out first, or write blanks for the TABs of a text"
        )


def _refuse_first(line: str, in_file: str, suffix: str, reads: Reads) -> None:
    """Refuse what its first line shows to be no text, of suffixes that lines of text may have too."""
    fields, value = line.split("\t"), None
    if suffix in (".jsonl", ".ndjson", ".jsonlines"):
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
    if isinstance(value, str) or (isinstance(value, list) and not reads.lists):
        kind = "string" if isinstance(value, str) else "list"
        raise InputError(
            f"{in_file}: line 1: a JSON {kind}, and lines of text are read; write each text as it is"
        )
    if suffix == ".tsv" and len(fields) > 1 and looks_like_header(fields):
        named = fields
    elif isinstance(value, dict) and not (reads.candidates and value.keys() == {"turns", "candidates"}):
        named = [*value]
    else:
        return
    raise InputError(
        f"{in_file}: line 1: a table's ({', '.join(named)[:80]}), and lines of text are read; "
        "cut the column out first"
    )


def decoded(raw: bytes, source: str, number: int) -> str:
    """One line as text. Raises InputError where it is not UTF-8."""
    return decode_utf8(raw, f"{source}: line {number}", first=number == 1).rstrip("\r\n")


@contextmanager
def new_file(target: str) -> Iterator[Path]:
    """As `atomic_file`, at a place where nothing stands yet. Raises InputError where something does."""
    taken = InputError(f"{target}: stands there already; move it or name another --out_file")
    if Path(target).exists():
        raise taken
    # Folders that are made for a line which is then refused go again.
    with empty_parents_go(Path(target)):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as beside:
            yield beside
            if Path(target).exists():  # put there while lines were answered
                raise taken


# --- answers ------------------------------------------------------------------------------------------


def line_function(
    predictor: Predictor, task: str, *, as_text: bool, threshold: float, top_k: int, coloured: bool = False
) -> LineFunction:
    """Return what turns lines into the lines to write, one text for each."""
    if task == "correct":
        as_line = (lambda line: line.corrected) if as_text else as_json(corrected_record)
        return lambda texts: [as_line(line) for line in predictor.correct(texts, threshold, top_k)]
    if task == "embed":
        return lambda texts: [
            json.dumps([written(x) for x in row]) for row in predictor.embed(texts).tolist()
        ]
    if task == "detect":
        plain = as_json(lambda line: detected_record(line, threshold))
        shown = (lambda line: detected_text(line, threshold, coloured)) if as_text else plain
        return lambda texts: [shown(line) for line in predictor.detect(texts)]
    assert task == "fill", task
    filled = filled_text if as_text else as_json(filled_record)
    return lambda texts: [filled(line) for line in predictor.fill(texts, top_k)]


def as_json(record: Callable[[Any], dict[str, Any]]) -> Callable[[Any], str]:
    return lambda result: json.dumps(record(result), ensure_ascii=False)
