"""Arrow IPC files that know their own checksum: written beside, synced, renamed; checked when opened.

The CRC-32 of the whole file stands, as eight hex digits behind a mark, in the metadata, which an Arrow
file holds twice: at its head and in its footer. It is counted with these digits as zeros. So every bit of
the file is covered, and to other programs it is an ordinary Arrow file.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from span_electra.errors import InputError

CHECKSUM_KEY = b"crc32"
# JSON escapes control characters, so no other metadata can hold this mark.
MARK = b"\x01crc32:"
DIGITS = 8
MAGIC = b"ARROW1"
PIECE = 1 << 20  # bytes hashed at a time


def write_checked(
    path: str | Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], sync: bool = True
) -> None:
    """Write an Arrow IPC file so that `path` holds either what it held before or all of it.

    Without `sync` a loss of power may take it back; its checksum then tells.

    Raises OSError when the disk is full or the folder may not be written; nothing is left behind then.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    metadata = dict(schema.metadata or {})
    metadata[CHECKSUM_KEY] = MARK + b"0" * DIGITS
    try:
        with pa.OSFile(str(beside), "wb") as sink:
            with pa.ipc.new_file(sink, schema.with_metadata(metadata)) as writer:
                for batch in batches:
                    writer.write_batch(batch.replace_schema_metadata(metadata))
        with open(beside, "r+b") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                places, checksum = _digit_places(content), _crc32(file, ())
            for place in places:
                file.seek(place)
                file.write(b"%08x" % checksum)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(beside, path)
        if sync:
            sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the renames in `folder` last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_checked(path: str | Path, verify: bool = True) -> pa.RecordBatchFileReader:
    """Open a file of `write_checked`, memory-mapped; with `verify` its every bit is checked first.

    Raises InputError when it cannot be read, is no such file, is cut off or altered.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < 32 or file.read(len(MAGIC)) != MAGIC:
                raise InputError(f"{path}: not a feature file; make one with create_feature_SE.py")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                places = _digit_places(content)
                if verify:
                    stated = {content[place : place + DIGITS] for place in places}
                    intact = stated == {b"%08x" % _crc32(file, places)}
                else:
                    intact = True
        if len(places) == 2 and intact:
            return pa.ipc.open_file(pa.memory_map(str(path)))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; check the path") from None
    except pa.ArrowInvalid:
        pass
    raise InputError(f"{path}: damaged (cut off or altered); make it again with create_feature_SE.py")


def _digit_places(content: mmap.mmap) -> list[int]:
    """Where the checksum's digits stand: in the head's schema and in the footer's."""
    head_end = 16 + int.from_bytes(content[12:16], "little", signed=True)
    footer = len(content) - 10 - int.from_bytes(content[-10:-6], "little", signed=True)
    places = []
    for begin, end in ((8, head_end), (footer, len(content) - 10)):
        if 8 <= begin < end <= len(content):
            place = content.find(MARK, begin, end)
            if place >= 0 and place + len(MARK) + DIGITS <= end:
                places.append(place + len(MARK))
    return places


def _crc32(file: BinaryIO, zeroed: Iterable[int]) -> int:
    """CRC-32 of the file with the eight digits at each place of `zeroed` taken as zeros.

    Read, not mapped: a mapping's pages count as this process's memory.
    """
    checksum, begin, size = 0, 0, os.fstat(file.fileno()).st_size
    for place in [*sorted(zeroed), size]:
        file.seek(begin)
        for piece in range(begin, place, PIECE):
            checksum = zlib.crc32(file.read(min(PIECE, place - piece)), checksum)
        if place < size:
            checksum = zlib.crc32(b"0" * DIGITS, checksum)
        begin = place + DIGITS
    return checksum
