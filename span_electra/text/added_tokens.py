"""Words of a domain as tokens of their own, behind a vocabulary's last; every other token keeps its id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from span_electra.errors import InputError
from span_electra.text.tokenizer_file import rewritten
from span_electra.text.vocabulary import Vocabulary
from span_electra.utf8 import read_text


def add_tokens(vocabulary: Vocabulary, path: str | Path) -> Vocabulary:
    """Return the vocabulary with the tokens of a file, one a line, as `transformers`' `add_tokens` has them.

    A token stands for a whole word (or several, with the blanks between), never for a part of one. Lines that
    are one token already, those that stand twice, and those of which the vocabulary leaves nothing (a soft
    hyphen alone), add nothing. Raises InputError where no line adds any.
    """
    lines = dict.fromkeys(line.strip() for line in read_text(path).split("\n"))
    known = set(vocabulary.tokens_V)
    # Normalized as text is, so that of an uncased vocabulary a capital letter makes no difference; but for
    # normalizers that write blanks as "\u2581", which would put one before the word.
    normalized = vocabulary.kind != "SentencePiece"
    new = [
        AddedToken(line, single_word=True, normalized=normalized)
        for line in lines
        # Without pieces a token's row would have nothing to start from.
        if line and line not in known and pieces_of(vocabulary, line) and not is_token(vocabulary, line)
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
