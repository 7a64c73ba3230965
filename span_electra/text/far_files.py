"""What lies at a URL: the file systems that fsspec knows, and the files that one names there."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from span_electra.errors import InputError, reason_of


@dataclass(frozen=True)
class FarFile:
    """A file at a URL, as its file system tells of it."""

    url: str
    size: int | None  # bytes; None: a server need not say
    identity: str  # changes when the file does
    by_name: bool  # named by the user, not found in a folder or by a pattern


def is_url(path: str | Path) -> bool:
    """Whether fsspec must open it; `file://` is a local path with a longer name."""
    return "://" in str(path)


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it. Raises InputError when a package is missing."""
    import fsspec

    with far_errors(url, "check the URL"):
        try:
            # It imports a protocol's own package when a URL first asks for it.
            return fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise InputError(f"{url}: {error}; install it, or copy the file here") from None


@contextmanager
def far_errors(url: str, way_out: str = "check the URL and your rights") -> Iterator[None]:
    """Have whatever is raised inside be an InputError of the URL: each file system's client has its own."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{url}: {reason_of(error)}; {way_out}") from None


def find_far(url: str) -> tuple[list[FarFile], list[str]]:
    """Find what a URL names: a file, all files below a folder, or those of a pattern. Raises InputError.

    Returns them, sorted, and the URLs of the hidden files among them.
    """
    system, path = open_filesystem(url)
    files, hidden = [], []
    with far_errors(url):
        for name in sorted(system.glob(path) if glob.has_magic(path) else system.find(path)):
            facts = system.info(name)
            if facts.get("type") == "directory":  # which a pattern may match too
                continue
            if _is_hidden(name, path):
                hidden.append(system.unstrip_protocol(name))
                continue
            # Every file system calls the time of the last change otherwise, or has a hash in its place.
            times = (facts[key] for key in ("ETag", "LastModified", "mtime", "created") if key in facts)
            identity = f"{facts['size']} {next(times, '')}"
            files.append(FarFile(system.unstrip_protocol(name), facts["size"], identity, name == path))
    return files, hidden


def _is_hidden(name: str, path: str) -> bool:
    """Whether a file lies hidden below what the user named; of a pattern, below its first plain parts.

    Example: texts/.git/a.txt is hidden below texts, and not below texts/.git or texts/.git/*.txt
    """
    parts = path.split("/")
    plain = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    below = name.removeprefix("/".join(parts[:plain]))
    return any(part.startswith(".") for part in below.split("/"))
