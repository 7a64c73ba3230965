"""Labels as a person lists them: in the task file, or in a file beside the data.

A list; a mapping from labels to the numbers 0 .. n-1; or a file with either in JSON, or one label a line.

Example: {B-PER: 1, O: 0} -> ("O", "B-PER")
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from span_electra.errors import InputError
from span_electra.utf8 import read_text

LARGEST_FILE = 16 << 20  # bytes


def labels_from_value(value: Any) -> tuple[str, ...]:
    """The labels in the order of their numbers. Raises ValueError saying what is wrong."""
    if isinstance(value, dict):
        numbers = list(value.values())
        if any(type(number) is not int for number in numbers) or sorted(numbers) != list(range(len(numbers))):
            raise ValueError(
                f"the labels' numbers must be 0 to {len(numbers) - 1}, each once; number them so"
            )
        value = sorted(value, key=value.get)
    if not isinstance(value, list) or not value:
        raise ValueError("names no labels; give a list, or a mapping from labels to numbers")
    labels = tuple(_label(entry) for entry in value)
    # Twice the same label would be two outputs of which one never learns.
    if len(set(labels)) < len(labels):
        twice = Counter(labels).most_common(1)[0][0]
        raise ValueError(f"{twice!r} stands there twice; leave one out")
    return labels


def _label(entry: Any) -> str:
    # In YAML and JSON true and false are no texts, and nothing is null.
    if isinstance(entry, bool) or not isinstance(entry, str | int | float) or entry == "":
        raise ValueError(f"{entry!r} is no label; put it in quotes")
    return str(entry)


def labels_from_file(path: Path) -> tuple[str, ...]:
    """The labels of a file. Raises InputError naming it."""
    text = read_text(path, "name a file of labels below --data_dir", LARGEST_FILE)
    try:
        # One label a line may begin with a bracket; a file that is said to be JSON must be.
        content = json.loads(text) if path.suffix == ".json" else _lines(text)
        return labels_from_value(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from None


def _lines(text: str) -> list[str]:
    """The lines, parted by newlines alone (a label may hold U+2028), without blank ones at the end."""
    return [line.removesuffix("\r") for line in text.rstrip(" \r\n").split("\n")] if text.strip() else []
