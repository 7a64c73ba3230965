"""Words of a domain as tokens of their own, behind a vocabulary's last; every other token keeps its id."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from span_electra.errors import InputError
from span_electra.text.tokenizer_file import rewritten
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import without_blanks
from span_electra.utf8 import read_text


def add_tokens(vocabulary: Vocabulary, path: str | Path) -> Vocabulary:
    """Return the vocabulary with the tokens of a file, one a line, as `transformers`' `add_tokens` has them.

    A token stands for a whole word (or several, with the blanks between), never for a part of one; of scripts
    without blanks, for its characters wherever they stand. Lines that are one token already, and those that
    the tokenizer reads as an earlier one, add nothing; nor do those, with a warning, that it takes for no
    text. Raises InputError where no line adds any.
    """
    lines = dict.fromkeys(line.strip() for line in read_text(path).split("\n"))
    lines.pop("", None)
    # A soft hyphen alone, say: no text would ever become that token, and its row has no pieces to start from.
    empty = [line for line in lines if not pieces_of(vocabulary, line)]
    if empty:
        listed = ", ".join(map(ascii, empty[:5]))  # they are letters that nobody sees
        warnings.warn(f"{path}: not added, since the tokenizer takes it for no text: {listed}", stacklevel=2)
    known = {*vocabulary.tokens_V, *empty}
    # Normalized as text is, so that of an uncased vocabulary a capital letter makes no difference; but for
    # normalizers that write blanks as "\u2581", which would put one before the word.
    normalized = vocabulary.kind != "SentencePiece"
    rules = vocabulary.tokenizer.normalizer if normalized else None
    # Of two lines that are one after normalizing, only one's id would ever occur: the first is added.
    forms: dict[str, str] = {}
    for line in lines:
        if line not in known and not is_token(vocabulary, line):
            forms.setdefault(rules.normalize_str(line) if rules else line, line)
    new = [
        AddedToken(line, single_word=not any(map(without_blanks, (line[0], line[-1]))), normalized=normalized)
        for line in forms.values()
    ]
    if not new:
        raise InputError(f"{path}: holds no word that is not one token already; give one a line")
    tokenizer = Tokenizer.from_str(vocabulary.original or vocabulary.to_json())
    tokenizer.add_tokens(new)
    original = vocabulary.original and rewritten(vocabulary.original, tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    extended = replace(vocabulary, tokenizer=tokenizer, original=original)
    ids = [tokenizer.token_to_id(token.content) for token in new]
    if ids != list(range(vocabulary.size, vocabulary.size + len(new))):
        raise InputError(
            f"{path}: the vocabulary's ids have gaps, where new tokens would fall into; mend it first"
        )
    return extended


def is_token(vocabulary: Vocabulary, word: str) -> bool:
    """Whether a word is one token already, and not the one for unknown text."""
    ids = pieces_of(vocabulary, word)
    return len(ids) == 1 and ids[0] != vocabulary.unk_id


def pieces_of(vocabulary: Vocabulary, token: str) -> list[int]:
    """The ids that a word is cut into in running text: with the blank before it, if that is part of words."""
    ids = vocabulary.tokenizer.encode(f" {token}", add_special_tokens=False).ids
    lone_blank = vocabulary.tokenizer.encode(" ", add_special_tokens=False).ids
    return ids[1:] if len(ids) > 1 and ids[:1] == lone_blank else ids


def extends(vocabulary: Vocabulary, other: Vocabulary) -> bool:
    """Whether a vocabulary is another one with tokens added."""
    return vocabulary.size > other.size and vocabulary.tokens_V[: other.size] == other.tokens_V
