"""Feature files, opened: one, a folder of shards or several read as one sequence of memory-mapped rows.

Shapes are in the names:
  R  rows of all files    B  rows asked for    L  tokens of the widest row asked for    S  spans
The columns and the header are described in header.py.
"""

from __future__ import annotations

import ctypes
import glob
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from span_electra.data_config import MaskingConfig
from span_electra.errors import InputError
from span_electra.features.arrow_file import open_checked
from span_electra.features.header import COUNTS, FeatureHeader, parse_header
from span_electra.features.masking import Spans, row_keys, sample_spans, span_budget
from span_electra.features.words import TokenRows, word_starts
from span_electra.storage import MANIFEST
from span_electra.text.compiled import compiled
from span_electra.text.far_files import is_url, without_keys
from span_electra.text.vocabulary import Vocabulary

VERIFIED_BYTES = 4 << 30  # up to here every bit is checked on opening (about a second); above, on request


# --- opening ------------------------------------------------------------------------------------------


def open_features(paths: str | Path | Sequence[str | Path], verify: bool | None = None) -> Features:
    """Open a file, a folder of shards, a glob, or several of these as one sequence of rows, memory-mapped.

    A file that is met twice is read once.

    verify: check every bit and every row first; None does so up to VERIFIED_BYTES. Sizes are always checked.

    Raises InputError when a file is missing, damaged or no feature file, or when the files do not belong
    together.
    """
    files, _ = find_files([paths] if isinstance(paths, str | Path) else paths)
    if verify is None:
        verify = sum(file.stat().st_size for file in files) <= VERIFIED_BYTES
    headers, parts = [], []
    # The offsets are checked even where the bits are not: they decide where memory is read.
    for file in files:
        reader = open_checked(file, verify)
        headers.append(parse_header(reader.schema, file))
        try:
            parts.append(_index_file(reader, headers[-1]))
        except (ValueError, OSError, SystemError):  # ours and Arrow's: whatever it is, the cure is one
            raise InputError(f"{file}: its rows are damaged; run create_feature_SE.py again") from None
        if verify:  # sound bits may still be rows of a program that masks otherwise
            Features(headers[-1], parts[-1:], [file]).check()
    # Last, when each file is known to be sound: what is refused should name one file, not the pair.
    return Features(_common_header(files, headers), parts, files)


def find_files(paths: Sequence[str | Path]) -> tuple[list[Path], list[Path]]:
    """The files that names, folders of shards and globs mean, each once, and those that were met again."""
    once: dict[tuple[int, int], Path] = {}
    again = []
    for file in _find_files(paths):
        status = file.stat()  # by its place on the disk: two names may be of one file
        if once.setdefault((status.st_dev, status.st_ino), file) is not file:
            again.append(file)
    return [*once.values()], again


def _find_files(paths: Sequence[str | Path]) -> list[Path]:
    """Turn names, folders of shards and globs into files, in the order given, a glob's sorted."""
    if not paths:
        raise InputError("no feature file named; make one with create_feature_SE.py")
    files = []
    for name in paths:
        if is_url(name := str(name).removeprefix("file://")):
            raise InputError(
                f"{without_keys(name)}: features are mapped from a disk of this machine; copy them here and "
                "name the copy"
            )
        path = Path(name)
        if path.is_dir():
            # By the manifest, not by the names there: a shard that was left out would be missed by nobody.
            files.extend(_read_manifest(path))
        elif path.is_file():
            files.append(path)
        else:
            found = sorted(Path(name) for name in glob.glob(str(path)))
            if not found:
                raise InputError(f"{path}: no such feature file; make it with create_feature_SE.py")
            files.extend(_find_files(found))  # once more: a glob may find folders of shards
    return files


def _read_manifest(folder: Path) -> list[Path]:
    """The shards of a folder, in order. Raises InputError for an unsound manifest or an absent shard."""
    manifest = folder / MANIFEST
    try:
        names = [shard["file"] for shard in json.loads(manifest.read_text(encoding="utf-8"))["shards"]]
    except FileNotFoundError:
        raise InputError(f"{folder}: a folder without {MANIFEST}; name feature files or a glob") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise InputError(f"{manifest}: cannot be read; run create_feature_SE.py again") from None
    for name in names:
        # A manifest is data: it may name files of its own folder and nothing else.
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
            raise InputError(
                f"{manifest}: {name!r} is no file of this folder; run create_feature_SE.py again"
            )
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise InputError(f"{folder / name}: not there, though the manifest names it; copy it again")
    if not names:
        raise InputError(f"{manifest}: names no shards; run create_feature_SE.py again")
    return [folder / name for name in names]


