"""Is the first row of a file without named columns a header? Taken for data, it would teach nonsense."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice

from span_electra.errors import InputError

# What people call the columns of such files.
NAMES = frozenset(
    """id uid guid idx index no number pairid
    label labels class classes category categories target targets score scores rating polarity sentiment
    intent gold similarity quality tag tags ner pos upos xpos chunk slot slots
    text texts text1 text2 texta textb string sentence sentences sentence1 sentence2 sent sent1 sent2 premise
    hypothesis question question1 question2 answer query passage context title body review comment tweet
    utterance token tokens word words form lemma""".split()
)
LOOKED_AT = 100  # rows below the first: of a hundred some have its label, if it has one
LONGEST_NAME = 3  # words: "Gold label", "#1 ID"


def looks_like_header(fields: Sequence[str]) -> bool:
    """Whether a row names columns: each field is short and no number, all but one hold a usual name.

    Example: ["id", "label", "my_text"] -> True; ["7", "label", "A text about labels."] -> False
    """
    # Text never is short in all columns, and numbers are no names; one column may be called anything.
    named = 0
    for field in fields:
        # "gold_label", "sentence1" and "Text A" are names, and so is "textA".
        words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field.strip()))
        if not words or len(words) > LONGEST_NAME or field.strip()[-1] in ".?!]" or field.strip().isdigit():
            return False
        named += any(word.lower() in NAMES for word in words)
    return named >= 2 and named >= len(fields) - 1


def refuse_header(fields: Sequence[str], where: str, following: Iterable[Sequence[str]]) -> None:
    """Raises InputError with the way out where a file's first row looks like a header.

    following: the fields of the rows below, of which the first ones are looked at.
    """
    if looks_like_header(fields) and not _recurs(fields, islice(following, LOOKED_AT)):
        raise InputError(
            f"{where}: looks like a header ({', '.join(fields)[:80]}); say in the task file which column is "
            "which (columns:), or remove the line; one that is a row may stand further down"
        )


def _recurs(fields: Sequence[str], following: Iterable[Sequence[str]]) -> bool:
    """Whether a field stands in its column again: as a label does, and a column's name does not.

    Example: ["q-17", "comment", "No comment"] above ["q-18", "comment", "Fine."] -> True
    """
    # A header that was joined in once more with its file says nothing.
    return any(any(map(str.__eq__, fields, row)) for row in following if [*row] != [*fields])
