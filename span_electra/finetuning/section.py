"""One task's settings as a person wrote them, and the errors that name file, task and key."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from span_electra.errors import InputError

LARGEST = 2**53  # whole numbers up to here are exact as floats too


@dataclass(frozen=True)
class Section:
    """The settings of the task `name` in the file `source`; files lie below `data_dir`."""

    source: str
    name: str
    values: dict[str, Any]
    data_dir: Path

    def wrong(self, key: str, problem: str) -> InputError:
        """The error that says what is wrong with a key."""
        return InputError(f"{self.source}: {self.name}.{key}: {problem}")

    def number(self, key: str, default: float, below: float = math.inf, whole: bool = False) -> float:
        """A number of at least 0 and less than `below`. Raises InputError where it is none."""
        value = self.values.get(key, default)
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not right or not 0 <= value < below or value > LARGEST:
            kind = "whole number" if whole else "number"
            limit = f" and below {below}" if below < math.inf else ""
            raise self.wrong(key, f"{value!r} is no {kind} of at least 0{limit}; give one")
        return value

    def below(self, key: str, name: Any) -> Path:
        """The path of a file below the data folder. Raises InputError where the name would leave it."""
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise self.wrong(key, f"{name!r} is no file's name; give one below --data_dir")
        inside = os.path.normpath(name)
        if os.path.isabs(name) or inside == ".." or inside.startswith(f"..{os.sep}"):
            raise self.wrong(key, f"{name!r} leads out of the data folder; move the file there or --data_dir")
        return self.data_dir / name


def not_among(value: Any, known: Iterable[str], most_shown: int = 12) -> str:
    """What to say of a value that is not among the known ones: the nearest of them, else the first ones.

    Example: not_among("acuracy", ["accuracy", "f1"]) -> "'acuracy' is not known; did you mean 'accuracy'?"
    """
    known = list(known)
    nearest = difflib.get_close_matches(str(value), known, 1, 0.4)
    more = ", ..." if len(known) > most_shown else ""
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known[:most_shown])}{more}"
    return f"{value!r} is not known; {hint}"
