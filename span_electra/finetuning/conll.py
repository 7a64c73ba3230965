"""Files with a token a line -> sentences: CoNLL-2000 and 2003, WNUT, CoNLL-U, and what people write alike.

    -DOCSTART- -X- -X- O        a mark between documents: no token
    # sent_id = 7               a comment: no token; but `# O` is one, and so is `#sale B-EVENT`
    Riga NNP B-NP B-LOC         columns with tabs or with blanks between, as many in every line
                                a blank line ends the sentence
The token is the first column and its tag the last, unless a task's `columns:` give their numbers, from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.finetuning.header_rows import refuse_header
from span_electra.finetuning.rows import read_lines, suffix_of

DOCUMENT_MARK = "-DOCSTART-"
# Comments that could be a token and tags, parted by blanks: `# newdoc`, `# id = 7`, and `#begin document`.
COMMENT = re.compile(r"#\s+(\S+\s+=(\s|$)|(newdoc|newpar)\b)|#\s*(begin|end) document\b")
RANGE_OR_EMPTY = re.compile(r"\d+[-.]\d+")  # of CoNLL-U: words that are written as one, words that are not
# Of a row meant as lists, which would be read as a strange token with a stranger tag: quoted (group 1), or
# not. Bracket and quote alone are tokens of code, `[1,2-a]pyridine` is one of chemistry.
LIST = re.compile(r"\[\s*(?:(['\"]).*\1|[^'\"]+,(?:\s|$))")
LISTS = "mend the row, or write uid, ['O', 'O'] and ['two', 'words'] with tabs between"
LOOKED_THROUGH = 1000  # lines in search of the first token


@dataclass(frozen=True)
class TaggedSentence:
    """The words of a sentence and their tags."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]  # where each word stands, from 1


@dataclass(frozen=True)
class _Layout:
    """How the lines of a file are cut into columns."""

    tabs: bool
    width: int  # columns of every line

    def fields(self, line: str) -> list[str]:
        return line.split("\t") if self.tabs else re.split(r"[ \t]+", line.strip(" \t"))

    def is_comment(self, line: str) -> bool:
        """In doubt a line is a token: what begins with # and has as many columns as the others."""
        if not line.startswith("#"):
            return False
        # Comments are written with blanks, and cannot be mistaken for columns that tabs part.
        written_so = not self.tabs and COMMENT.match(line) is not None
        return written_so or len(self.fields(line)) != self.width


def read_conll(path: Path, token: int = 0, tag: int = -1) -> Iterator[TaggedSentence]:
    """Yield the sentences of a file. Raises InputError naming file and line.

    token, tag: the columns that hold them, from 0; -1 is the last one.
    """
    # From the first token, since comments and marks have any number of columns.
    first, layout = _layout_of(path)
    if layout is None:
        return
    if suffix_of(path) == ".conllu" and token == 0:
        raise InputError(
            f"{path}: the words of a .conllu file are column 2; write columns: {{text: 2, label: 4}} for "
            "parts of speech"
        )
    below = (
        layout.fields(line) for number, line in read_lines(path) if number > first[0] and line.strip(" \t")
    )
    refuse_header(layout.fields(first[1]), f"{path}: line {first[0]}", below)
    tokens: list[tuple[str, str, int]] = []  # word, tag, line
    for number, line in chain(read_lines(path), [(0, "")]):  # the last sentence may have no blank line
        fields = layout.fields(line)
        if not line.strip(" \t") or fields[0] == DOCUMENT_MARK:
            if tokens:
                words, tags, lines = zip(*tokens, strict=True)
                yield TaggedSentence(words, tags, lines)
            tokens = []
        # CoNLL-U numbers a word written as one `3-4`, and repeats its parts below; its words are column 2.
        elif not layout.is_comment(line) and not (token and RANGE_OR_EMPTY.fullmatch(fields[0])):
            where = f"{path}: line {number}"
            tokens.append((*_token(fields, token, tag, layout, where=where, first=first[0]), number))


def _layout_of(path: Path) -> tuple[tuple[int, str], _Layout | None]:
    """The first line with a token, and the layout it shows; None where there is none."""
    # A comment counts only if nothing else is found: `# O` may be the first token of a file of tweets.
    found = None
    with closing(read_lines(path)) as lines:
        for number, line in islice(lines, LOOKED_THROUGH):
            if not line.strip(" \t") or line.split()[:1] == [DOCUMENT_MARK]:
                continue
            if found is None or not line.startswith("#"):
                found = (number, line)
            if not line.startswith("#"):
                break
    if found is None:
        return (0, ""), None
    tabs = "\t" in found[1]
    return found, _Layout(tabs, len(_Layout(tabs, 0).fields(found[1])))


def _token(
    fields: list[str], token: int, tag: int, layout: _Layout, *, where: str, first: int
) -> tuple[str, str]:
    """The word and the tag of a line."""
    # As many columns as the highest that is asked for; the last one (-1) takes two at least.
    needed = max(token + 1, tag + 1 or 2)
    if len(fields) != layout.width or layout.width < needed:
        belong = f"{needed} or more" if layout.width < needed else f"{layout.width}, as in line {first},"
        raise InputError(
            f"{where}: {counted(len(fields), 'column')} where {belong} belong (token first, tag"
            f" last, unless columns: say otherwise); {LISTS}"
        )
    word, label = fields[token], fields[tag]
    if not word.strip(" ") or not label.strip():  # other white space may be a token, such as U+3000
        raise InputError(f"{where}: an empty token or tag; mend the row")
    lists = {field: found for field in fields if (found := LIST.match(field))}
    # A single one without quotes may be a token, `[3,` say, which may stand there twice, as its lemma too.
    if len(lists) > 1 or label in lists or any(found[1] for found in lists.values()):
        wrong = [*lists]
    else:
        wrong = [label] * (" " in label.strip())
    if wrong:
        raise InputError(f"{where}: {wrong[0][:40]!r} is no token and no tag; {LISTS}")
    return word, label
