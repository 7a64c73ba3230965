"""Input files -> blocks of lines, which processes then read by themselves (clean.py).

A block is some `chunk_size` lines (rows, in .jsonl, .tsv, .parquet and data sets), of one large file or of
several small ones, and ends early at BLOCK_BYTES. Plain local files are only scanned for line ends here; the
process that gets the block reads its byte range. Packed and remote files, .parquet and data sets are read
here, and their text is handed over; .parquet, whose reader jumps about, is read once more for its hash.

P newlines of a segment.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np

from span_electra.errors import InputError, reason_of
from span_electra.storage import sha256_of
from span_electra.text.dataset import open_dataset
from span_electra.text.inputs import (
    SEGMENT,
    InputFile,
    Inputs,
    Source,
    far_errors_of,
    find_column,
    open_raw,
    segments_of,
)
from span_electra.text.tables import parquet_texts
from span_electra.text.unpacking import UNPACKING_ERRORS, unpack, way_out_of
from span_electra.utf8 import begins_as_utf8, refuse_other

BLOCK_BYTES = 4 << 20  # a block ends with the line that reaches this, whatever its number of lines
# Bytes; a longer one is no text. Encoding takes some times as many, and its loops have no numbers for more.
LONGEST_LINE = (1 << 28) - (1 << 20)


@dataclass(frozen=True)
class Piece:
    """The part of one file that belongs to a block."""

    path: str
    kind: str  # text, jsonl, tsv, parquet or dataset
    begin: int  # byte range in the unpacked file; of a table, rows
    end: int
    first_line: int  # number of its first line, from 1, for messages
    column: int = 0  # .tsv: which column holds the text
    text: bytes | None = None  # its bytes, where no process can read them by itself
    rows: tuple[str | None, ...] | None = None  # of a table: the rows' texts


@dataclass(frozen=True)
class Block:
    """What one process works on at a time."""

    number: int
    pieces: tuple[Piece, ...]
    consumed: int  # bytes of the inputs that it stands for; all blocks' add up to the inputs' size


def cut_blocks(inputs: Inputs, chunk_size: int, sources: list[Source] | None = None) -> Iterator[Block]:
    """Yield all inputs as blocks, in order. Memory stays that of one block.

    `sources`, if given, gets each file's size and SHA-256 when it has been passed.

    Raises InputError for a file that cannot be read, is binary or damaged, or lacks the text field.
    """
    assert chunk_size > 0
    block = _OpenBlock(chunk_size)
    for file in inputs.files:
        cut = _cut_rows if file.kind in ("parquet", "dataset") else _cut_lines
        yield from cut(file, block, inputs.text_field, sources)
    if block.pieces or block.consumed:  # bytes without text count too, for bars go by them
        yield block.close()


@dataclass
class _OpenBlock:
    """The block that lines or rows are still added to, the last file's and the next one's."""

    chunk_size: int
    number: int = 0
    lines: int = 0  # or rows, with those that are in no piece yet
    size: int = 0  # bytes or, of tables, characters of these
    consumed: int = 0
    pieces: list[Piece] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return self.lines >= self.chunk_size or self.size >= BLOCK_BYTES

    def close(self) -> Block:
        """What it holds; from now on it is the next one, which is empty."""
        block = Block(self.number, tuple(self.pieces), self.consumed)
        self.number, self.lines, self.size, self.consumed, self.pieces = self.number + 1, 0, 0, 0, []
        return block


def _cut_lines(
    file: InputFile, block: _OpenBlock, text_field: str, sources: list[Source] | None
) -> Iterator[Block]:
    """Add a file of lines to the open block, and yield each that is full."""
    parts: list[bytes] = []  # the open piece's text, when it must be handed over
    piece = Piece(file.path, file.kind, 0, 0, 1, text=None if file.in_ranges else b"")
    line_number, counted, terminated = 1, 0, True
    with closing(_Segments(file)) as reader:
        for segment in reader:
            start = 0
            if reader.begin == 0 and file.kind == "tsv":
                column, start = find_column(file.path, segment, text_field)
                line_number += start > 0
                piece = replace(piece, column=column, begin=start, end=start, first_line=line_number)
            terminated = segment.endswith(b"\n")
            # Of the whole segment at once: Python would take longer for each line than encoding it does.
            newline_B = np.frombuffer(segment, np.uint8) == 10
            while start < len(segment):
                left = block.chunk_size - block.lines, BLOCK_BYTES - block.size
                passed, cut = _pass_lines(newline_B[start:], *left)
                stop = start + cut if cut else len(segment)
                block.lines, block.size = block.lines + passed, block.size + stop - start
                line_number += passed
                piece = replace(piece, end=reader.begin + stop)
                if not file.in_ranges:
                    parts.append(segment[start:stop])
                if cut:
                    block.pieces.append(_closed(piece, parts))
                    block.consumed += reader.taken(piece.end) - counted
                    counted = reader.taken(piece.end)
                    yield block.close()
                    parts, piece = [], replace(piece, begin=piece.end, first_line=line_number)
                elif block.size > LONGEST_LINE:
                    raise InputError(
                        f"{file.path}: line {line_number} is longer than {LONGEST_LINE >> 20} MiB; break it "
                        "into lines"
                    )
                start = stop
        reader.finish(sources)
    # The file's last lines wait in the open block, to which the next file's may be added.
    block.consumed += max(0, file.size - counted)  # the size may not be known
    if piece.end > piece.begin:
        block.pieces.append(_closed(piece, parts))
        block.lines += not terminated
        if block.full:
            yield block.close()


def _closed(piece: Piece, parts: list[bytes]) -> Piece:
    return piece if piece.text is None else replace(piece, text=b"".join(parts))


def _pass_lines(newline_B: np.ndarray, most_lines: int, enough: int) -> tuple[int, int]:
    """Pass lines until they are `most_lines`, or one ends at `enough` or later.

    newline_B: bool, which bytes are newlines. Returns how many were passed, and the place behind the last or
    0 when the bytes end first.
    """
    newlines = int(np.count_nonzero(newline_B))
    if newlines < most_lines and len(newline_B) < enough:
        return newlines, 0  # as nearly always, and cheaper than to find where they are
    newlines_P = np.flatnonzero(newline_B)
    last = min(most_lines, int(np.searchsorted(newlines_P, enough - 1)) + 1)
    return (last, int(newlines_P[last - 1]) + 1) if last <= newlines else (newlines, 0)


class _Counted(io.RawIOBase):
    """A file that hashes and counts what is read from it; for decompressors that hide where they are."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw, self.hasher, self.taken = raw, hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self.hasher.update(data)
        self.taken += len(data)
        return data

    def tell(self) -> int:
        return self.taken

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Segments:
    """A file's unpacked content in segments; hashes the stored bytes in passing."""

    def __init__(self, file: InputFile) -> None:
        self.file, self.begin = file, 0
        # Of a packed file what is stored is hashed, not what is in it: the hash names the user's file.
        self._raw = _Counted(open_raw(file))
        self._stream = unpack(self._raw, file.packing)

    def __iter__(self) -> Iterator[bytes]:
        """Yield segments; `begin` is the place of the latest in the unpacked file."""
        with far_errors_of(self.file):
            try:
                for segment in segments_of(self.file, self._raw, self._stream):
                    self._refuse_binary(segment)
                    yield segment
                    self.begin += len(segment)
            except UNPACKING_ERRORS as error:
                told = f"cannot be read to its end ({error}); {way_out_of(error)}"
                raise InputError(f"{self.file.path}: {told}") from None

    def _refuse_binary(self, segment: bytes) -> None:
        if self.begin:
            return
        if segment.startswith((b"ARROW1", b"PAR1")):
            raise InputError(f"{self.file.path}: features or a table, not text; name text files")
        refuse_other(segment, self.file.path)
        # In what is UTF-8 besides, a NUL is a fault of one line, which `errors` may mend.
        if b"\0" in segment and not begins_as_utf8(segment):
            place = segment.index(b"\0")
            raise InputError(f"{self.file.path}: binary (a NUL byte at {place}); name text files")

    def taken(self, end: int) -> int:
        """Bytes on disk read for the content up to `end`."""
        return self._raw.taken if self.file.packing else end

    def finish(self, sources: list[Source] | None) -> None:
        """Record the source; what follows the content of a packed file is hashed too."""
        with far_errors_of(self.file):
            while self._raw.read(SEGMENT):
                pass
        if sources is not None:
            sources.append(Source(self.file.path, self.file.size, self._raw.hasher.hexdigest()))

    def close(self) -> None:
        self._stream.close()
        self._raw.close()


