"""Where the machine code of loops is kept: `numba.njit` with a cache on disk that no edit outlives.

numba compiles a loop again when the loop's own file has changed. But its machine code also holds the loops
and numbers of other files and the fields of their records, so ours lies in a folder that is named by a hash
of all files such loops are made from. Where nothing can be written it is made anew in each process.
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
from typing import Any

from numba import config, njit

PACKAGE = Path(__file__).resolve().parent
# Where loops, and the records and numbers they use, are written.
SOURCES = ("text/*.py", "features/*.py", "pretraining/packing.py", "model/kernels.py")
KEPT = 30 * 24 * 3600  # seconds since its last use that machine code is kept


def cached_njit(**options: Any) -> Callable[[Callable], Callable]:
    """`numba.njit` with these options, whose machine code is kept: other starts compile nothing again."""
    folder = cache_folder()
    if folder is None:
        return njit(**options)

    def decorate(function: Callable) -> Callable:
        # numba asks for the folder once, here; what a user has set for loops of their own stays set.
        users, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            return njit(cache=True, **options)(function)
        finally:
            config.CACHE_DIR = users

    return decorate


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
    for path in sorted(path for pattern in SOURCES for path in package.glob(pattern)):
        hasher.update(path.read_bytes())
    return hasher.hexdigest()[:12]
