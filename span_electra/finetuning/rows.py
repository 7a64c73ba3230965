"""Rows of a file, whatever its format: lines, tables with a header (.tsv .csv .jsonl .parquet), JSON lines.

All but .parquet also packed as .gz, .bz2, .xz or .zst; .parquet is unpacked to a temporary file first. Rows
come in file order, one at a time, and every error names the file and the row.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from span_electra.errors import InputError, reason_of
from span_electra.finetuning.header_rows import refuse_header
from span_electra.text.corpus import parquet_file
from span_electra.text.inputs import KINDS, InputFile, describe_file, open_raw, segments_of, suffixes_of
from span_electra.text.tables import parquet_batches
from span_electra.text.unpacking import UNPACKING_ERRORS, unpack, way_out_of
from span_electra.utf8 import decode_utf8, refuse_other

LONGEST_LINE = 64 << 20  # bytes; a longer one is no row of a task
TABLES = (".tsv", ".txt", ".csv", ".jsonl", ".parquet")
Line = TypeVar("Line")  # a text, or its fields


@dataclass(frozen=True)
class Row:
    """One row: the values of its columns, and where it stands."""

    path: Path
    number: int  # of its line, from 1; in .parquet, of the row
    values: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.path}: {'row' if suffix_of(self.path) == '.parquet' else 'line'} {self.number}"


def suffix_of(path: Path) -> str:
    """What kind of file it is, below its packing and by the first of its kind's names.

    Example: a.JSONL.zst, a.ndjson -> .jsonl
    """
    suffix = suffixes_of(str(path))[0]
    return ".jsonl" if KINDS.get(suffix) == "jsonl" else suffix


# --- lines ----------------------------------------------------------------------------------------------


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end). What follows the last line end is a line if not empty.

    Raises InputError for files that are absent, empty, damaged, binary or not UTF-8.
    """
    number, rest, begun = 0, b"", False
    for segment in _segments(_input_file(path)):
        if not begun:
            refuse_other(segment, str(path))
        begun = True
        # Newlines alone end a line: a text may hold U+2028, U+0085 and what else ends lines elsewhere.
        *lines, rest = (rest + segment).split(b"\n")
        for line in lines:
            number += 1
            yield number, _decoded(line, path, number)
        if len(rest) > LONGEST_LINE:
            raise InputError(f"{path}: line {number + 1}: longer than {LONGEST_LINE >> 20} MiB; cut it")
    if rest:
        yield number + 1, _decoded(rest, path, number + 1)


def _input_file(path: Path) -> InputFile:
    if not path.is_file():
        problem = "a folder, not a file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {problem}; name a file")
    return describe_file(str(path))


def _segments(file: InputFile) -> Iterator[bytes]:
    """The unpacked content of a file, some at a time."""
    try:
        with open_raw(file) as raw, unpack(raw, file.packing) as stream:
            yield from segments_of(file, raw, stream)
    except UNPACKING_ERRORS as error:
        raise InputError(f"{file.path}: cannot be read to its end ({error}); {way_out_of(error)}") from None


def _decoded(line: bytes, path: Path, number: int) -> str:
    if b"\0" in line:
        raise InputError(f"{path}: line {number}: binary (a NUL byte); name a file of text")
    return decode_utf8(line.removesuffix(b"\r"), f"{path}: line {number}", first=number == 1)


def is_blank(line: str) -> bool:
    """Whether a line holds nothing. With a tab it is a row of empty texts."""
    return not line.strip(" \r")