def _common_header(files: list[Path], headers: list[FeatureHeader]) -> FeatureHeader:
    """The header of all files together. Raises InputError when they do not belong together."""
    first_file, first = files[0], headers[0]
    for file, header in zip(files, headers, strict=True):
        if header.vocabulary_sha256 != first.vocabulary_sha256:
            raise InputError(
                f"{file}: made with vocabulary {header.vocabulary_sha256[:12]}, {first_file} with "
                f"{first.vocabulary_sha256[:12]}; run create_feature_SE.py again with one vocabulary for both"
            )
        if header.masking != first.masking:
            raise InputError(
                f"{file}: masked with {header.masking}, {first_file} with {first.masking}; "
                "run create_feature_SE.py again with the same masking for both"
            )
    # What may differ between files (sources, counts, the longest row) is that of all together.
    totals = {name: sum(getattr(header, name) for header in headers) for name in COUNTS}
    return replace(
        first,
        chunking=max((header.chunking for header in headers), key=lambda chunking: chunking.max_seq_len),
        sources=tuple(dict.fromkeys(source for header in headers for source in header.sources)),
        **totals,
    )


@dataclass(frozen=True)
class _Index:
    """Where a file's rows lie: element addresses (byte address / element size), and the maps they lie in."""

    id_starts_R: np.ndarray  # int64
    lengths_R: np.ndarray  # int32
    span_starts_R: np.ndarray  # int64, of the first span's start
    length_starts_R: np.ndarray  # int64, of the first span's length
    span_counts_R: np.ndarray  # int32
    batches: list  # of the file; the addresses are good while these live


def _index_file(reader: pa.RecordBatchFileReader, header: FeatureHeader) -> _Index:
    """Find every row's address. Raises ValueError when offsets point outside or counts disagree."""
    batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    found = [(np.empty(0, np.int64),) * 5]  # of a file without batches
    for batch in batches:
        ids, starts, lengths = map(_addresses, batch.columns)
        # A span is a start and a length; columns of different lists would pair those of different spans.
        if not np.array_equal(starts[1], lengths[1]):
            raise ValueError
        found.append((*ids, starts[0], lengths[0], starts[1]))
    joined = map(np.concatenate, zip(*found, strict=True))
    id_starts_R, lengths_R, span_starts_R, length_starts_R, span_counts_R = joined
    counts = (len(id_starts_R), int(lengths_R.sum()), int(span_counts_R.sum()))
    if counts != (header.rows, header.tokens, header.spans):
        raise ValueError
    if counts[0] and not 2 <= lengths_R.min() <= lengths_R.max() <= header.max_seq_len:
        raise ValueError
    sizes = (lengths_R.astype(np.int32), span_starts_R, length_starts_R, span_counts_R.astype(np.int32))
    return _Index(id_starts_R, *sizes, batches=batches)


