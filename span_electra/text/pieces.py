"""Token ids -> readable text, as a page or a terminal shows tokens one by one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from span_electra.text.punctuation import stands_at_word
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import CONTINUATION, without_blanks

PARTS_OF_A_SYLLABLE = unicodedata.normalize("NFD", "각")


class Pieces(dict[int, str]):
    """Token id -> its text, with the blank before it where a word starts; made when first asked for.

    Letters that the vocabulary takes apart, as BERT's rules do Korean, are whole as people write them (NFC).

    Example: WordPiece "cat" -> " cat", "##s" -> "s"; byte-level BPE "\u0120cat" -> " cat"
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary, rules = vocabulary, vocabulary.tokenizer.normalizer
        self.takes_apart = rules is not None and PARTS_OF_A_SYLLABLE in rules.normalize_str("각")

    def __missing__(self, number: int) -> str:
        # A token may be part of a character: what is not text by itself is shown as U+FFFD.
        text = self.written(self._bytes(number).decode("utf-8", "replace"))
        self[number] = text
        return text

    def text(self, ids: Iterable[int]) -> str:
        """Neighbouring tokens as one text, in which characters that were cut are whole again."""
        return self.written(b"".join(map(self._bytes, ids)).decode("utf-8", "replace"))

    def texts(self, ids: Iterable[int]) -> list[str]:
        """Each of neighbouring tokens as text; a character that was cut is its first token's.

        Example: of byte-level BPE "né", "é" in two tokens -> " n", "é", ""
        """
        parts: list[bytes] = []
        begun = 0  # the token in which the last character began
        for number in ids:
            spelt = self._bytes(number)
            rest = spelt.lstrip(CONTINUATION) if parts else spelt
            if len(rest) < len(spelt):
                parts[begun] += spelt[: len(spelt) - len(rest)]
            parts.append(rest)
            begun = len(parts) - 1 if rest else begun
        texts = [part.decode("utf-8", "replace") for part in parts]
        if not self.takes_apart:
            return texts
        ends = [len(self.written("".join(texts[:count]))) for count in range(len(texts) + 1)]
        text = self.written("".join(texts))
        return [text[begin:end] for begin, end in pairwise(ends)]

    def written(self, text: str) -> str:
        """A text of tokens as people write it, NFC where the vocabulary takes letters apart."""
        return unicodedata.normalize("NFC", text) if self.takes_apart else text

    def parted(self, text: str) -> str:
        """The same by the vocabulary's letters, of which a Korean syllable has several."""
        return unicodedata.normalize("NFD", text) if self.takes_apart else text

    def _bytes(self, number: int) -> bytes:
        # Rows may only pad a published model's table to a multiple of 8 or 64.
        if number >= self.vocabulary.size:
            return "\ufffd".encode()
        token, (spelt_V, goes_on_V) = self.vocabulary.tokens_V[number], self.vocabulary.spelt
        if token in self.vocabulary.special.all:
            return f" {token}".encode()
        if self.vocabulary.kind == "BERT" and not goes_on_V[number]:
            # WordPiece does not say which words people write a blank before.
            first = spelt_V[number].decode("utf-8", "replace")[:1] or " "
            bare = stands_at_word(first) or without_blanks(first)
            return spelt_V[number] if bare else b" " + spelt_V[number]
        return spelt_V[number]
