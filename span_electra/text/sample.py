"""The default corpus: the English prose that is on every machine with Python, the documentation strings of
the standard library and of the installed packages.

A module is a document; its paragraphs are lines, one blank line ends it. Code, tables, field lists and
paragraphs met before are dropped. The same packages give the same bytes. It is good for a first run, and
too narrow to judge general English by.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from span_electra.counted import counted
from span_electra.storage import write_files
from span_electra.text.workers import run_in_order

TARGET_BYTES = 10_500_000  # enough for a first run; the rest of a large environment would only repeat itself
BATCH_FILES = 200  # files a process is handed at a time
VALID_SHARE = 0.03  # of the documents
SKIPPED_FOLDERS = {"test", "tests", "testing", "_vendor", "vendor", "idlelib", "lib2to3", "__pycache__"}
MAX_FILE_BYTES = 1_000_000  # longer files are generated tables

DOCSTRING_HINT = re.compile(rb'("""|\'\'\')')
ROLE = re.compile(r":[\w:+-]+:`~?([^`<]+?)(?:\s*<[^`]*>)?`")  # :class:`Name` -> Name
MARKUP = re.compile(r"``?([^`]+)``?_*|\*\*([^*]+)\*\*|(?<!\w)\*([^*\s][^*]*)\*(?!\w)")
NOT_PROSE = re.compile(
    r"^\s*(>>>|\.\.\s|[-=+~^|]{3,}|:\w+.*:|@\w|\$ |#|[-*+o]\s|\d+[.)]\s|Args:|Returns:|Raises:)|https?://|[{}|<>\\]{2}"
)
WORD = re.compile(r"[A-Za-z][a-z']+")


def write_sample(folder: str | Path, workers: int = 2) -> str:
    """Write train.txt and valid.txt into `folder`, split by document; return how much that is, in words.

    Files are written beside and renamed; existing ones of these names are left alone (FileExistsError).
    """
    folder = Path(folder)
    train_file, valid_file = folder / "train.txt", folder / "valid.txt"
    for path in (train_file, valid_file):
        if path.exists():
            raise FileExistsError(17, "is there already", str(path))
    folder.mkdir(parents=True, exist_ok=True)
    documents = list(sample_documents(workers))
    # By documents: lines of one document in both would make the held-out loss look better than it is.
    splits: dict[Path, list[str]] = {train_file: [], valid_file: []}
    for name, paragraphs in documents:
        splits[valid_file if falls_to_valid(name) else train_file].append("\n".join(paragraphs) + "\n")
    write_files({path: "\n".join(texts) for path, texts in splits.items()})  # both or none
    size = train_file.stat().st_size + valid_file.stat().st_size
    return f"{counted(len(documents), 'document')}, {size / 1e6:.1f} MB"


def falls_to_valid(name: str) -> bool:
    """Whether the document of this module is held out: by its name alone, so that it never changes sides."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") < VALID_SHARE * 2**32


def sample_documents(workers: int = 2) -> Iterator[tuple[str, list[str]]]:
    """(module, its paragraphs), in a fixed order, no paragraph twice, until TARGET_BYTES are reached."""
    files = list(python_files())
    batches = [files[start : start + BATCH_FILES] for start in range(0, len(files), BATCH_FILES)]
    seen: set[bytes] = set()
    written = 0
    for name, paragraphs in chain.from_iterable(run_in_order(_reader, None, batches, workers)):
        fresh = []
        for paragraph in paragraphs:
            # Docstrings are copied from class to class; hashes take less room than paragraphs.
            key = hashlib.blake2b(paragraph.lower().encode(), digest_size=12).digest()
            if key not in seen:
                seen.add(key)
                fresh.append(paragraph)
        if len(fresh) >= 2:  # a lone sentence is no document
            written += sum(len(paragraph.encode()) + 1 for paragraph in fresh)
            yield name, fresh
        if written >= TARGET_BYTES:
            return


def _reader(_: None) -> Callable[[list[tuple[str, Path]]], list[tuple[str, list[str]]]]:
    return lambda files: [(name, prose_of(path)) for name, path in files]


def python_files() -> Iterator[tuple[str, Path]]:
    """(module name, file) of the standard library, then of the installed packages, in a fixed order."""
    paths = sysconfig.get_paths()
    roots = [Path(paths["stdlib"])] + sorted({Path(paths["purelib"]), Path(paths["platlib"])})
    for root in roots:
        for place, folders, names in os.walk(root):
            # Packages lie below the standard library's folder too, and have their own turn.
            skipped = SKIPPED_FOLDERS | ({"site-packages", "dist-packages"} if root == roots[0] else set())
            folders[:] = sorted(name for name in folders if name not in skipped and not name.startswith("."))
            for name in sorted(names):
                if name.endswith(".py") and not name.startswith(("test_", "conftest")):
                    path = Path(place, name)
                    yield ".".join(path.relative_to(root).with_suffix("").parts), path


def prose_of(path: Path) -> list[str]:
    """The paragraphs of prose in a Python file's documentation strings; none if it cannot be parsed."""
    try:
        source = path.read_bytes()
        if len(source) > MAX_FILE_BYTES or not DOCSTRING_HINT.search(source):
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [paragraph for text in docstrings(tree) for paragraph in prose_paragraphs(text)]


def docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The documentation strings of a module, its classes and their functions, in the order of the file."""
    yield ast.get_docstring(node) or ""
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from docstrings(inner)


def prose_paragraphs(docstring: str) -> Iterator[str]:
    """Paragraphs of running English, each as one line, markup removed.

    Example: "Sort the list.\\n\\n>>> sort([2, 1])" -> nothing: the sentence is too short, the rest is code.
    """
    for block in re.split(r"\n\s*\n", docstring):
        lines = block.splitlines()
        if any(NOT_PROSE.search(line) for line in lines):
            continue
        text = ROLE.sub(r"\1", " ".join(line.strip() for line in lines))
        text = MARKUP.sub(lambda found: next(group for group in found.groups() if group), text)
        if is_prose(text):
            yield text


def is_prose(text: str) -> bool:
    """At least eight words, mostly letters, and an end that ends a sentence."""
    if len(WORD.findall(text)) < 8 or not text.rstrip().endswith((".", "!", "?", ":", ")")):
        return False
    letters = sum(character.isalpha() or character == " " for character in text)
    return letters >= 0.88 * len(text) and text.isprintable()