# --- tables -------------------------------------------------------------------------------------------


def hash_source(file: InputFile, text_field: str) -> str:
    """SHA-256 of a file's stored bytes; of a data set, which has none of its own, of its texts."""
    if file.kind != "dataset":
        with far_errors_of(file), open_raw(file) as raw:
            return sha256_of(raw)
    hasher = hashlib.sha256()
    for texts, _ in open_dataset(file.path).texts(text_field):
        _hash_texts(hasher, texts)
    return hasher.hexdigest()


def _hash_texts(hasher: Any, texts: list[str | None]) -> None:
    hasher.update("".join(json.dumps(text) + "\n" for text in texts).encode())


def _cut_rows(
    file: InputFile, block: _OpenBlock, text_field: str, sources: list[Source] | None
) -> Iterator[Block]:
    """The same of a table or a data set."""
    rows: list[str | None] = []
    first = row = counted = 0
    lines, size = block.lines, block.size  # of the block; by themselves, for rows are many and short
    from_library, hasher = file.kind == "dataset", hashlib.sha256()
    batches = open_dataset(file.path).texts(text_field) if from_library else _parquet_rows(file, text_field)
    for texts, share in batches:
        if from_library:
            _hash_texts(hasher, texts)  # in passing: a stream may come from far
        for text in texts:
            rows.append(text)
            row, lines, size = row + 1, lines + 1, size + len(text or "")
            if lines >= block.chunk_size or size >= BLOCK_BYTES:
                block.pieces.append(Piece(file.path, file.kind, first, row, first + 1, rows=tuple(rows)))
                block.consumed += int(share * file.size) - counted
                counted = int(share * file.size)
                yield block.close()
                rows, first, lines, size = [], row, 0, 0
    if sources is not None:
        digest = hasher.hexdigest() if from_library else hash_source(file, text_field)
        sources.append(Source(file.path, file.size, digest))
    block.lines, block.size, block.consumed = lines, size, block.consumed + file.size - counted
    if rows:
        block.pieces.append(Piece(file.path, file.kind, first, row, first + 1, rows=tuple(rows)))