def passing_blank_lines(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines that hold something: where rows have several columns, a blank one is none of them."""
    return ((number, line) for number, line in lines if not is_blank(line))


def without_blank_end(
    lines: Iterator[tuple[int, Line]], blank: Callable[[Line], bool] = is_blank
) -> Iterator[tuple[int, Line]]:
    """The lines up to the last that holds something; where each line counts, those between stay."""
    # Whether a blank line is within or at the end shows only when something follows it.
    held_back: list[tuple[int, Line]] = []
    for number, line in lines:
        if blank(line):
            held_back.append((number, line))
            continue
        yield from held_back
        held_back = []
        yield number, line


def paired_lines(corrupt: Path, correct: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (number from 1, line, the other file's). Raises InputError where one has more lines."""
    # Blank lines at the end alone are passed over: one in between is a sentence without words.
    both = (without_blank_end(read_lines(file)) for file in (corrupt, correct))
    for line, other in zip_longest(*both):
        if line is None or other is None:
            shorter, longer = (corrupt, correct) if line is None else (correct, corrupt)
            raise InputError(f"{shorter}: ends before {longer}; both need as many lines")
        yield *line, other[1]


def first_line(path: Path) -> str:
    """The first line that is not blank; empty where there is none."""
    with closing(read_lines(path)) as lines:
        return next((line for _, line in passing_blank_lines(lines)), "")


# --- tables ---------------------------------------------------------------------------------------------


def read_table(path: Path, columns: list[str]) -> Iterator[Row]:
    """Rows of a file with a header, with the named columns; which format it has says its suffix.

    .tsv and .txt have no quoting, .csv has; a line of .jsonl is an object; a line of .tsv may not be broken.
    Blank lines are passed over; see `_separated`.
    """
    # By the name: what a table looks like from inside fits several formats.
    suffix = suffix_of(path)
    if suffix == ".jsonl":
        return _objects(path, columns)
    if suffix == ".parquet":
        return _parquet(path, columns)
    if suffix == ".csv":
        return _separated(path, columns, _quoted(path))
    if suffix in TABLES:
        return _separated(path, columns, ((number, line.split("\t")) for number, line in read_lines(path)))
    raise InputError(f"{path}: a file with columns ends in {', '.join(TABLES)}; rename it or drop columns")


def read_headerless(path: Path, names: tuple[str, ...]) -> Iterator[Row]:
    """Rows of a tab-separated file whose columns are, in order, `names`; blank lines are passed over."""
    # Only the first row can be a header, and only there is a wrong width a hint of one.
    first = True
    for number, line in passing_blank_lines(read_lines(path)):
        fields = line.split("\t")
        if first:
            below = (row.split("\t") for _, row in islice(passing_blank_lines(read_lines(path)), 1, None))
            refuse_header(fields, f"{path}: line {number}", below)
        hint = ", or name the columns of the header in the task file" if first else ""
        _check_width(path, number, len(fields), names, hint)
        first = False
        yield Row(path, number, dict(zip(names, fields, strict=True)))


def _separated(path: Path, columns: list[str], lines: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    """Rows below a header. `lines` give a blank line as one field, or none, without letters.

    Blank lines are passed over, but for those between the rows of a single column, which are empty texts.
    """
    lines = ((number, fields or [""]) for number, fields in lines)
    _, names = next((line for line in lines if not _is_blank_row(line[1])), (0, []))
    _check_columns(path, columns, names)
    if len(names) > 1:
        lines = (line for line in lines if not _is_blank_row(line[1]))
    for number, fields in without_blank_end(lines, _is_blank_row):
        _check_width(path, number, len(fields), names)
        yield Row(path, number, dict(zip(names, fields, strict=True)))


def _is_blank_row(fields: list[str]) -> bool:
    return len(fields) == 1 and is_blank(fields[0])


def _quoted(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Fields of .csv, where a quoted one may hold line ends: (number of the row's last line, fields)."""
    csv.field_size_limit(sys.maxsize)  # of Python's reader, 128 KiB otherwise
    # Lines are given back their ends: within quotes they are part of a field.
    rows = csv.reader((f"{line}\n" for _, line in read_lines(path)), strict=True)
    try:
        for fields in rows:
            yield rows.line_num, fields
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: {error}; mend the quotes") from None


def _check_width(
    path: Path, number: int, width: int, names: list[str] | tuple[str, ...], hint: str = ""
) -> None:
    if width != len(names):
        raise InputError(
            f"{path}: line {number}: {width} column{'s' * (width != 1)} where {len(names)} belong "
            f"({', '.join(names)[:80]}); mend the row{hint}"
        )


def _check_columns(path: Path, columns: list[str], names: list[str]) -> None:
    for column in columns:
        if names.count(column) != 1:
            problem = "no" if column not in names else "more than one"
            there = ", ".join(names)[:200]
            raise InputError(f"{path}: {problem} column {column!r}; there are {there}")


def _objects(path: Path, columns: list[str]) -> Iterator[Row]:
    for number, value in read_json_lines(path):
        if not isinstance(value, dict):
            raise InputError(f"{path}: line {number}: no JSON object; columns are named, so each line is one")
        missing = [column for column in columns if column not in value]
        if missing:
            there = ", ".join(value)[:200] or "none"
            raise InputError(f"{path}: line {number}: no column {missing[0]!r}; there are {there}")
        yield Row(path, number, value)


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (number from 1, value) of each line that is not blank."""
    for number, line in passing_blank_lines(read_lines(path)):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or reason_of(error)
            raise InputError(f"{path}: line {number}: not JSON ({reason}); mend the row") from None
        yield number, value


def _parquet(path: Path, columns: list[str]) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with parquet_file(_input_file(path)) as raw:
        table = pq.ParquetFile(raw)
        _check_columns(path, columns, table.schema_arrow.names)
        number = 0
        for batch in parquet_batches(table, columns):
            for values in batch.to_pylist():
                number += 1
                yield Row(path, number, values)
