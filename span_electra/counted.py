"""Numbers of things as people say them."""

from __future__ import annotations


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Example: counted(1, "row") -> "1 row", counted(1200, "row") -> "1,200 rows", and of none "0 rows"."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


class Notes:
    """What to say of many files, in one line of those that have it in common.

    Example: a.json and b.json, of each "one JSON document" -> "a.json, b.json: one JSON document"
    """

    def __init__(self) -> None:
        self._files: dict[str, list[str]] = {}  # by what is said of them

    def add(self, file: str, words: str) -> None:
        """Say something of a file."""
        self._files.setdefault(words, []).append(file)

    def lines(self) -> tuple[str, ...]:
        """A line for each thing that was said, in the order in which it was said first."""
        return tuple(f"{few(files)}: {words}" for words, files in self._files.items())


def few(names: list[str]) -> str:
    """The first of some names, and how many more there are.

    Example: ["a", "b", "c", "d"] -> "a, b, c and 1 more"
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
