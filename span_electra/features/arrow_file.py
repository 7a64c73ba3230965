"""Arrow IPC files that know their own checksum: written beside, synced, renamed; checked when opened.

Rows are appended one batch after another, and metadata that is known only at the end (counts) is put into the
room that was left for it.

The CRC-32 of the whole file stands, as eight hex digits behind a mark, in the metadata, which an Arrow
file holds twice: at its head and in its footer. It is counted with these digits as zeros. So every bit of
the file is covered, and to other programs it is an ordinary Arrow file.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from span_electra.errors import InputError
from span_electra.storage import atomic_file

CHECKSUM_KEY = b"crc32"
# JSON escapes control characters, so no other metadata can hold this mark.
MARK = b"\x01crc32:"
DIGITS = 8
MAGIC = b"ARROW1"
PIECE = 1 << 20  # bytes hashed at a time


class CheckedFile:
    """An Arrow file in the making."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self._metadata = {**(schema.metadata or {}), CHECKSUM_KEY: MARK + b"0" * DIGITS}
        self._restated: list[tuple[bytes, bytes]] = []
        # Kept: Arrow's end of the file closes ours when it is collected, and ours still gets its checksum.
        self._sink = pa.PythonFile(file, "w")
        self._writer = pa.ipc.new_file(self._sink, schema.with_metadata(self._metadata))

    def append(self, batch: pa.RecordBatch) -> None:
        """Write some rows more."""
        self._writer.write_batch(batch.replace_schema_metadata(self._metadata))

    def restate(self, key: bytes, value: bytes) -> None:
        """Give metadata its final value, which must be as long as the one given first."""
        before, self._metadata[key] = self._metadata[key], value
        assert len(before) == len(value), f"the room for {key!r} is {len(before)} bytes, not {len(value)}"
        self._restated.append((before, value))

    def _finish(self) -> None:
        """Write the footer, restated metadata in its two places, and the checksum of all that.

        The file is read once more for it: metadata at its head changes last, so a sum counted on the way
        would have to be corrected by algebra. It still lies in the system's memory then.
        """
        # Arrow's footer, which holds the metadata a second time, must stand before its places are looked for.
        self._writer.close()
        file = self._file
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            restated = [
                (offset, after) for before, after in self._restated for offset in _offsets(content, before)
            ]
            digit_offsets = _digit_offsets(content)
        for offset, value in restated:
            _put(file, offset, value)
        file.flush()
        checksum = _crc32(file, digit_offsets)
        for offset in digit_offsets:
            _put(file, offset, b"%08x" % checksum)
        file.flush()


@contextmanager
def checked_file(path: str | Path, schema: pa.Schema, durable: bool = True) -> Iterator[CheckedFile]:
    """Yield a file to append to; when the block ends without an error, `path` holds it, whole and on disk.

    Until then `path` keeps what it held. Without `durable` a loss of power may take the file back; its
    checksum then tells.

    Raises OSError when the disk is full or the folder may not be written; nothing is left behind then.
    """
    with atomic_file(path, durable) as beside, open(beside, "w+b") as file:
        growing = CheckedFile(file, schema)
        yield growing
        growing._finish()


def write_checked(
    path: str | Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], durable: bool = True
) -> None:
    """Write a whole file, as `checked_file` does."""
    with checked_file(path, schema, durable) as file:
        for batch in batches:
            file.append(batch)


def open_checked(path: str | Path, verify: bool = True) -> pa.RecordBatchFileReader:
    """Open a file of `write_checked`, memory-mapped; with `verify` its every bit is checked first.

    Raises InputError when it cannot be read, is no such file, is cut off or altered.
    """
    try:
        with open(path, "rb") as file:
            # Shorter than an Arrow file's head and foot: nothing to look for marks in.
            if os.fstat(file.fileno()).st_size < 32 or file.read(len(MAGIC)) != MAGIC:
                raise InputError(f"{path}: not a feature file; make one with create_feature_SE.py")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                offsets = _digit_offsets(content)
                # Two places, head and footer: one alone is a file that was cut off or patched.
                intact = len(offsets) == 2
                if intact and verify:
                    stated = {content[offset : offset + DIGITS] for offset in offsets}
                    intact = stated == {b"%08x" % _crc32(file, offsets)}
        if intact:
            # As bytes: Arrow makes UTF-8 of a name that is text, which not every name on a disk is.
            return pa.ipc.open_file(pa.memory_map(os.fsencode(path)))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; check the path") from None
    except pa.ArrowInvalid:
        pass
    raise InputError(f"{path}: damaged (cut off or altered); make it again with create_feature_SE.py")


def _offsets(content: mmap.mmap, value: bytes) -> list[int]:
    """Where a value of the metadata stands: in the head's schema and in the footer's."""
    # Lengths stand before the head's schema and behind the footer; a damaged one may be negative.
    head_end = 16 + int.from_bytes(content[12:16], "little", signed=True)
    footer = len(content) - 10 - int.from_bytes(content[-10:-6], "little", signed=True)
    offsets = []
    for begin, end in ((8, head_end), (footer, len(content) - 10)):
        if 8 <= begin < end <= len(content):
            offset = content.find(value, begin, end)
            if offset >= 0:
                offsets.append(offset)
    return offsets


def _digit_offsets(content: mmap.mmap) -> list[int]:
    """Where the checksum's digits stand."""
    return [offset + len(MARK) for offset in _offsets(content, MARK)]


def _put(file: BinaryIO, offset: int, data: bytes) -> None:
    file.seek(offset)
    file.write(data)


def _crc32(file: BinaryIO, zeroed: Iterable[int]) -> int:
    """CRC-32 of the file with the eight digits at each place of `zeroed` taken as zeros.

    Read, not mapped: a mapping's pages count as this process's memory.
    """
    # Zeros in the digits' place: a sum cannot count itself.
    checksum, begin, size = 0, 0, os.fstat(file.fileno()).st_size
    for offset in [*sorted(zeroed), size]:
        file.seek(begin)
        for piece in range(begin, offset, PIECE):
            checksum = zlib.crc32(file.read(min(PIECE, offset - piece)), checksum)
        if offset < size:
            checksum = zlib.crc32(b"0" * DIGITS, checksum)
        begin = offset + DIGITS
    return checksum