def _addresses(column: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Return each list's element address and its length, int64."""
    if column.null_count or column.values.null_count:
        raise ValueError
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    lengths_R = np.diff(offsets.astype(np.int64))
    if len(column) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if offsets[0] < 0 or offsets[-1] > len(column.values) or lengths_R.min() < 0:
        raise ValueError
    size = column.values.type.bit_width // 8
    address = column.values.buffers()[1].address + column.values.offset * size
    # Rows are addressed by element, so a column must lie on a multiple of an element's size.
    if address % size:
        raise ValueError
    return address // size + offsets[:-1].astype(np.int64), lengths_R


@compiled
def _first_unsound_row(
    ids, id_starts_R, lengths_R, size, starts, starts_R, lengths, length_starts_R, counts_R, budgets_R
):
    for row in range(len(lengths_R)):
        # The highest id, not each: one comparison a row, for files of billions of tokens.
        highest = ids[id_starts_R[row]]
        for token in range(lengths_R[row]):
            highest = max(highest, ids[id_starts_R[row] + token])
        after, hidden = 0, 0
        for span in range(counts_R[row]):
            start = np.int64(starts[starts_R[row] + span])
            length = np.int64(lengths[length_starts_R[row] + span])
            if start <= after or length < 1:
                return row
            after = start + length
            hidden += length
        if highest >= size or after > lengths_R[row] - 1 or hidden != budgets_R[row]:
            return row
    return -1


def _window(starts: list[np.ndarray], counts_R: np.ndarray, kind: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return one array over everything from the lowest to the highest row, and each row's index in it.

    Files are mapped at unrelated addresses; seen through one array, a row of any file is one index, and a
    compiled loop can gather rows of all files at once. Between the files the array must not be touched.
    """
    starts_R = np.concatenate(starts)
    if len(starts_R) == 0:
        return np.empty(0, kind), starts_R
    # From the lowest row on: indices stay small, and one array serves files mapped anywhere.
    first = int(starts_R.min())
    elements = int((starts_R + counts_R).max()) - first
    memory = (ctypes.c_char * (elements * kind.itemsize)).from_address(first * kind.itemsize)
    window = np.ndarray(elements, kind, memory)
    window.flags.writeable = False
    return window, starts_R - first


# --- reading ------------------------------------------------------------------------------------------


class Features:
    """Rows of one or several feature files, addressed by number over all of them; nothing is copied."""

    def __init__(self, header: FeatureHeader, parts: list[_Index], files: list[Path]) -> None:
        self.header, self.files = header, files
        # The arrays below are bare addresses into these maps.
        self._batches = [part.batches for part in parts]
        self.lengths_R = np.concatenate([part.lengths_R for part in parts])
        self.span_counts_R = np.concatenate([part.span_counts_R for part in parts])
        ids, starts = [part.id_starts_R for part in parts], [part.span_starts_R for part in parts]
        lengths, small = [part.length_starts_R for part in parts], np.dtype(np.uint16)
        self._ids, self._id_starts_R = _window(ids, self.lengths_R, header.id_type)
        self._starts, self._span_starts_R = _window(starts, self.span_counts_R, small)
        self._lengths, self._length_starts_R = _window(lengths, self.span_counts_R, small)

    def check(self) -> None:
        """Raise InputError unless all ids are of the vocabulary and all spans are as the header says."""
        budgets_R = span_budget(self.lengths_R, self.header.masking.mask_ratio)
        tokens = (self._ids, self._id_starts_R, self.lengths_R, self.header.vocab_size)
        starts, lengths = (self._starts, self._span_starts_R), (self._lengths, self._length_starts_R)
        row = _first_unsound_row(*tokens, *starts, *lengths, self.span_counts_R, budgets_R)
        if row >= 0:
            raise InputError(f"{self.files[0]}: row {row} is damaged; run create_feature_SE.py again")

    @property
    def rows(self) -> int:
        return len(self.lengths_R)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that travels with the features. Raises InputError when it is not theirs."""
        vocabulary = Vocabulary.from_json(self.header.tokenizer_json, str(self.files[0]))
        if (vocabulary.sha256, vocabulary.size) != (self.header.vocabulary_sha256, self.header.vocab_size):
            raise InputError(
                f"{self.files[0]}: made with vocabulary {self.header.vocabulary_sha256[:12]}, "
                f"the one in it is {vocabulary.sha256[:12]}; run create_feature_SE.py again"
            )
        return vocabulary

    def gather(self, rows_B: np.ndarray, width: int) -> np.ndarray:
        """Return the rows' ids, int64 [B, width], padded with pad_id; width is at least the longest row's."""
        rows_B = self._checked(rows_B)
        lengths_B = self.lengths_R[rows_B]
        assert not len(rows_B) or lengths_B.max() <= width, f"a row is longer than {width}"
        ids_BL = np.empty((len(rows_B), width), np.int64)
        _gather(self._ids, self._id_starts_R[rows_B], lengths_B, self.header.pad_id, ids_BL)
        return ids_BL

    def spans(self, rows_B: np.ndarray) -> Spans:
        """Return the spans that the file holds for the rows."""
        rows_B = self._checked(rows_B)
        counts_B = self.span_counts_R[rows_B]
        row_ends_B = np.cumsum(counts_B, dtype=np.int64)
        starts_S, lengths_S = np.empty((2, int(counts_B.sum())), np.int32)
        _concatenate(self._starts, self._span_starts_R[rows_B], counts_B, starts_S)
        _concatenate(self._lengths, self._length_starts_R[rows_B], counts_B, lengths_S)
        return Spans(starts_S, lengths_S, row_ends_B)

    def sample_spans(
        self, rows_B: np.ndarray, epoch: int, seed: int, masking: MaskingConfig | None = None
    ) -> Spans:
        """Sample new spans; they follow from (seed, epoch, row) and `masking`, None being the header's."""
        rows_B = self._checked(rows_B)
        rows = TokenRows(self._ids, self._id_starts_R[rows_B], self.lengths_R[rows_B])
        keys_B = row_keys(seed, epoch, rows_B, "spans")
        return sample_spans(rows, self.vocabulary.token_words, keys_B, masking or self.header.masking)

    def word_starts(self, rows_B: np.ndarray) -> np.ndarray:
        """Return where words begin by the file's format, bool, for all rows' content one after another."""
        rows_B = self._checked(rows_B)
        rows = TokenRows(self._ids, self._id_starts_R[rows_B], self.lengths_R[rows_B])
        return word_starts(rows, self.vocabulary.token_words, self.header.format)

    def _checked(self, rows_B: np.ndarray) -> np.ndarray:
        rows_B = np.asarray(rows_B, dtype=np.int64)
        assert not len(rows_B) or 0 <= rows_B.min() <= rows_B.max() < self.rows, "no such row"
        return rows_B


@compiled
def _gather(ids, starts_B, lengths_B, pad_id, ids_BL):
    for row in range(len(starts_B)):
        start, length = starts_B[row], lengths_B[row]
        for place in range(length):
            ids_BL[row, place] = ids[start + place]
        for place in range(length, ids_BL.shape[1]):
            ids_BL[row, place] = pad_id


@compiled
def _concatenate(values, starts_B, counts_B, joined_S):
    first = 0
    for row in range(len(starts_B)):
        for place in range(counts_B[row]):
            joined_S[first + place] = values[starts_B[row] + place]
        first += counts_B[row]


def of_vocabulary(path: str | Path, sha256: str) -> bool:
    """Whether features say that they were made with this vocabulary; not of what cannot be read."""
    try:
        return open_features(path, verify=False).header.vocabulary_sha256 == sha256
    except InputError:
        return False
