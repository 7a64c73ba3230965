"""Loops over arrays as machine code: `numba.njit` with a cache on disk that no edit outlives.

    @compiled
    def double(values_N, doubled_N):
        for i in range(len(values_N)):
            doubled_N[i] = 2 * values_N[i]

numba compiles a loop again when the loop's own file has changed. But its machine code also holds the loops
and numbers of other files and the fields of their records, so ours lies in a folder that is named by a hash
of all files such loops are made from. Loops run without the interpreter's lock.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from numba import config, njit

PACKAGE = Path(__file__).resolve().parents[1]
ROOMS = ("text", "features")  # where loops, and the records and numbers they use, are written
KEPT = 30 * 24 * 3600  # seconds since its last use that machine code is kept


def compiled(function: Callable) -> Callable:
    """Make a loop of a function; it is compiled for the types of its arguments when they first come."""
    folder = cache_folder()
    if folder is None:
        return njit(nogil=True)(function)
    # numba asks for the folder once, here; what a user has set for loops of their own stays set.
    users, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        return njit(cache=True, nogil=True)(function)
    finally:
        config.CACHE_DIR = users


def inlined(function: Callable) -> Callable:
    """A part of loops, put whole into each place of theirs that calls it.

    What is called may fail as far as numba knows, and then it counts references to arrays on the way, which
    takes longer than to look a word up. It does too where an array's last use lies in one of several branches
    that join again.
    """
    return njit(nogil=True, forceinline=True)(function)


@cache
def cache_folder() -> Path | None:
    """Where machine code is kept: beside the source, else in the user's cache; None: nowhere."""
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    places = [PACKAGE / "__pycache__", Path(user, "span_electra")]
    for place in [Path(config.CACHE_DIR), *places] if config.CACHE_DIR else places:
        folder = place / f"loops-{source_hash(PACKAGE)}"
        try:
            new = not folder.is_dir()
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()  # a folder that is there may still be another user's
            os.utime(folder)  # used now
        except OSError:
            continue
        if new:
            remove_unused(place)
        return folder
    return None


def remove_unused(place: Path) -> None:
    """Remove machine code of sources that were not used for a month: each edit and release leaves some."""
    for folder in place.glob("loops-*"):
        with suppress(OSError):  # another process may be at it, or it is another user's
            if time.time() - folder.stat().st_mtime > KEPT:
                shutil.rmtree(folder)


def source_hash(package: Path) -> str:
    """Hash of every file that machine code is made from, 12 hex digits."""
    hasher = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (package / room).glob("*.py")):
        hasher.update(path.read_bytes())
    return hasher.hexdigest()[:12]
