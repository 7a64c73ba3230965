"""Token ids -> readable text, as a page or a terminal shows tokens one by one."""

from __future__ import annotations

from collections.abc import Iterable

from span_electra.text.punctuation import stands_at_word
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.word_starts import CONTINUATION, without_blanks


class Pieces(dict[int, str]):
    """Token id -> its text, with the blank before it where a word starts; made when first asked for.

    Example: WordPiece "cat" -> " cat", "##s" -> "s"; byte-level BPE "\u0120cat" -> " cat"
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def __missing__(self, number: int) -> str:
        # A token may be part of a character: what is not text by itself is shown as U+FFFD.
        text = self._bytes(number).decode("utf-8", "replace")
        self[number] = text
        return text

    def text(self, ids: Iterable[int]) -> str:
        """Neighbouring tokens as one text, in which characters that were cut are whole again."""
        return b"".join(map(self._bytes, ids)).decode("utf-8", "replace")

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
        return [part.decode("utf-8", "replace") for part in parts]

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
