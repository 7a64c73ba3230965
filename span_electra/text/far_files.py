"""What lies at a URL: the file systems that fsspec knows, and the files that one names there."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from span_electra.errors import InputError, reason_of

LOGGED_INTO = ("http", "https", "ftp", "sftp", "ssh", "smb", "webdav", "webhdfs")  # URLs with a user's name


@dataclass(frozen=True)
class FarFile:
    """A file at a URL, as its file system tells of it."""

    url: str  # as it is shown and written down, see `without_keys`
    address: str  # what opens it
    size: int | None  # bytes; None: a server need not say
    identity: str  # changes when the file does
    by_name: bool  # named by the user, not found in a folder or by a pattern


def is_url(path: str | Path) -> bool:
    """Whether fsspec must open it; `file://` is a local path with a longer name."""
    return "://" in str(path)


def without_keys(url: str) -> str:
    """A URL as it may be shown and written down: without a user's name and password, of http without a query.

    With a query stores sign what they hand out, and anew each time: what lies there stays the same.
    Example: https://me:key@host.org/a.txt?signature=7 -> https://host.org/a.txt
    """
    return "::".join(map(_bare, url.split("::")))


def _bare(link: str) -> str:
    scheme, there, rest = link.partition("://")
    if not there or scheme not in LOGGED_INTO:
        return link
    place, slash, path = rest.partition("/")
    bare = place.rpartition("@")[2] + slash + path
    return f"{scheme}://{re.split('[?#]', bare)[0] if scheme in ('http', 'https') else bare}"


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it. Raises InputError when a package is missing."""
    import fsspec

    with far_errors(url, "check the URL"):
        try:
            # It imports a protocol's own package when a URL first asks for it.
            return fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise InputError(f"{without_keys(url)}: {error}; install it, or copy the file here") from None


@contextmanager
def far_errors(url: str, way_out: str = "check the URL and your rights") -> Iterator[None]:
    """Have whatever is raised inside be an InputError of the URL: each file system's client has its own."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # Clients repeat the URL.
        reason = re.sub(r"\w+://[^\s'\"<>]+", lambda found: without_keys(found[0]), reason_of(error))
        raise InputError(f"{without_keys(url)}: {reason}; {way_out}") from None


def find_far(url: str) -> tuple[list[FarFile], list[str]]:
    """Find what a URL names: a file, all files below a folder, or those of a pattern. Raises InputError.

    Returns them, sorted, and the URLs of the hidden files among them.
    """
    system, path = open_filesystem(url)
    files, hidden = [], []
    with far_errors(url):
        for name in sorted(_names(system, path)):
            facts = system.info(name)
            if facts.get("type") == "directory":  # which a pattern may match too
                continue
            address = _address(url, name, system)
            if _is_hidden(name, path):
                hidden.append(without_keys(address))
                continue
            # Every file system calls the time of the last change otherwise, or has a hash in its place.
            times = (facts[key] for key in ("ETag", "LastModified", "mtime", "created") if key in facts)
            identity = f"{facts['size']} {next(times, '')}"
            shown = without_keys(address)
            files.append(FarFile(shown, address, facts["size"], identity, by_name=name == path))
    return files, hidden


def _names(system: Any, path: str) -> list[str]:
    """The files that a path names: one, those below a folder, or a pattern's, where nothing is called so."""
    if not glob.has_magic(path):
        return system.find(path)
    if system.isfile(path):
        return [path]
    return system.find(path) if system.isdir(path) else system.glob(path)


def _address(url: str, name: str, system: Any) -> str:
    """The URL of a file that was found at `url`: what a file system's own name of it leaves out is kept.

    That is the rest of a chain, and the host that one logs in to.
    Example: zip://*.txt::s3://bucket/all.zip, a.txt -> zip://a.txt::s3://bucket/all.zip
    """
    links = url.split("::")
    at = next(number for number, link in enumerate(links) if "://" in link)  # before it, caches
    scheme, _, rest = links[at].partition("://")
    found = system.unstrip_protocol(name) if len(links) == 1 else name
    found = found if "://" in found else f"{scheme}://{found}"
    host = rest.partition("/")[0]
    if host not in found and not glob.has_magic(host):
        found = f"{scheme}://{host}/{name.lstrip('/')}"
    return "::".join([*links[:at], found, *links[at + 1 :]])


def _is_hidden(name: str, path: str) -> bool:
    """Whether a file lies hidden below what the user named; of a pattern, below its first plain parts.

    Example: texts/.git/a.txt is hidden below texts, and not below texts/.git or texts/.git/*.txt
    """
    parts = path.split("/")
    plain = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    below = name.removeprefix("/".join(parts[:plain]))
    return any(part.startswith(".") for part in below.split("/"))
