"""What the user named -> input files in a fixed order, and how each is opened.

Plain text (any suffix that is not one of these), .jsonl, .tsv and .parquet, each also .gz, .bz2, .xz or .zst;
local paths or URLs that fsspec knows; data sets (dataset.py). Folders are walked in sorted order; hidden
files are passed over with a note.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from span_electra.counted import Notes, counted, few
from span_electra.errors import InputError
from span_electra.storage import starts_features
from span_electra.text.dataset import is_dataset, open_dataset
from span_electra.text.far_files import far_errors, find_far, is_url, open_filesystem, without_keys
from span_electra.text.unpacking import PACKINGS, UNPACKING_ERRORS, unpack
from span_electra.utf8 import UTF8_MARK

KINDS = {suffix: "jsonl" for suffix in (".jsonl", ".jsonlines", ".ndjson")}
KINDS |= {".tsv": "tsv", ".parquet": "parquet"}
# Files with a structure that is not read here: as raw text, their marks would be learned like words.
STRUCTURED = {
    f".{suffix}": reason
    for suffixes, reason in (
        ("csv xls xlsx ods orc avro feather", "a table; save it as .tsv with a line of names, or .jsonl"),
        ("json ipynb geojson", "one JSON document; save it as .jsonl, a row a line"),
        ("html htm xhtml xml svg rtf srt vtt", "marked-up text; take the text out of it first"),
        ("conll conllu", "a token a line; write its sentences as text"),
        ("yaml yml toml ini cfg", "settings; name text files"),
        ("pdf doc docx ppt pptx odt epub mobi", "a document; save it as plain text"),
        ("eml mbox warc", "an archive of messages or pages; take the text out of it first"),
        ("zip tar tgz 7z rar", "an archive; unpack it and name what is in it"),
    )
    for suffix in suffixes.split()
}
# What create_vocab_SE.py leaves beside its JSON, in a folder that may be the text's own.
VOCABULARY_NAMES = (" BPE-merges.txt", " BERT-vocab.txt", " vocab.preview.txt")
PEEK = 1 << 16  # bytes looked at before a file is read
SEGMENT = 1 << 18  # bytes read at a time: so few that they do not drive words out of a core's cache
# Text shrinks 3 to 10 times. What unpacks to more than this and is large has been made to fill disks.
BOMB_RATIO, BOMB_LEAST = 250, 256 << 20


@dataclass(frozen=True)
class InputFile:
    """A file to read text from, as it stood when it was found; or a split of a data set."""

    path: str  # or URL, or hf:NAME:config:split; as it is written down
    kind: str  # text, jsonl, tsv, parquet or dataset
    packing: str  # "", .gz, .bz2, .xz or .zst
    size: int  # bytes on disk; of a data set those that it says, 0 if it says none
    identity: str  # changes when the file does: its size, the time of its last change, a hash of its ends
    address: str = ""  # the URL that opens it, where `path` is one without the keys in it

    @property
    def remote(self) -> bool:
        return is_url(self.path) or self.kind == "dataset"

    @property
    def in_ranges(self) -> bool:
        """Whether a process can read its own byte range: a plain local file of lines."""
        return not self.remote and not self.packing and self.kind != "parquet"


@dataclass(frozen=True)
class Source:
    """An input file as it was when the features were made."""

    path: str
    size: int  # bytes on disk
    sha256: str


@dataclass(frozen=True)
class Inputs:
    """The input files in reading order, and what was passed over."""

    files: tuple[InputFile, ...]
    notes: tuple[str, ...]
    text_field: str  # by which they were found

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def find_inputs(paths: str | Path | Iterable[str | Path], text_field: str = "text") -> Inputs:
    """Find the files that `paths` name: files, folders, globs, URLs or data sets, one or several.

    The order is that of `paths`; within a folder or glob it is sorted. A file met twice, by another spelling
    or through a link too, is read once. Linked folders are followed, but none is read twice.

    Raises InputError when one is missing, unreadable or empty, or nothing is left to read.
    """
    named = [paths] if isinstance(paths, str | Path) else list(paths)
    if not named:
        raise InputError("no input named; give text files, folders or globs with --in_file")
    # In the order in which they are met: it decides the rows, and so the feature file's bytes.
    files: dict[object, InputFile] = {}
    notes = Notes()
    for path in named:
        path = str(path).removeprefix("file://")
        if is_dataset(path):
            found = [_find_dataset(path, notes)]
        else:
            find = _find_remote if is_url(path) else _find_local
            found = find(path, notes, text_field)
        for file in found:
            kept = files.setdefault(_same(file), file)
            if kept is not file:
                twice = "named twice" if kept.path == file.path else f"the same file as {kept.path}"
                notes.add(file.path, f"{twice}, read once")
    if not files:
        why = f" ({notes.lines()[0]})" if notes.lines() else ""
        raise InputError(
            f"{', '.join(map(str, named))}: no text files there{why}; put some in or name others"
        )
    return Inputs(tuple(files.values()), notes.lines(), text_field)


def _same(file: InputFile) -> object:
    """What two names of one file have in common: its place on the disk."""
    if file.remote:
        return file.address or file.path
    status = os.stat(file.path)
    return status.st_dev, status.st_ino


def _find_dataset(path: str, notes: Notes) -> InputFile:
    found = open_dataset(path)
    if found.note:
        notes.add(path, found.note.removeprefix(f"{path}: "))
    # Its rows are handed over and hashed block by block; no more identity is needed to know a block again.
    return InputFile(found.path, "dataset", packing="", size=found.size, identity="")


def _find_remote(url: str, notes: Notes, text_field: str) -> list[InputFile]:
    found, hidden = find_far(url)
    files, shown = [], without_keys(url)
    for far in found:
        if far.by_name and (reason := _structured(far.url)):
            raise InputError(f"{shown}: {reason}")
        file = _named(far.url, far.size or 0, far.identity, far.address)
        if reason := _unfit(file, text_field, empty=far.size == 0):
            notes.add(file.path, f"{reason}; passed over")
        else:
            files.append(file)
    _note_hidden(shown, hidden, notes)
    if not files:
        why = f" ({notes.lines()[-1]})" if notes.lines() else ""
        raise InputError(f"{shown}: no file with text there{why}; check the URL")
    return files


def _find_local(path: str, notes: Notes, text_field: str) -> list[InputFile]:
    if os.path.isdir(path):
        return _walk(path, notes, text_field)
    if not os.path.lexists(path) and glob.has_magic(path):
        found = sorted(glob.glob(path, recursive=True))
        if not found:
            raise InputError(f"{path}: no file matches; check the pattern")
        # A folder is read with all in it; ** matches these a second time.
        folders = {os.path.join(match, "") for match in found if os.path.isdir(match)}
        found = [match for match in found if not any(above in folders for above in _folders_above(match))]
        reads = [(_walk if os.path.isdir(match) else _met, match) for match in found]
        return [file for read, match in reads for file in read(match, notes, text_field)]
    # Named outright it is refused; found in a folder it is passed over with a note.
    if reason := _structured(path):
        raise InputError(f"{path}: {reason}")
    return [describe_file(path)]


def _folders_above(path: str) -> Iterator[str]:
    """Example: a/b/c.txt -> a/b/ and a/"""
    while (above := os.path.dirname(path.rstrip(os.sep))) not in ("", path):
        yield os.path.join(above, "")
        path = above


def _structured(path: str) -> str | None:
    """Why a file of this name is not read as text, if so; packed ones go by what is in them."""
    # A part of a dump of Wikipedia's is called ....xml-p1p41242.
    return STRUCTURED.get(re.sub(r"-p\d+p\d+$", "", suffixes_of(path)[0]))


def _unfit(file: InputFile, text_field: str, *, empty: bool) -> str | None:
    """Why a file that was found in a folder, here or at a URL, is passed over, if so."""
    if reason := _structured(file.path):
        return reason
    if file.path.endswith(VOCABULARY_NAMES):
        return "of a vocabulary, not text"
    if empty:
        return "empty"
    # Far away each look costs a request: there, features of another name are refused when they are read.
    if not file.remote or suffixes_of(file.path)[0] == ".arrow":
        with open_raw(file) as raw:
            if starts_features(raw):
                return "features, not text"
    if file.kind == "tsv" and not _has_column(file, text_field):
        return f"no column {text_field!r}"
    return None


def _named(path: str, size: int, identity: str = "", address: str = "") -> InputFile:
    """A file by what its name says of it."""
    suffix, packing = suffixes_of(path)
    kind = KINDS.get(suffix, "text")
    return InputFile(path, kind, packing=packing, size=size, identity=identity, address=address)


def _note_hidden(place: str, hidden: list[str], notes: Notes) -> None:
    if hidden:
        found = counted(len(hidden), "hidden file or folder", "hidden files or folders")
        notes.add(place, f"{found} passed over ({few(hidden)})")


def _walk(folder: str, notes: Notes, text_field: str) -> list[InputFile]:
    """All files below a folder, sorted, without hidden ones, empty ones and features."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}; make it readable or name other files")

    files, hidden, read = [], [], {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if is_dataset(place):
            files.append(_find_dataset(place, notes))
            folders[:] = []
            continue
        hidden += [os.path.join(place, name) for name in (*folders, *names) if name.startswith(".")]
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = []
        for name in visible:
            real = os.path.realpath(os.path.join(place, name))
            if real in read:  # a loop, or a folder that two ways lead to
                notes.add(os.path.join(place, name), "a link to a folder read already; passed over")
                continue
            read.add(real)
            folders.append(name)
        # Sorted: file systems list names in an order of their own, which differs between machines.
        for name in sorted(name for name in names if not name.startswith(".")):
            files += _met(os.path.join(place, name), notes, text_field)
    _note_hidden(folder, hidden, notes)
    # As the walk goes, a folder's own files come before those of its subfolders.
    return files


def _met(path: str, notes: Notes, text_field: str) -> list[InputFile]:
    """A file that a folder or a pattern brought, or a note why it is passed over."""
    if reason := passed_over(path, text_field):
        notes.add(path, reason)
        return []
    return [describe_file(path)]


def passed_over(path: str, text_field: str) -> str | None:
    """Why something that was found, not named, is passed over, if so; a folder never is."""
    if not os.path.exists(path):
        return "a link to nothing; passed over"
    # A name that tells of no text is enough; what is left must be a file that can be read.
    size = os.path.getsize(path)
    reason = _unfit(_named(path, size), text_field, empty=size == 0) if os.path.isfile(path) else None
    return f"{reason}; passed over" if reason else None


def _has_column(file: InputFile, text_field: str) -> bool:
    """Whether a table found in a folder holds text at all; folders often have an index beside the texts."""
    head = b""
    try:
        with far_errors_of(file), open_raw(file) as raw, unpack(raw, file.packing) as stream:
            head = stream.read(PEEK)
    except UNPACKING_ERRORS:
        return True  # the reader will say what is wrong
    try:
        find_column(file.path, head, text_field)
    except InputError:
        return False
    return True


def describe_file(path: str) -> InputFile:
    """One local file: its kind and packing by suffix, its size and identity.

    Raises InputError when it is no regular file, is empty or cannot be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: not a regular file; copy its content into one")
        with open(path, "rb") as raw:
            # An edit that keeps size and time, as some tools make, shows at one end or the other.
            ends = raw.read(PEEK)
            raw.seek(max(0, status.st_size - PEEK))
            ends += raw.read(PEEK)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the path") from None
    if status.st_size == 0:
        raise InputError(f"{path}: empty; name a file with text")
    identity = f"{status.st_size} {status.st_mtime_ns} {zlib.crc32(ends):08x}"
    return _named(path, status.st_size, identity)


def suffixes_of(path: str) -> tuple[str, str]:
    """The suffixes that tell what is in a file and how it is packed: a.JSONL.zst -> .jsonl, .zst"""
    if is_url(path):  # of a chain, as zip://a.jsonl::s3://bucket/all.zip is, the file in it
        path = next(link for link in path.split("::") if is_url(link))
    if path.startswith(("http://", "https://")):  # which hubs and stores end with "?download=true" or a key
        path = urlsplit(path).path
    suffixes = PurePosixPath(path.lower()).suffixes
    packing = suffixes.pop() if suffixes and suffixes[-1] in PACKINGS else ""
    return suffixes[-1] if suffixes else "", packing


def find_column(path: str, head: bytes, text_field: str) -> tuple[int, int]:
    """Return which column of a .tsv holds the text, and how many bytes its header line takes.

    `text_field` is a name of the header line, or a number counting from 0 in a file without one.
    Raises InputError naming the columns there are.
    """
    if text_field.isdecimal():
        return int(text_field), 0
    line = head.split(b"\n", 1)[0]
    names = line.removeprefix(UTF8_MARK).decode("utf-8", "replace").rstrip("\r").split("\t")
    if text_field not in names:
        raise InputError(
            f"{path}: no column {text_field!r} in its first line ({', '.join(names)[:80]}); name one with "
            "--text_field, or its number from 0"
        )
    return names.index(text_field), len(line) + 1


# --- opening ------------------------------------------------------------------------------------------


def open_raw(file: InputFile) -> BinaryIO:
    """Open a file's bytes as they are stored. Raises InputError when that fails."""
    try:
        if file.remote:
            system, path = open_filesystem(file.address or file.path)
            with far_errors(file.path):
                raw = system.open(path, "rb")
            with suppress(AttributeError):  # an archive is closed as soon as nobody holds its file system
                raw.held_by = system
            return raw
        return open(file.path, "rb")
    except OSError as error:
        raise InputError(f"{file.path}: {error.strerror or error}; check the path") from None


def far_errors_of(file: InputFile) -> AbstractContextManager[None]:
    """Errors of reading a file that lies elsewhere: a server without ranges, a broken connection."""
    return far_errors(file.path, "download it and name that file") if file.remote else nullcontext()


def segments_of(file: InputFile, raw: BinaryIO, stream: BinaryIO) -> Iterator[bytes]:
    """The content of a file, SEGMENT bytes at a time, from `stream`, which unpacks what `raw` has stored.

    Raises InputError where it grows beyond what text can: made to fill disks.
    """
    size = 0
    while segment := stream.read(SEGMENT):
        size += len(segment)
        # Of a file whose server does not tell its size, what was read of it until now.
        if file.packing and size > max(BOMB_LEAST, BOMB_RATIO * (file.size or raw.tell())):
            raise InputError(
                f"{file.path}: unpacks to more than {BOMB_RATIO} times its size; if that is meant, unpack it"
            )
        yield segment
