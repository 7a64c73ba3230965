"""Parts -> the feature file, or a folder of shards with a manifest; never half-written.

B rows of a batch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from span_electra.errors import InputError
from span_electra.features.arrow_file import CheckedFile, checked_file, write_checked
from span_electra.features.header import FeatureHeader, feature_schema, header_json
from span_electra.features.parts import PartCounts, part_path, read_part
from span_electra.storage import FEATURES_KEY, MANIFEST, atomic_folder, is_feature_file, starts_features
from span_electra.text.far_files import far_errors, open_filesystem


def check_place(out_file: Path, shards: int) -> None:
    """Refuse to write over what is not ours.

    Raises InputError for a file that is no feature file, a folder without manifest, and one where the other
    is wanted.
    """
    if out_file.name in ("", ".."):  # nothing can be built beside it and renamed
        raise InputError(f"{out_file}: a folder above what is here; give --out_file a name of its own")
    if out_file.is_dir():
        if not shards:
            raise InputError(f"{out_file}: a folder; name a file, or use --shards for a folder of files")
        foreign = set(os.listdir(out_file)) - _own_files(out_file)
        if foreign:
            raise InputError(
                f"{out_file}: holds {sorted(foreign)[0]!r}, which is not ours; name another folder"
            )
    elif os.path.lexists(out_file):  # a link to nothing would be replaced too
        if shards:
            raise InputError(f"{out_file}: a file; --shards needs the name of a folder")
        if not out_file.is_file() or (out_file.stat().st_size and not is_feature_file(out_file)):
            raise InputError(
                f"{out_file}: exists and is no feature file; move it away or name another output"
            )


def _own_files(folder: Path) -> set[str]:
    try:
        listed = json.loads((folder / MANIFEST).read_text())["shards"]
        return {MANIFEST, *(str(shard["file"]) for shard in listed)}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()


@contextmanager
def staged(url: str, shards: int) -> Iterator[Path]:
    """A local place to build what belongs at a URL; on leaving without error it is sent there.

    The place is the same for the same URL, so that finished parts are found again. At the URL the new
    replaces the old whole: it is sent beside and moved.

    Raises InputError for what is not ours there, and when sending fails.
    """
    # What is there is looked at before hours of work, not when the result is sent.
    system, target = open_filesystem(url)
    with far_errors(url):
        if not shards and system.isfile(target):
            with system.open(target, "rb") as file:
                if not starts_features(file):
                    raise InputError(f"{url}: exists and is no feature file; name another output")
        elif system.exists(target) and not (shards and system.exists(f"{target}/{MANIFEST}")):
            raise InputError(f"{url}: exists and is no output of this kind; name another")
    # Named by the URL: a command that was broken off finds its parts there again.
    place = Path(f".staged-{hashlib.sha256(url.encode()).hexdigest()[:12]}")
    place.mkdir(exist_ok=True)
    # Object stores have no rename of folders; `mv` copies, but the old is whole until the new is.
    local, beside = place / PurePosixPath(target).name, f"{target}.partial"
    try:
        yield local  # what goes wrong while it is built is this machine's trouble, not the URL's
    finally:
        with suppress(OSError):  # not empty: something was made
            place.rmdir()
    with far_errors(url):
        if system.exists(beside):
            system.rm(beside, recursive=True)
        system.put(str(local), beside, recursive=shards > 0)
        if system.exists(target):
            system.rm(target, recursive=shards > 0)
        system.mv(beside, target, recursive=shards > 0)
    shutil.rmtree(place)  # not where sending failed: what was made can be sent again


class JoinedFile:
    """The feature file in the making: parts are appended in order, while others are still being made."""

    def __init__(self, folder: Path, file: CheckedFile) -> None:
        self.parts = 0
        self._folder, self._file, self._written = folder, file, PartCounts()

    def append(self, key: str) -> None:
        """Append the next part. Raises InputError when it was damaged meanwhile."""
        batch = read_part(part_path(self._folder, self.parts), key)
        self.parts += 1
        if batch.num_rows:  # a block of blank lines has none
            self._written += _count(batch)
            self._file.append(batch)

    def finish(self, header: FeatureHeader) -> PartCounts:
        """Say what is in the file; return what was written."""
        self._file.restate(FEATURES_KEY, header_json(header))
        return self._written


@contextmanager
def joined_file(folder: Path, header: FeatureHeader, out_file: Path) -> Iterator[JoinedFile]:
    """Yield a feature file to join the parts in; it stands at its place when the block ends without error.

    `header` has every source, their hashes and the counts still to be told by `finish`.
    """
    with checked_file(out_file, feature_schema(header)) as file:
        yield JoinedFile(folder, file)


def join_shards(
    folder: Path, parts: list[tuple[str, int]], header: FeatureHeader, out_folder: Path, shards: int
) -> PartCounts:
    """Write the parts, each its key and rows, as a folder of feature files; return what was written.

    Each shard is a feature file by itself. Raises InputError when a part was damaged meanwhile.
    """
    assert header.rows >= shards
    written, shard_list = PartCounts(), []
    with atomic_folder(out_folder) as beside:
        for shard in range(shards):
            # Nearly equal numbers of rows, and every row in one, for any number of shards.
            begin, end = header.rows * shard // shards, header.rows * (shard + 1) // shards
            # A header stands before its rows, so a shard is counted first: each part of it is read twice.
            total = sum(map(_count, _slice(folder, parts, begin, end)), PartCounts())
            own = replace(header, **total.of_header)
            name = f"features-{shard:05d}-of-{shards:05d}.arrow"
            write_checked(beside / name, feature_schema(own), _slice(folder, parts, begin, end))
            size = (beside / name).stat().st_size
            shard_list.append({"file": name, "rows": total.rows, "tokens": total.tokens, "bytes": size})
            written += total
        text = json.dumps({"rows": header.rows, "tokens": header.tokens, "shards": shard_list}, indent=1)
        (beside / MANIFEST).write_text(text + "\n")
    return written


def _slice(folder: Path, parts: list[tuple[str, int]], begin: int, end: int) -> Iterator[pa.RecordBatch]:
    """Rows begin .. end - 1 of all parts."""
    first = 0
    for number, (key, rows) in enumerate(parts):
        low, high = max(begin - first, 0), min(end - first, rows)
        if low < high:  # a part is opened only where rows of it are wanted: opening it reads all of it
            yield read_part(part_path(folder, number), key).slice(low, high - low)
        first += rows


def _count(batch: pa.RecordBatch) -> PartCounts:
    """What is really in some rows."""
    ids, starts, lengths = batch.columns
    # Of the columns, not of what their maker said: this is what the counts in the header are held against.
    masked = int(_numbers(lengths).sum(dtype=np.int64))
    return PartCounts(0, batch.num_rows, _elements(ids), masked, _elements(starts))


def _numbers(column: pa.ListArray) -> np.ndarray:
    """All elements of a column of lists.

    Not by to_numpy() and flatten(), which first import pandas, where it is installed, and Arrow's functions.
    """
    values, begin = column.values, column.offsets[0].as_py()
    kind = np.dtype(str(values.type))  # the names of whole numbers are numpy's; pyarrow would want pandas
    return np.frombuffer(
        values.buffers()[1], kind, _elements(column), (values.offset + begin) * kind.itemsize
    )


def _elements(column: pa.ListArray) -> int:
    offsets = column.offsets
    return offsets[len(column)].as_py() - offsets[0].as_py()
