"""The run folder: whose it is, whether it can be gone on with, and that one process at a time writes it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from span_electra.errors import InputError
from span_electra.training import checkpoint

MARK, LOCK = "run.json", "run.lock"
# What scripts may put into the folder before training starts.
PREPARED = {"config.json", "features", "tokenized", LOCK, "log.txt", "initial.safetensors", "tokenizer.json"}


def state_of(folder: str | Path) -> str:
    """Return `new` (absent, empty or only prepared), `resumable`, `finished` or `foreign`.

    A run of ours that was stopped before its first checkpoint counts as new.
    """
    folder = Path(folder)
    if not folder.exists():
        return "new"
    if not folder.is_dir():
        return "foreign"
    mark = read_mark(folder)
    if mark is None:
        return "new" if {path.name for path in folder.iterdir()} <= PREPARED else "foreign"
    if mark.get("state") == "finished":
        return "finished"
    return "resumable" if any(checkpoint.in_run(folder)) else "new"


def read_mark(folder: Path) -> dict | None:
    """What a run says of itself, or None where there is no run of ours."""
    try:
        mark = json.loads((folder / MARK).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return mark if isinstance(mark, dict) and mark.get("span_electra_run") == checkpoint.FORMAT else None


def write_mark(folder: Path, state: str, step: int) -> None:
    """Say `running`, `stopped` or `finished`; atomic."""
    mark = {"span_electra_run": checkpoint.FORMAT, "state": state, "step": step}
    replace_text(folder / MARK, json.dumps(mark) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


class Appended:
    """A file that grows by whole records: one that a full disk cuts off leaves nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("ab", buffering=0)  # a record is on its way to the disk at once

    def append(self, record: bytes) -> None:
        """Write the record. Raises OSError naming the file."""
        size = self.file.seek(0, os.SEEK_END)
        try:
            written = self.file.write(record)
            if written < len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self.file.fileno(), size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Close the file."""
        self.file.close()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system frees it when the process dies, however it dies.

    Raises InputError naming the holder when another run has it, or when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another --out_dir"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read(200).strip() or "unknown"
            raise InputError(
                f"{folder}: another run is writing there (process {holder}); wait for it or choose another"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