def _parquet_rows(file: InputFile, text_field: str) -> Iterator[tuple[list, float]]:
    """Yield some rows at a time, and which share of the file's rows came before their end."""
    with parquet_file(file) as raw:
        yield from parquet_texts(file.path, raw, text_field)


@contextmanager
def parquet_file(file: InputFile) -> Iterator[BinaryIO]:
    """A .parquet file, packed or not, to be read inside. Raises InputError where it is damaged."""
    with far_errors_of(file):
        try:
            with open_raw(file) as raw:
                if not file.packing:
                    yield raw
                    return
                # Its index stands at the end, and a packed stream cannot be read from there.
                with unpack(raw, file.packing) as stream, tempfile.TemporaryFile() as unpacked:
                    for segment in segments_of(file, raw, stream):
                        unpacked.write(segment)
                    unpacked.seek(0)
                    yield unpacked
        except UnicodeDecodeError as error:
            told = f"holds text that is not UTF-8 ({error.reason}); convert it and write the file again"
            raise InputError(f"{file.path}: {told}") from None
        except (*UNPACKING_ERRORS, MemoryError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):  # where it is unpacked to
                raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from None
            told = f"not a sound .parquet file ({reason_of(error)}); {way_out_of(error)}"
            raise InputError(f"{file.path}: {told}") from None
