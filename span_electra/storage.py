"""Files and folders that are written whole or not at all, and files that grow by whole records.

Everything is written under a hidden name beside its place, sent to the disk, and renamed: a reader never sees
half of it, a full disk or a kill leaves what stood there before, and a loss of power does not leave a name
without its content. Leftovers of a kill are called `.<name>.<process>.partial` and `.<name>.old`.

The names of a run folder's files stand here too, for every room that reads a run.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

# A run folder. config.json: the resolved settings; run.json: whose folder it is and how far the run came.
CONFIG, RUN_MARK, RUN_LOCK, TOKENIZER = "config.json", "run.json", "run.lock", "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"  # beside tokenizer.json where `transformers` opens the folder
METRICS, LOG, CHECKPOINTS, TENSORBOARD = "metrics.jsonl", "log.txt", "checkpoints", "tensorboard"
EXAMPLES, STATISTICS = "examples.json", "statistics.json"
EVALUATION, REPORT = "evaluation.json", "report.html"
# Of fine-tuning; and, in a run of pretraining, what was exported before its end.
RESULTS, PREDICTIONS, EXPORTED = "results.json", "predictions", "exported"

OURS = "span_electra"  # the key of what is ours in files of other formats: tokenizer.json, config.json
# A feature file is an Arrow file with this key in its schema.
FEATURES_KEY = OURS.encode()
LONGEST_SCHEMA = 1 << 28  # bytes; tokenizers, which stand in it too, take some megabytes

# A feature file in the making: how the folder of its parts is called at the end, and the lock in it.
PARTS, PARTS_LOCK = ".parts", "lock"
MANIFEST = "manifest.json"  # lists the shards of a folder of feature files

# What a file system says that cannot sync folders (some network and shared mounts); names wait for it there.
WITHOUT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


# --- whole or not at all ------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` to write to; when the block ends without an error, the file is at `path`.

    durable: the bytes are on the disk before the file gets its name. Without it a loss of power may leave an
    empty or cut file; for files that are checked when read and can be made again.

    Raises OSError when the disk is full or the folder may not be written; nothing is left behind then.
    """
    path = Path(path)
    beside = partial_path(path)
    try:
        with told_by_name(path):
            yield beside
            if durable:  # the content before the name: file systems may write the two in either order
                sync(beside)
            os.replace(beside, path)
        if durable:  # the name, which stands in the folder; until then the rename may be lost
            sync(path.parent)
    finally:
        with suppress(OSError):  # why nothing could be written is what matters
            beside.unlink()


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder that takes the name `path` when the block ends without an error, on disk by then.

    A folder that stands there is replaced; whoever calls has made sure that it may be. Its files are readable
    to whom the umask allows it.
    """
    # A link stays, and what it leads to is replaced: it may lead to another disk, where there is room.
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    beside = partial_path(path)
    try:
        with told_by_name(path):
            _clear_partials(path)
            beside.mkdir(parents=True)
            yield beside
        for folder, _, names in os.walk(beside):
            # As other files of this process: safetensors' nobody else could read. A new folder's mode tells.
            mode = os.stat(folder).st_mode & 0o666
            for name in names:
                with suppress(PermissionError):  # of file systems that have no modes to change
                    os.chmod(Path(folder, name), mode)
                sync(Path(folder, name))
            sync(Path(folder))  # its names: what they name would be lost with them
        replace_folder(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def told_by_name(path: Path) -> Iterator[None]:
    """Have an error of what is written beside `path` name `path`; of a full disk the system names nothing."""
    try:
        yield
    except OSError as error:
        name, beside = error.filename, str(partial_path(path))
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and name is None:
            name = beside
        if not isinstance(name, str | Path) or not str(name).startswith(beside):
            raise
        raise OSError(error.errno, error.strerror, str(name).replace(beside, str(path), 1)) from error


def replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`, whose folder, if there is one, goes.

    No system call swaps two folders everywhere, so between the two renames only `.<name>.old` stands;
    `recover` brings it back where a kill fell in between.
    """
    old = _old_path(path)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    new.rename(path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder of ours. Half gone it no longer has its name; `recover` clears what a kill leaves."""
    beside = partial_path(path)
    path.rename(beside)
    _remove(beside)


def write_text(path: str | Path, text: str) -> None:
    """Write a file of UTF-8 text, whole or not at all; line ends stay as they are."""
    with atomic_file(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def write_files(contents: dict[Path, str]) -> None:
    """Write several files of one folder: none gets its name before all are on the disk, the last one last.

    So where the last stands, all stand. Leftovers of a killed command for the same files go first.
    """
    with ExitStack() as stack:
        # The last first: what is entered last is left first, and gets its name then.
        for path in reversed(contents):
            _clear_partials(path)
            stack.enter_context(atomic_file(path))
        # All of the writing before any name: it is what a full disk stops. Renames take no room.
        for path, text in contents.items():
            with told_by_name(path):
                partial_path(path).write_text(text, encoding="utf-8", newline="")
                sync(partial_path(path))


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second place, whole or not at all; a copy only where the file systems differ.

    Files are replaced, never written over, so the one place keeps its file when the other gets a new one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as beside:
        try:
            os.link(source, beside)
        except OSError:
            shutil.copyfile(source, beside)


@contextmanager
def empty_parents_go(path: Path) -> Iterator[None]:
    """Remove the folders above `path` that are made while inside and are empty in the end."""
    absent = [parent for parent in path.parents if not parent.exists()]
    try:
        yield
    finally:
        for parent in absent:  # innermost first
            with suppress(OSError):  # not empty, or gone already
                parent.rmdir()


def partial_path(path: Path) -> Path:
    """Where this process writes what is to become `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _old_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def recover(path: Path) -> None:
    """Clear what killed commands left beside `path`, and bring back a folder that was about to be replaced.

    Call it where no other process can be replacing `path`: with the lock held.
    """
    old = _old_path(path)
    if old.is_dir() and not old.is_symlink() and not path.exists():
        old.rename(path)
    _remove(old)
    _clear_partials(path)


def _clear_partials(path: Path) -> None:
    """Remove what processes that are no more were writing, to become `path`."""
    leftover = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.partial")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        found = leftover.fullmatch(left.name)
        if found and not _another_lives(int(found[1])):
            _remove(left)


def _remove(path: Path) -> None:
    """Remove a file or a folder of ours, if it is there; a link is somebody else's."""
    if path.is_symlink():
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether a path is named as what a process was writing, or is just now."""
    return re.fullmatch(r"\..+\.\d+\.partial", path.name) is not None


def _another_lives(number: int) -> bool:
    """Whether a process of this number runs on this machine, and is not we ourselves."""
    if number == os.getpid():  # a killed one may have had our number: in a container the first one has 1
        return False
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def sync(path: Path) -> None:
    """Have a file's bytes, or the names in a folder, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in WITHOUT_SYNC or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of an open file's bytes, in hexadecimal; what hashlib has for it came after Python 3.10."""
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


# --- what is ours ---------------------------------------------------------------------------------------


def is_feature_file(path: str | Path) -> bool:
    """Whether a feature file of ours, of any format and in any state, stands there."""
    try:
        with open(path, "rb") as file:
            return starts_features(file)
    except OSError:
        return False


def starts_features(file: BinaryIO) -> bool:
    """Whether an open file begins as features do."""
    head = file.read(16)
    if not head.startswith(b"ARROW1"):
        return False
    # The schema comes first; its length stands before it, and may be anything in a damaged file.
    return FEATURES_KEY in file.read(min(int.from_bytes(head[12:16], "little"), LONGEST_SCHEMA))


def read_json(path: Path) -> Any:
    """The JSON in a file that we wrote, or None where it is absent, half-written or something else."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def read_object(path: Path) -> dict[str, Any]:
    """The same of a JSON object; empty where there is none."""
    found = read_json(path)
    return found if isinstance(found, dict) else {}


# --- growing ------------------------------------------------------------------------------------------


class AppendedFile:
    """A file that grows by whole records: one that a full disk cuts off leaves nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("ab", buffering=0)  # a record is on its way to the disk at once

    def append(self, record: bytes) -> None:
        """Write the record. Raises OSError naming the file."""
        # Asked for each time: another process may have written to the file.
        size = self.file.seek(0, os.SEEK_END)
        try:
            written = self.file.write(record)
            if written < len(record):  # a disk that fills up takes what still fits, without an error
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self.file.fileno(), size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Close the file."""
        self.file.close()
