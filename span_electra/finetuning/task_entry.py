"""One task's settings as a person wrote them, and all that is wrong with them, by task and key."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from span_electra.finetuning.task import Task

LARGEST = 2**53  # whole numbers up to here are exact as floats too


@dataclass(frozen=True)
class TaskEntry:
    """The entry `name` of a task file; its files lie below `data_dir`.

    What is wrong is noted rather than raised: a person wants to hear of everything at once.
    """

    name: str
    values: dict[str, Any]
    data_dir: Path
    # Of a task that is prepared, whose files need not be there any more; none: it is not.
    prepared_labels: tuple[str, ...] | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def is_prepared(self) -> bool:
        return self.prepared_labels is not None

    def problem(self, key: str, text: str) -> None:
        """Note what is wrong with a key and how to mend it."""
        self.problems.append(f"{self.name}.{key}: {text}")

    def number(self, key: str, below: float = math.inf, integer: bool = False) -> float:
        """A number of at least 0 and less than `below`; a `Task`'s default where it is none."""
        default = getattr(Task, key)
        value = self.values.get(key, default)
        # NaN compares as False everywhere, and so is refused without a word of its own.
        right = isinstance(value, int if integer else int | float) and not isinstance(value, bool)
        if right and 0 <= value < below and value <= LARGEST:
            return value
        kind = "whole number" if integer else "number"
        limit = f" and below {below}" if below < math.inf else ""
        self.problem(key, f"{value!r} is no {kind} of at least 0{limit}; give one")
        return default

    def file_below(self, key: str, name: Any) -> Path | None:
        """The path of a file below the data folder; None where the name is none, or would leave it."""
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            return self.problem(key, f"{name!r} is no file's name; give one below --data_dir")
        # A task file may come from somebody else: it must not name /etc/passwd, nor ../../ anything.
        inside = os.path.normpath(name)
        if os.path.isabs(name) or inside == ".." or inside.startswith(f"..{os.sep}"):
            return self.problem(
                key, f"{name!r} leads out of the data folder; move the file there or --data_dir"
            )
        return self.data_dir / name
