"""Numbers of things as people say them."""

from __future__ import annotations


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Example: counted(1, "row") -> "1 row", counted(1200, "row") -> "1,200 rows", and of none "0 rows"."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
