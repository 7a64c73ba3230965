"""The run folder: whose it is, whether it can be gone on with, and that one process at a time writes it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from shutil import rmtree

from span_electra import locks, storage
from span_electra.storage import CONFIG, LOG, MANIFEST, PARTS_LOCK, RUN_LOCK, RUN_MARK, TOKENIZER
from span_electra.training import checkpoint

# What scripts may put into the folder before training starts, besides feature files, whatever their names.
PREPARED = {CONFIG, "features", "tokenized", RUN_LOCK, LOG, TOKENIZER}

# In a folder of several seeds: the checkpoint that all of them start from, below the name of its run.
ENCODER = "encoder"

# What lies beside feature files: of shards, and of parts whose command was broken off.
IN_FEATURES = {MANIFEST, PARTS_LOCK}


def state_of(folder: str | Path) -> str:
    """Return `new` (absent, empty or only prepared), `resumable`, `finished` or `foreign`.

    A run of ours that was stopped before its first checkpoint counts as new.
    """
    folder = Path(folder)
    if not folder.exists():
        return "new"
    if not folder.is_dir():
        return "foreign"
    mark = storage.read_object(folder / RUN_MARK)
    if mark.get("span_electra_run") != checkpoint.FORMAT:
        return "new" if all(map(is_prepared, folder.iterdir())) else "foreign"
    if mark.get("state") == "finished":
        return "finished"
    return "resumable" if any(checkpoint.in_run(folder)) else "new"


def is_prepared(path: Path) -> bool:
    """Whether a run may begin beside it: what scripts prepare; features in a file, in shards, half made."""
    if path.is_dir() and path.name not in PREPARED:
        return all(inner.name in IN_FEATURES or storage.is_feature_file(inner) for inner in path.iterdir())
    return path.name in PREPARED | IN_FEATURES or storage.is_feature_file(path) or storage.is_leftover(path)


def last_saved(folder: Path) -> float:
    """When the run was last saved, or ended, in seconds: what "newest" means everywhere.

    Reports, scores and predictions that are written into an old run later do not make it newer.
    """
    saved = [path / checkpoint.META for path in checkpoint.in_run(folder)] or [folder / RUN_MARK]
    return max((path.stat().st_mtime for path in saved if path.is_file()), default=0.0)


def write_mark(folder: Path, state: str, step: int) -> None:
    """Say `running`, `stopped` or `finished`; atomic."""
    mark = {"span_electra_run": checkpoint.FORMAT, "state": state, "step": step}
    storage.write_text(folder / RUN_MARK, json.dumps(mark) + "\n")


def forget_if_empty(folder: Path) -> None:
    """Remove a new folder in which nothing was trained: of files it has settings, locks, a linked encoder.

    One that another process holds by now stays, and so does any other file: it is a person's, or the work of
    hours, such as an earlier seed's.
    """
    for path in folder.rglob("*"):
        held = path.name == RUN_LOCK and locks.is_held(path)
        ours = path.name in (CONFIG, RUN_LOCK) or path.is_relative_to(folder / ENCODER)
        if held or not (ours or path.is_dir()):
            return
    rmtree(folder, ignore_errors=True)


def locked(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder's lock; the system frees it when the process dies, however it dies.

    Raises InputError naming the holder when another run has it, or when the folder cannot be written.
    """
    busy = "another run is writing there (process {holder}); wait for it or choose another"
    return locks.locked(folder / RUN_LOCK, folder, busy)
