"""A block of the corpus -> clean text.

Clean text is UTF-8 without BOM, lines end in a newline, blank lines separate documents. A row of .jsonl,
.tsv, .parquet or a data set is one document: its line breaks stay line breaks, its own blank lines are
dropped, a blank line follows it. Each file is a document of its own too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from span_electra.counted import counted
from span_electra.data_config import TextConfig
from span_electra.errors import InputError
from span_electra.text.corpus import Block, Piece
from span_electra.utf8 import UTF8_MARK

REPLACEMENT = "\ufffd".encode()


def read_block(block: Block, reading: TextConfig) -> bytes:
    """Return the clean text of a block; it ends in a newline or is empty.

    Raises InputError naming file, line and byte for what is not UTF-8 (unless `reading.errors` is "replace"),
    and file and row for a row without text.
    """
    texts = []
    for piece in block.pieces:
        if piece.kind == "text":
            text = _clean(_bytes_of(piece), piece, reading.errors)
        else:
            text = _rows_text(_rows_of(piece, reading))
        texts.append(text + b"\n" if text and not text.endswith(b"\n") else text)
    return b"\n".join(texts)  # each file is a document of its own; one alone is not copied


@dataclass
class Replaced:
    """How many characters of a text are U+FFFD, and the block that has most of them."""

    reading: TextConfig
    count: int = 0
    most: int = 0
    block: Block | None = None

    def add(self, block: Block, count: int) -> None:
        self.count += count
        # It is kept, for text that came from far would have to be fetched again.
        if count > self.most:
            self.most, self.block = count, block

    def notes(self) -> tuple[str, ...]:
        if self.block is None:
            return ()
        pieces = [(replaced_in(self._text(piece), self.reading), piece.path) for piece in self.block.pieces]
        said = counted(self.count, "character is", "characters are")
        return (f"{said} U+FFFD, for what is not UTF-8 (--errors replace), most in {max(pieces)[1]}",)

    def _text(self, piece: Piece) -> bytes:
        return read_block(replace(self.block, pieces=(piece,)), self.reading)


def replaced_in(text: bytes, reading: TextConfig) -> int:
    """How many characters of a text that was read so are U+FFFD; strict reading puts none in."""
    return text.count(REPLACEMENT) if reading.errors == "replace" else 0


def _bytes_of(piece: Piece) -> bytes:
    if piece.text is not None:
        data = piece.text
    else:
        try:
            with open(piece.path, "rb") as file:
                file.seek(piece.begin)
                data = file.read(piece.end - piece.begin)
        except OSError as error:
            raise InputError(f"{piece.path}: {error.strerror}; check the file") from None
        if len(data) < piece.end - piece.begin:
            raise InputError(f"{piece.path}: became shorter while it was read; run again when it is complete")
    return data.removeprefix(UTF8_MARK) if piece.begin == 0 else data


def _clean(data: bytes, piece: Piece, errors: str) -> bytes:
    """Check that bytes are text; turn CRLF into LF."""
    # Valid UTF-8, and yet no text: it ends strings wherever C code is met, and marks binary files.
    if b"\0" in data:
        if errors == "strict":
            line = piece.first_line + data.count(b"\n", 0, data.index(b"\0"))
            raise InputError(
                f"{piece.path}: line {line} holds a NUL byte; clean the file or use --errors replace"
            )
        data = data.replace(b"\0", REPLACEMENT)
    try:
        if not _surely_utf8(data):
            data.decode()  # says which byte it is
    except UnicodeDecodeError as error:
        if errors == "strict":
            line = piece.first_line + data.count(b"\n", 0, error.start)
            place = error.start - (data.rfind(b"\n", 0, error.start) + 1)
            raise InputError(
                f"{piece.path}: line {line} is not UTF-8 (byte {data[error.start]:#04x} at {place}); "
                "convert the file or use --errors replace"
            ) from None
        # Only where something is wrong: for megabytes of sound text it would take a second copy.
        data = data.decode(errors="replace").encode()
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def _surely_utf8(data: bytes) -> bool:
    """Whether Arrow finds the bytes valid, which takes it no memory."""
    ends = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _rows_of(piece: Piece, reading: TextConfig) -> Iterator[bytes]:
    """Yield each row's text."""
    if piece.rows is not None:
        for number, text in enumerate(piece.rows, start=piece.first_line):
            yield _row_bytes(text, f"{piece.path}: row {number}", reading.errors)
        return
    # Numbers count lines of the file, so that an editor finds the row.
    lines = _clean(_bytes_of(piece), piece, reading.errors).split(b"\n")
    table = _Table(piece.column)
    for number, line in enumerate(lines, start=piece.first_line):
        where = f"{piece.path}: row {number}"
        if not line.strip():
            continue
        if piece.kind == "tsv":
            yield table.cell(line, where)
        else:
            yield _row_bytes(_json_text(line, reading.text_field, where), where, reading.errors)


