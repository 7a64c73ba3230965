"""What a value in a row says: a text, a word, words; or why it cannot.

Values come from tab-separated files as text, from JSON and .parquet as what they are.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from span_electra.errors import InputError
from span_electra.finetuning.rows import Row
from span_electra.utf8 import is_encodable


def text_of(row: Row, value: Any, name: str) -> str:
    """The text of a single value; numbers and truth values as JSON spells them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        kind = "nothing" if value is None else f"a {type(value).__name__}"
        raise InputError(f"{row.where}: {name} holds {kind} where a text belongs; mend the row")
    if "\0" in value or not is_encodable(value):
        raise InputError(f"{row.where}: {name} holds a NUL or half a surrogate pair; mend the row")
    return value


def word_of(row: Row, value: Any, name: str) -> str:
    """A text that is not empty and stays in its place in a TSV of predictions."""
    text = text_of(row, value, name)
    if not text or "\t" in text or "\n" in text or "\r" in text:
        problem = "holds a tab or a line end" if text else "is empty"
        raise InputError(f"{row.where}: {name} {problem}; mend the row")
    return text


def words_of(row: Row, value: Any, name: str, split: bool, *, numbers: bool = False) -> tuple[str, ...]:
    """Words or their labels: a list, one written out in brackets, or, to `split`, a text with white space.

    numbers: one that is written out may hold some, as labels do.
    """
    listed = list_of(row, value, name)
    # `[1990]` may be a token too, and would be learned without its brackets.
    if isinstance(value, str) and not (numbers or all(isinstance(entry, str) for entry in listed or ())):
        raise _no_list(row, value, name)
    if listed is None:
        text = text_of(row, value, name)
        if not split:
            raise _no_list(row, text, name)
        return tuple(text.split())
    return tuple(word_of(row, entry, name) for entry in listed)


# Python joins 'a' 'b' to one text, and so would read what numpy writes without commas as a single word.
ITEM = r"""\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?\d+(?:\.\d+)?)\s*"""
WRITTEN_LIST = re.compile(rf"\[(?:{ITEM}(?:,{ITEM})*,?)?\s*\]", re.DOTALL)


def list_of(row: Row, value: Any, name: str) -> list | None:
    """The list that a value is or spells, in JSON or with single quotes; None where it is a plain text.

    Raises InputError for what stands in brackets and is no list of quoted words (or numbers) with commas.
    Example: "['O', 'B-PER']" -> ["O", "B-PER"]; "[O, B-PER]" and "['O' 'B-PER']" are refused
    """
    # As JSON and .parquet give it; a list that is spelt out comes from a table.
    if isinstance(value, list):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = _with_single_quotes(text)
    if isinstance(parsed, list):
        return parsed
    # In doubt it is refused: `[O, B-PER]` taken as words would be two wrong labels, not an error.
    if text.startswith("[ ") and text.endswith(" ]"):
        return None  # words, of which the first and the last are brackets
    raise _no_list(row, text, name)


def _with_single_quotes(text: str) -> list | None:
    if not WRITTEN_LIST.fullmatch(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in a row, which are the row's own
            return ast.literal_eval(text)  # values only: nothing in it can run
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _no_list(row: Row, text: str, name: str) -> InputError:
    return InputError(f"{row.where}: {text[:40]!r} is no list; write {name} as ['one', 'two']")
