"""What a user can mend: scripts print the text of such an error in one line and exit with code 2.

A warning is a line too, of one process.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterable
from typing import Any

MOST_SHOWN = 12  # known values where none is near


class InputError(ValueError):
    """Bad input: a file, a value or a combination of settings.

    The message is one line that names the file or the value and the way out, for example
    `data/valid.txt: line 17 is not UTF-8 (byte 0xff at 4); convert the file or use --errors replace`.
    """


class SharedInputError(InputError):
    """One that all processes of a run raise together, so that the leading one says it for all."""


def said_of(error: OSError) -> str:
    """An error of the system in a line: the disk, a permission, a path; it names the file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; mend that and run again"


def reason_of(error: BaseException, most: int = 200, *, joined: bool = False) -> str:
    """Why something failed, in a line: the first of the message that says anything, else the error's type.

    most: characters; joined: all lines as one, for libraries that break their sentences.
    Example: torch's "\\nno compiler\\n\\nSet TORCH_LOGS=..." -> "no compiler"
    """
    lines = [" ".join(str(error).split())] if joined else map(str.strip, str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:most]


def not_among(value: Any, known: Iterable[str]) -> str:
    """What to say of a value that is not among the known ones: the nearest of them, else the first ones.

    Example: not_among("acuracy", ["accuracy", "f1"]) -> "'acuracy' is not known; did you mean 'accuracy'?"
    """
    return f"{value!r} is not known; {_meant_or_known(value, known)}"


def unknown_key(key: Any, known: Iterable[str]) -> str:
    """The same of a key."""
    return f"unknown key {key!r}; {_meant_or_known(key, known)}"


def _meant_or_known(value: Any, known: Iterable[str]) -> str:
    known = list(known)
    if meant := nearest(value, known):
        return f"did you mean {meant!r}?"
    return f"known are {', '.join(known[:MOST_SHOWN])}{', ...' if len(known) > MOST_SHOWN else ''}"


def nearest(value: Any, known: Iterable[str], cutoff: float = 0.4) -> str | None:
    """The known value that was meant, if one comes near; with a `cutoff` of 0 even a far one does.

    Example: nearest("SingleSentence", TASK_TYPES) -> "SingleSenClassification"
    """
    known, value = list(known), str(value)
    shared = {one: len(os.path.commonprefix([one.lower(), value.lower()])) for one in known}
    best = max(known, key=lambda one: shared[one], default="")
    # Who has half of a name right knows how it begins; by letters alone another may be nearer.
    if shared.get(best, 0) > len(value) // 2:
        return best
    return next(iter(difflib.get_close_matches(value, known, 1, cutoff)), None)


def show_warnings(*, aloud: bool) -> None:
    """From now on a warning of this process is one line, or, of others beside the one that speaks, none."""
    # Users cannot mend the line of our code that Python would show.
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    if not aloud:
        warnings.simplefilter("ignore")