def _row_bytes(text: str | None, where: str, errors: str) -> bytes:
    """Encode a row's text; a NUL, and what has no place in UTF-8, is refused or replaced."""
    if not text:
        return b""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        if errors == "strict":
            raise InputError(
                f"{where} {_no_utf8(text[error.start])}; mend it or use --errors replace"
            ) from None
        data = re.sub("[\ud800-\udfff]", REPLACEMENT.decode(), text).encode()
    if b"\0" in data:
        if errors == "strict":
            raise InputError(f"{where} holds a NUL character; mend it or use --errors replace")
        data = data.replace(b"\0", REPLACEMENT)
    return data.replace(b"\r\n", b"\n")


def _no_utf8(character: str) -> str:
    # JSON can spell half of a surrogate pair; as some of these a table's odd bytes come (column_texts).
    odd = "\udc80" <= character <= "\udcff"
    return f"is not UTF-8 (byte {ord(character) & 0xFF:#04x})" if odd else "holds half a character"


def _json_text(line: bytes, text_field: str, where: str) -> str | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is not JSON; mend the row") from None
    if not isinstance(row, dict) or text_field not in row:
        there = ", ".join(row)[:80] if isinstance(row, dict) else type(row).__name__
        raise InputError(
            f"{where} has no field {text_field!r} (there is {there}); name one with --text_field"
        )
    if row[text_field] is not None and not isinstance(row[text_field], str):
        found = type(row[text_field]).__name__
        raise InputError(f"{where}: field {text_field!r} is no text but {found}; name one with --text_field")
    return row[text_field]


class _Table:
    """Rows of a .tsv, which has no quoting here: a quotation mark is one.

    Written with it, as .csv is, a text would be learned with its marks doubled, and cut apart at line ends
    and tabs. That shows: by marks that are doubled inside of two, or by a row of fewer or more cells than the
    others whose text opens a quotation and does not close it.
    """

    def __init__(self, column: int) -> None:
        self._column, self._usual, self._opened = column, 0, False

    def cell(self, line: bytes, where: str) -> bytes:
        """The text of a row. Raises InputError where it has none, or is written with quoting."""
        cells = line.split(b"\t")
        text = cells[self._column] if self._column < len(cells) else None
        other = len(cells) != (self._usual or len(cells))
        if self._opened and text is None or text is not None and _quoted(text, cut=other):
            raise InputError(
                f"{where} is of a table with quoting, which is not read here; save it as .jsonl or .parquet"
            )
        if text is None:
            found = counted(len(cells), "column")
            raise InputError(f"{where} has {found}, the text should be in column {self._column} from 0")
        self._opened, self._usual = _opens(text), len(cells)
        return text


def _opens(text: bytes) -> bool:
    return text.startswith(b'"') and text.count(b'"') % 2 == 1


def _quoted(text: bytes, cut: bool) -> bool:
    """Whether a cell is written with quoting; `cut`: its row has not as many cells as others."""
    if not text.startswith(b'"'):
        return False
    inside = text[1:-1]
    doubled = text.endswith(b'"') and b'""' in inside and b'"' not in inside.replace(b'""', b"")
    return doubled or cut and _opens(text)


def _rows_text(rows: Iterator[bytes]) -> bytes:
    """Write rows as lines, a blank line after each row; a row's own blank lines are dropped."""
    # A list that is joined once: adding to bytes would copy all that is there for each row.
    documents = []
    for data in rows:
        if b"\n" in data:  # its own blank lines would end the document
            data = b"\n".join(line for line in data.split(b"\n") if line.strip())
        if data.strip():
            documents.append(data + b"\n\n")
    return b"".join(documents)
